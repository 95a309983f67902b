//! Spans as Zipkin has them: JSON, version 2.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Fact, Side, Span};

/// All of them in one text, as what a service of this name has done.
pub(super) fn message<'a>(service: &str, spans: impl IntoIterator<Item = &'a Span>) -> Bytes {
    let all: Value = spans.into_iter().map(|it| span(service, it)).collect();
    all.to_string().into()
}

fn span(service: &str, span: &Span) -> Value {
    let Span { trace, id, parent, side, name, began, took, facts, failed } = span;
    let mut tags: Map<String, Value> = facts
        .iter()
        .map(|(key, value)| match value {
            Fact::Text(text) => (key.to_string(), Value::from(text.as_str())),
            Fact::Number(number) => (key.to_string(), number.to_string().into()),
        })
        .collect();
    if let Some(why) = failed {
        tags.insert("error".into(), why.as_str().into());
    }
    let mut shown = json!({
        "traceId": trace.to_string(),
        "id": id.to_string(),
        "kind": match side { Side::Server => "SERVER", Side::Client => "CLIENT" },
        "name": name,
        "timestamp": micros(began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)),
        // None is as good as one that was not measured.
        "duration": micros(*took).max(1),
        "localEndpoint": { "serviceName": service },
        "tags": tags,
    });
    if let (Some(parent), Some(members)) = (parent, shown.as_object_mut()) {
        members.insert("parentId".into(), parent.to_string().into());
    }
    shown
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
