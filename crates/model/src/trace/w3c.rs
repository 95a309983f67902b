//! `traceparent` and `tracestate` (W3C Trace Context, level 1).

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Forms, Incoming, Outgoing, only, span_id, trace_id};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` and the three fields that every version has.
const LENGTH: usize = 55;

pub(super) fn read(headers: &HeaderMap) -> Option<Incoming> {
    let text = only(headers, &PARENT)?;
    let is_plain = |part: &str| part.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
    let mut parts = text.get(..LENGTH)?.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = [version.len(), trace.len(), span.len(), flags.len()];
    if lengths != [2, 32, 16, 2] || ![version, trace, span, flags].into_iter().all(is_plain) {
        return None;
    }
    // A later version may have more behind what we know of it.
    let more = text.get(LENGTH..)?;
    let is_known = more.is_empty() || (version != "00" && more.starts_with('-'));
    if version == "ff" || !is_known {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(Incoming {
        parent: Some((trace_id(trace)?, span_id(span)?)),
        sampled: Some(flags & 1 == 1),
        debug: false,
        forms: Forms { w3c: true, ..Forms::default() },
    })
}

pub(super) fn write(this: &Outgoing, headers: &mut HeaderMap, wanted: bool, came: bool) {
    if !came {
        // Without the trace that it is of it says nothing.
        headers.remove(&STATE);
    }
    let text = format!("00-{}-{}-{:02x}", this.trace, this.span, u8::from(this.sampled));
    match HeaderValue::try_from(text) {
        Ok(value) if wanted => drop(headers.insert(PARENT, value)),
        _ => drop(headers.remove(&PARENT)),
    }
}
