//! Our parts with upstream's in place of the others, and each of upstream's replaced by ours while pods run:
//! `docs/migrate.md`, told as one story. Owns its order. What a mesh of our own parts does is `cluster_install`.

#![cfg(test)]

mod look;
mod tool;
mod upstream;

use std::time::Duration;

use ambit_cluster_lab::mesh::{Load, SHOP, STARTS, SYSTEM, pod, told};
use ambit_cluster_lab::{Lab, pause};
use anyhow::{Context as _, Result, anyhow, ensure};

const PAGE: &str = "docs/migrate.md";
const PODS: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// Into the exchange of the node agents.
const AMID: Duration = Duration::from_secs(1);

/// Nobody of this account reaches `web`, nor `late`, of which there is no pod yet.
const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny, namespace: shop }
spec:
  action: DENY
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/client] } }] }]
";

/// Found from the first moment on, ready or not: whoever is let in too early is seen.
const LATE: &str = "
apiVersion: v1
kind: Service
metadata: { name: late, namespace: shop }
spec:
  selector: { app: late }
  publishNotReadyAddresses: true
  ports: [{ name: http, port: 80, targetPort: 8080 }]
";

#[test]
fn each_part_works_beside_upstreams_and_takes_its_place_while_pods_run() {
    told("swap", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    upstream::import(lab)?;
    lab.apply(SHOP)?;
    lab.apply(&pod("web", "n2"))?;
    lab.apply(&pod("client", "n1"))?;
    lab.pods_ready("shop", "app in (web, client)", PODS)?;
    let starts = starts(lab)?;
    ztunnel_alone_is_ours(lab).context("upstream's but for ztunnel")?;
    node_agent_is_replaced(lab).context("upstream's node agent replaced")?;
    control_plane_is_upstreams(lab).context("ours under upstream's control plane")?;
    control_plane_is_replaced(lab).context("upstream's control plane replaced")?;
    lab.apply(&DENY.replace("sa/client", "sa/nobody"))?;
    tool::reads_ours(lab).context("upstream's command line")?;
    lab.delete(DENY)?;
    ensure!(starts == self::starts(lab)?, "a pod was started again");
    node_agent_is_upstreams(lab).context("ours with upstream's node agent")?;
    node_agent_is_replaced(lab).context("upstream's node agent replaced where it uses nftables")
}

/// A mesh as upstream's users have it, with our ztunnel: the first piece to be changed, or the last.
fn ztunnel_alone_is_ours(lab: &Lab) -> Result<()> {
    lab.kubectl(&["create", "namespace", SYSTEM])?;
    lab.follow(PAGE, "Definitions")?;
    upstream::install_istiod(lab)?;
    lab.pods_ready(SYSTEM, "app=istiod", PODS)?;
    lab.apply(upstream::AGENT)?;
    lab.follow(PAGE, "ztunnel")?;
    lab.pods_ready(SYSTEM, "k8s-app=istio-cni-node", PODS)?;
    lab.enrol("shop")?;
    lab.is_in("shop", "web")?;
    lab.is_in("shop", "client")?;
    is_carried(lab, "client", "/all-upstreams")?;
    joins(lab, "joined")
}

/// Upstream's was not installed by Helm, and is adopted. A pod that comes in between is in, or does not start.
fn node_agent_is_replaced(lab: &Lab) -> Result<()> {
    let capture = lab.capture()?;
    let load = Load::start(lab, "shop/client", "http://web.shop/agent-is-replaced")?;
    std::thread::scope(|scope| {
        let amid = scope.spawn(|| {
            pause(AMID);
            lab.apply(&pod("amid", "n1"))
        });
        lab.follow(PAGE, "The node agent")?;
        amid.join().map_err(|_| anyhow!("the thread panicked"))?
    })?;
    lab.kubectl(&["-n", SYSTEM, "rollout", "status", "daemonset/istio-cni-node", "--timeout=80s"])?;
    lab.wait("nothing of upstream's agent to be left", SOON, || look::nothing_of_the_agents(lab))?;
    eprintln!("{} requests while the node agent was replaced", load.lost_nothing()?);
    ensure!(!capture.finish().contain(b"/agent-is-replaced"), "readable on the wire");
    lab.pods_ready("shop", "app=amid", PODS)?;
    lab.is_in("shop", "amid")?;
    is_carried(lab, "amid", "/from-one-amid")?;
    leaves(lab, "amid")?;
    lab.is_in("shop", "web")?;
    lab.is_in("shop", "client")?;
    is_carried(lab, "client", "/ours-on-the-node")?;
    leaves(lab, "joined")?;
    joins(lab, "joined")
}

fn control_plane_is_upstreams(lab: &Lab) -> Result<()> {
    look::certificates_are_of_the_secret(lab)?;
    lab.apply(DENY)?;
    lab.is_refused("shop/client", "http://web.shop/denied", SOON)?;
    let restart = Load::start(lab, "shop/client", "http://web.shop/denied")?;
    // Each proxy starts from nothing, and hears of addresses before it hears of policies.
    lab.kubectl(&["-n", SYSTEM, "rollout", "restart", "daemonset/ztunnel"])?;
    lab.kubectl(&["-n", SYSTEM, "rollout", "status", "daemonset/ztunnel", "--timeout=80s"])?;
    restart.was_never_let_in()?;
    lab.apply(LATE)?;
    let first = Load::start(lab, "shop/client", "http://late.shop/denied")?;
    lab.apply(&pod("late", "n2"))?;
    lab.pods_ready("shop", "app=late", PODS)?;
    pause(Duration::from_secs(2));
    first.was_never_let_in()?;
    leaves(lab, "late")?;
    lab.delete(DENY)?;
    lab.wait("the policy to be gone", SOON, || lab.fetch("shop/client", "http://web.shop/again"))?;
    look::everything_was_accepted(lab)
}

/// Upstream's is a release of Helm's, which ours becomes the next version of.
fn control_plane_is_replaced(lab: &Lab) -> Result<()> {
    lab.apply(DENY.replace("sa/client", "sa/nobody").as_str())?;
    let root = look::root(lab)?;
    let capture = lab.capture()?;
    let load = Load::start(lab, "shop/client", "http://web.shop/plane-is-replaced")?;
    lab.follow(PAGE, "The control plane")?;
    lab.wait("upstream's control plane to be gone", PODS, || {
        let images = "jsonpath={.items[*].spec.containers[*].image}";
        let said = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app=istiod", "-o", images])?;
        ensure!(said.contains("istiod-lite") && !said.contains("upstream"), "it is {said}");
        Ok(())
    })?;
    // A change reaches the nodes, which have changed over.
    lab.apply(LATE)?;
    lab.apply(&pod("late", "n2"))?;
    lab.pods_ready("shop", "app=late", PODS)?;
    lab.wait("what came after it to be known", SOON, || {
        lab.fetch("shop/client", "http://late.shop/under-the-new")
    })?;
    eprintln!("{} requests while the control plane was replaced", load.lost_nothing()?);
    ensure!(!capture.finish().contain(b"/plane-is-replaced"), "readable on the wire");
    ensure!(look::root(lab)? == root, "the root is another one");
    look::certificates_are_of_the_secret(lab)?;
    is_carried(lab, "client", "/ours-above")?;
    lab.apply(DENY)?;
    lab.is_refused("shop/client", "http://web.shop/denied", SOON)?;
    lab.delete(DENY)?;
    lab.wait("the policy to be gone", SOON, || lab.fetch("shop/client", "http://web.shop/again"))?;
    leaves(lab, "joined")?;
    joins(lab, "joined")
}

/// The other mixture: back to upstream's node agent, under our control plane; and to its other backend.
fn node_agent_is_upstreams(lab: &Lab) -> Result<()> {
    lab.follow(PAGE, "Back")?;
    for node in lab.nodes()? {
        // While a node has sets of its first backend, the agent does not choose the second.
        node.exec(&["ipset", "destroy"])?;
    }
    lab.apply(&upstream::AGENT.replace("NATIVE_NFTABLES: \"false\"", "NATIVE_NFTABLES: \"true\""))?;
    lab.pods_ready(SYSTEM, "k8s-app=istio-cni-node", PODS)?;
    lab.is_in("shop", "web")?;
    lab.is_in("shop", "client")?;
    look::uses_nftables(lab)?;
    is_carried(lab, "client", "/theirs-on-the-node")?;
    lab.apply(DENY)?;
    lab.is_refused("shop/client", "http://web.shop/denied", SOON)?;
    lab.delete(DENY)?;
    lab.wait("the policy to be gone", SOON, || lab.fetch("shop/client", "http://web.shop/again"))?;
    leaves(lab, "joined")?;
    joins(lab, "joined")
}

/// A pod that comes now is in from its first byte on.
fn joins(lab: &Lab, name: &str) -> Result<()> {
    lab.apply(&pod(name, "n1"))?;
    lab.pods_ready("shop", &format!("app={name}"), PODS)?;
    lab.is_in("shop", name)?;
    is_carried(lab, name, "/from-a-new-pod")
}

fn leaves(lab: &Lab, name: &str) -> Result<()> {
    lab.kubectl(&["-n", "shop", "delete", "pod", name, "--wait", "--timeout=60s"]).map(drop)
}

/// Not readable between the nodes, and answered to the client's own address.
fn is_carried(lab: &Lab, client: &str, path: &str) -> Result<()> {
    let address = ["-n", "shop", "get", "pod", client, "-o", "jsonpath={.status.podIP}"];
    let address = lab.kubectl(&address)?;
    lab.wait(&format!("{path} to be carried"), SOON, || {
        let capture = lab.capture()?;
        let said = lab.fetch(&format!("shop/{client}"), &format!("http://web.shop{path}"))?;
        let frames = capture.finish();
        ensure!(said.contains(&format!("\"from\":\"{address}:")), "the client's own address is seen: {said}");
        ensure!(!frames.contain(path.as_bytes()), "readable on the wire");
        ensure!(frames.with_port(15008) > 0, "nothing went to the tunnels' port");
        Ok(())
    })
}

fn starts(lab: &Lab) -> Result<String> {
    lab.kubectl(&["-n", "shop", "get", "pods", "web", "client", "-o", STARTS])
}
