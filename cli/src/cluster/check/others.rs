//! Who else is there: other meshes, upstream's parts under the names that ours have, definitions of others.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::Facts;
use super::{Finding, few, is_ours, label, list_at, named, text_at};

/// Daemon sets that upstream's charts and ours call alike.
const SETS: [&str; 2] = ["ztunnel", "istio-cni-node"];
/// Definitions that the charts bring where nobody else has.
const DEFINITIONS: [&str; 4] = [
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
];
/// Other meshes, by groups of their API.
const MESHES: [(&str, &str); 4] = [
    ("linkerd.io", "Linkerd"),
    ("kuma.io", "Kuma"),
    ("consul.hashicorp.com", "Consul"),
    ("config.openservicemesh.io", "Open Service Mesh"),
];
const CHECK: &str = "other meshes";

pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = upstreams(facts);
    let present = MESHES.iter().filter(|(group, _)| facts.groups.iter().any(|it| it == group));
    for (_, mesh) in present {
        let remedy = "keep it out of namespaces that join this mesh: pods with its proxies are not enrolled";
        findings.push(Finding::warning(CHECK, *mesh, remedy));
    }
    if !facts.webhooks.iter().all(|it| !text_at(it, "/metadata/name").starts_with("istio-sidecar-injector")) {
        let remedy =
            "pods with sidecars stay as they are; take istio-injection off a namespace before it joins";
        findings.push(Finding::warning(CHECK, "upstream's sidecar injector", remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "none"));
    }
    findings.push(definitions(facts));
    findings
}

/// Upstream's parts: those in the way of ours, and those beside.
fn upstreams(facts: &Facts) -> Vec<Finding> {
    let is_set = |it: &&Value| SETS.contains(&text_at(it, "/metadata/name")) && !is_ours(it);
    let sets = facts.daemon_sets.iter().filter(is_set);
    let planes = facts.deployments.iter().filter(|it| label(it, "app") == "istiod" && !is_ours(it));
    let plane =
        if facts.revision.is_empty() { "istiod".into() } else { format!("istiod-{}", facts.revision) };
    let (mut clashing, mut beside) = (Vec::new(), Vec::new());
    for object in sets.chain(planes) {
        let name = text_at(object, "/metadata/name");
        let same_place = text_at(object, "/metadata/namespace") == facts.namespace;
        // There is one node daemon and one proxy on a node, whatever namespace they are in.
        if SETS.contains(&name) || (same_place && name == plane) {
            clashing.push(named(object));
        } else {
            beside.push(named(object));
        }
    }
    let mut findings = Vec::new();
    if !clashing.is_empty() {
        let remedy = "replace them one by one, each with the chart of its name: docs/migrate.md; or install only what \
                      is missing: --set istiod-lite.enabled=false, cni.enabled=false or ztunnel.enabled=false";
        findings.push(Finding::failed(CHECK, format!("of the same name: {}", few(&clashing)), remedy));
    }
    if !beside.is_empty() {
        let remedy = "two control planes write config maps and conditions of the same names: give each its namespaces \
                      by discoverySelectors";
        findings.push(Finding::warning(CHECK, format!("another control plane: {}", few(&beside)), remedy));
    }
    findings
}

fn definitions(facts: &Facts) -> Finding {
    let check = "definitions";
    let found = facts.definitions.iter().filter(|it| DEFINITIONS.contains(&text_at(it, "/metadata/name")));
    let (mut old, mut makers, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for definition in found {
        count += 1;
        let served =
            |it: &Value| text_at(it, "/name") == "v1" && it.get("served") == Some(&Value::Bool(true));
        if !list_at(definition, "/spec/versions").iter().any(served) {
            old.push(named(definition));
        }
        makers.insert(if is_ours(definition) { "ours" } else { "somebody else's, left as they are" });
    }
    if !old.is_empty() {
        let remedy = "upgrade them to those of Istio 1.22 or newer, which serve v1";
        return Finding::failed(check, format!("do not serve v1: {}", few(&old)), remedy);
    }
    let makers: Vec<&str> = makers.into_iter().collect();
    let found = match count {
        0 => "none of Istio's kinds yet: they are installed".to_owned(),
        _ => format!("{count} of {} of Istio's kinds: {}", DEFINITIONS.len(), makers.join("; ")),
    };
    Finding::ok(check, found)
}
