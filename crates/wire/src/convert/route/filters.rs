//! What a rule or a backend changes.

use std::sync::Arc;

use ambit_model::http_route::{
    Broken, Filling, Filters, HeaderEdits, Mirror, PathChange, PathText, Redirect, RedirectStatus, Rewrite,
    Scheme, Share, Substitution,
};
use ambit_model::name::Hostname;
use http::{HeaderName, HeaderValue, Method};

use super::cors::{cors_from_pb, cors_to_pb};
use super::instead::{direct_from_pb, direct_to_pb, fault_from_pb, fault_to_pb};
use super::{at_most, text, upstream, upstream_to_pb};
use crate::convert::provider::{authorizer, authorizer_to_pb};
use crate::convert::{ConvertError, known, name, port};
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn filters_from_pb(raw: pb::Filters) -> Result<Filters, ConvertError> {
    let pb::Filters {
        request_headers,
        response_headers,
        redirect,
        rewrite,
        mirrors,
        cors,
        direct,
        fault,
        ask,
    } = raw;
    let mirrors = at_most("mirrors", limits::ROUTE_LIST, mirrors)?;
    Ok(Filters {
        request_headers: edits_from_pb(request_headers.unwrap_or_default())?,
        response_headers: edits_from_pb(response_headers.unwrap_or_default())?,
        redirect: redirect.map(redirect_from_pb).transpose()?.map(Box::new),
        rewrite: rewrite.map(rewrite_from_pb).transpose()?.map(Box::new),
        mirrors: mirrors.into_iter().map(mirror_from_pb).collect::<Result<_, _>>()?,
        cors: cors.map(cors_from_pb).transpose()?.map(Box::new),
        direct: direct.map(direct_from_pb).transpose()?,
        fault: fault.map(fault_from_pb).transpose()?.map(Box::new),
        ask: ask.map(authorizer).transpose()?.map(Arc::new),
    })
}

fn edits_from_pb(raw: pb::HeaderEdits) -> Result<HeaderEdits, ConvertError> {
    let pb::HeaderEdits { set, add, remove, fill } = raw;
    let mut edits = HeaderEdits::default();
    for raw in at_most("headers.set", limits::ROUTE_LIST, set)? {
        let (name, value) = header(raw)?;
        edits.set(name, value)?;
    }
    for raw in at_most("headers.add", limits::ROUTE_LIST, add)? {
        let (name, value) = header(raw)?;
        edits.add(name, value)?;
    }
    for name in at_most("headers.remove", limits::ROUTE_LIST, remove)? {
        edits.remove(header_name("headers.remove", &name)?)?;
    }
    for raw in at_most("headers.fill", 2 * limits::ROUTE_LIST, fill)? {
        edits.fill(filling(raw)?)?;
    }
    Ok(edits)
}

fn filling(raw: pb::Filling) -> Result<Filling, ConvertError> {
    let pb::Filling { name, value, adds } = raw;
    let wanted = "a text with operators, as %PROTOCOL%, and %% for a percent sign";
    let value =
        value.parse().map_err(|_| ConvertError::Value { field: "headers.fill.value", value, wanted })?;
    Ok(Filling { name: header_name("headers.fill.name", &name)?, value, adds })
}

fn header(raw: pb::Header) -> Result<(HeaderName, HeaderValue), ConvertError> {
    const FIELD: &str = "headers.value";
    let pb::Header { name, value } = raw;
    let (found, limit) = (value.len(), limits::HEADER_VALUE);
    if found > limit {
        return Err(ConvertError::TooLong { field: FIELD, found, limit });
    }
    let shown = || String::from_utf8_lossy(&value).into_owned();
    let value = HeaderValue::from_maybe_shared(value.clone()).map_err(|_| ConvertError::Value {
        field: FIELD,
        value: shown(),
        wanted: "a header's value",
    })?;
    Ok((header_name("headers.name", &name)?, value))
}

pub(in crate::convert) fn header_name(field: &'static str, name: &str) -> Result<HeaderName, ConvertError> {
    let (found, limit) = (name.len(), limits::HEADER_NAME);
    if found > limit {
        return Err(ConvertError::TooLong { field, found, limit });
    }
    let refuse = |_| ConvertError::Value { field, value: name.into(), wanted: "a header's name" };
    HeaderName::from_bytes(name.as_bytes()).map_err(refuse)
}

pub(super) fn method(field: &'static str, method: &str) -> Result<Method, ConvertError> {
    let (found, limit) = (method.len(), limits::HEADER_NAME);
    if found > limit {
        return Err(ConvertError::TooLong { field, found, limit });
    }
    let refuse = |_| ConvertError::Value { field, value: method.into(), wanted: "a method" };
    Method::from_bytes(method.as_bytes()).map_err(refuse)
}

fn redirect_from_pb(raw: pb::Redirect) -> Result<Redirect, ConvertError> {
    let pb::Redirect { scheme, hostname, port: number, path, status, keeps_port } = raw;
    let port = port("redirect.port", number)?;
    let refused = || ConvertError::Value {
        field: "redirect.status",
        value: status.to_string(),
        wanted: "a redirect's",
    };
    Ok(Redirect {
        scheme: match known("redirect.scheme", scheme)? {
            pb::Scheme::Unspecified => None,
            pb::Scheme::Http => Some(Scheme::Http),
            pb::Scheme::Https => Some(Scheme::Https),
        },
        hostname: host("redirect.hostname", &hostname)?,
        port: (port != 0).then_some(port),
        keeps_port,
        path: path.map(path_from_pb).transpose()?,
        status: u16::try_from(status).ok().and_then(RedirectStatus::of).ok_or_else(refused)?,
    })
}

