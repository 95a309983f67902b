//! Policies of processors as people read them in dumps: shaped as the objects they come from, what is not set left out.
//! Written, never read back.

use ambit_model::ext_proc::{BodyMode, ChangeRules, ExtProc, Modes};
use ambit_model::request_policy::RequestRule;
use serde_json::{Map, Value, json};

use super::provider::which;
use super::rate_limit::route;
use super::request_policy::{rule, target};
use ambit_model::provider::Which;

/// One policy of a processor.
#[must_use]
pub fn ext_proc(policy: &ExtProc) -> Value {
    let ExtProc {
        key,
        targets,
        routes,
        rule: matching,
        at,
        patience,
        fail_open,
        watches,
        modes,
        may_choose,
        body_most,
        shown,
        attributes,
        changes,
    } = policy;
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.into(), value);
    put("namespace", key.namespace.as_str().into());
    put("name", key.name.as_str().into());
    put("targets", targets.iter().map(target).collect());
    if !routes.is_empty() {
        put("routes", routes.iter().map(route).collect());
    }
    if *matching != RequestRule::default() {
        put("match", rule(matching));
    }
    put("at", at.as_ref().map_or_else(|| "unreadable".into(), ToString::to_string).into());
    put("timeout", format!("{patience:?}").into());
    put("failOpen", (*fail_open).into());
    if *watches {
        put("observabilityMode", true.into());
    }
    put("processingMode", mode(modes));
    put("allowModeOverride", (*may_choose).into());
    put("maxBodyBytes", (*body_most).into());
    put("forwardHeaders", json!({ "allow": which(&shown.allow), "disallow": which(&shown.deny) }));
    if !attributes.is_empty() {
        put("attributes", attributes.iter().map(ToString::to_string).collect());
    }
    put("mutationRules", rules(changes));
    Value::Object(members)
}

fn mode(modes: &Modes) -> Value {
    let send = |it: bool| if it { "SEND" } else { "SKIP" };
    let body = |it: BodyMode| match it {
        BodyMode::None => "NONE",
        BodyMode::Streamed => "STREAMED",
        BodyMode::Buffered => "BUFFERED",
        BodyMode::BufferedPartial => "BUFFERED_PARTIAL",
        BodyMode::Duplex => "FULL_DUPLEX_STREAMED",
    };
    json!({
        "requestHeaders": send(modes.request_headers),
        "responseHeaders": send(modes.response_headers),
        "requestBody": body(modes.request_body),
        "responseBody": body(modes.response_body),
        "requestTrailers": send(modes.request_trailers),
        "responseTrailers": send(modes.response_trailers),
    })
}

fn rules(changes: &ChangeRules) -> Value {
    let ChangeRules { routing, nothing_else, allow, deny } = changes;
    let mut members = Map::new();
    for (name, is_set) in [("allowRouting", *routing), ("disallowAll", *nothing_else)] {
        if is_set {
            members.insert(name.into(), true.into());
        }
    }
    for (name, names) in [("allow", allow), ("disallow", deny)] {
        if *names != Which::default() {
            members.insert(name.into(), which(names));
        }
    }
    Value::Object(members)
}
