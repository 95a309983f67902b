//! Spans and lines of access logs as OTLP has them. Owns which message they are; its schema is `wire`'s.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use ambit_wire::pb::otlp as pb;
use ambit_wire::spans::{encode, encode_logs};
use bytes::Bytes;

use super::{Fact, Line, Side, Span};

/// All of them in one message, as what a service of this name has done.
pub(super) fn message<'a>(service: &str, spans: impl IntoIterator<Item = &'a Span>) -> Bytes {
    encode(&request(service, spans))
}

fn request<'a>(service: &str, spans: impl IntoIterator<Item = &'a Span>) -> pb::ExportTraceServiceRequest {
    let (resource, scope) = (Some(resource(service)), Some(scope()));
    let spans = pb::ScopeSpans { scope, spans: spans.into_iter().map(span).collect() };
    pb::ExportTraceServiceRequest {
        resource_spans: vec![pb::ResourceSpans { resource, scope_spans: vec![spans] }],
    }
}

/// Lines in one message, as what a service of this name has written.
pub(super) fn logs<'a>(service: &str, lines: impl IntoIterator<Item = &'a Line>) -> Bytes {
    let (resource, scope) = (Some(resource(service)), Some(scope()));
    let lines = pb::ScopeLogs { scope, log_records: lines.into_iter().map(line).collect() };
    encode_logs(&pb::ExportLogsServiceRequest {
        resource_logs: vec![pb::ResourceLogs { resource, scope_logs: vec![lines] }],
    })
}

fn resource(service: &str) -> pb::Resource {
    let name = fact(&(Cow::Borrowed("service.name"), Fact::Text(service.to_owned())));
    pb::Resource { attributes: vec![name] }
}

fn scope() -> pb::Scope {
    pb::Scope { name: "ambit-waypoint".into(), version: env!("CARGO_PKG_VERSION").into() }
}

fn line(line: &Line) -> pb::LogRecord {
    /// As OTLP numbers information.
    const INFO: i32 = 9;
    let Line { at, what, trace, facts } = line;
    let body = pb::any_value::Value::StringValue((*what).to_owned());
    pb::LogRecord {
        time_unix_nano: nanos(*at),
        severity_number: INFO,
        body: Some(pb::AnyValue { value: Some(body) }),
        attributes: facts.iter().map(fact).collect(),
        trace_id: trace.map(|it| it.bytes().to_vec()).unwrap_or_default().into(),
        observed_time_unix_nano: nanos(*at),
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
