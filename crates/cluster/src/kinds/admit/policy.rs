//! Rules of policies: what they may be attached to, and what a rule may say.

use serde_json::Value;

use super::{Findings, selector};
use crate::kinds::policy::{
    AuthorizationPolicy, Operation, PeerAuthentication, PolicyAction, PolicyTarget, Rule, Source, To, When,
};

/// Objects that one policy may be attached to.
const TARGETS: usize = 16;

/// Kinds that a policy may be attached to, with their groups.
const TARGET_KINDS: [(&str, &str); 5] = [
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

/// Routes, by whose rules requests are told apart.
const ROUTE_KINDS: [(&str, &str); 2] =
    [("gateway.networking.k8s.io", "HTTPRoute"), ("gateway.networking.k8s.io", "GRPCRoute")];

/// What may be attached to there, with routes.
const WITH_ROUTES: &str = "Gateway, GatewayClass, HTTPRoute or GRPCRoute";

/// Attributes that a condition may be about; those that end with a bracket take a name in it.
const KEYS: [&str; 15] = [
    "request.headers[",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "experimental.envoy.filters.",
];

/// Those of them that a tunnel sees.
const SEEN_KEYS: [&str; 5] =
    ["source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"];

pub(super) fn authorization(policy: &AuthorizationPolicy, findings: &mut Findings) {
    let spec = &policy.spec;
    if let Some(given) = &spec.selector {
        selector("spec.selector.matchLabels", &given.match_labels, findings);
        if spec.targets().next().is_some() {
            let remedy = "keep the selector for tunnels, or targetRefs for waypoints";
            findings.refuse("spec.targetRefs", "", "given together with selector", remedy);
        }
    }
    targets(spec.target_ref.as_ref(), &spec.target_refs, findings);
    action(policy, findings);
    for (at, rule) in spec.rules.iter().enumerate() {
        self::rule(&format!("spec.rules[{at}]"), rule, findings);
        hidden(policy, at, rule, findings);
        in_doubt(policy, at, rule, findings);
    }
}

pub(super) fn peer(policy: &PeerAuthentication, object: &Value, findings: &mut Findings) {
    if let Some(given) = &policy.spec.selector {
        selector("spec.selector.matchLabels", &given.match_labels, findings);
    }
    let ports = object.pointer("/spec/portLevelMtls").and_then(Value::as_object);
    if ports.is_some_and(serde_json::Map::is_empty) {
        let remedy = "name ports, or remove portLevelMtls";
        findings.refuse("spec.portLevelMtls", "{}", "no port is named", remedy);
    }
}

pub(super) fn targets(one: Option<&PolicyTarget>, many: &[PolicyTarget], findings: &mut Findings) {
    attached((one, many), &[], findings);
}

/// The same of kinds of our own, which may be attached to routes as well, and to rules of them by name.
pub(super) fn targets_or_routes(many: &[PolicyTarget], findings: &mut Findings) {
    attached((None, many), &ROUTE_KINDS, findings);
    for (at, target) in many.iter().enumerate() {
        let is_route = ROUTE_KINDS.contains(&(target.group.as_str(), target.kind.as_str()));
        if !is_route && !target.section_name.is_empty() {
            let field = format!("spec.targetRefs[{at}].sectionName");
            let remedy = "remove it; it names a rule of an HTTPRoute or a GRPCRoute";
            findings.refuse(field, &target.section_name, "only routes have rules", remedy);
        }
    }
}

/// Targets that are routes, as tests of those kinds name them.
#[cfg(test)]
pub(super) fn some_routes() -> Value {
    let group = "gateway.networking.k8s.io";
    serde_json::json!([
        { "group": group, "kind": "HTTPRoute", "name": "cart", "sectionName": "pay" },
        { "group": group, "kind": "GRPCRoute", "name": "cart" },
    ])
}

fn attached(
    (one, many): (Option<&PolicyTarget>, &[PolicyTarget]),
    more: &[(&str, &str)],
    findings: &mut Findings,
) {
    if one.is_some() && !many.is_empty() {
        findings.refuse("spec.targetRef", "", "given together with targetRefs", "keep targetRefs");
    }
    if many.len() > TARGETS {
        let remedy = format!("attach it to at most {TARGETS} objects, or split it");
        findings.refuse("spec.targetRefs", &many.len().to_string(), "too many", &remedy);
    }
    let named = many.iter().enumerate().map(|(at, it)| (format!("spec.targetRefs[{at}]"), it));
    for (field, target) in one.map(|it| ("spec.targetRef".to_owned(), it)).into_iter().chain(named) {
        if target.name.is_empty() {
            findings.refuse(format!("{field}.name"), "", "missing", "name the object");
        }
        if !target.namespace.is_empty() {
            let remedy = "remove it; a policy is attached to objects of its own namespace";
            findings.refuse(format!("{field}.namespace"), &target.namespace, "not supported", remedy);
        }
        let kind = (target.group.as_str(), target.kind.as_str());
        if !TARGET_KINDS.contains(&kind) && !more.contains(&kind) {
            let value = format!("{}/{}", target.group, target.kind);
            let also = if more.is_empty() { "Gateway or GatewayClass" } else { WITH_ROUTES };
            let remedy = format!(
                "attach it to a Service, or a networking.istio.io ServiceEntry, or a gateway.networking.k8s.io {also}"
            );
            findings.refuse(format!("{field}.kind"), &value, "a policy cannot be attached to that", &remedy);
        }
    }
}

fn action(policy: &AuthorizationPolicy, findings: &mut Findings) {
    let spec = &policy.spec;
    let custom = spec.action == PolicyAction::Custom;
    if spec.rules.is_empty()
        && matches!(spec.action, PolicyAction::Audit | PolicyAction::Custom | PolicyAction::Deny)
    {
        let remedy = "add rules, or one empty rule {} that matches everything";
        findings.refuse("spec.rules", "[]", "this action does nothing without rules", remedy);
    }
    match &spec.provider {
        None if custom => {
            let remedy = "name an extension provider of the mesh's configuration";
            findings.refuse("spec.provider", "", "missing for the action CUSTOM", remedy);
        }
        Some(provider) if custom && provider.name.is_empty() => {
            findings.refuse("spec.provider.name", "", "missing", "name an extension provider");
        }
        Some(provider) if !custom => {
            let remedy = "remove it, or set the action to CUSTOM";
            findings.refuse("spec.provider", &provider.name, "only for the action CUSTOM", remedy);
        }
        _ => {}
    }
}

pub(super) fn rule(field: &str, rule: &Rule, findings: &mut Findings) {
    for (at, from) in rule.from.iter().enumerate() {
        let field = format!("{field}.from[{at}].source");
        if from.source == Source::default() {
            findings.refuse(&field, "{}", "says nothing", "give at least one attribute, or remove the entry");
        }
        let Source { service_accounts, not_service_accounts, .. } = &from.source;
        let accounts = !service_accounts.is_empty() || !not_service_accounts.is_empty();
        let it = &from.source;
        let others = [&it.principals, &it.not_principals, &it.namespaces, &it.not_namespaces];
        if accounts && others.iter().any(|list| !list.is_empty()) {
            let remedy = "give serviceAccounts alone: they hold the namespace already";
            findings.refuse(&field, "", "serviceAccounts together with principals or namespaces", remedy);
        }
    }
    for (at, to) in rule.to.iter().enumerate() {
        let field = format!("{field}.to[{at}].operation");
        if to.operation == Operation::default() {
            findings.refuse(&field, "{}", "says nothing", "give at least one attribute, or remove the entry");
        }
        paths(&field, to, findings);
    }
    for (at, when) in rule.when.iter().enumerate() {
        condition(&format!("{field}.when[{at}]"), when, findings);
    }
}

/// A template is `{*}` for one segment or `{**}`, which nothing but text may follow.
fn paths(field: &str, to: &To, findings: &mut Findings) {
    let lists = [("paths", &to.operation.paths), ("notPaths", &to.operation.not_paths)];
    for (list, at, path) in lists
        .into_iter()
        .flat_map(|(list, all)| all.iter().enumerate().map(move |(at, it)| (list, at, it.0.as_str())))
    {
        if !path.contains('{') && !path.contains('}') {
            continue;
        }
        let segments: Vec<&str> = path.split('/').collect();
        let good = |segment: &&str| matches!(*segment, "{*}" | "{**}") || !segment.contains(['{', '}', '*']);
        let after = segments.iter().skip_while(|it| **it != "{**}").skip(1);
        if !segments.iter().all(good) || after.clone().any(|it| it.starts_with('{')) {
            let remedy =
                "write {*} for one whole segment and {**} for any number, no more templates after that";
            findings.refuse(format!("{field}.{list}[{at}]"), path, "not a path template", remedy);
        }
    }
}

fn condition(field: &str, when: &When, findings: &mut Findings) {
    if !is_known(&when.key) {
        let remedy = "use an attribute like source.ip, destination.port or request.headers[name]";
        findings.refuse(format!("{field}.key"), &when.key, "unknown attribute", remedy);
    }
    for (list, values) in [("values", &when.values), ("notValues", &when.not_values)] {
        if let Some(at) = values.iter().position(String::is_empty) {
            findings.refuse(format!("{field}.{list}[{at}]"), "", "empty", "give a value, or leave it out");
        }
    }
}

fn is_known(given: &str) -> bool {
    KEYS.iter().any(|key| match key.strip_suffix('[') {
        Some(_) => given.starts_with(key) && given.ends_with(']') && given.len() > key.len() + 1,
        None if key.ends_with('.') => given.starts_with(key) && given.len() > key.len(),
        None => given == *key,
    })
}

/// Others are asked before tokens are looked at.
fn in_doubt(policy: &AuthorizationPolicy, at: usize, rule: &Rule, findings: &mut Findings) {
    if policy.spec.action != PolicyAction::Custom {
        return;
    }
    let problem =
        "not known yet when the provider is asked: the rule asks about everybody else's requests, too";
    let remedy = "remove it, or let the provider look at the token";
    let names_them =
        |it: &Source| !(it.request_principals.is_empty() && it.not_request_principals.is_empty());
    if rule.from.iter().any(|it| names_them(&it.source)) {
        findings.warn(format!("spec.rules[{at}].from"), "requestPrincipals", problem, remedy);
    }
    for (number, when) in rule.when.iter().enumerate().filter(|(_, it)| it.key.starts_with("request.auth.")) {
        findings.warn(format!("spec.rules[{at}].when[{number}].key"), &when.key, problem, remedy);
    }
}

/// A tunnel does not see HTTP: a rule that asks for something there allows nobody, or denies more, or nothing.
fn hidden(policy: &AuthorizationPolicy, at: usize, rule: &Rule, findings: &mut Findings) {
    let outcome = match policy.spec.action {
        // A waypoint's.
        _ if policy.spec.targets().next().is_some() => return,
        PolicyAction::Deny => "which deny without them or not at all",
        PolicyAction::Allow => "which leave such a rule out: it allows nobody",
        PolicyAction::Audit | PolicyAction::Custom => return,
    };
    let remedy = "attach the policy to a waypoint with targetRefs";
    let http = format!("HTTP attributes are not seen by tunnels, {outcome}");
    for (part, asks) in
        [("from", rule.from.iter().any(|it| is_hidden(&it.source))), ("to", rule.to.iter().any(asks_http))]
    {
        if asks {
            findings.warn(format!("spec.rules[{at}].{part}"), "", &http, remedy);
        }
    }
    for (number, when) in rule.when.iter().enumerate() {
        if is_known(&when.key) && !SEEN_KEYS.contains(&when.key.as_str()) {
            let field = format!("spec.rules[{at}].when[{number}].key");
            findings.warn(field, &when.key, &format!("not seen by tunnels, {outcome}"), remedy);
        }
    }
}

fn asks_http(to: &To) -> bool {
    let seen = Operation {
        ports: to.operation.ports.clone(),
        not_ports: to.operation.not_ports.clone(),
        ..Operation::default()
    };
    seen != to.operation
}

fn is_hidden(source: &Source) -> bool {
    let words = [&source.request_principals, &source.not_request_principals];
    let ranges = [&source.remote_ip_blocks, &source.not_remote_ip_blocks];
    words.iter().any(|list| !list.is_empty()) || ranges.iter().any(|list| !list.is_empty())
}
