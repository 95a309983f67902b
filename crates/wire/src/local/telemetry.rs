//! What is told of requests as people read it in dumps, what is not said left out. Written, never read back.

use ambit_model::provider::Tag;
use ambit_model::telemetry::{
    HeaderWords, LabelWord, LogWord, Metric, ProxyHeader, Relabel, Scope, Server, Sink, Telemetry, Tracing,
};
use serde_json::{Map, Value, json};

/// What one object says.
#[must_use]
pub fn telemetry(telemetry: &Telemetry) -> Value {
    let Telemetry { key, scopes, tracing, logging, uncounted, counted, labels, headers } = telemetry;
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.into(), value);
    put("namespace", key.namespace.as_str().into());
    put("name", key.name.as_str().into());
    put("scopes", scopes.iter().map(scope).collect());
    if let Some(it) = tracing {
        put("tracing", self::tracing(it));
    }
    if !logging.is_empty() {
        put("accessLogging", logging.iter().map(word).collect());
    }
    for (name, all) in [("uncounted", uncounted), ("counted", counted)] {
        if !all.is_empty() {
            put(name, all.iter().copied().map(Metric::name).collect());
        }
    }
    if !labels.is_empty() {
        put("labels", labels.iter().map(label).collect());
    }
    if !headers.is_empty() {
        put("headers", self::headers(headers));
    }
    Value::Object(members)
}

fn headers(words: &HeaderWords) -> Value {
    let HeaderWords { told, untold, server } = words;
    let mut members = Map::new();
    for (name, all) in [("told", told), ("untold", untold)] {
        if !all.is_empty() {
            members.insert(name.into(), all.iter().copied().map(ProxyHeader::name).collect());
        }
    }
    members.extend(server.as_ref().map(|it| {
        let shown = match it {
            Server::Untold => json!(null),
            Server::Is(value) => String::from_utf8_lossy(value.as_bytes()).into(),
        };
        ("server".to_owned(), shown)
    }));
    Value::Object(members)
}

fn label(word: &LabelWord) -> Value {
    let LabelWord { of, name, to } = word;
    let of: Vec<_> = of.iter().copied().map(Metric::name).collect();
    match to {
        Relabel::Removed => json!({ "metrics": of, "name": name.as_str(), "removed": true }),
        Relabel::Set(formula) => {
            json!({ "metrics": of, "name": name.as_str(), "value": formula.to_string() })
        }
    }
}

fn scope(scope: &Scope) -> Value {
    match scope {
        Scope::Usual => json!("configuration"),
        Scope::Mesh => json!("mesh"),
        Scope::Class => json!("class"),
        Scope::Namespace(it) => json!({ "namespace": it.as_str() }),
        Scope::Waypoint { namespace, name } => json!({ "waypoint": format!("{namespace}/{name}") }),
        Scope::Service(key) => json!({ "service": key.to_string() }),
    }
}

fn tracing(tracing: &Tracing) -> Value {
    let Tracing { providers, sampling, disabled, tags, istio_tags, usual: _ } = tracing;
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        members.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("providers", providers.as_ref().map(|all| all.iter().map(|it| it.as_str()).collect()));
    put("randomSamplingPercentage", sampling.map(|it| (f64::from(it.parts()) / 100.0).into()));
    put("disableSpanReporting", disabled.map(Value::from));
    put("enableIstioTags", istio_tags.map(Value::from));
    let tag = |tag: &Tag| match tag {
        Tag::Literal(text) => json!({ "literal": text.as_str() }),
        Tag::Header { name, default } => json!({ "header": name.as_str(), "default": default.as_str() }),
    };
    let all = tags.as_ref().map(|all| all.iter().map(|(name, it)| (name.to_string(), tag(it))).collect());
    put("customTags", all.map(Value::Object));
    Value::Object(members)
}

fn word(word: &LogWord) -> Value {
    let LogWord { to, disabled, filter } = word;
    let mut members = Map::new();
    let sink = |it: &Sink| match it {
        Sink::Log => json!("log"),
        Sink::Collector(name) | Sink::File(name) => json!({ "provider": name.as_str() }),
    };
    if !to.is_empty() {
        members.insert("to".into(), to.iter().map(sink).collect());
    }
    members.extend(disabled.map(|it| ("disabled".to_owned(), it.into())));
    members.extend(filter.as_ref().map(|it| ("filter".to_owned(), it.to_string().into())));
    Value::Object(members)
}
