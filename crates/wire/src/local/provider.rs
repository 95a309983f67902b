//! Providers as people read them in dumps, what is not set left out. Written, never read back.

use ambit_model::operator::{LineFormat, LineKind};
use ambit_model::provider::{
    Authorizer, Collector, OverHttp, Provider, ProviderKind, Speaks, Tag, Takes, Traced, Which,
};
use ambit_model::request_policy::written;
use serde_json::{Map, Value, json};

/// One provider.
#[must_use]
pub fn provider(provider: &Provider) -> Value {
    let Provider { name, kind } = provider;
    let mut members = Map::new();
    members.insert("name".into(), name.as_str().into());
    match kind {
        ProviderKind::Authorizer(it) => {
            let kind = if it.speaks == Speaks::Grpc { "envoyExtAuthzGrpc" } else { "envoyExtAuthzHttp" };
            members.insert(kind.into(), authorizer(it));
        }
        ProviderKind::Collector(it) => {
            let kind = if matches!(it.takes, Takes::Zipkin { .. }) { "zipkin" } else { "opentelemetry" };
            members.insert(kind.into(), collector(it));
        }
        ProviderKind::Log(it) => {
            members.insert("envoyFileAccessLog".into(), log(it));
        }
    }
    Value::Object(members)
}

/// How lines are written.
fn log(format: &LineFormat) -> Value {
    let LineFormat { of, omit_empty } = format;
    let format = match of {
        LineKind::Text(text) => json!({ "text": text.to_string() }),
        LineKind::Json(members) => {
            let member =
                |(name, text): &(_, _)| (ToString::to_string(name), ToString::to_string(text).into());
            json!({ "labels": Value::Object(members.iter().map(member).collect()) })
        }
    };
    json!({ "logFormat": format, "omitEmptyValues": omit_empty })
}

/// An authorizer. What is added to its requests is left out: that may be a secret.
pub(super) fn authorizer(authorizer: &Authorizer) -> Value {
    let Authorizer { at, speaks, shown, patience, fail_open, error_status, reroute, body } = authorizer;
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.into(), value);
    put("service", at.to_string().into());
    put("headersShown", which(shown));
    put("timeout", format!("{patience:?}").into());
    put("statusOnError", (*error_status).into());
    if *fail_open {
        put("failOpen", true.into());
    }
    if *reroute {
        put("clearRouteCache", true.into());
    }
    if let Some(body) = body {
        let shown = json!({"maxRequestBytes": body.most, "allowPartialMessage": body.partial, "packAsBytes": body.raw});
        put("includeRequestBodyInCheck", shown);
    }
    if let Speaks::Http(how) = speaks {
        let OverHttp { prefix, add, onward, back, back_refused } = &**how;
        put("pathPrefix", (&**prefix).into());
        put("headersAdded", add.iter().map(|(name, _)| name.as_str()).collect());
        put("headersToUpstreamOnAllow", which(onward));
        put("headersToDownstreamOnAllow", which(back));
        put("headersToDownstreamOnDeny", which(back_refused));
    }
    Value::Object(members)
}

/// A collector. Values of headers are left out, too.
fn collector(collector: &Collector) -> Value {
    let Collector { at, takes, patience, mesh } = collector;
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.into(), value);
    put("service", at.to_string().into());
    put("timeout", format!("{patience:?}").into());
    let (way, path, add) = match takes {
        Takes::OtlpGrpc { add } => ("grpc", None, add.as_slice()),
        Takes::OtlpHttp { path, add } => ("http", Some(path), add.as_slice()),
        Takes::Zipkin { path } => ("http", Some(path), &[][..]),
    };
    put("protocol", way.into());
    if let Some(path) = path {
        put("path", (&**path).into());
    }
    if !add.is_empty() {
        put("headersAdded", add.iter().map(|(name, _)| name.as_str()).collect());
    }
    if let Some(Traced { sampling, tags }) = mesh {
        put("percentOfMesh", (f64::from(sampling.parts()) / 100.0).into());
        put("tags", Value::Object(tags.iter().map(|(name, tag)| (name.to_string(), tagged(tag))).collect()));
    }
    Value::Object(members)
}

fn tagged(tag: &Tag) -> Value {
    match tag {
        Tag::Literal(text) => json!({ "literal": text.as_str() }),
        Tag::Header { name, default } => json!({ "header": name.as_str(), "default": default.as_str() }),
    }
}

pub(super) fn which(which: &Which) -> Value {
    match which {
        Which::All => "all".into(),
        Which::These(names) => names.iter().map(written).collect(),
    }
}
