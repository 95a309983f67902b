//! Programs of the mesh killed, and replaced by others of their kind.

use std::time::{Duration, Instant};

use ambit_cluster_lab::mesh::SYSTEM;
use ambit_cluster_lab::{Lab, pause};
use anyhow::{Context as _, Result, ensure};

use crate::{DRAIN, PODS, SOON, cast, watch};

/// What kubelet needs to start a killed container again, and it to be ready, on two cores that are busy.
const BACK: Duration = Duration::from_secs(60);

const DAEMON: &str = "k8s-app=istio-cni-node";
const PLANE: &str = "app=istiod";
const PROXY: &str = "app=ztunnel";

/// `kill -9` for each of them. Only what a killed ztunnel carried itself may be lost.
pub(crate) fn parts_are_killed(lab: &Lab) -> Result<()> {
    watch::over(lab, "node daemons are killed", || daemons(lab))?;
    watch::over(lab, "the control plane is killed", || plane(lab))?;
    watch::over(lab, "a ztunnel is killed", || proxy(lab))
}

fn daemons(lab: &Lab) -> Result<()> {
    let (load, held) = (watch::fifty(lab, "far")?, hold(lab, "far")?);
    kill(lab, DAEMON, None)?;
    // A pod that comes meanwhile waits, and is in.
    lab.apply(&cast::pod(("shop", "late"), "n2", ""))?;
    lab.pods_ready("shop", "app=late", PODS)?;
    lab.is_in("shop", "late")?;
    lab.pods_ready(SYSTEM, DAEMON, SOON)?;
    watch::answers(lab, "node daemons are killed", &held)?;
    watch::unharmed("node daemons are killed", load).map(drop)
}

fn plane(lab: &Lab) -> Result<()> {
    let (load, held) = (watch::fifty(lab, "far")?, hold(lab, "far")?);
    kill(lab, PLANE, None)?;
    lab.apply(&cast::pod(("shop", "later"), "n2", ""))?;
    lab.pods_ready("shop", "app=later", PODS)?;
    lab.pods_ready(SYSTEM, PLANE, SOON)?;
    lab.wait("the pod that came meanwhile to talk", SOON, || {
        lab.fetch("shop/later", "http://near.shop/private-later")
    })?;
    watch::answers(lab, "the control plane is killed", &held)?;
    watch::unharmed("the control plane is killed", load).map(drop)
}

/// What the killed one carried is cut; what others carry among themselves is not touched.
fn proxy(lab: &Lab) -> Result<()> {
    let (through, beside) = (watch::fifty(lab, "far")?, watch::fifty(lab, "near")?);
    let held = hold(lab, "near")?;
    kill(lab, PROXY, Some("n2"))?;
    let killed = Instant::now();
    pause(Duration::from_secs(1));
    lab.pods_ready(SYSTEM, PROXY, SOON)?;
    lab.wait("new connections through the new one", BACK, || {
        lab.fetch("shop/client", "http://far.shop/private-back")
    })?;
    pause(Duration::from_secs(1));
    let passes = |line: &str| line.contains("\"passes\":true");
    let gap = through.lines().into_iter().rfind(|(at, line)| *at > killed && passes(line));
    if let Some((at, _)) = gap {
        eprintln!("a ztunnel is killed: new connections fail for {} ms", (at - killed).as_millis());
    }
    let before = through.finish()?;
    ensure!(before.failed < before.sent / 2, "most of them failed: {before:?}");
    watch::answers(lab, "a ztunnel is killed", &held)?;
    watch::unharmed("beside a ztunnel that is killed", beside).map(drop)
}

/// `rollout restart` of each: no new connection fails, and open ones live at least through the drain.
pub(crate) fn parts_are_replaced(lab: &Lab) -> Result<()> {
    for what in ["deployment/istiod", "daemonset/istio-cni-node"] {
        watch::over(lab, &format!("{what} is replaced"), || {
            let (load, held) = (watch::fifty(lab, "far")?, hold(lab, "far")?);
            restart(lab, what)?;
            watch::answers(lab, what, &held)?;
            watch::unharmed(what, load).map(drop)
        })?;
    }
    watch::over(lab, "ztunnels are replaced", || proxies(lab))
}

fn proxies(lab: &Lab) -> Result<()> {
    let (load, held) = (watch::fifty(lab, "far")?, hold(lab, "far")?);
    lab.kubectl(&["-n", SYSTEM, "rollout", "restart", "daemonset/ztunnel"])?;
    let going = lab.wait("an old ztunnel to be told to go", PODS, || {
        let told = "jsonpath={.items[*].metadata.deletionTimestamp}";
        let told = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", PROXY, "-o", told])?;
        ensure!(!told.is_empty(), "none was");
        Ok(Instant::now())
    })?;
    replaced(lab, SYSTEM, "daemonset/ztunnel")?;
    // All old ones are gone, and what they carried with them.
    lab.wait("the old ones to be gone", PODS, || {
        let names = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", PROXY, "-o", "name"])?;
        ensure!(names.lines().count() == 2, "{names}");
        Ok(())
    })?;
    if let Some((at, line)) = held.ended() {
        let lived = at.saturating_duration_since(going);
        eprintln!("ztunnels are replaced: an open connection lived for another {} s", lived.as_secs());
        ensure!(lived + Duration::from_secs(2) >= DRAIN, "it lived for {lived:?} only: {line}");
    }
    watch::unharmed("ztunnels are replaced", load).map(drop)
}

fn restart(lab: &Lab, what: &str) -> Result<()> {
    lab.kubectl(&["-n", SYSTEM, "rollout", "restart", what])?;
    replaced(lab, SYSTEM, what)
}

pub(crate) fn replaced(lab: &Lab, namespace: &str, what: &str) -> Result<()> {
    lab.wait(&format!("{what} to be replaced"), PODS, || {
        lab.kubectl(&["-n", namespace, "rollout", "status", what, "--timeout=1s"]).map(drop)
    })
}

fn hold(lab: &Lab, service: &str) -> Result<ambit_cluster_lab::Running> {
    lab.hold("shop/client", &format!("http://{service}.shop/private-held"))
}

/// Kills the first process of every such container, or of that on one node.
pub(crate) fn kill(lab: &Lab, labels: &str, only: Option<&str>) -> Result<()> {
    let shown =
        "jsonpath={range .items[*]}{.spec.nodeName} {.status.containerStatuses[0].containerID}{\"\\n\"}{end}";
    let said = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", labels, "-o", shown])?;
    let mut killed = 0;
    for line in said.lines() {
        let (node, container) = line.split_once(" containerd://").context("a container does not run")?;
        if only.is_none_or(|only| only == node) {
            lab.node(node)?.exec(&["ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container])?;
            killed += 1;
        }
    }
    ensure!(killed > 0, "there is no {labels}: {said}");
    Ok(())
}
