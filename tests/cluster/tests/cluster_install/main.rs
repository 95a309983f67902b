//! The mesh as it is installed: from our charts and images into a real cluster, used, and taken off again.
//! Owns the story. What a chart must be without a cluster is `cluster_charts`.

#![cfg(test)]

mod combinations;
mod rights;

use std::time::Duration;

use ambit_cluster_lab::mesh::{SHOP, STARTS, SYSTEM, Traces, chart, pod, told};
use ambit_cluster_lab::{Lab, pause};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const INSTALLED: Duration = Duration::from_secs(240);
const PODS: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: shop }
spec: { mtls: { mode: STRICT } }
";

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny, namespace: shop }
spec:
  action: DENY
  selector: { matchLabels: { app: web } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/client] } }] }]
";

#[test]
fn the_mesh_is_installed_used_and_taken_off_without_a_trace() {
    told("install", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    lab.apply(SHOP)?;
    lab.apply(&pod("web", "n2"))?;
    lab.apply(&pod("client", "n1"))?;
    lab.pods_ready("shop", "app in (web, client)", PODS)?;
    let before = (Traces::of(lab)?, pods(lab)?);
    install(lab)?;
    joins_without_a_restart(lab)?;
    rights::a_daemon_writes_onto_pods_of_its_node_only(lab)?;
    holds_policies(lab)?;
    reviews_objects(lab)?;
    takes_new_pods(lab)?;
    keeps_its_root(lab)?;
    upgrades(lab)?;
    leaves(lab, &before.0)?;
    lab.wait("pods to be as they were", PODS, || {
        let now = pods(lab)?;
        ensure!(now == before.1, "now:\n{now:#}\nbefore:\n{:#}", before.1);
        Ok(())
    })
}

/// What the API says of the pods that were there from the beginning, but for when things happened to them.
fn pods(lab: &Lab) -> Result<Value> {
    let said = lab.kubectl(&["-n", "shop", "get", "pods", "web", "client", "-o", "json"])?;
    let mut pods: Value = serde_json::from_str(&said)?;
    for pod in pods["items"].as_array_mut().into_iter().flatten() {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let conditions: Vec<Value> = conditions.map(|it| json!([it["type"], it["status"]])).collect();
        let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let starts: Vec<Value> =
            containers.map(|it| json!([it["containerID"], it["restartCount"]])).collect();
        for key in ["managedFields", "resourceVersion"] {
            pod["metadata"][key].take();
        }
        pod["status"] = json!({ "conditions": conditions, "starts": starts });
    }
    Ok(pods["items"].take())
}

/// As the documents say it.
fn install(lab: &Lab) -> Result<()> {
    let chart = chart("ambit");
    lab.kubectl(&["create", "namespace", SYSTEM])?;
    combinations::are_accepted(lab)?;
    let rendered = lab.helm(&["template", "ambit", &chart, "-n", SYSTEM, "--validate"])?;
    // Unknown fields are refused too, not only told of.
    lab.kubectl_with(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &rendered)?;
    lab.helm(&["install", "ambit", &chart, "-n", SYSTEM, "--wait", "--timeout", "240s"])?;
    lab.mesh_ready()
}

fn joins_without_a_restart(lab: &Lab) -> Result<()> {
    let capture = lab.capture()?;
    fetch(lab, "/in-the-clear")?;
    ensure!(capture.finish().contain(b"/in-the-clear"), "before, the wire is readable");
    let starts = lab.kubectl(&["-n", "shop", "get", "pods", "-o", STARTS])?;
    lab.enrol("shop")?;
    lab.is_in("shop", "web")?;
    lab.is_in("shop", "client")?;
    lab.wait("the two ends to know of each other", SOON, || {
        let capture = lab.capture()?;
        let said = fetch(lab, "/carried")?;
        let frames = capture.finish();
        let client =
            lab.kubectl(&["-n", "shop", "get", "pod", "client", "-o", "jsonpath={.status.podIP}"])?;
        ensure!(said.contains(&format!("\"from\":\"{client}:")), "the client's own address is seen: {said}");
        ensure!(!frames.contain(b"/carried"), "readable on the wire");
        ensure!(frames.with_port(15008) > 0, "nothing went to the tunnels' port");
        Ok(())
    })?;
    ensure!(lab.kubectl(&["-n", "shop", "get", "pods", "-o", STARTS])? == starts, "a pod was started again");
    Ok(())
}

fn holds_policies(lab: &Lab) -> Result<()> {
    lab.apply(STRICT)?;
    lab.apply(DENY)?;
    lab.is_refused("shop/client", "http://web.shop/denied", SOON)?;
    let said =
        ["-n", "shop", "get", "authorizationpolicy", "deny", "-o", "jsonpath={.status.conditions[*].type}"];
    lab.wait("the policy's condition", SOON, || {
        ensure!(lab.kubectl(&said)? == "ZtunnelAccepted", "it is {:?}", lab.kubectl(&said));
        Ok(())
    })?;
    lab.delete(DENY)?;
    lab.wait("the policy to be gone", SOON, || fetch(lab, "/again"))?;
    // Probes are no peers, and pass. Three of them had the time to fail.
    pause(Duration::from_secs(4));
    lab.pods_ready("shop", "app=web", Duration::from_secs(1))
}

fn reviews_objects(lab: &Lab) -> Result<()> {
    let nothing = DENY.replace("rules:", "rules: [] #");
    let refused = lab.apply(&nothing).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("add rules") && refused.contains("spec."), "it is {refused:?}");
    Ok(())
}

