//! What a mesh could leave on a node: rules, routes, links, files, processes' namespaces. Owns looking.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::lab::Lab;

/// Each with the command that shows it.
const LOOKS: [(&str, &[&str]); 6] = [
    (
        "network configurations",
        &["sh", "-c", "cd /etc/cni/net.d && for it in $(ls -A); do echo $it; cat $it; done"],
    ),
    ("plugins", &["sh", "-c", "ls -A /opt/cni/bin"]),
    (
        "files in run folders",
        &["sh", "-c", "find /run/ambit-cni /run/istio-cni /run/ztunnel ! -type d 2>/dev/null || true"],
    ),
    ("the node's tables", &["sh", "-c", "nft list tables | grep -v kube-proxy || true"]),
    ("the node's rules of routing", &["ip", "rule"]),
    (
        "tables, rules of routing and listeners in pods",
        &[
            "sh",
            "-c",
            "for it in /run/netns/*; do nsenter --net=$it sh -c 'nft list tables; ip rule; ss -Hltn'; done",
        ],
    ),
];

/// What was seen on each node, to be compared with what is seen later.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces(BTreeMap<String, String>);

impl Traces {
    /// What is on each node now.
    pub fn of(lab: &Lab) -> Result<Self> {
        let mut seen = BTreeMap::new();
        for node in lab.nodes()? {
            for (what, command) in LOOKS {
                let text = node.exec(command)?;
                let mut lines: Vec<&str> = text.lines().collect();
                if what.ends_with("in pods") {
                    // Pods come and go: what is in any of them counts, not in how many.
                    lines.sort_unstable();
                    lines.dedup();
                }
                seen.insert(format!("{}: {what}", node.name()), lines.join("\n"));
            }
        }
        Ok(Self(seen))
    }

    /// What is different, for people.
    pub fn beside(&self, other: &Self) -> String {
        let different = self.0.iter().filter(|(what, seen)| other.0.get(*what) != Some(seen));
        let texts = different.map(|(what, seen)| {
            format!("{what}\n  now:\n{seen}\n  before:\n{}", other.0.get(what).map_or("", String::as_str))
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}
