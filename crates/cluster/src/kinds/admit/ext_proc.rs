//! Rules of policies of processors: which service there can be, what it is told of, and which headers can be named.

use std::time::Duration;

use super::Findings;
use super::policy::{rule, targets_or_routes};
use super::rate_limit::{attribute, count, service};
use crate::kinds::ext_proc::{BodySending, ExtProcPolicy, ExtProcSpec, Sending};
use crate::kinds::route::duration;

/// No request waits longer for one answer.
const PATIENCE_MOST: Duration = Duration::from_secs(60);
/// What is kept of a body at most.
const BODY_MOST: u32 = 4 << 20;
/// Attributes.
const LIST: usize = 16;
/// Names of headers of one sort.
const NAMES: usize = 64;

/// What nobody changes, whatever is said.
const NEVER: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
];

pub(super) fn processor(policy: &ExtProcPolicy, findings: &mut Findings) {
    let spec = &policy.spec;
    if spec.target_refs.is_empty() {
        let remedy = "attach it to a waypoint, or to what goes through one";
        findings.refuse("spec.targetRefs", "", "missing: nobody enforces it", remedy);
    }
    targets_or_routes(&spec.target_refs, findings);
    rule("spec.match", &spec.matching, findings);
    service("spec", (&spec.service, spec.port), findings);
    let patience = duration(&spec.timeout).filter(|it| !it.is_zero() && *it <= PATIENCE_MOST);
    if !spec.timeout.is_empty() && patience.is_none() {
        let remedy = "give a time from 1ms to 60s";
        findings.refuse("spec.timeout", &spec.timeout, "not such a duration", remedy);
    }
    if let Some(bytes) = spec.max_body_bytes.filter(|it| !(1..=BODY_MOST).contains(it)) {
        let remedy = "give a number from 1 to 4194304";
        findings.refuse("spec.maxBodyBytes", &bytes.to_string(), "out of range", remedy);
    }
    count("spec.attributes", spec.attributes.len(), LIST, findings);
    for (at, name) in spec.attributes.iter().enumerate() {
        attribute(&format!("spec.attributes[{at}]"), name, findings);
    }
    names("spec.forwardHeaders.allow", &spec.forward_headers.allow, findings);
    names("spec.forwardHeaders.disallow", &spec.forward_headers.disallow, findings);
    names("spec.mutationRules.allow", &spec.mutation_rules.allow, findings);
    names("spec.mutationRules.disallow", &spec.mutation_rules.disallow, findings);
    for (at, name) in spec.mutation_rules.allow.iter().enumerate() {
        if NEVER.contains(&name.to_ascii_lowercase().as_str()) {
            let remedy = "remove it; a path, a method or an authority is changed with allowRouting";
            findings.refuse(
                format!("spec.mutationRules.allow[{at}]"),
                name,
                "belongs to the connection or says where a request goes",
                remedy,
            );
        }
    }
    told(spec, findings);
}

/// A processor that is told of nothing does nothing.
fn told(spec: &ExtProcSpec, findings: &mut Findings) {
    let mode = &spec.processing_mode;
    let heads = [mode.request_headers, mode.response_headers].iter().all(|it| *it == Some(Sending::Skip));
    let bodies = [mode.request_body, mode.response_body].iter().all(|it| *it == BodySending::None);
    let trailers =
        [mode.request_trailers, mode.response_trailers].iter().all(|it| *it != Some(Sending::Send));
    if heads && bodies && trailers {
        let remedy = "tell it of something, or remove the policy";
        findings.refuse("spec.processingMode", "", "the processor is told of nothing", remedy);
    }
    duplex(spec, findings);
    for (name, mode) in [("requestBody", mode.request_body), ("responseBody", mode.response_body)] {
        if spec.observability_mode && matches!(mode, BodySending::Buffered | BodySending::BufferedPartial) {
            let remedy = "use STREAMED, or NONE";
            let value = if mode == BodySending::Buffered { "BUFFERED" } else { "BUFFERED_PARTIAL" };
            let field = format!("spec.processingMode.{name}");
            findings.refuse(field, value, "nothing is kept for who only watches", remedy);
        }
    }
    if spec.allow_mode_override && heads {
        let remedy = "send headers, with which it can choose";
        findings.warn("spec.allowModeOverride", "true", "has no effect without headers", remedy);
    }
}

