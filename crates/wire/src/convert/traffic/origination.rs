//! TLS that is begun to endpoints. Owns that message: a name that could be none, or nobody who vouches, is refused, so
//! that what is not understood is never taken for less to prove.

use ambit_model::traffic::{Origination, Roots, SubjectName, is_host};

use super::super::{ConvertError, check_count, text};
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn origination_from_pb(raw: pb::Origination) -> Result<Origination, ConvertError> {
    use pb::origination::Roots as Raw;
    let pb::Origination { server, names, roots, shown } = raw;
    let credential =
        |name: String| Ok::<_, ConvertError>(text("tls.credential", limits::ROUTE_TEXT, name)?.into());
    check_count("tls.names", limits::SUBJECT_NAMES, names.len())?;
    if !server.is_empty() && !is_host(&server) {
        return Err(ConvertError::Value { field: "tls.server", value: server, wanted: "a host's name" });
    }
    Ok(Origination {
        server: Some(server).filter(|it| !it.is_empty()).map(Into::into),
        names: names.into_iter().map(name).collect::<Result<_, _>>()?,
        roots: match roots.ok_or(ConvertError::NoAlternative { field: "tls.roots" })? {
            Raw::System(_) => Roots::System,
            Raw::Given(pem) => Roots::Given(text("tls.given", limits::TRAFFIC_ROOTS, pem)?.into()),
            Raw::Unchecked(_) => Roots::Unchecked,
            Raw::Credential(name) => Roots::Credential(credential(name)?),
        },
        shown: Some(shown).filter(|it| !it.is_empty()).map(credential).transpose()?,
    })
}

fn name(raw: pb::SubjectName) -> Result<SubjectName, ConvertError> {
    use pb::subject_name::Kind;
    let field = "tls.names";
    let text = |name: String| Ok::<_, ConvertError>(text(field, limits::ROUTE_TEXT, name)?.into());
    Ok(match raw.kind.ok_or(ConvertError::NoAlternative { field })? {
        Kind::Host(name) => SubjectName::Host(text(name)?),
        Kind::Uri(name) => SubjectName::Uri(text(name)?),
        Kind::Any(name) => SubjectName::Any(text(name)?),
    })
}

pub(super) fn origination_to_pb(tls: &Origination) -> pb::Origination {
    use pb::origination::Roots as Raw;
    use pb::subject_name::Kind;
    let Origination { server, names, roots, shown } = tls;
    let name = |name: &SubjectName| {
        let kind = match name {
            SubjectName::Host(name) => Kind::Host(name.to_string()),
            SubjectName::Uri(name) => Kind::Uri(name.to_string()),
            SubjectName::Any(name) => Kind::Any(name.to_string()),
        };
        pb::SubjectName { kind: Some(kind) }
    };
    pb::Origination {
        server: server.as_ref().map(ToString::to_string).unwrap_or_default(),
        names: names.iter().map(name).collect(),
        roots: Some(match roots {
            Roots::System => Raw::System(true),
            Roots::Given(pem) => Raw::Given(pem.to_string()),
            Roots::Unchecked => Raw::Unchecked(true),
            Roots::Credential(name) => Raw::Credential(name.to_string()),
        }),
        shown: shown.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
