//! A node's own troubles, with traffic running: the network's list rewritten, the plugin's program deleted, the daemon
//! away, the disk full, the certificate authority away. No pod of the mesh starts unprotected, and none that runs is
//! harmed. Owns the order; each trouble is in a file of its own.

#![cfg(test)]

mod authority;
mod cast;
mod daemon;
mod disk;
mod plugin;

use std::time::Duration;

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::told;
use anyhow::{Result, ensure};

/// Pods on a busy machine, from nothing, or after a runtime has lost patience with them.
pub(crate) const PODS: Duration = Duration::from_secs(240);
/// What one look at a running cluster may take to come true.
pub(crate) const SOON: Duration = Duration::from_secs(90);

#[test]
fn whatever_happens_to_a_node_no_pod_of_the_mesh_starts_unprotected() {
    told("node", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    disk::small_run_folder(lab)?;
    let lifetime = format!("ztunnel.env.SECRET_TTL={}s", authority::LIFETIME.as_secs());
    lab.install_mesh(&["--set-string", &lifetime])?;
    lab.apply(&cast::all())?;
    lab.enrol("shop")?;
    lab.pods_ready("shop", "app", PODS)?;
    for pod in ["web", "client"] {
        lab.is_in("shop", pod)?;
    }
    lab.wait("the two to know of each other", SOON, || {
        let wire = lab.capture()?;
        lab.fetch("shop/client", "http://web.shop/first")?;
        ensure!(!wire.finish().contain(b"GET /first"), "still readable");
        Ok(())
    })?;
    plugin::the_list_is_rewritten(lab)?;
    plugin::the_program_is_deleted(lab)?;
    daemon::it_is_away_while_pods_are_created(lab)?;
    daemon::it_is_away_and_so_is_the_program(lab)?;
    disk::it_is_full(lab)?;
    authority::it_is_away(lab)
}