/// Where nobody waits for the other, what is told is gone: only its answers go on.
fn duplex(spec: &ExtProcSpec, findings: &mut Findings) {
    let mode = &spec.processing_mode;
    let ways = [
        ("request", mode.request_body, mode.request_headers, mode.request_trailers),
        ("response", mode.response_body, mode.response_headers, mode.response_trailers),
    ];
    for (way, body, headers, trailers) in ways {
        if body != BodySending::FullDuplexStreamed {
            continue;
        }
        for (part, sending) in [("Headers", headers), ("Trailers", trailers)] {
            if sending == Some(Sending::Skip) {
                let field = format!("spec.processingMode.{way}{part}");
                let problem = format!("a processor with {way}Body FULL_DUPLEX_STREAMED needs them");
                findings.refuse(field, "SKIP", &problem, "remove it, or use SEND");
            }
        }
        let others = [
            ("failOpen", spec.fail_open, "what it was told of a body cannot go on without it"),
            ("observabilityMode", spec.observability_mode, "who only watches sends nothing on"),
            ("allowModeOverride", spec.allow_mode_override, "nothing is chosen in such a conversation"),
        ];
        for (name, _, problem) in others.into_iter().filter(|(_, is_set, _)| *is_set) {
            let remedy = format!("set it to false, or use another {way}Body than FULL_DUPLEX_STREAMED");
            findings.refuse(format!("spec.{name}"), "true", problem, &remedy);
        }
    }
}

