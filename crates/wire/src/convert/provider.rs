//! Providers. Owns their message, which is of our own schema: what cannot be read is refused whole, and the former
//! version stays in force.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::policy::TextMatch;
use ambit_model::provider::{
    Authorizer, BODY_MOST, BodyShown, OverHttp, Provider, ProviderKind, Reach, Speaks, Which,
};
use ambit_model::request_policy::{text_match, written};
use http::{HeaderName, HeaderValue, StatusCode};

use super::collector::{collector_from_pb, collector_to_pb};
use super::line::{format_from_pb, format_to_pb};
use super::{ConvertError, check_count};
use crate::limits;
use crate::pb::waypoint as pb;

/// A provider from its message.
pub fn provider_from_pb(raw: pb::Provider) -> Result<Provider, ConvertError> {
    use pb::provider::Kind;
    let pb::Provider { name, kind } = raw;
    if name.is_empty() {
        return Err(ConvertError::Value { field: "name", value: name, wanted: "a name" });
    }
    let kind = match kind.ok_or(ConvertError::NoAlternative { field: "kind" })? {
        Kind::Authorizer(raw) => ProviderKind::Authorizer(Arc::new(authorizer(raw)?)),
        Kind::Collector(raw) => ProviderKind::Collector(Arc::new(collector_from_pb(raw)?)),
        Kind::Log(raw) => ProviderKind::Log(Arc::new(format_from_pb(raw)?)),
    };
    Ok(Provider { name: name.into(), kind })
}

pub(in crate::convert) fn authorizer(raw: pb::Authorizer) -> Result<Authorizer, ConvertError> {
    use pb::authorizer::Speaks as Raw;
    let pb::Authorizer { at, speaks, shown, patience_ms, fail_open, error_status, reroute, body } = raw;
    let speaks = match speaks.ok_or(ConvertError::NoAlternative { field: "speaks" })? {
        Raw::Grpc(_) => Speaks::Grpc,
        Raw::Http(raw) => Speaks::Http(Box::new(over_http(raw)?)),
    };
    Ok(Authorizer {
        at: reach(at)?,
        speaks,
        shown: which(shown)?,
        patience: Duration::from_millis(patience_ms),
        fail_open,
        error_status: status(error_status)?,
        reroute,
        body: body.map(body_shown).transpose()?,
    })
}

pub(super) fn reach(text: String) -> Result<Reach, ConvertError> {
    let wanted = "[<namespace>/]<host>:<port>";
    text.parse().map_err(|_| ConvertError::Value { field: "at", value: text, wanted })
}

fn status(raw: u32) -> Result<u16, ConvertError> {
    let refuse = || ConvertError::Value {
        field: "error_status",
        value: raw.to_string(),
        wanted: "a status of an answer, from 200 to 599",
    };
    let status = u16::try_from(raw).ok().and_then(|it| StatusCode::from_u16(it).ok()).ok_or_else(refuse)?;
    if (200..600).contains(&raw) { Ok(status.as_u16()) } else { Err(refuse()) }
}

fn body_shown(raw: pb::BodyShown) -> Result<BodyShown, ConvertError> {
    let pb::BodyShown { most, partial, raw } = raw;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most > BODY_MOST {
        return Err(ConvertError::TooMany { field: "body.most", found: most, limit: BODY_MOST });
    }
    Ok(BodyShown { most, partial, raw })
}

fn over_http(raw: pb::AskedOverHttp) -> Result<OverHttp, ConvertError> {
    let pb::AskedOverHttp { prefix, add, onward, back, back_refused } = raw;
    if !(prefix.is_empty() || is_path(&prefix)) {
        return Err(ConvertError::Value { field: "prefix", value: prefix, wanted: "a path" });
    }
    check_count("add", limits::PROVIDER_LIST, add.len())?;
    Ok(OverHttp {
        prefix: prefix.into(),
        add: add.into_iter().map(header).collect::<Result<_, _>>()?,
        onward: which(onward)?,
        back: which(back)?,
        back_refused: which(back_refused)?,
    })
}

pub(super) fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    text.starts_with('/') && text.bytes().all(plain)
}

pub(super) fn header(raw: pb::Header) -> Result<(HeaderName, HeaderValue), ConvertError> {
    let pb::Header { name, value } = raw;
    let Ok(value) = HeaderValue::from_maybe_shared(value) else {
        return Err(ConvertError::Value { field: "add", value: name, wanted: "a header with a value" });
    };
    match name.parse() {
        Ok(name) => Ok((name, value)),
        Err(_) => Err(ConvertError::Value { field: "add", value: name, wanted: "a header's name" }),
    }
}

pub(super) fn which(raw: Option<pb::HeaderNames>) -> Result<Which, ConvertError> {
    let pb::HeaderNames { all, these } = raw.unwrap_or_default();
    check_count("these", limits::PROVIDER_LIST, these.len())?;
    let named = |text: &String| text_match(&text.to_ascii_lowercase());
    Ok(if all { Which::All } else { Which::These(these.iter().map(named).collect()) })
}

/// A provider's message.
#[must_use]
pub fn provider_to_pb(provider: &Provider) -> pb::Provider {
    use pb::provider::Kind;
    let Provider { name, kind } = provider;
    let kind = match kind {
        ProviderKind::Authorizer(it) => Kind::Authorizer(authorizer_to_pb(it)),
        ProviderKind::Collector(it) => Kind::Collector(collector_to_pb(it)),
        ProviderKind::Log(it) => Kind::Log(format_to_pb(it)),
    };
    pb::Provider { name: name.to_string(), kind: Some(kind) }
}

pub(in crate::convert) fn authorizer_to_pb(authorizer: &Authorizer) -> pb::Authorizer {
    use pb::authorizer::Speaks as Raw;
    let Authorizer { at, speaks, shown, patience, fail_open, error_status, reroute, body } = authorizer;
    pb::Authorizer {
        at: at.to_string(),
        speaks: Some(match speaks {
            Speaks::Grpc => Raw::Grpc(true),
            Speaks::Http(how) => Raw::Http(over_http_to_pb(how)),
        }),
        shown: Some(which_to_pb(shown)),
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        fail_open: *fail_open,
        error_status: u32::from(*error_status),
        reroute: *reroute,
        body: body.map(|BodyShown { most, partial, raw }| pb::BodyShown {
            most: u32::try_from(most).unwrap_or(u32::MAX),
            partial,
            raw,
        }),
    }
}

fn over_http_to_pb(how: &OverHttp) -> pb::AskedOverHttp {
    let OverHttp { prefix, add, onward, back, back_refused } = how;
    pb::AskedOverHttp {
        prefix: prefix.to_string(),
        add: add.iter().map(header_to_pb).collect(),
        onward: Some(which_to_pb(onward)),
        back: Some(which_to_pb(back)),
        back_refused: Some(which_to_pb(back_refused)),
    }
}

pub(super) fn header_to_pb((name, value): &(HeaderName, HeaderValue)) -> pb::Header {
    pb::Header { name: name.to_string(), value: value.as_bytes().to_vec().into() }
}

pub(super) fn which_to_pb(which: &Which) -> pb::HeaderNames {
    let write = |names: &[TextMatch]| names.iter().map(written).collect();
    match which {
        Which::All => pb::HeaderNames { all: true, these: Vec::new() },
        Which::These(names) => pb::HeaderNames { all: false, these: write(names) },
    }
}