fn rewrite_from_pb(raw: pb::Rewrite) -> Result<Rewrite, ConvertError> {
    let pb::Rewrite { hostname, path, port: number } = raw;
    let number = port("rewrite.port", number)?;
    Ok(Rewrite {
        hostname: host("rewrite.hostname", &hostname)?,
        port: (number != 0).then_some(number),
        path: path.map(path_from_pb).transpose()?,
    })
}

fn host(field: &'static str, text: &str) -> Result<Option<Hostname>, ConvertError> {
    if text.is_empty() { Ok(None) } else { name(field, text).map(Some) }
}

fn path_from_pb(raw: pb::PathChange) -> Result<PathChange, ConvertError> {
    const FIELD: &str = "path";
    let pb::PathChange { kind } = raw;
    let read = |value: String| -> Result<PathText, ConvertError> {
        Ok(text(FIELD, limits::ROUTE_TEXT, value)?.parse()?)
    };
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: FIELD })? {
        pb::path_change::Kind::Full(value) => PathChange::Full(read(value)?),
        pb::path_change::Kind::Prefix(value) => PathChange::Prefix(read(value)?),
        pb::path_change::Kind::Beginning(value) => PathChange::Beginning(read(value)?),
        pb::path_change::Kind::Parts(pb::Substitution { pattern, with }) => {
            PathChange::Parts(Substitution::new(&pattern, &with)?)
        }
    })
}

fn mirror_from_pb(raw: pb::Mirror) -> Result<Mirror, ConvertError> {
    let pb::Mirror { to, parts, whole } = raw;
    let refused = || ConvertError::Value {
        field: "mirrors.parts",
        value: format!("{parts}/{whole}"),
        wanted: "a share of at most all",
    };
    Ok(Mirror {
        to: match to.ok_or(ConvertError::NoAlternative { field: "mirrors.to" })? {
            pb::mirror::To::Upstream(raw) => Ok(upstream(raw)?),
            pb::mirror::To::Broken(why) => Err(super::broken(why)?),
        },
        share: Share::new(parts, whole).ok_or_else(refused)?,
    })
}

/// Nothing is sent of filters that change nothing: most rules have none.
pub(super) fn filters_to_pb(filters: &Filters) -> Option<pb::Filters> {
    let Filters { request_headers, response_headers, redirect, rewrite, mirrors, cors, direct, fault, ask } =
        filters;
    let message = pb::Filters {
        request_headers: edits_to_pb(request_headers),
        response_headers: edits_to_pb(response_headers),
        redirect: redirect.as_deref().map(redirect_to_pb),
        rewrite: rewrite.as_deref().map(rewrite_to_pb),
        mirrors: mirrors.iter().map(mirror_to_pb).collect(),
        cors: cors.as_deref().map(cors_to_pb),
        direct: direct.as_ref().map(direct_to_pb),
        fault: fault.as_deref().map(fault_to_pb),
        ask: ask.as_deref().map(authorizer_to_pb),
    };
    (message != pb::Filters::default()).then_some(message)
}

fn edits_to_pb(edits: &HeaderEdits) -> Option<pb::HeaderEdits> {
    let headers = |list: &[(HeaderName, HeaderValue)]| {
        let one = |(name, value): &(HeaderName, HeaderValue)| pb::Header {
            name: name.to_string(),
            value: value.as_bytes().to_vec().into(),
        };
        list.iter().map(one).collect()
    };
    (!edits.is_empty()).then(|| pb::HeaderEdits {
        set: headers(edits.sets()),
        add: headers(edits.adds()),
        remove: edits.removes().iter().map(ToString::to_string).collect(),
        fill: edits.fillings().iter().map(filling_to_pb).collect(),
    })
}

fn filling_to_pb(filling: &Filling) -> pb::Filling {
    let Filling { name, value, adds } = filling;
    pb::Filling { name: name.to_string(), value: value.to_string(), adds: *adds }
}

fn redirect_to_pb(redirect: &Redirect) -> pb::Redirect {
    let Redirect { scheme, hostname, port, keeps_port, path, status } = redirect;
    let scheme = match scheme {
        None => pb::Scheme::Unspecified,
        Some(Scheme::Http) => pb::Scheme::Http,
        Some(Scheme::Https) => pb::Scheme::Https,
    };
    pb::Redirect {
        scheme: scheme.into(),
        hostname: hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        port: port.unwrap_or_default().into(),
        path: path.as_ref().map(path_to_pb),
        status: status.code().into(),
        keeps_port: *keeps_port,
    }
}

fn rewrite_to_pb(rewrite: &Rewrite) -> pb::Rewrite {
    let Rewrite { hostname, port, path } = rewrite;
    pb::Rewrite {
        hostname: hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        path: path.as_ref().map(path_to_pb),
        port: port.unwrap_or_default().into(),
    }
}

fn path_to_pb(change: &PathChange) -> pb::PathChange {
    let kind = match change {
        PathChange::Full(text) => pb::path_change::Kind::Full(text.to_string()),
        PathChange::Prefix(text) => pb::path_change::Kind::Prefix(text.to_string()),
        PathChange::Beginning(text) => pb::path_change::Kind::Beginning(text.to_string()),
        PathChange::Parts(parts) => pb::path_change::Kind::Parts(pb::Substitution {
            pattern: parts.pattern().into(),
            with: parts.with().into(),
        }),
    };
    pb::PathChange { kind: Some(kind) }
}

fn mirror_to_pb(mirror: &Mirror) -> pb::Mirror {
    let Mirror { to, share } = mirror;
    pb::Mirror {
        to: Some(match to {
            Ok(upstream) => pb::mirror::To::Upstream(upstream_to_pb(upstream)),
            Err(Broken { why }) => pb::mirror::To::Broken(why.to_string()),
        }),
        parts: share.parts(),
        whole: share.whole(),
    }
}