fn names(field: &str, names: &[String], findings: &mut Findings) {
    count(field, names.len(), NAMES, findings);
    for (at, name) in names.iter().enumerate() {
        let plain = name.strip_prefix('*').or_else(|| name.strip_suffix('*')).unwrap_or(name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'+-.^_`|~".contains(c);
        if (plain.is_empty() && name != "*") || !plain.chars().all(is_name) {
            let remedy = "give a header's name, which may begin or end with *";
            findings.refuse(format!("{field}[{at}]"), name, "not a header", remedy);
        }
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
            "kind": "ExtProcPolicy",
            "metadata": { "name": "guard", "namespace": "shop" },
            "spec": spec,
        });
        review(&object).iter().map(ToString::to_string).collect()
    }

    fn whole() -> Value {
        json!({
            "targetRefs": [{ "kind": "Service", "name": "web" }],
            "match": { "to": [{ "operation": { "paths": ["/cart/*"] } }] },
            "service": "guard",
            "port": 9002,
            "timeout": "500ms",
            "failOpen": true,
            "processingMode": {
                "requestHeaders": "SEND",
                "responseHeaders": "SKIP",
                "requestBody": "BUFFERED",
                "responseBody": "BUFFERED_PARTIAL",
                "requestTrailers": "SEND",
                "responseTrailers": "SKIP",
            },
            "allowModeOverride": true,
            "maxBodyBytes": 65536,
            "forwardHeaders": { "allow": ["x-*", "*-id", "*"], "disallow": ["cookie"] },
            "attributes": ["source.principal", "request.auth.claims[sub]"],
            "mutationRules": { "allowRouting": true, "allow": ["x-user"], "disallow": ["x-no"], "disallowAll": true },
        })
    }

    #[test]
    fn a_policy_of_a_processor_that_means_what_it_says_is_admitted() {
        assert_eq!(said(&whole()), Vec::<String>::new());
        // It may be attached to a route as well, and to rules of a name.
        let mut routed = whole();
        routed["targetRefs"] = some_routes();
        assert_eq!(said(&routed), Vec::<String>::new());
        let mut duplex = whole();
        duplex["failOpen"] = json!(false);
        duplex["allowModeOverride"] = json!(false);
        duplex["processingMode"] =
            json!({ "requestBody": "FULL_DUPLEX_STREAMED", "responseBody": "FULL_DUPLEX_STREAMED" });
        assert_eq!(said(&duplex), Vec::<String>::new());
    }

    #[test]
    fn what_a_policy_of_a_processor_cannot_mean_is_refused_by_field_and_value() {
        for (at, value, wanted) in [
            ("/targetRefs", json!([]), "spec.targetRefs: missing"),
            ("/targetRefs/0/kind", json!("Pod"), "spec.targetRefs[0].kind: /Pod"),
            ("/targetRefs/0/kind", json!("HTTPRoute"), "spec.targetRefs[0].kind: /HTTPRoute"),
            ("/targetRefs/0/sectionName", json!("pay"), "spec.targetRefs[0].sectionName: pay: only routes"),
            ("/match/to/0/operation", json!({}), "spec.match.to[0].operation: {}: says nothing"),
            ("/service", json!("a b"), "spec.service: a b: not a service"),
            ("/service", json!(""), "spec.service: not a service"),
            ("/port", json!(0), "spec.port: 0: not a port"),
            ("/timeout", json!("soon"), "spec.timeout: soon: not such a duration"),
            ("/timeout", json!("2m"), "spec.timeout: 2m: not such a duration"),
            (
                "/processingMode/requestBody",
                json!("FULL_DUPLEX_STREAMED"),
                "spec.failOpen: true: what it was told",
            ),
            (
                "/processingMode/requestBody",
                json!("FULL_DUPLEX_STREAMED"),
                "spec.allowModeOverride: true: nothing",
            ),
            (
                "/processingMode/responseBody",
                json!("FULL_DUPLEX_STREAMED"),
                "spec.processingMode.responseHeaders: SKIP: a processor with responseBody FULL_DUPLEX_STREAMED",
            ),
            (
                "/processingMode/responseBody",
                json!("FULL_DUPLEX_STREAMED"),
                "spec.processingMode.responseTrailers: SKIP",
            ),
            ("/processingMode/requestBody", json!("WHOLE"), "spec.processingMode.requestBody"),
            ("/maxBodyBytes", json!(0), "spec.maxBodyBytes: 0: out of range"),
            ("/maxBodyBytes", json!(5_000_000), "spec.maxBodyBytes: 5000000: out of range"),
            ("/attributes/0", json!("source.mood"), "spec.attributes[0]: source.mood: unknown attribute"),
            ("/forwardHeaders/allow/0", json!("a b"), "spec.forwardHeaders.allow[0]: a b: not a header"),
            ("/forwardHeaders/allow/0", json!("a*b"), "spec.forwardHeaders.allow[0]: a*b: not a header"),
            ("/mutationRules/disallow/0", json!(""), "spec.mutationRules.disallow[0]: not a header"),
            ("/mutationRules/allow/0", json!("Host"), "spec.mutationRules.allow[0]: Host: belongs to"),
            ("/mutationRules/allowHost", json!(true), "spec.mutationRules.allowHost"),
            ("/observabilityMode", json!(true), "spec.processingMode.requestBody: BUFFERED: nothing is kept"),
            (
                "/processingMode",
                json!({ "requestHeaders": "SKIP", "responseHeaders": "SKIP" }),
                "spec.processingMode: the processor is told of nothing",
            ),
        ] {
            let mut spec = whole();
            match spec.pointer_mut(at) {
                Some(place) => *place = value,
                None => {
                    let (parent, name) = at.rsplit_once('/').unwrap();
                    spec.pointer_mut(parent).unwrap()[name] = value;
                }
            }
            let said = said(&spec).join("\n");
            assert!(said.contains(wanted), "{at}: {said}");
        }
    }
}
