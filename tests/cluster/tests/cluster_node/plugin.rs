//! The plugin's entry and its program, while somebody works against them.

use std::process::Child;

use ambit_cluster_lab::Lab;
use anyhow::{Context as _, Result, ensure};

use crate::SOON;
use crate::cast::{NODE, eager, over};

/// The network's own list, as the lab's node has it.
const LIST: &str = "/etc/cni/net.d/10-lab.conflist";
pub(crate) const PROGRAM: &str = "/opt/cni/bin/ambit-cni";

/// Another installer puts its own list back, again and again, while pods start.
pub(crate) fn the_list_is_rewritten(lab: &Lab) -> Result<()> {
    let pods = ["listed-one", "listed-two", "listed-three"];
    over(lab, "the network's list is rewritten", &pods, || {
        let node = lab.node(NODE)?;
        let theirs = node.read(&format!("{LIST}.ambit-original")).context("what it was before us")?;
        ensure!(!theirs.contains("ambit-cni"), "the original is {theirs}");
        node.write("/run/theirs", &theirs)?;
        // Aside and renamed, as installers do.
        let again = format!("cp /run/theirs {LIST}.new && mv {LIST}.new {LIST}");
        let installer = repeat(lab, &again, 12, "0.5")?;
        lab.apply(&pods.map(eager).join("---\n"))?;
        finish(installer)?;
        lab.wait("the list to be repaired", SOON, || {
            ensure!(node.read(LIST)?.contains("ambit-cni"), "it is not in the list");
            Ok(())
        })
    })
}

/// Somebody deletes the program, again and again, while pods start.
pub(crate) fn the_program_is_deleted(lab: &Lab) -> Result<()> {
    let pods = ["deleted-one", "deleted-two", "deleted-three"];
    over(lab, "the plugin's program is deleted", &pods, || {
        let deletion = repeat(lab, &format!("rm -f {PROGRAM}"), 60, "0.1")?;
        lab.apply(&pods.map(eager).join("---\n"))?;
        finish(deletion)?;
        lab.wait("the program to be back", SOON, || lab.node(NODE)?.exec(&["test", "-x", PROGRAM]).map(drop))
    })
}

/// Starts doing something on the node so many times.
pub(crate) fn repeat(lab: &Lab, what: &str, times: u32, pause: &str) -> Result<Child> {
    let script = format!("for it in $(seq {times}); do {what}; sleep {pause}; done");
    Ok(lab.node(NODE)?.command(&["sh", "-c", &script])?.spawn()?)
}

pub(crate) fn finish(mut child: Child) -> Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
