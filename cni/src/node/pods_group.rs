//! The control group above all pods of this node, so that a pod on the node's network is told from the node.
//! Owns finding it. What is made of it is `rules::node`'s.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::node::cgroup::pods_root;
use crate::rules::PodsGroup;

/// Where hierarchies of the second version are mounted, seen from the node's root.
const MOUNTS: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];

/// Looks among all processes for one in a pod. None while no pod runs, and on nodes whose pods are in hierarchies of
/// the first version, whose groups sockets do not know.
pub(crate) fn find(proc_dir: &Path) -> io::Result<Option<PodsGroup>> {
    for entry in fs::read_dir(proc_dir)? {
        let path = entry?.path();
        let is_process =
            path.file_name().is_some_and(|it| it.to_str().is_some_and(|it| it.parse::<u32>().is_ok()));
        let Some(text) = is_process.then(|| fs::read_to_string(path.join("cgroup")).ok()).flatten() else {
            continue;
        };
        if let Some(group) = text.lines().find_map(|line| group(line, proc_dir)) {
            return Ok(Some(group));
        }
    }
    Ok(None)
}

fn group(line: &str, proc_dir: &Path) -> Option<PodsGroup> {
    let (root, level) = pods_root(line.strip_prefix("0::")?)?;
    let roots = [proc_dir.join("1/root"), PathBuf::from("/")];
    let mounts = roots.iter().flat_map(|root| MOUNTS.iter().map(|mount| root.join(mount)));
    let folder = mounts.filter(|it| it.join("cgroup.controllers").exists());
    let id =
        folder.map(|it| it.join(root.trim_start_matches('/'))).find_map(|it| fs::metadata(it).ok())?.ino();
    Some(PodsGroup { id, level })
}
