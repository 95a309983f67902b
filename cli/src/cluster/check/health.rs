//! The mesh that is installed: whether its parts run, are of one version, and have every pod that is to be in.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Facts, MODE};
use super::{Finding, few, is_ours, label, named, text_at};

const CHECK: &str = "the mesh";
/// What the node daemon writes on a pod whose traffic is proven to be carried.
const ENROLLED: &str = "/metadata/annotations/ambient.istio.io~1redirection";

pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let inside = |it: &&Value| is_ours(it) && text_at(it, "/metadata/namespace") == facts.namespace;
    let parts: Vec<&Value> = facts.deployments.iter().chain(&facts.daemon_sets).filter(inside).collect();
    if parts.is_empty() {
        return vec![Finding::ok(CHECK, format!("not installed in {} yet: ambit install", facts.namespace))];
    }
    let mut findings: Vec<Finding> = parts.iter().map(|it| part(it)).collect();
    findings.extend(versions(&parts));
    findings.push(members(facts));
    findings
}

/// How many of a part's pods are ready, and how many there are to be.
pub(crate) fn readiness(part: &Value) -> (u64, u64) {
    let number = |place: &str| part.pointer(place).and_then(Value::as_u64);
    let is_set = part.pointer("/status/desiredNumberScheduled").is_some();
    let (ready, wanted) = if is_set {
        (number("/status/numberReady"), number("/status/desiredNumberScheduled"))
    } else {
        (number("/status/readyReplicas"), number("/spec/replicas"))
    };
    (ready.unwrap_or(0), wanted.unwrap_or(1))
}

fn part(part: &Value) -> Finding {
    let (ready, wanted) = readiness(part);
    let found = format!("{} {ready}/{wanted} ready", text_at(part, "/metadata/name"));
    if ready >= wanted {
        return Finding::ok(CHECK, found);
    }
    let namespace = text_at(part, "/metadata/namespace");
    let remedy = format!("kubectl -n {namespace} describe pods; ambit bug-report keeps what is to be read");
    Finding::failed(CHECK, found, remedy)
}

fn versions(parts: &[&Value]) -> Option<Finding> {
    let all: BTreeSet<&str> = parts.iter().map(|it| label(it, "app.kubernetes.io/version")).collect();
    let all: Vec<&str> = all.into_iter().collect();
    (all.len() > 1).then(|| {
        let remedy = "all parts of a mesh share one version: ambit upgrade";
        Finding::warning(CHECK, format!("parts are of versions {}", all.join(", ")), remedy)
    })
}

fn members(facts: &Facts) -> Finding {
    let wanted: Vec<&Value> = facts.members.iter().filter(|it| is_to_be_in(it)).collect();
    let out: Vec<String> =
        wanted.iter().filter(|it| text_at(it, ENROLLED) != "enabled").map(|it| named(it)).collect();
    if out.is_empty() {
        return Finding::ok("pods", format!("{} in the mesh, as labelled", wanted.len()));
    }
    let remedy = "kubectl describe pod says why, as an event; docs/troubleshoot.md";
    Finding::failed("pods", format!("labelled, and not in the mesh: {}", few(&out)), remedy)
}

/// A running pod of a namespace in the mesh, unless something about it keeps it out for good.
fn is_to_be_in(pod: &Value) -> bool {
    text_at(pod, "/status/phase") == "Running"
        && label(pod, MODE) != "none"
        && pod.pointer("/spec/hostNetwork") != Some(&Value::Bool(true))
        && pod.pointer("/metadata/deletionTimestamp").is_none()
        && pod.pointer("/metadata/annotations/sidecar.istio.io~1status").is_none()
}
