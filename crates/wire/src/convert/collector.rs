//! Collectors of spans, which are providers. Owns their message: what cannot be read is refused whole.

use std::time::Duration;

use ambit_model::name::Label;
use ambit_model::provider::{Collector, Tag, Takes, Traced};
use ambit_model::trace::Sampling;
use http::{HeaderName, HeaderValue};

use super::provider::{header, header_to_pb, is_path, reach};
use super::{ConvertError, check_count};
use crate::limits;
use crate::pb::waypoint as pb;

/// A collector from its message.
pub(super) fn collector_from_pb(raw: pb::Collector) -> Result<Collector, ConvertError> {
    use pb::collector::Takes as Raw;
    let pb::Collector { at, takes, patience_ms, mesh } = raw;
    let takes = match takes.ok_or(ConvertError::NoAlternative { field: "takes" })? {
        Raw::OtlpGrpc(pb::OverGrpc { add }) => Takes::OtlpGrpc { add: headers(add)? },
        Raw::OtlpHttp(pb::OverPath { path, add }) => {
            Takes::OtlpHttp { path: checked(path)?, add: headers(add)? }
        }
        Raw::Zipkin(pb::OverPath { path, add: _ }) => Takes::Zipkin { path: checked(path)? },
    };
    let patience = Duration::from_millis(patience_ms);
    Ok(Collector { at: reach(at)?, takes, patience, mesh: mesh.map(traced).transpose()? })
}

fn headers(raw: Vec<pb::Header>) -> Result<Vec<(HeaderName, HeaderValue)>, ConvertError> {
    check_count("add", limits::PROVIDER_LIST, raw.len())?;
    raw.into_iter().map(header).collect()
}

fn checked(path: String) -> Result<Box<str>, ConvertError> {
    if is_path(&path) {
        Ok(path.into())
    } else {
        Err(ConvertError::Value { field: "path", value: path, wanted: "a path" })
    }
}

fn traced(raw: pb::Traced) -> Result<Traced, ConvertError> {
    let pb::Traced { sampling, tags } = raw;
    check_count("tags", limits::PROVIDER_LIST, tags.len())?;
    let wanted = "ten-thousandths, at most 10000";
    let refused = || ConvertError::Value { field: "sampling", value: sampling.to_string(), wanted };
    let sampling = Sampling::of(sampling).ok_or_else(refused)?;
    Ok(Traced { sampling, tags: tags.into_iter().map(tag).collect::<Result<_, _>>()? })
}

fn tag(raw: pb::Tag) -> Result<(Label, Tag), ConvertError> {
    let pb::Tag { name, text, header } = raw;
    if name.is_empty() {
        return Err(ConvertError::Value { field: "tags", value: name, wanted: "a name" });
    }
    if header.is_empty() {
        return Ok((name.into(), Tag::Literal(text.into())));
    }
    match header.parse() {
        Ok(header) => Ok((name.into(), Tag::Header { name: header, default: text.into() })),
        Err(_) => Err(ConvertError::Value { field: "tags", value: header, wanted: "a header's name" }),
    }
}

/// A collector's message.
pub(super) fn collector_to_pb(collector: &Collector) -> pb::Collector {
    use pb::collector::Takes as Raw;
    let Collector { at, takes, patience, mesh } = collector;
    let write = |add: &[(HeaderName, HeaderValue)]| add.iter().map(header_to_pb).collect();
    let takes = match takes {
        Takes::OtlpGrpc { add } => Raw::OtlpGrpc(pb::OverGrpc { add: write(add) }),
        Takes::OtlpHttp { path, add } => {
            Raw::OtlpHttp(pb::OverPath { path: path.to_string(), add: write(add) })
        }
        Takes::Zipkin { path } => Raw::Zipkin(pb::OverPath { path: path.to_string(), add: Vec::new() }),
    };
    pb::Collector {
        at: at.to_string(),
        takes: Some(takes),
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        mesh: mesh.as_ref().map(|Traced { sampling, tags }| pb::Traced {
            sampling: u32::from(sampling.parts()),
            tags: tags.iter().map(tag_to_pb).collect(),
        }),
    }
}

fn tag_to_pb((name, tag): &(Label, Tag)) -> pb::Tag {
    let (text, header) = match tag {
        Tag::Literal(text) => (text, String::new()),
        Tag::Header { name, default } => (default, name.to_string()),
    };
    pb::Tag { name: name.to_string(), text: text.to_string(), header }
}
