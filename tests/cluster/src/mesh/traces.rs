//! What a mesh could leave on a node and in its pods: rules, routes, links, settings of the kernel, mounts, programs that
//! run, files. Owns looking, and which of it others change all the while.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::node::Node;

/// A look: its name, and the script whose output is compared.
type Look = (&'static str, &'static str);

/// What can be read, but for counts and chance, and for links of pods and their bridge.
const SETTINGS: &str = "grep -rsa '' /proc/sys/net | grep -avE '/(veth|cni0)|conntrack_count|generation|/route/flush|random|secret'";

/// Rules are looked at without their counts, and kube-proxy's are not: they follow services. Links of pods come and go,
/// and with them routes; their bridge is made for the first of them.
const ON_THE_NODE: [Look; 8] = [
    (
        "rules",
        "nft list tables | grep -v kube-proxy | while read -r _ family name; do nft -s list table $family $name; done",
    ),
    ("sets", "ipset list -name"),
    ("rules of routing", "ip -4 rule; ip -6 rule"),
    ("routes", "{ ip -4 route show table all; ip -6 route show table all; } | grep -vE 'dev (veth|cni0)'"),
    ("links", "ip -br link | cut -d' ' -f1 | grep -vE '^(veth|cni0)'"),
    ("settings", SETTINGS),
    (
        "mounts",
        "cut -d' ' -f2 /proc/self/mounts | grep -vE '^/run/(containerd|netns)/|^/var/lib/kubelet/pods/'",
    ),
    ("programs", "ps -eo comm= | grep -E 'ztunnel|istio|ambit-cni'"),
];

/// The runtime's own folders aside. Empty folders that kubelet made for a pod to have are not counted.
const MEMORY: Look = (
    "files in memory",
    r"find /run -xdev \( -path /run/containerd -o -path /run/netns -o -path /run/cni \) -prune -o ! -type d -print",
);

/// In any of them: pods come and go, and each has its own address.
const IN_PODS: [Look; 6] = [
    ("rules", "nft -s list ruleset"),
    ("rules of routing", "ip -4 rule; ip -6 rule"),
    ("routes", "ip -4 route show table all; ip -6 route show table all"),
    ("links", "ip -br link | cut -d@ -f1 | cut -d' ' -f1"),
    ("listeners", "ss -Hltun | tr -s ' ' | cut -d' ' -f1,5"),
    ("settings", SETTINGS),
];

/// What was seen on each node, to be compared with what is seen later.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// What is on each node now.
    pub fn of(lab: &Lab) -> Result<Self> {
        let mut seen = BTreeSet::new();
        for node in lab.nodes()? {
            let name = node.name();
            let disk = lab.layout().node(&name).join("upper");
            for (what, lines) in
                [("in its kernel", state(&node)?), ("on its disk", files(&disk.display().to_string())?)]
            {
                ensure!(lines.lines().count() > 10, "{name} has nearly nothing {what}: {lines}");
                seen.extend(lines.lines().map(|line| format!("{name}: {}", line.trim_end())));
            }
        }
        Ok(Self(seen))
    }

    /// What is different, for people.
    pub fn beside(&self, other: &Self) -> String {
        let mut text = String::new();
        for (mark, lines) in [('+', self.0.difference(&other.0)), ('-', other.0.difference(&self.0))] {
            for line in lines {
                // Writing to a String cannot fail.
                let _written = writeln!(text, "{mark} {line}");
            }
        }
        text
    }
}

/// Each line with the name of the look that it comes from.
fn state(node: &Node) -> Result<String> {
    let mut script = String::from("export LC_ALL=C\n");
    for (what, look) in ON_THE_NODE.into_iter().chain([MEMORY]) {
        let _written = writeln!(script, "{{ {look}; }} 2>/dev/null | sed 's|^|{what}: |'");
    }
    script += "for pod in /run/netns/*; do\n";
    for (what, look) in IN_PODS {
        let own = r"s/10\.[0-9]+\.[0-9]+\.[0-9]+/ADDRESS/g; s/fe80::[0-9a-f:]+/ADDRESS/g";
        let _written = writeln!(
            script,
            "nsenter --net=$pod sh -c \"{look}\" 2>/dev/null | sed -E '{own}; s|^|pod, {what}: |'"
        );
    }
    node.exec(&["sh", "-c", &(script + "done | sort -u")])
}

/// All that the node has ever written to its disk, but for what its runtime keeps, with the contents of small files.
fn files(disk: &str) -> Result<String> {
    let script = "cd \"$0\" && find . ! -type d -printf '%p %y %m %l\\n' -o -printf '%p %y %m\\n' && \
                  find . -type f -size -100000k -exec sha256sum {} +";
    let output = Command::new("sh").args(["-c", script, disk]).output()?;
    ensure!(output.status.success(), "{disk}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
