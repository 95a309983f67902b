//! Everything breaks, with traffic running: programs killed and replaced, the API server away, a node crashed,
//! addresses reused. Nothing is unprotected meanwhile, and nothing is lost but what is said here.
//! Owns the order of the faults; what must hold over each of them is `watch`'s.

#![cfg(test)]

mod cast;
mod kills;
mod nodes;
mod pods;
mod watch;

use std::time::Duration;

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::told;
use anyhow::Result;

/// Pods on a busy machine, from nothing.
pub(crate) const PODS: Duration = Duration::from_secs(240);
/// What one look at a running cluster may take to come true.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// What is left of a ztunnel's pod's grace for its open connections.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

#[test]
fn whatever_breaks_nothing_is_unprotected_and_nothing_is_lost_without_need() {
    told("faults", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    lab.install_mesh(&["--set", "ztunnel.terminationGracePeriodSeconds=15"])?;
    lab.apply(&cast::all())?;
    lab.enrol("shop")?;
    lab.pods_ready("shop", "app", PODS)?;
    lab.pods_ready("outside", "app", PODS)?;
    for pod in ["near", "far", "client", "eager"] {
        lab.is_in("shop", pod)?;
    }
    lab.apply(cast::STRICT)?;
    lab.wait("all to know of each other", SOON, || {
        lab.fetch("shop/client", "http://far.shop/private-first")?;
        anyhow::ensure!(
            lab.fetch("outside/outsider", "http://far.shop/uninvited").is_err(),
            "not strict yet"
        );
        Ok(())
    })?;
    pods::application_restarts(lab)?;
    // In this order: kubelet waits ever longer before it starts a container that ended again, until its pod is another.
    kills::parts_are_killed(lab)?;
    kills::parts_are_replaced(lab)?;
    nodes::the_api_server_is_away(lab)?;
    nodes::a_node_reboots(lab)?;
    pods::addresses_are_reused(lab)?;
    pods::a_label_flaps(lab)
}
