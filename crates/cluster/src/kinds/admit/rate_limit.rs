//! Rules of policies of limits: which numbers are a rate, which attributes there are, and what a service can be told.

use std::time::Duration;

use ambit_model::rate_limit::{Attribute, Rate, RateError};

use super::Findings;
use super::policy::{rule, targets_or_routes};
use crate::kinds::rate_limit::{Descriptor, Entry, GlobalLimit, LocalLimit, RateLimitPolicy};
use crate::kinds::route::duration;

/// Limits that are counted here, in one policy.
const LIMITS: usize = 64;
/// Parts of a list.
const LIST: usize = 16;
/// No request waits longer to be counted.
const PATIENCE_MOST: Duration = Duration::from_secs(10);
/// Bytes of a text that a service is told.
const TEXT: usize = 256;

pub(super) fn limits(policy: &RateLimitPolicy, findings: &mut Findings) {
    let spec = &policy.spec;
    if spec.target_refs.is_empty() {
        let remedy = "attach it to a waypoint, or to what goes through one";
        findings.refuse("spec.targetRefs", "", "missing: nobody enforces it", remedy);
    }
    targets_or_routes(&spec.target_refs, findings);
    count("spec.local", spec.local.len(), LIMITS, findings);
    for (at, limit) in spec.local.iter().enumerate() {
        local(&format!("spec.local[{at}]"), limit, findings);
    }
    if let Some(limit) = &spec.global {
        global("spec.global", limit, findings);
    }
}

fn local(field: &str, limit: &LocalLimit, findings: &mut Findings) {
    rule(&format!("{field}.match"), &limit.matching, findings);
    count(&format!("{field}.key"), limit.key.len(), LIST, findings);
    for (at, name) in limit.key.iter().enumerate() {
        attribute(&format!("{field}.key[{at}]"), name, findings);
    }
    let Some(per) = duration(&limit.per) else {
        findings.refuse(format!("{field}.per"), &limit.per, "not a duration", "write it as 1s, 1m or 1h");
        return;
    };
    let burst = limit.burst.unwrap_or(limit.requests);
    let (name, value, problem, remedy) = match Rate::new(limit.requests, per, burst) {
        Ok(_) => return,
        Err(RateError::Requests(it)) => {
            ("requests", it.to_string(), "out of range", "give a number from 1 to 1000000")
        }
        Err(RateError::Per(_)) => ("per", limit.per.clone(), "out of range", "give a time from 50ms to 24h"),
        Err(RateError::Burst(it)) => {
            ("burst", it.to_string(), "out of range", "give a number from 1 to 1000000")
        }
        Err(RateError::Fill(it)) => {
            ("burst", it.to_string(), "more than come back in a year", "give a smaller one, or more requests")
        }
    };
    findings.refuse(format!("{field}.{name}"), &value, problem, remedy);
}

fn global(field: &str, limit: &GlobalLimit, findings: &mut Findings) {
    service(field, (&limit.service, limit.port), findings);
    given(&format!("{field}.domain"), &limit.domain, findings);
    if limit.descriptors.is_empty() {
        let remedy = "say what the service is told of requests";
        findings.refuse(format!("{field}.descriptors"), "", "missing: it is never asked", remedy);
    }
    count(&format!("{field}.descriptors"), limit.descriptors.len(), LIST, findings);
    for (at, one) in limit.descriptors.iter().enumerate() {
        descriptor(&format!("{field}.descriptors[{at}]"), one, findings);
    }
    if limit.hits == Some(0) {
        findings.refuse(format!("{field}.hits"), "0", "counts nothing", "give 1 or more, or leave it out");
    }
    let patience = duration(&limit.timeout).filter(|it| !it.is_zero() && *it <= PATIENCE_MOST);
    if !limit.timeout.is_empty() && patience.is_none() {
        let remedy = "give a time from 1ms to 10s";
        findings.refuse(format!("{field}.timeout"), &limit.timeout, "not such a duration", remedy);
    }
}

/// A service by its name or host, and its port.
pub(super) fn service(field: &str, (name, port): (&str, u32), findings: &mut Findings) {
    let host = name.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    if host.is_empty() || !name.chars().all(plain) || name.matches('/').count() > 1 {
        let remedy = "name a service of this namespace, or write [<namespace>/]<host>";
        findings.refuse(format!("{field}.service"), name, "not a service", remedy);
    }
    if !(1..=65535).contains(&port) {
        let remedy = "give a number from 1 to 65535";
        findings.refuse(format!("{field}.port"), &port.to_string(), "not a port", remedy);
    }
}

fn descriptor(field: &str, descriptor: &Descriptor, findings: &mut Findings) {
    rule(&format!("{field}.match"), &descriptor.matching, findings);
    if descriptor.entries.is_empty() {
        findings.refuse(format!("{field}.entries"), "", "missing", "give at least one");
    }
    count(&format!("{field}.entries"), descriptor.entries.len(), LIST, findings);
    for (at, one) in descriptor.entries.iter().enumerate() {
        entry(&format!("{field}.entries[{at}]"), one, findings);
    }
}

fn entry(field: &str, entry: &Entry, findings: &mut Findings) {
    given(&format!("{field}.key"), &entry.key, findings);
    match (entry.value.as_str(), entry.from.as_str()) {
        ("", "") => {
            let remedy = "give a value, or from as an attribute of the request";
            findings.refuse(field, "", "has neither value nor from", remedy);
        }
        (_, "") => given(&format!("{field}.value"), &entry.value, findings),
        ("", name) => attribute(&format!("{field}.from"), name, findings),
        _ => findings.refuse(field, "", "has both value and from", "keep one of them"),
    }
}

