//! From a policy that the API has accepted to the first connection that is refused, on every node.
//! Owns the policy; who asks are the crowd's first pods.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::api::Api;
use super::ask::Load;
use super::crowd::{Crowd, NAMESPACE};
use super::table::{Times, row};
use crate::wait::pause;

/// How often it is made, and deleted.
const CHANGES: usize = 100;
/// Between two connections of a client: what is measured is no finer than this.
const EVERY: Duration = Duration::from_millis(2);
/// A policy that is not in force by then never will be.
const IN_FORCE: Duration = Duration::from_secs(10);
/// Things calm down between two changes.
const BETWEEN: Duration = Duration::from_millis(100);

pub(super) fn run(api: &Api, crowd: &Crowd) -> Result<()> {
    let [one, two] = &crowd.first;
    // Each node's proxy judges what comes to the pods of its own.
    let loads = [
        Load::start(one.netns.clone(), two.address, EVERY),
        Load::start(two.netns.clone(), one.address, EVERY),
    ];
    let all = format!("/apis/security.istio.io/v1/namespaces/{NAMESPACE}/authorizationpolicies");
    let (mut accepted, mut sent, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    in_force(&loads, true)?;
    for change in 0..CHANGES {
        pause(BETWEEN);
        let (asked, _) = api.ask("POST", &all, Some(&deny(change)))?;
        let refused = in_force(&loads, false).with_context(|| format!("policy {change}"))?;
        accepted.push(refused.saturating_duration_since(asked.answered));
        sent.push(refused.saturating_duration_since(asked.sent));
        pause(BETWEEN);
        let (asked, _) = api.ask("DELETE", &format!("{all}/deny-{change}"), None)?;
        let passed = in_force(&loads, true).with_context(|| format!("policy {change} deleted"))?;
        removed.push(passed.saturating_duration_since(asked.answered));
    }
    row("policy accepted by the API -> refused on every node", "p99 30 ms", &Times::new(accepted));
    row("  from the moment it was sent, review and storage with it", "", &Times::new(sent));
    row("  its deletion accepted -> let in on every node", "", &Times::new(removed));
    Ok(())
}

/// When it was so for the last of them.
fn in_force(loads: &[Load], passes: bool) -> Result<Instant> {
    let turns = loads.iter().map(|load| load.turns(passes, IN_FORCE)).collect::<Result<Vec<_>>>()?;
    turns.into_iter().max().context("nobody asks")
}

/// Another name each time: nothing of the last one is left in any memory.
fn deny(change: usize) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("deny-{change}"), "namespace": NAMESPACE },
        "spec": {
            "action": "DENY",
            "rules": [{ "from": [{ "source": { "principals": [format!("cluster.local/ns/{NAMESPACE}/sa/default")] } }] }],
        },
    })
}
