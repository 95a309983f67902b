//! Several control planes in one cluster: replicas that serve at once, of which one writes, and revisions side by side,
//! from one of which the mesh changes over to the other. Owns the story. One control plane is `cluster_install`'s.

#![cfg(test)]

use std::time::{Duration, Instant};

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::{Load, SHOP, SYSTEM, pod, told};
use anyhow::{Context as _, Result, ensure};

const PAGE: &str = "docs/revisions.md";
const PODS: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// A lease that is not renewed runs out first; then a condition is written.
const SUCCEEDED: Duration = Duration::from_secs(120);
const LEASE: &str = "ambit-istiod-leader";

/// Beside `web`, which is asked all the while.
const SHELF: &str = "
apiVersion: v1
kind: Service
metadata: { name: shelf, namespace: shop }
spec: { selector: { app: shelf }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";

#[test]
fn replicas_share_a_mesh_and_revisions_succeed_each_other_without_a_lost_request() {
    told("replicas", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    lab.apply(SHOP)?;
    lab.apply(&pod("web", "n2"))?;
    lab.apply(&pod("client", "n1"))?;
    lab.apply(SHELF)?;
    lab.apply(&pod("shelf", "n2"))?;
    lab.pods_ready("shop", "app in (web, client, shelf)", PODS)?;
    lab.install_mesh(&[])?;
    lab.enrol("shop")?;
    lab.is_in("shop", "web")?;
    lab.is_in("shop", "client")?;
    lab.is_in("shop", "shelf")?;
    lab.wait("the first answer", SOON, || lab.fetch("shop/client", "http://web.shop/first"))?;
    let load = Load::start(lab, "shop/client", "http://web.shop/all-the-while")?;
    lab.follow(PAGE, "Replicas")?;
    replicas_are_one(lab).context("two replicas")?;
    the_leader_goes(lab).context("the leader is deleted")?;
    the_leader_hangs(lab).context("the leader hangs")?;
    a_revision_stands_beside(lab).context("a second revision")?;
    the_mesh_changes_over(lab).context("the mesh follows the second revision")?;
    the_first_goes(lab).context("the first revision is removed")?;
    eprintln!("{} requests all the while", load.lost_nothing()?);
    Ok(())
}

/// Both are ready, are kept from being drained at once, and sign under the same root.
fn replicas_are_one(lab: &Lab) -> Result<()> {
    let running = planes(lab, "default")?;
    ensure!(running.len() == 2, "not two: {running:?}");
    let budget = ["-n", SYSTEM, "get", "pdb", "istiod", "-o", "jsonpath={.status.disruptionsAllowed}"];
    lab.wait("the budget to be counted", SOON, || {
        let said = lab.kubectl(&budget)?;
        ensure!(said == "1", "{said} may be disrupted");
        Ok(())
    })?;
    let holder = holder(lab, LEASE)?;
    ensure!(running.contains(&holder), "{holder} is none of {running:?}");
    policy_works(lab, "by-two", "")
}

/// Its pod is deleted at once. Policies are enforced by the other, which also writes their conditions.
fn the_leader_goes(lab: &Lab) -> Result<()> {
    let leader = holder(lab, LEASE)?;
    lab.kubectl(&["-n", SYSTEM, "delete", "pod", &leader, "--force", "--grace-period=0"])?;
    let begun = Instant::now();
    policy_works(lab, "after-the-leader", "")?;
    eprintln!("a policy has its condition {:?} after the leader was deleted", begun.elapsed());
    another_leads(lab, &leader)?;
    lab.apply(&pod("later", "n1"))?;
    lab.pods_ready("shop", "app=later", PODS)?;
    lab.wait("a pod that came since to be answered", SOON, || {
        lab.fetch("shop/later", "http://web.shop/later")
    })?;
    lab.pods_ready(SYSTEM, "app=istiod", PODS)
}

/// It gives nothing back and closes nothing: proxies find out by themselves that it does not answer, the Service by its
/// probes, and the other that the lease has run out.
fn the_leader_hangs(lab: &Lab) -> Result<()> {
    let leader = holder(lab, LEASE)?;
    let at = ["-n", SYSTEM, "get", "pod", &leader, "-o", "jsonpath={.spec.nodeName}"];
    let node = lab.node(&lab.kubectl(&at)?)?;
    let find =
        format!("grep -lz '^POD_NAME={leader}$' /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | head -1");
    let process = node.exec(&["sh", "-c", &find])?;
    ensure!(!process.trim().is_empty(), "no process of {leader}");
    node.exec(&["kill", "-STOP", process.trim()])?;
    let begun = Instant::now();
    policy_works(lab, "while-one-hangs", "")?;
    eprintln!("a policy has come and gone {:?} after the leader began to hang", begun.elapsed());
    another_leads(lab, &leader)?;
    node.exec(&["kill", "-KILL", process.trim()])?;
    lab.pods_ready(SYSTEM, "app=istiod", PODS)
}

/// What is another replica's part to write is written before that one leads.
fn another_leads(lab: &Lab, leader: &str) -> Result<()> {
    lab.wait("another to lead", SUCCEEDED, || {
        ensure!(holder(lab, LEASE)? != leader, "{leader} is said to lead still");
        Ok(())
    })
}

/// It serves, reviews what is its own, and writes nothing that the first one writes.
fn a_revision_stands_beside(lab: &Lab) -> Result<()> {
    let before = root(lab)?;
    lab.follow(PAGE, "Revisions")?;
    let canary = planes(lab, "canary")?;
    ensure!(canary.len() == 1, "not one: {canary:?}");
    ensure!(!canary.contains(&holder(lab, LEASE)?), "the newcomer leads");
    ensure!(root(lab)? == before, "the root is another one");
    // The API server asks the canary about it, and believes its certificate.
    policy_works(lab, "of-the-canary", "istio.io/rev: canary")?;
    let wrong = policy("wrong", "istio.io/rev: canary");
    let nothing = format!("{}rules: []}}}}", wrong.split("rules:").next().unwrap_or_default());
    let refused = lab.apply(&nothing).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("add rules"), "it is {refused:?}");
    Ok(())
}

/// By the tag's name: ztunnels need not know which revision it is.
fn the_mesh_changes_over(lab: &Lab) -> Result<()> {
    lab.follow(PAGE, "Changing over")?;
    lab.kubectl(&["-n", SYSTEM, "rollout", "status", "daemonset/ztunnel", "--timeout=80s"])?;
    policy_works(lab, "by-the-canary", "")?;
    lab.kubectl(&["-n", "shop", "delete", "pod", "later", "--wait", "--timeout=60s"])?;
    lab.apply(&pod("later", "n1"))?;
    lab.pods_ready("shop", "app=later", PODS)?;
    lab.wait("a pod that came since to be answered", SOON, || {
        lab.fetch("shop/later", "http://web.shop/later")
    })
    .map(drop)
}

/// The lease is given back, and the second writes what the first wrote.
fn the_first_goes(lab: &Lab) -> Result<()> {
    let before = root(lab)?;
    lab.follow(PAGE, "The old one goes")?;
    lab.wait("the first revision's pods to be gone", PODS, || {
        let left = planes(lab, "default")?;
        ensure!(left.is_empty(), "there are {left:?}");
        Ok(())
    })?;
    policy_works(lab, "by-the-canary-alone", "")?;
    ensure!(planes(lab, "canary")?.contains(&holder(lab, LEASE)?), "it does not lead");
    ensure!(root(lab)? == before, "the root is another one");
    Ok(())
}

/// A policy is admitted, in force, told of on the object, and gone again.
fn policy_works(lab: &Lab, name: &str, label: &str) -> Result<()> {
    let policy = policy(name, label);
    // Whoever hangs is asked to review it, too, until its Service has noticed.
    lab.wait(&format!("{name} to be admitted"), SUCCEEDED, || lab.apply(&policy))?;
    lab.is_refused("shop/client", "http://shelf.shop/denied", SUCCEEDED)
        .with_context(|| format!("{name} is to be in force"))?;
    let types = "jsonpath={.status.conditions[*].type}";
    lab.wait(&format!("{name}'s condition"), SUCCEEDED, || {
        let said = lab.kubectl(&["-n", "shop", "get", "authorizationpolicy", name, "-o", types])?;
        ensure!(said == "ZtunnelAccepted", "it is {said:?}");
        Ok(())
    })?;
    lab.delete(&policy)?;
    let allowed = || lab.fetch("shop/client", "http://shelf.shop/allowed").map(drop);
    lab.wait(&format!("{name} to be gone"), SOON, allowed)
}

/// Keeps the client from a pod that nobody asks all the while.
fn policy(name: &str, label: &str) -> String {
    format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: shop, \
         labels: {{{label}}}}}, spec: {{action: DENY, selector: {{matchLabels: {{app: shelf}}}}, \
         rules: [{{from: [{{source: {{principals: [cluster.local/ns/shop/sa/client]}}}}]}}]}}}}"
    )
}

/// The control plane's pods of a revision that run.
fn planes(lab: &Lab, revision: &str) -> Result<Vec<String>> {
    let labels = format!("app=istiod,istio.io/rev={revision}");
    let names = "jsonpath={.items[?(@.status.phase=='Running')].metadata.name}";
    let said = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", &labels, "-o", names])?;
    Ok(said.split_whitespace().map(str::to_owned).collect())
}

/// Who writes.
fn holder(lab: &Lab, lease: &str) -> Result<String> {
    lab.kubectl(&["-n", SYSTEM, "get", "lease", lease, "-o", "jsonpath={.spec.holderIdentity}"])
}

/// The root that pods are told of.
fn root(lab: &Lab) -> Result<String> {
    lab.kubectl(&["-n", "shop", "get", "configmap", "istio-ca-root-cert", "-o", "jsonpath={.data}"])
}