fn given(field: &str, text: &str, findings: &mut Findings) {
    if text.is_empty() {
        findings.refuse(field, "", "missing", "give it as the service's configuration has it");
    } else if text.len() > TEXT {
        let remedy = format!("use at most {TEXT} bytes");
        findings.refuse(field, &text.len().to_string(), "too long", &remedy);
    }
}

pub(super) fn attribute(field: &str, name: &str, findings: &mut Findings) {
    if name.parse::<Attribute>().is_err() {
        let remedy = "use one like source.principal, source.ip, request.path, request.headers[name] or \
                      request.auth.claims[name]";
        findings.refuse(field, name, "unknown attribute", remedy);
    }
}

pub(super) fn count(field: &str, found: usize, most: usize, findings: &mut Findings) {
    if found > most {
        findings.refuse(field, &found.to_string(), "too many", &format!("give at most {most}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::policy::some_routes;
    use crate::kinds::admit::review;

    fn said(spec: &Value) -> Vec<String> {
        let object = json!({
            "apiVersion": "ambit.io/v1alpha1",
            "kind": "RateLimitPolicy",
            "metadata": { "name": "limits", "namespace": "shop" },
            "spec": spec,
        });
        review(&object).iter().map(ToString::to_string).collect()
    }

    fn whole() -> Value {
        json!({
            "targetRefs": [{ "kind": "Service", "name": "web" }],
            "local": [{
                "match": { "to": [{ "operation": { "paths": ["/cart/*"] } }] },
                "key": ["source.principal", "request.headers[x-user]"],
                "requests": 10,
                "per": "1m",
                "burst": 20,
            }],
            "global": {
                "service": "limits",
                "port": 8081,
                "domain": "shop",
                "descriptors": [{ "entries": [
                    { "key": "who", "from": "source.namespace" },
                    { "key": "what", "value": "cart" },
                ] }],
                "timeout": "50ms",
                "onFailure": "Deny",
            },
            "tellLimits": true,
            "grpcStatus": "ResourceExhausted",
        })
    }

    #[test]
    fn a_policy_of_limits_that_means_what_it_says_is_admitted() {
        assert_eq!(said(&whole()), Vec::<String>::new());
        // It may be attached to a route as well, and to rules of a name.
        let mut routed = whole();
        routed["targetRefs"] = some_routes();
        assert_eq!(said(&routed), Vec::<String>::new());
    }

    #[test]
    fn what_a_limit_cannot_mean_is_refused_by_field_and_value() {
        for (at, value, wanted) in [
            ("/targetRefs", json!([]), "spec.targetRefs: missing"),
            ("/targetRefs/0/kind", json!("Pod"), "spec.targetRefs[0].kind: /Pod"),
            ("/targetRefs/0/kind", json!("HTTPRoute"), "spec.targetRefs[0].kind: /HTTPRoute"),
            ("/targetRefs/0/sectionName", json!("pay"), "spec.targetRefs[0].sectionName: pay: only routes"),
            ("/local/0/requests", json!(0), "spec.local[0].requests: 0: out of range"),
            ("/local/0/per", json!("soon"), "spec.local[0].per: soon: not a duration"),
            ("/local/0/per", json!("1ms"), "spec.local[0].per: 1ms: out of range"),
            ("/local/0/burst", json!(0), "spec.local[0].burst: 0: out of range"),
            ("/local/0/key/0", json!("source.mood"), "spec.local[0].key[0]: source.mood: unknown attribute"),
            (
                "/local/0/match/to/0/operation",
                json!({}),
                "spec.local[0].match.to[0].operation: {}: says nothing",
            ),
            ("/global/service", json!("a b"), "spec.global.service: a b: not a service"),
            ("/global/port", json!(0), "spec.global.port: 0: not a port"),
            ("/global/domain", json!(""), "spec.global.domain: missing"),
            ("/global/descriptors", json!([]), "spec.global.descriptors: missing"),
            ("/global/descriptors/0/entries", json!([]), "spec.global.descriptors[0].entries: missing"),
            (
                "/global/descriptors/0/entries/1/value",
                json!(""),
                "spec.global.descriptors[0].entries[1]: has neither",
            ),
            (
                "/global/descriptors/0/entries/0/from",
                json!("x"),
                "spec.global.descriptors[0].entries[0].from: x: unknown",
            ),
            ("/global/timeout", json!("1h"), "spec.global.timeout: 1h: not such a duration"),
            ("/global/onFailure", json!("Maybe"), "spec.global.onFailure"),
            ("/local", json!(null), ""),
        ] {
            let mut spec = whole();
            match spec.pointer_mut(at) {
                Some(place) => *place = value,
                None => {
                    let (parent, name) = at.rsplit_once('/').unwrap();
                    spec.pointer_mut(parent).unwrap()[name] = value;
                }
            }
            let found = said(&spec);
            let is_told = if wanted.is_empty() {
                found.is_empty()
            } else {
                found.iter().any(|it| it.starts_with(wanted))
            };
            assert!(is_told, "{at}: {wanted}: {found:?}");
        }
        let found = said(&json!({ "targetRefs": [{ "kind": "Service", "name": "web" }] }));
        assert!(found.iter().any(|it| it.starts_with("spec: limits nothing")), "{found:?}");
    }
}
