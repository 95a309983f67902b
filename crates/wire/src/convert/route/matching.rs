//! Which requests a rule is for.

use ambit_model::http_route::{HeaderMatch, Match, PathMatch, Pattern, QueryMatch, ValueMatch};

use super::{at_most, text};
use crate::convert::ConvertError;
use crate::limits;
use crate::pb::waypoint as pb;
use crate::pb::waypoint::{path_match, value_match};

pub(super) fn match_from_pb(raw: pb::Match) -> Result<Match, ConvertError> {
    let pb::Match { path, method, headers, query } = raw;
    let headers = at_most("matches.headers", limits::ROUTE_LIST, headers)?;
    let query = at_most("matches.query", limits::ROUTE_LIST, query)?;
    Ok(Match {
        path: path.map_or_else(|| Ok(PathMatch::default()), path_from_pb)?,
        method: if method.is_empty() {
            None
        } else {
            Some(super::filters::method("matches.method", &method)?)
        },
        headers: headers.into_iter().map(header).collect::<Result<_, _>>()?,
        query: query.into_iter().map(parameter).collect::<Result<_, _>>()?,
    })
}

fn path_from_pb(raw: pb::PathMatch) -> Result<PathMatch, ConvertError> {
    const FIELD: &str = "matches.path";
    let pb::PathMatch { kind } = raw;
    let path = |value| text(FIELD, limits::ROUTE_TEXT, value);
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: FIELD })? {
        path_match::Kind::Exact(value) => PathMatch::Exact(path(value)?.into()),
        path_match::Kind::Prefix(value) => PathMatch::Prefix(path(value)?.into()),
        path_match::Kind::Regex(value) => PathMatch::Regex(pattern(FIELD, &value)?),
        path_match::Kind::Grpc(pb::GrpcMatch { service, method }) => PathMatch::Grpc {
            service: service.map(|raw| value("matches.path.grpc.service", raw)).transpose()?,
            method: method.map(|raw| value("matches.path.grpc.method", raw)).transpose()?,
        },
    })
}

fn header(raw: pb::NamedMatch) -> Result<HeaderMatch, ConvertError> {
    let pb::NamedMatch { name, value: raw } = raw;
    let raw = raw.ok_or(ConvertError::NoAlternative { field: "matches.headers.value" })?;
    Ok(HeaderMatch {
        name: super::filters::header_name("matches.headers.name", &name)?,
        value: value("matches.headers.value", raw)?,
    })
}

fn parameter(raw: pb::NamedMatch) -> Result<QueryMatch, ConvertError> {
    let pb::NamedMatch { name, value: raw } = raw;
    let raw = raw.ok_or(ConvertError::NoAlternative { field: "matches.query.value" })?;
    Ok(QueryMatch {
        name: text("matches.query.name", limits::HEADER_NAME, name)?.into(),
        value: value("matches.query.value", raw)?,
    })
}

fn value(field: &'static str, raw: pb::ValueMatch) -> Result<ValueMatch, ConvertError> {
    let pb::ValueMatch { kind } = raw;
    Ok(match kind.ok_or(ConvertError::NoAlternative { field })? {
        value_match::Kind::Exact(value) => {
            ValueMatch::Exact(text(field, limits::HEADER_VALUE, value)?.into())
        }
        value_match::Kind::Regex(value) => ValueMatch::Regex(pattern(field, &value)?),
    })
}

fn pattern(field: &'static str, text: &str) -> Result<Pattern, ConvertError> {
    text.parse().map_err(|source| ConvertError::Pattern { field, source })
}

pub(super) fn match_to_pb(one: &Match) -> pb::Match {
    let Match { path, method, headers, query } = one;
    let header = |HeaderMatch { name, value }: &HeaderMatch| named(name.as_str(), value);
    let parameter = |QueryMatch { name, value }: &QueryMatch| named(name, value);
    pb::Match {
        path: (*path != PathMatch::default()).then(|| path_to_pb(path)),
        method: method.as_ref().map(ToString::to_string).unwrap_or_default(),
        headers: headers.iter().map(header).collect(),
        query: query.iter().map(parameter).collect(),
    }
}

fn path_to_pb(path: &PathMatch) -> pb::PathMatch {
    let kind = match path {
        PathMatch::Exact(text) => path_match::Kind::Exact(text.to_string()),
        PathMatch::Prefix(text) => path_match::Kind::Prefix(text.to_string()),
        PathMatch::Regex(pattern) => path_match::Kind::Regex(pattern.as_str().into()),
        PathMatch::Grpc { service, method } => path_match::Kind::Grpc(pb::GrpcMatch {
            service: service.as_ref().map(value_to_pb),
            method: method.as_ref().map(value_to_pb),
        }),
    };
    pb::PathMatch { kind: Some(kind) }
}

fn named(name: &str, value: &ValueMatch) -> pb::NamedMatch {
    pb::NamedMatch { name: name.into(), value: Some(value_to_pb(value)) }
}

fn value_to_pb(value: &ValueMatch) -> pb::ValueMatch {
    let kind = match value {
        ValueMatch::Exact(text) => value_match::Kind::Exact(text.to_string()),
        ValueMatch::Regex(pattern) => value_match::Kind::Regex(pattern.as_str().into()),
    };
    pb::ValueMatch { kind: Some(kind) }
}
