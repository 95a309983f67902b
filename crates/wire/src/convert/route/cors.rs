//! What pages of other origins may do.

use ambit_model::http_route::{Cors, Names};

use super::filters::{header_name, method};
use super::matching::{value, value_to_pb};
use super::{at_most, text};
use crate::convert::ConvertError;
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn cors_from_pb(raw: pb::Cors) -> Result<Cors, ConvertError> {
    let pb::Cors { origins, credentials, methods, headers, expose, max_age_s, more_origins, passes_unknown } =
        raw;
    let more_origins = at_most("cors.moreOrigins", limits::CORS_LIST, more_origins)?;
    Ok(Cors {
        origins: names(origins, |origin| {
            let source = text("cors.origins", limits::ROUTE_TEXT, origin.into())?;
            Ok(source.parse()?)
        })?,
        more_origins: more_origins
            .into_iter()
            .map(|raw| value("cors.moreOrigins", raw))
            .collect::<Result<_, _>>()?,
        credentials,
        methods: names(methods, |text| method("cors.methods", text))?,
        headers: names(headers, |text| header_name("cors.headers", text))?,
        expose: names(expose, |text| header_name("cors.expose", text))?,
        max_age_s,
        passes_unknown,
    })
}

fn names<T>(
    raw: Option<pb::Names>,
    read: impl Fn(&str) -> Result<T, ConvertError>,
) -> Result<Names<T>, ConvertError> {
    let pb::Names { any, these } = raw.unwrap_or_default();
    if any {
        return Ok(Names::Any);
    }
    let these = at_most("cors", limits::CORS_LIST, these)?;
    Ok(Names::These(these.iter().map(|text| read(text)).collect::<Result<_, _>>()?))
}

pub(super) fn cors_to_pb(cors: &Cors) -> pb::Cors {
    let Cors { origins, more_origins, credentials, methods, headers, expose, max_age_s, passes_unknown } =
        cors;
    pb::Cors {
        origins: names_to_pb(origins),
        credentials: *credentials,
        methods: names_to_pb(methods),
        headers: names_to_pb(headers),
        expose: names_to_pb(expose),
        max_age_s: *max_age_s,
        more_origins: more_origins.iter().map(value_to_pb).collect(),
        passes_unknown: *passes_unknown,
    }
}

fn names_to_pb<T: ToString>(names: &Names<T>) -> Option<pb::Names> {
    match names {
        Names::Any => Some(pb::Names { any: true, these: Vec::new() }),
        Names::These(these) if these.is_empty() => None,
        Names::These(these) => {
            Some(pb::Names { any: false, these: these.iter().map(ToString::to_string).collect() })
        }
    }
}
