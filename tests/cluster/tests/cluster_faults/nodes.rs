//! The API server goes away for a minute, and a node crashes.

use std::time::{Duration, Instant};

use ambit_cluster_lab::mesh::SYSTEM;
use ambit_cluster_lab::{Component, Lab, pause};
use anyhow::{Error, Result, ensure};

use crate::{PODS, SOON, cast, watch};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// After a crash a node's kubelet first clears up what was.
const AFTER_REBOOT: Duration = Duration::from_secs(300);

/// Nothing is lost while it is; what is new comes later. In the middle a node daemon and the control plane are killed too.
pub(crate) fn the_api_server_is_away(lab: &Lab) -> Result<()> {
    let what = "the API server is away";
    watch::over(lab, what, || {
        let load = watch::fifty(lab, "far")?;
        let held = lab.hold("shop/client", "http://far.shop/private-held")?;
        let containers = containers(lab)?;
        lab.kill(Component::ApiServer)?;
        let until = Instant::now() + AWAY;
        pause(AWAY / 4);
        for (node, container) in &containers {
            lab.node(node)?.exec(&["ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container])?;
        }
        pause(until.saturating_duration_since(Instant::now()));
        watch::answers(lab, what, &held)?;
        watch::unharmed(what, load)?;
        lab.start(Component::ApiServer)?;
        lab.wait("the API server", SOON, || lab.kubectl(&["get", "--raw", "/readyz"]))?;
        // Nodes that could not report count as silent now, and their pods as not ready, until Kubernetes has heard of
        // them again.
        let back = Instant::now();
        reached(lab)?;
        eprintln!("{what}: servers are reached {:.1} s after it is back", back.elapsed().as_secs_f32());
        // A change that is made now arrives. (A pod would wait for kubelets, who by now look twice a minute.)
        // The control plane, which reviews it, was killed meanwhile and may still be on its way back.
        lab.wait("a policy to be taken", SOON, || lab.apply(cast::NOT_THE_CLIENT))?;
        lab.wait("a policy to be in force", SOON, || {
            ensure!(lab.fetch("shop/client", "http://near.shop/private-denied").is_err(), "it is let in");
            Ok(())
        })?;
        lab.delete(cast::NOT_THE_CLIENT)?;
        reached(lab)?;
        watch::answers(lab, what, &held)
    })?;
    followed(lab)
}

/// Waits until the nodes' kube-proxies follow the API server again, which after a minute without it they try ever less
/// often. Until then they send whoever is not in the mesh to addresses that pods had before, also for names: what comes
/// next is not to be measured by that.
fn followed(lab: &Lab) -> Result<()> {
    let begun = Instant::now();
    lab.apply(LATER)?;
    let shown = ["-n", "shop", "get", "service", "later", "-o", "jsonpath={.spec.clusterIP}"];
    let address = format!("{} . tcp", lab.kubectl(&shown)?.trim());
    for node in ["n1", "n2"] {
        let node = lab.node(node)?;
        lab.wait("kube-proxy to follow", PODS, || {
            let rules = node.exec(&["nft", "list", "table", "ip", "kube-proxy"])?;
            ensure!(rules.contains(&address), "it does not know of {address} yet");
            Ok(())
        })?;
    }
    eprintln!("kube-proxies follow again {:.1} s later", begun.elapsed().as_secs_f32());
    Ok(())
}

/// Came when the API server was back.
const LATER: &str = "
apiVersion: v1
kind: Service
metadata: { name: later, namespace: shop }
spec: { ports: [{ name: http, port: 80 }] }
";

/// Both servers are reached, at the latest a moment after Kubernetes itself says that they are ready: whom it holds
/// unready nobody is to send to, with a mesh or without (docs/troubleshoot.md).
fn reached(lab: &Lab) -> Result<()> {
    let (until, mut missed_since) = (Instant::now() + 2 * PODS, None);
    loop {
        let are_ready =
            SERVERS.iter().try_fold(true, |all, server| Ok::<_, Error>(all && is_ready(lab, server)?))?;
        let ask = |server: &&str| lab.fetch("shop/client", &format!("http://{server}.shop/private-reached"));
        let Err(error) = SERVERS.iter().try_for_each(|server| ask(server).map(drop)) else { return Ok(()) };
        missed_since = if are_ready { missed_since.or(Some(Instant::now())) } else { None };
        ensure!(
            missed_since.is_none_or(|since| since.elapsed() < SOON),
            "Kubernetes has them ready for {SOON:?}, and {error:#}"
        );
        ensure!(Instant::now() < until, "Kubernetes does not hold them ready again: {error:#}");
        pause(Duration::from_millis(500));
    }
}

const SERVERS: [&str; 2] = ["near", "far"];

/// Whether Kubernetes holds a service's only endpoint ready.
fn is_ready(lab: &Lab, service: &str) -> Result<bool> {
    let named = format!("kubernetes.io/service-name={service}");
    let shown = "jsonpath={.items[*].endpoints[*].conditions.ready}";
    let said = lab.kubectl(&["-n", "shop", "get", "endpointslices", "-l", &named, "-o", shown])?;
    Ok(said.trim() == "true")
}

/// Where they run: one node's daemon, and the control plane.
fn containers(lab: &Lab) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let shown =
        "jsonpath={range .items[*]}{.spec.nodeName} {.status.containerStatuses[0].containerID}{\"\\n\"}{end}";
    for labels in ["k8s-app=istio-cni-node", "app=istiod"] {
        let said = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", labels, "-o", shown])?;
        let first = said.lines().next().and_then(|line| line.split_once(" containerd://"));
        found.extend(first.map(|(node, container)| (node.to_owned(), container.to_owned())));
    }
    ensure!(found.len() == 2, "not all of them run: {found:?}");
    Ok(found)
}

/// A crash and a reboot. The pods come back enrolled; meanwhile those of the other node go on.
pub(crate) fn a_node_reboots(lab: &Lab) -> Result<()> {
    let what = "a node reboots";
    let node = lab.node("n2")?;
    let before = address(lab, "far")?;
    watch::over(lab, what, || {
        let beside = watch::fifty(lab, "near")?;
        node.crash()?;
        pause(Duration::from_secs(2));
        lab.start_node("n2")?;
        let begun = Instant::now();
        lab.wait("its pods to be back", AFTER_REBOOT, || {
            lab.fetch("shop/client", "http://far.shop/private-again")
        })?;
        eprintln!("{what}: its pods are reached {:.1} s after it was ready", begun.elapsed().as_secs_f32());
        lab.pods_ready("shop", "app in (far, eager)", AFTER_REBOOT)?;
        eprintln!("{what}: all its pods are ready {:.1} s after it was", begun.elapsed().as_secs_f32());
        tries(lab, what)?;
        let enrolled = [
            "-n",
            "shop",
            "wait",
            "--for=condition=ambit.io/Enrolled",
            "--timeout=60s",
            "pod",
            "far",
            "eager",
        ];
        lab.kubectl(&enrolled)?;
        lab.mesh_ready()?;
        // What the eager one asked for went through the mesh: its own proxy counts nobody else.
        lab.wait("the eager one to be heard", SOON, || {
            let said = lab.kubectl(&["-n", "shop", "logs", "eager", "--tail=1"])?;
            ensure!(said.contains("\"passes\":true"), "{said}");
            Ok(())
        })?;
        watch::unharmed("beside a node that reboots", beside).map(drop)
    })?;
    ensure!(before != address(lab, "far")?, "it has the same network as before: nothing was shown");
    Ok(())
}

/// Tells how often the runtime had to try to start the node's pods: one that waits for its node is tried once.
fn tries(lab: &Lab, what: &str) -> Result<()> {
    let failed = ["get", "events", "-A", "--field-selector=reason=FailedCreatePodSandBox", "-o"];
    let shown = "jsonpath={range .items[*]}{.involvedObject.name} x{.count}: {.message}{\"\\n\"}{end}";
    let said = lab.kubectl(&[&failed[..], &[shown]].concat())?;
    eprintln!("{what}: sandboxes that failed:\n{said}");
    Ok(())
}

fn address(lab: &Lab, pod: &str) -> Result<String> {
    let shown = "jsonpath={.status.podIP} {.status.containerStatuses[0].containerID}";
    lab.kubectl(&["-n", "shop", "get", "pod", pod, "-o", shown])
}
