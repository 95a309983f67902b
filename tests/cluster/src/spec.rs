//! The journal of a cluster: what it is, written before anything of it exists, so that it can be taken down from
//! whatever state a crash left it in. Owns the file and the choice of addresses.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::layout::{Layout, PLANE, Slot, node_name};
use crate::process::Process;

/// What a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its addresses.
    pub slot: Slot,
    /// How many nodes it has.
    pub nodes: u8,
    /// The test it belongs to; none when a person brought it up, who alone takes it down.
    pub owner: Option<Process>,
    /// The program that is all of Kubernetes.
    pub kube: PathBuf,
    /// What it was wished to be.
    #[serde(default)]
    pub wish: Wish,
}

/// What a cluster may be beside what Kubernetes is by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Its API has ClusterTrustBundles, and pods may mount them.
    pub trust_bundles: bool,
}

/// More nodes than this machine could run.
const NODES: u8 = 9;

impl Spec {
    /// Claims addresses for a new cluster and writes its journal.
    pub fn claim(
        layout: &Layout,
        (nodes, wish): (u8, Wish),
        owner: Option<Process>,
        kube: &Path,
    ) -> Result<Self> {
        ensure!((1..=NODES).contains(&nodes), "a cluster has 1 to {NODES} nodes, not {nodes}");
        let named = layout.name();
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !named.is_empty() && named.len() <= 40 && named.chars().all(fine),
            "{named:?} is no name for a cluster: at most 40 of a-z, 0-9 and -"
        );
        // Until the journal is there: two clusters that start together do not take the same addresses.
        let _held = hold(layout.root())?;
        ensure!(!layout.dir().exists(), "cluster {named} is up already, or was not taken down");
        let taken: Vec<Slot> =
            all(layout.root()).iter().filter_map(|one| Some(Self::read(one).ok()?.slot)).collect();
        let Some(slot) = Slot::all().find(|slot| !taken.contains(slot) && is_free(*slot)) else {
            bail!(
                "no addresses are left: {} clusters are up or 10.90.0.0/16 is routed elsewhere",
                taken.len()
            );
        };
        let spec = Self { slot, nodes, owner, kube: kube.to_owned(), wish };
        fs::create_dir(layout.dir())?;
        let part = layout.dir().join("spec.part");
        fs::write(&part, serde_json::to_vec_pretty(&spec)?)?;
        File::open(&part)?.sync_all()?;
        fs::rename(&part, layout.spec())?;
        Ok(spec)
    }

    /// The journal of a cluster that is up, or was being brought up.
    pub fn read(layout: &Layout) -> Result<Self> {
        let path = layout.spec();
        let text = fs::read(&path).with_context(|| format!("cluster {} is not up", layout.name()))?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    /// Whether it belonged to a test that is gone.
    pub fn is_abandoned(&self) -> bool {
        self.owner.is_some_and(|owner| !owner.is_alive())
    }

    /// Nodes by number and name.
    pub fn each_node(&self) -> impl Iterator<Item = (u8, String)> {
        (1..=self.nodes).map(|number| (number, node_name(number)))
    }

    /// Every host: the nodes, and the one with the control plane.
    pub fn hosts(&self) -> Vec<(String, Ipv4Addr)> {
        let nodes = self.each_node().map(|(number, name)| (name, self.slot.node(number)));
        std::iter::once((PLANE.to_owned(), self.slot.plane())).chain(nodes).collect()
    }
}

/// Keeps others from adding clusters to this machine's or removing the folder of all, until it is dropped.
pub fn hold(root: &Path) -> Result<File> {
    loop {
        fs::create_dir_all(root).with_context(|| root.display().to_string())?;
        let path = root.join(".lock");
        let lock = match File::create(&path) {
            // Between the two calls the last cluster's end took the folder away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            created => created.with_context(|| path.display().to_string())?,
        };
        lock.lock()?;
        // Whoever had it before may have removed it, and somebody else have made another.
        let is_current =
            fs::metadata(&path).is_ok_and(|now| lock.metadata().is_ok_and(|own| own.ino() == now.ino()));
        if is_current {
            return Ok(lock);
        }
    }
}

/// Every cluster of this machine, whatever state it is in.
pub fn all(root: &Path) -> Vec<Layout> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| Layout::new(root, &entry.file_name().to_string_lossy()))
        .collect()
}

/// Whether this machine has no way of its own to the addresses.
fn is_free(slot: Slot) -> bool {
    slot.samples().iter().all(|address| {
        let shown = Command::new("ip").args(["-4", "route", "show", "match", &address.to_string()]).output();
        let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        shown.is_ok_and(|text| text.lines().all(|line| line.starts_with("default")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_get_different_addresses_and_a_name_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Layout::new(dir.path(), "a"), Layout::new(dir.path(), "b"));
        let claim = |layout| Spec::claim(layout, (2, Wish::default()), Process::own(), Path::new("/kube"));
        let (first, second) = (claim(&a).unwrap(), claim(&b).unwrap());
        assert_ne!(first.slot, second.slot);
        assert_eq!(Spec::read(&a).unwrap(), first);
        assert!(claim(&a).unwrap_err().to_string().contains("up already"));
        assert!(!first.is_abandoned());
        assert_eq!(all(dir.path()).len(), 2);
    }

    #[test]
    fn names_that_would_not_make_a_folder_and_clusters_without_nodes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, nodes) in [("", 2), ("../x", 2), ("Lab", 2), ("lab", 0), ("lab", 10)] {
            assert!(
                Spec::claim(
                    &Layout::new(dir.path(), name),
                    (nodes, Wish::default()),
                    None,
                    Path::new("/kube")
                )
                .is_err(),
                "{name}"
            );
        }
    }
}
