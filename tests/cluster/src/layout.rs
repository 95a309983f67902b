//! Where a cluster keeps what it makes, and which addresses are its own.
//! Owns names and numbers; makes nothing.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The folder of one cluster: everything it makes on disk is in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    name: String,
}

impl Layout {
    /// The cluster of this name under `root`.
    pub fn new(root: &Path, name: &str) -> Self {
        Self { root: root.to_owned(), name: name.to_owned() }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where all clusters of this machine are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster's own folder.
    pub fn dir(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The journal: written before anything else is made.
    pub fn spec(&self) -> PathBuf {
        self.dir().join("spec.json")
    }

    /// The program that starts everything, as it was when the cluster came up.
    pub fn helper(&self) -> PathBuf {
        self.dir().join("ambit-lab")
    }

    /// Network namespaces, each pinned to a file.
    pub fn pins(&self) -> PathBuf {
        self.dir().join("netns")
    }

    /// The file that the namespace of this host is pinned to.
    pub fn pin(&self, host: &str) -> PathBuf {
        self.pins().join(host)
    }

    /// Processes that run, each recorded in a file.
    pub fn records(&self) -> PathBuf {
        self.dir().join("processes")
    }

    /// The record of one process.
    pub fn record(&self, process: &str) -> PathBuf {
        self.records().join(process)
    }

    /// What a process outside of nodes printed.
    pub fn log(&self, process: &str) -> PathBuf {
        self.dir().join("logs").join(format!("{process}.log"))
    }

    /// What a program of a node printed.
    pub fn node_log(&self, node: &str, program: &str) -> PathBuf {
        self.node(node).join("log/lab").join(format!("{program}.log"))
    }

    /// Keys and certificates.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.dir().join("pki").join(file)
    }

    /// How someone talks to the API server.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.dir().join("kubeconfig").join(format!("{who}.conf"))
    }

    /// The disk of a node.
    pub fn node(&self, node: &str) -> PathBuf {
        self.dir().join("nodes").join(node)
    }

    /// What people put on their path: `kubectl` and `helm`.
    pub fn bin(&self) -> PathBuf {
        self.dir().join("bin")
    }

    /// Images that nodes get.
    pub fn images(&self) -> PathBuf {
        self.dir().join("images")
    }

    /// The control group of the whole cluster, in every hierarchy.
    pub fn cgroup(&self) -> String {
        format!("ambit-lab-{}", self.name)
    }

    /// The control group of one host.
    pub fn host_cgroup(&self, host: &str) -> String {
        format!("{}/{host}", self.cgroup())
    }
}

/// Which of the address ranges for clusters one has; two clusters never have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Slot(u8);

/// The host that runs the control plane.
pub const PLANE: &str = "cp";
/// The namespace of the bridge that joins all hosts.
pub const LAN: &str = "lan";

impl Slot {
    /// As many clusters can be up at the same time.
    pub const COUNT: u8 = 8;

    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// The link by which this machine itself reaches the cluster.
    pub fn link(self) -> String {
        format!("ambit-lab{}", self.0)
    }

    /// This machine, as hosts see it.
    pub fn machine(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, self.0, 1)
    }

    /// The host with the control plane.
    pub fn plane(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, self.0, 10)
    }

    /// The node of this number, from 1.
    pub fn node(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, self.0, 10 + number)
    }

    /// Where the pods of a node have their addresses.
    pub fn node_pods(self, number: u8) -> String {
        format!("10.{}.{number}.0/24", 244 + self.0)
    }

    /// Where all pods have their addresses.
    pub fn pods(self) -> String {
        format!("10.{}.0.0/16", 244 + self.0)
    }

    /// Where services have their addresses.
    pub fn services(self) -> String {
        format!("10.{}.0.0/16", 96 + self.0)
    }

    /// The API server's service.
    pub fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.0, 0, 1)
    }

    /// The name server's service.
    pub fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.0, 0, 10)
    }

    /// One address of each range, to ask whether this machine already has a way there.
    pub fn samples(self) -> [Ipv4Addr; 3] {
        [self.plane(), Ipv4Addr::new(10, 244 + self.0, 1, 1), self.dns()]
    }
}

/// The name of the node of this number.
pub fn node_name(number: u8) -> String {
    format!("n{number}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_slots_share_a_range_or_a_link() {
        let ranges: Vec<String> = Slot::all()
            .flat_map(|slot| [slot.pods(), slot.services(), slot.machine().to_string(), slot.link()])
            .collect();
        let distinct: HashSet<&String> = ranges.iter().collect();
        assert_eq!(distinct.len(), ranges.len());
        assert!(Slot::all().all(|slot| slot.link().len() < 16), "a link's name is at most 15 bytes");
    }
}
