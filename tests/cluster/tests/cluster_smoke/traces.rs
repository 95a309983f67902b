//! What a cluster leaves on the machine: everything that bears its name, and what a careless one would change.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use ambit_cluster_lab::{Layout, STATE, Spec};

/// Where to look for traces of one cluster.
pub(crate) struct Traces {
    layout: Layout,
    /// This machine's links, when there was no trace of it yet.
    links: Vec<String>,
}

impl Traces {
    pub(crate) fn named(name: &str) -> Self {
        Self { layout: Layout::new(Path::new(STATE), name), links: links() }
    }

    /// Everything of the cluster that is there now.
    pub(crate) fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (dir, group) = (self.layout.dir(), self.layout.cgroup());
        let dir = dir.to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        found.extend(mounts.lines().filter(|line| line.contains(&*dir)).map(|line| format!("mount {line}")));
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if groups.contains(&group) {
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                found.push(format!("process {} {command}", entry.file_name().display()));
            }
        }
        // Another cluster may come or go while links are looked at.
        let mut others = self.others();
        let links = links();
        others.extend(self.others());
        let is_others = |link: &String| others.iter().any(|name| link.contains(name.as_str()));
        found.extend(links.into_iter().filter(|link| !self.links.contains(link) && !is_others(link)));
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join(&group);
            found.extend(group.exists().then(|| format!("group {}", group.display())));
        }
        found.extend(self.layout.dir().exists().then(|| format!("folder {dir}")));
        found
    }

    /// The links of other clusters, each of which writes its journal before it makes one.
    fn others(&self) -> Vec<String> {
        let folders = fs::read_dir(STATE).into_iter().flatten().flatten();
        let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let others = names.filter(|name| name != self.layout.name());
        let specs = others.filter_map(|name| Spec::read(&Layout::new(Path::new(STATE), &name)).ok());
        specs.map(|spec| spec.slot.link()).collect()
    }
}

/// Links of this machine that reach a cluster, and routes over them.
fn links() -> Vec<String> {
    let mut found = Vec::new();
    for (kind, words) in [("link", &["-br", "link"][..]), ("route", &["route", "show", "table", "all"])] {
        let shown = Command::new("ip").args(words).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        found.extend(
            shown.lines().filter(|line| line.contains("ambit-lab")).map(|line| format!("{kind} {line}")),
        );
    }
    found
}

/// What of this machine a kubelet, a kube-proxy or a container runtime would change, were it not kept apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine(BTreeMap<String, String>);

impl Machine {
    pub(crate) fn look() -> Self {
        let mut state = BTreeMap::new();
        for setting in [
            "vm/overcommit_memory",
            "vm/panic_on_oom",
            "kernel/panic",
            "kernel/panic_on_oops",
            "kernel/hostname",
            "kernel/keys/root_maxkeys",
            "net/ipv4/ip_forward",
            "net/ipv4/conf/all/route_localnet",
            "net/netfilter/nf_conntrack_max",
            "net/netfilter/nf_conntrack_tcp_timeout_established",
        ] {
            let value = fs::read_to_string(Path::new("/proc/sys").join(setting)).unwrap_or_default();
            state.insert(setting.to_owned(), value);
        }
        for folder in [
            "/etc/cni/net.d",
            "/etc/ambit-lab",
            "/opt/cni",
            "/opt/containerd",
            "/run/containerd",
            "/run/cni",
            "/usr/libexec/kubernetes",
            "/usr/local/bin/kube",
            "/usr/local/bin/kubectl",
            "/var/lib/cni",
            "/var/lib/containerd",
            "/var/lib/kubelet",
            "/var/log/containers",
            "/var/log/pods",
        ] {
            state.insert(folder.to_owned(), inside(Path::new(folder)));
        }
        let rules = Command::new("nft").args(["list", "tables"]).output().unwrap();
        state.insert("nft tables".to_owned(), String::from_utf8_lossy(&rules.stdout).into_owned());
        Self(state)
    }
}

fn inside(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return format!("there: {}", folder.exists()) };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.join(" ")
}
