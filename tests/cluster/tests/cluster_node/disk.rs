//! The daemon's run folder, on a disk of its own that is full.

use ambit_cluster_lab::Lab;
use anyhow::{Result, ensure};

use crate::cast::{NODE, eager, over};
use crate::daemon::start_anew;

const FOLDER: &str = "/run/ambit-cni";
const FILLER: &str = "/run/ambit-cni/filler";

/// Before the mesh is installed: it takes the folder as it finds it.
pub(crate) fn small_run_folder(lab: &Lab) -> Result<()> {
    let make = format!("mkdir -p {FOLDER} && mount -t tmpfs -o size=64k,mode=755 ambit-run {FOLDER}");
    lab.node(NODE)?.exec(&["sh", "-c", &make]).map(drop)
}

/// What is known of sandboxes cannot be written. Pods start and stay in the mesh all the same, also when the daemon is
/// replaced by one that finds no record of them.
pub(crate) fn it_is_full(lab: &Lab) -> Result<()> {
    let node = lab.node(NODE)?;
    over(lab, "the run folder's disk is full", &["full-one", "full-two"], || {
        // Writes until there is no room; that it then fails is what is wanted.
        node.exec(&["sh", "-c", &format!("head -c 1000000 /dev/zero > {FILLER} 2>/dev/null; true")])?;
        let left = node.exec(&["stat", "-f", "-c", "%f", FOLDER])?;
        ensure!(left.trim() == "0", "{left} blocks are left");
        lab.apply(&eager("full-one"))?;
        lab.pods_ready("shop", "app=full-one", crate::PODS)?;
        start_anew(lab)?;
        lab.apply(&eager("full-two"))
    })?;
    let unknown = node.exec(&["sh", "-c", &format!("ls {FOLDER}; rm {FILLER}")])?;
    ensure!(unknown.contains("pluginevent.sock"), "the daemon listens nowhere: {unknown}");
    Ok(())
}
