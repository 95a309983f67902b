//! Spans as OTLP has them. Owns which message they are; its schema is `wire`'s.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use ambit_wire::pb::otlp as pb;
use ambit_wire::spans::encode;
use bytes::Bytes;

use super::{Fact, Side, Span};

/// All of them in one message, as what a service of this name has done.
pub(super) fn message<'a>(service: &str, spans: impl IntoIterator<Item = &'a Span>) -> Bytes {
    encode(&request(service, spans))
}

fn request<'a>(service: &str, spans: impl IntoIterator<Item = &'a Span>) -> pb::ExportTraceServiceRequest {
    let scope = pb::Scope { name: "ambit-waypoint".into(), version: env!("CARGO_PKG_VERSION").into() };
    let spans = pb::ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(span).collect() };
    let name = fact(&(Cow::Borrowed("service.name"), Fact::Text(service.to_owned())));
    let resource = Some(pb::Resource { attributes: vec![name] });
    pb::ExportTraceServiceRequest {
        resource_spans: vec![pb::ResourceSpans { resource, scope_spans: vec![spans] }],
    }
}

fn span(span: &Span) -> pb::Span {
    let Span { trace, id, parent, side, name, began, took, facts, failed } = span;
    let kind = match side {
        Side::Server => pb::SpanKind::Server,
        Side::Client => pb::SpanKind::Client,
    };
    let code = if failed.is_some() { pb::StatusCode::Error } else { pb::StatusCode::Unset };
    pb::Span {
        trace_id: trace.bytes().to_vec().into(),
        span_id: id.bytes().to_vec().into(),
        trace_state: String::new(),
        parent_span_id: parent.map(|it| it.bytes().to_vec()).unwrap_or_default().into(),
        name: name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanos(*began),
        end_time_unix_nano: nanos(*began + *took),
        attributes: facts.iter().map(fact).collect(),
        status: Some(pb::Status { message: failed.clone().unwrap_or_default(), code: code.into() }),
    }
}

fn fact((key, value): &(Cow<'static, str>, Fact)) -> pb::KeyValue {
    use pb::any_value::Value;
    let value = match value {
        Fact::Text(text) => Value::StringValue(text.clone()),
        Fact::Number(number) => Value::IntValue(*number),
    };
    pb::KeyValue { key: key.to_string(), value: Some(pb::AnyValue { value: Some(value) }) }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
