//! Policies of limits as people read them in dumps: shaped as the objects they come from, what is not set left out.
//! Written, never read back.

use ambit_model::http_route::RouteTarget;
use ambit_model::rate_limit::{Entry, EntryValue, GlobalLimit, LocalLimit, RateLimit};
use ambit_model::request_policy::RequestRule;
use serde_json::{Map, Value, json};

use super::request_policy::{rule, target};

/// One policy of limits.
#[must_use]
pub fn rate_limit(limit: &RateLimit) -> Value {
    let RateLimit { key, targets, routes, local, global, tell, exhausted } = limit;
    let mut members = Map::new();
    members.insert("namespace".into(), key.namespace.as_str().into());
    members.insert("name".into(), key.name.as_str().into());
    members.insert("targets".into(), targets.iter().map(target).collect());
    if !routes.is_empty() {
        members.insert("routes".into(), routes.iter().map(route).collect());
    }
    if !local.is_empty() {
        members.insert("local".into(), local.iter().map(counted).collect());
    }
    if let Some(global) = global {
        members.insert("global".into(), asked(global));
    }
    if *tell {
        members.insert("tellLimits".into(), true.into());
    }
    if *exhausted {
        members.insert("grpcStatus".into(), "ResourceExhausted".into());
    }
    Value::Object(members)
}

/// A route that something is attached to.
pub(super) fn route(target: &RouteTarget) -> Value {
    match &target.rule {
        Some(rule) => json!({ "route": target.route.to_string(), "rule": rule.as_str() }),
        None => json!({ "route": target.route.to_string() }),
    }
}

fn counted(limit: &LocalLimit) -> Value {
    let LocalLimit { rule, key, rate } = limit;
    let mut members = matched(rule);
    if !key.is_empty() {
        members.insert("key".into(), key.iter().map(ToString::to_string).collect());
    }
    members.insert("requests".into(), rate.requests().into());
    members.insert("per".into(), format!("{:?}", rate.per()).into());
    members.insert("burst".into(), rate.burst().into());
    Value::Object(members)
}

fn asked(limit: &GlobalLimit) -> Value {
    let GlobalLimit { at, domain, descriptors, hits, patience, fail_closed } = limit;
    let descriptors = descriptors.iter().map(|it| {
        let mut members = matched(&it.rule);
        members.insert("entries".into(), it.entries.iter().map(entry).collect());
        Value::Object(members)
    });
    json!({
        "at": at.as_ref().map_or_else(|| "unreadable".into(), ToString::to_string),
        "domain": domain,
        "descriptors": descriptors.collect::<Value>(),
        "hits": hits,
        "timeout": format!("{patience:?}"),
        "onFailure": if *fail_closed { "Deny" } else { "Allow" },
    })
}

fn entry(entry: &Entry) -> Value {
    match &entry.value {
        EntryValue::Fixed(text) => json!({ "key": entry.key, "value": text }),
        EntryValue::Of(attribute) => json!({ "key": entry.key, "from": attribute.to_string() }),
    }
}

fn matched(given: &RequestRule) -> Map<String, Value> {
    let mut members = Map::new();
    if *given != RequestRule::default() {
        members.insert("match".into(), rule(given));
    }
    members
}
