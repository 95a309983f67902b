//! Which requests a rule is for.

use ambit_model::http_route::{HeaderMatch, Match, PathMatch, Pattern, QueryMatch, ValueMatch};

use super::more::{more_from_pb, more_to_pb};
use super::{at_most, text};
use crate::convert::ConvertError;
use crate::limits;
use crate::pb::waypoint as pb;
use crate::pb::waypoint::{path_match, value_match};

pub(super) fn match_from_pb(raw: pb::Match) -> Result<Match, ConvertError> {
    let pb::Match { path, method, headers, query, more } = raw;
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
        more: more.map(more_from_pb).transpose()?.map(Box::new),
    })
}

fn path_from_pb(raw: pb::PathMatch) -> Result<PathMatch, ConvertError> {
    const FIELD: &str = "matches.path";
    let pb::PathMatch { kind } = raw;
    let path = |value| text(FIELD, limits::ROUTE_TEXT, value);
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: FIELD })? {
        path_match::Kind::Exact(value) => PathMatch::Exact(path(value)?.into()),
        path_match::Kind::Prefix(value) => PathMatch::Prefix(path(value)?.into()),
        path_match::Kind::Begins(value) => PathMatch::Begins { text: path(value)?.into(), any_case: false },
        path_match::Kind::BeginsInAnyCase(value) => {
            PathMatch::Begins { text: path(value)?.into(), any_case: true }
        }
        path_match::Kind::Regex(value) => PathMatch::Regex(pattern(FIELD, &value)?),
        path_match::Kind::Grpc(pb::GrpcMatch { service, method }) => PathMatch::Grpc {
            service: service.map(|raw| value("matches.path.grpc.service", raw)).transpose()?,
            method: method.map(|raw| value("matches.path.grpc.method", raw)).transpose()?,
        },
    })
}

pub(super) fn header(raw: pb::NamedMatch) -> Result<HeaderMatch, ConvertError> {
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

pub(super) fn value(field: &'static str, raw: pb::ValueMatch) -> Result<ValueMatch, ConvertError> {
    let pb::ValueMatch { kind } = raw;
    Ok(match kind.ok_or(ConvertError::NoAlternative { field })? {
        value_match::Kind::Exact(value) => {
            ValueMatch::Exact(text(field, limits::HEADER_VALUE, value)?.into())
        }
        value_match::Kind::Regex(value) => ValueMatch::Regex(pattern(field, &value)?),
        value_match::Kind::Prefix(value) => {
            ValueMatch::Prefix(text(field, limits::HEADER_VALUE, value)?.into())
        }
        value_match::Kind::Present(true) => ValueMatch::Present,
        value_match::Kind::Present(false) => return Err(ConvertError::NoAlternative { field }),
    })
}

fn pattern(field: &'static str, text: &str) -> Result<Pattern, ConvertError> {
    text.parse().map_err(|source| ConvertError::Pattern { field, source })
}

pub(super) fn match_to_pb(one: &Match) -> pb::Match {
    let Match { path, method, headers, query, more } = one;
    let header = |HeaderMatch { name, value }: &HeaderMatch| named(name.as_str(), value);
    let parameter = |QueryMatch { name, value }: &QueryMatch| named(name, value);
    pb::Match {
        path: (*path != PathMatch::default()).then(|| path_to_pb(path)),
        method: method.as_ref().map(ToString::to_string).unwrap_or_default(),
        headers: headers.iter().map(header).collect(),
        query: query.iter().map(parameter).collect(),
        more: more.as_deref().map(more_to_pb),
    }
}

fn path_to_pb(path: &PathMatch) -> pb::PathMatch {
    let kind = match path {
        PathMatch::Exact(text) => path_match::Kind::Exact(text.to_string()),
        PathMatch::Prefix(text) => path_match::Kind::Prefix(text.to_string()),
        PathMatch::Begins { text, any_case: false } => path_match::Kind::Begins(text.to_string()),
        PathMatch::Begins { text, any_case: true } => path_match::Kind::BeginsInAnyCase(text.to_string()),
        PathMatch::Regex(pattern) => path_match::Kind::Regex(pattern.as_str().into()),
        PathMatch::Grpc { service, method } => path_match::Kind::Grpc(pb::GrpcMatch {
            service: service.as_ref().map(value_to_pb),
            method: method.as_ref().map(value_to_pb),
        }),
    };
    pb::PathMatch { kind: Some(kind) }
}

pub(super) fn named(name: &str, value: &ValueMatch) -> pb::NamedMatch {
    pb::NamedMatch { name: name.into(), value: Some(value_to_pb(value)) }
}

pub(super) fn value_to_pb(value: &ValueMatch) -> pb::ValueMatch {
    let kind = match value {
        ValueMatch::Exact(text) => value_match::Kind::Exact(text.to_string()),
        ValueMatch::Regex(pattern) => value_match::Kind::Regex(pattern.as_str().into()),
        ValueMatch::Prefix(text) => value_match::Kind::Prefix(text.to_string()),
        ValueMatch::Present => value_match::Kind::Present(true),
    };
    pb::ValueMatch { kind: Some(kind) }
}
