//! From a pod's creation to the moment it is ready: in the mesh and outside of it, in turns.
//! Owns these pods. Kubelets look at containers once a second, so only pairs in turns say something.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::api::{Api, until};
use super::table::{Times, ms, row};
use crate::images::APP;
use crate::lab::Lab;

/// How many pods in the mesh, and how many outside.
const PAIRS: usize = 20;
const READY: Duration = Duration::from_secs(60);

/// Pods one after the other, each started on an idle cluster.
pub(super) fn run(lab: &Lab, api: &Api) -> Result<()> {
    lab.apply(
        "{apiVersion: v1, kind: Namespace, metadata: {name: starts}}\n---\n\
         {apiVersion: v1, kind: Namespace, metadata: {name: starts-in, labels: {istio.io/dataplane-mode: ambient}}}",
    )?;
    let (mut outside, mut inside) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Who goes first changes, too.
        let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
        for is_in in order {
            let took = start(lab, api, if is_in { "starts-in" } else { "starts" }, pair)?;
            if is_in { inside.push(took) } else { outside.push(took) }
        }
    }
    let (outside, inside) = (Times::new(outside), Times::new(inside));
    let more = inside.percentile(50).as_secs_f64() - outside.percentile(50).as_secs_f64();
    row("pod created -> ready, outside of the mesh", "", &outside);
    row("pod created -> ready, enrolled", "", &inside);
    row("  the difference of their p50", "100 ms", &format!("{:.1} ms", more * 1000.0));
    row("  the plugin's share of it, on average", "", &adds(lab)?);
    Ok(())
}

fn start(lab: &Lab, api: &Api, namespace: &str, number: usize) -> Result<Duration> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
    lab.wait("the account of pods", READY, || api.ask("GET", &account, None))?;
    let events = api.watch(&path)?;
    let (asked, _) = api.ask("POST", &path, Some(&manifest(number)))?;
    let ready = until(&events, READY, |heard| {
        let conditions = heard.object.pointer("/status/conditions")?.as_array()?;
        let is_ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        is_ready.then_some(heard.at)
    })?;
    api.ask("DELETE", &format!("{path}/start-{number}?gracePeriodSeconds=0"), None)?;
    lab.wait("the node to be idle again", READY, || {
        let (_, list) = api.ask("GET", &path, None)?;
        let left = list["items"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(left == 0, "{left} pods are left");
        Ok(())
    })?;
    Ok(ready.saturating_duration_since(asked.sent))
}

/// What the node daemon says of the plugin's questions.
fn adds(lab: &Lab) -> Result<String> {
    let scraped = super::memory::scrape(lab, "n1", 15014)?;
    let read = |name: &str| {
        let line = scraped.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    let (sum, count) = (read("ambit_cni_add_seconds_sum"), read("ambit_cni_add_seconds_count"));
    Ok(format!("{} ({count} questions)", ms(Duration::from_secs_f64(sum / count.max(1.0)))))
}

fn manifest(number: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("start-{number}") },
        "spec": { "nodeName": "n1", "containers": [{ "name": "app", "image": APP }] },
    })
}
