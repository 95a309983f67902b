//! Network policies that would keep tunnels from pods: they name ports, and not the one of tunnels.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Facts, MODE};
use super::{Finding, few, label, list_at, named, text_at};

/// Where pods in the mesh are reached.
const TUNNEL: i64 = 15008;
/// Where the control plane is.
const DISCOVERY: i64 = 15012;
const CHECK: &str = "network policies";

pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let all = &facts.network_policies;
    let in_mesh: BTreeSet<&str> = facts
        .namespaces
        .iter()
        .filter(|it| label(it, MODE) == "ambient")
        .map(|it| text_at(it, "/metadata/name"))
        .collect();
    let (mut now, mut later) = (Vec::new(), Vec::new());
    for policy in all {
        let namespace = text_at(policy, "/metadata/namespace");
        if namespace == facts.namespace || !(blocks(policy, all, Way::In) || blocks(policy, all, Way::Out)) {
            continue;
        }
        if in_mesh.contains(namespace) { now.push(named(policy)) } else { later.push(named(policy)) }
    }
    let remedy = |policies: &str| {
        format!(
            "add port {TUNNEL}/TCP to the rules of {policies}: traffic of the mesh arrives there (docs/troubleshoot.md)"
        )
    };
    let mut findings = Vec::new();
    if !now.is_empty() {
        let found = format!("keep the mesh's tunnels out: {}", few(&now));
        findings.push(Finding::failed(CHECK, found, remedy("these")));
    }
    if !later.is_empty() {
        let found = format!("would keep tunnels out once their namespace is in the mesh: {}", few(&later));
        findings.push(Finding::warning(CHECK, found, remedy("these")));
    }
    findings.extend(control_plane(facts));
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} looked at, none is in the way", all.len())));
    }
    findings
}

/// Policies of the mesh's own namespace that are not of our charts.
fn control_plane(facts: &Facts) -> Option<Finding> {
    let inside = |it: &&Value| text_at(it, "/metadata/namespace") == facts.namespace && selects_istiod(it);
    let is_open = |it: &Value| Way::In.rules(it).iter().any(|rule| admits(rule, DISCOVERY));
    let all: Vec<&Value> =
        facts.network_policies.iter().filter(inside).filter(|it| Way::In.governs(it)).collect();
    if all.is_empty() || all.iter().any(|it| is_open(it)) {
        return None;
    }
    let names: Vec<String> = all.into_iter().map(named).collect();
    let remedy = format!(
        "let ports {DISCOVERY} and 15017 of istiod be reached, or ztunnels and the API server cannot"
    );
    Some(Finding::failed(CHECK, format!("the control plane is cut off: {}", few(&names)), remedy))
}

fn selects_istiod(policy: &Value) -> bool {
    let selector = policy.pointer("/spec/podSelector").and_then(Value::as_object);
    let app = policy.pointer("/spec/podSelector/matchLabels/app").and_then(Value::as_str);
    selector.is_none_or(serde_json::Map::is_empty) || app == Some("istiod")
}

#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

impl Way {
    fn rules(self, policy: &Value) -> &[Value] {
        list_at(
            policy,
            match self {
                Self::In => "/spec/ingress",
                Self::Out => "/spec/egress",
            },
        )
    }

    fn governs(self, policy: &Value) -> bool {
        let types = list_at(policy, "/spec/policyTypes");
        match self {
            // What says nothing is about what comes in.
            Self::In => types.is_empty() || types.iter().any(|it| it == "Ingress"),
            Self::Out => types.iter().any(|it| it == "Egress"),
        }
    }
}

/// Whether it lets some traffic pass by its port, and no policy for the same pods lets tunnels pass. One that lets
/// nothing pass is meant so.
fn blocks(policy: &Value, all: &[Value], way: Way) -> bool {
    let named_ports = way.rules(policy).iter().any(names_port);
    if !way.governs(policy) || !named_ports {
        return false;
    }
    let same = |other: &&Value| {
        let everything = other
            .pointer("/spec/podSelector")
            .and_then(Value::as_object)
            .is_none_or(serde_json::Map::is_empty);
        text_at(other, "/metadata/namespace") == text_at(policy, "/metadata/namespace")
            && (everything || other.pointer("/spec/podSelector") == policy.pointer("/spec/podSelector"))
    };
    !all.iter().filter(same).flat_map(|it| way.rules(it)).any(|rule| admits(rule, TUNNEL))
}

/// By a TCP port that carries requests; names alone (port 53) are not meant for pods of the mesh.
fn names_port(rule: &Value) -> bool {
    list_at(rule, "/ports").iter().any(|port| is_tcp(port) && port.get("port").is_some_and(|it| it != 53))
}

fn is_tcp(port: &Value) -> bool {
    ["TCP", ""].contains(&text_at(port, "/protocol"))
}

fn admits(rule: &Value, wanted: i64) -> bool {
    let ports = list_at(rule, "/ports");
    ports.is_empty()
        || ports.iter().filter(|port| is_tcp(port)).any(|port| {
            let first = port.get("port").and_then(Value::as_i64);
            let last = port.get("endPort").and_then(Value::as_i64).or(first);
            match (first, last) {
                (Some(first), Some(last)) => (first..=last).contains(&wanted),
                // All ports, unless it has a name.
                _ => port.get("port").is_none(),
            }
        })
}
