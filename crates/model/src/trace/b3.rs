//! `x-b3-…` and `b3`, as Zipkin has them.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Forms, Incoming, Outgoing, only, span_id, trace_id};

const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const SINGLE: HeaderName = HeaderName::from_static("b3");

pub(super) fn read(headers: &HeaderMap) -> Option<Incoming> {
    let trace = only(headers, &TRACE).and_then(trace_id);
    let span = only(headers, &SPAN).and_then(span_id);
    let debug = only(headers, &FLAGS) == Some("1");
    let sampled = match only(headers, &SAMPLED) {
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        _ => None,
    };
    let sampled = if debug { Some(true) } else { sampled };
    let parent = trace.zip(span);
    let forms = Forms { b3: true, ..Forms::default() };
    (parent.is_some() || sampled.is_some()).then_some(Incoming { parent, sampled, debug, forms })
}

pub(super) fn read_single(headers: &HeaderMap) -> Option<Incoming> {
    let text = only(headers, &SINGLE)?;
    let forms = Forms { b3_single: true, ..Forms::default() };
    let decided = |text: &str| match text {
        "1" | "true" => Some((Some(true), false)),
        "0" | "false" => Some((Some(false), false)),
        "d" => Some((Some(true), true)),
        _ => None,
    };
    if let Some((sampled, debug)) = decided(text) {
        return Some(Incoming { parent: None, sampled, debug, forms });
    }
    let mut parts = text.split('-');
    let parent = Some((trace_id(parts.next()?)?, span_id(parts.next()?)?));
    let (sampled, debug) = match parts.next() {
        None => (None, false),
        Some(said) => decided(said)?,
    };
    Some(Incoming { parent, sampled, debug, forms })
}

pub(super) fn write(this: &Outgoing, headers: &mut HeaderMap, wanted: bool) {
    if !wanted {
        [TRACE, SPAN, PARENT, SAMPLED, FLAGS].iter().for_each(|name| drop(headers.remove(name)));
        return;
    }
    for (name, text) in
        [(TRACE, this.trace.to_string()), (SPAN, this.span.to_string()), (PARENT, this.parent.to_string())]
    {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    // Who says that all of it is to be written down says no more (B3: sampled is not sent beside flags).
    let (name, other) = if this.debug { (FLAGS, SAMPLED) } else { (SAMPLED, FLAGS) };
    headers.insert(name, HeaderValue::from_static(if this.sampled { "1" } else { "0" }));
    headers.remove(other);
}

pub(super) fn write_single(this: &Outgoing, headers: &mut HeaderMap, wanted: bool) {
    let said = match (this.debug, this.sampled) {
        (true, _) => "d",
        (_, true) => "1",
        (_, false) => "0",
    };
    match HeaderValue::try_from(format!("{}-{}-{said}-{}", this.trace, this.span, this.parent)) {
        Ok(value) if wanted => drop(headers.insert(SINGLE, value)),
        _ => drop(headers.remove(&SINGLE)),
    }
}