fn takes_new_pods(lab: &Lab) -> Result<()> {
    lab.apply(&pod("late", "n1"))?;
    lab.pods_ready("shop", "app=late", PODS)?;
    lab.is_in("shop", "late")?;
    let capture = lab.capture()?;
    lab.wait("the late pod to be heard", SOON, || {
        lab.pod_exec("shop/late", &["ambit", "pod", "fetch", "http://web.shop/late"])
    })?;
    ensure!(!capture.finish().contain(b"GET /late"), "a pod that joins is never readable");
    Ok(())
}

/// A control plane that starts anew signs under the root that was there.
fn keeps_its_root(lab: &Lab) -> Result<()> {
    let read = ["-n", "shop", "get", "configmap", "istio-ca-root-cert", "-o", "jsonpath={.data}"];
    let before = lab.kubectl(&read)?;
    lab.kubectl(&["-n", SYSTEM, "delete", "pod", "-l", "app=istiod", "--wait"])?;
    lab.pods_ready(SYSTEM, "app=istiod", PODS)?;
    fetch(lab, "/while-it-starts")?;
    lab.apply(&pod("later", "n2"))?;
    lab.pods_ready("shop", "app=later", PODS)?;
    lab.wait("a pod under the new control plane to talk", SOON, || {
        lab.pod_exec("shop/later", &["ambit", "pod", "fetch", "http://web.shop/later"])
    })?;
    ensure!(lab.kubectl(&read)? == before, "the root is another one");
    Ok(())
}

/// Every component is replaced by another of its kind; new connections never fail.
fn upgrades(lab: &Lab) -> Result<()> {
    for (kind, name) in [("deployment", "istiod"), ("daemonset", "istio-cni-node"), ("daemonset", "ztunnel")]
    {
        let what = format!("{kind}/{name}");
        lab.kubectl(&["-n", SYSTEM, "rollout", "restart", &what])?;
        let status = ["-n", SYSTEM, "rollout", "status", &what, "--timeout=1s"];
        lab.wait(&format!("{what} to be replaced"), INSTALLED, || {
            // Outside of the wait's patience: one that fails ends the wait, and the story.
            let fetched = fetch(lab, "/meanwhile").with_context(|| format!("while {what} is replaced"));
            if fetched.is_err() {
                return Ok(fetched);
            }
            lab.kubectl(&status).map(Ok)
        })??;
    }
    Ok(())
}

/// Nodes and pods are as they were.
fn leaves(lab: &Lab, before: &Traces) -> Result<()> {
    lab.delete(STRICT)?;
    lab.follow("docs/upgrade.md", "Removing by Helm alone")?;
    lab.wait("nodes to be as they were", PODS, || {
        let now = Traces::of(lab)?;
        ensure!(now == *before, "left:\n{}", now.beside(before));
        Ok(())
    })?;
    lab.wait("leases to go with those they belong to", PODS, || {
        let left = lab.kubectl(&["-n", SYSTEM, "get", "leases", "-o", "name"])?;
        ensure!(!left.contains("ambit-istiod"), "left: {left}");
        Ok(())
    })?;
    let capture = lab.capture()?;
    fetch(lab, "/afterwards")?;
    ensure!(capture.finish().contain(b"/afterwards"), "afterwards, the wire is readable again");
    Ok(())
}

fn fetch(lab: &Lab, path: &str) -> Result<String> {
    lab.fetch("shop/client", &format!("http://web.shop{path}"))
}
