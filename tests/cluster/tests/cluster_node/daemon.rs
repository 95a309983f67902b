//! The node daemon, while it is not there.

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::SYSTEM;
use anyhow::{Result, ensure};

use crate::cast::{NODE, eager, over};
use crate::plugin::{PROGRAM, finish, repeat};

/// Killed as soon as it is there: in the node's own process namespace nothing else has this name.
const KILL: &str = "pkill -9 -x ambit-cni-node; true";

/// Pods that are created meanwhile wait, and start when it is back.
pub(crate) fn it_is_away_while_pods_are_created(lab: &Lab) -> Result<()> {
    let pods = ["waiting-one", "waiting-two"];
    over(lab, "the daemon is away while pods are created", &pods, || {
        let killing = repeat(lab, KILL, 100, "0.1")?;
        lab.apply(&pods.map(eager).join("---\n"))?;
        finish(killing)?;
        pods.iter().try_for_each(|name| has_not_started(lab, name))?;
        start_anew(lab)
    })
}

/// The runtime finds no program: it starts no pod either. The daemon that comes back repairs that first.
pub(crate) fn it_is_away_and_so_is_the_program(lab: &Lab) -> Result<()> {
    let pods = ["orphan-one", "orphan-two"];
    over(lab, "the daemon is away, and so is the plugin's program", &pods, || {
        let killing = repeat(lab, &format!("{KILL}; rm -f {PROGRAM}"), 100, "0.1")?;
        lab.apply(&pods.map(eager).join("---\n"))?;
        finish(killing)?;
        pods.iter().try_for_each(|name| has_not_started(lab, name))?;
        start_anew(lab)
    })
}

fn has_not_started(lab: &Lab, name: &str) -> Result<()> {
    let state = "jsonpath={.status.phase} {.status.containerStatuses[*].state.running.startedAt}";
    let said = lab.kubectl(&["-n", "shop", "get", "pod", name, "-o", state])?;
    ensure!(said.trim() == "Pending", "{name} did not wait for the daemon: {said:?}");
    Ok(())
}

/// Kubelet waits longer each time that a container ends; a new pod has no such past.
pub(crate) fn start_anew(lab: &Lab) -> Result<()> {
    let on_node = format!("--field-selector=spec.nodeName={NODE}");
    lab.kubectl(&["-n", SYSTEM, "delete", "pod", "-l", "k8s-app=istio-cni-node", &on_node, "--wait"])?;
    lab.pods_ready(SYSTEM, "k8s-app=istio-cni-node", crate::PODS)
}
