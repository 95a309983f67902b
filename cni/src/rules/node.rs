//! Which rules the node's own namespace holds, so that health probes reach enrolled pods (`cni.md` 5). Pure.
//!
//! A probe is told from other traffic by several things at once: the user who sends it (the one that kubelet runs
//! as), a destination that some pod on this node declares as a probe's, and that it does not come out of a pod.
//! Upstream lets any process of the node reach any port of an enrolled pod unauthenticated; here such a process must be
//! that user's, no pod's, and is left with the ports that must answer without authentication anyway.
//!
//! Why not kubelet's own control group alone? It is made anew whenever kubelet's service is, and until the rule named
//! the new one every probe would meet policy, fail, and pods would be restarted. The group above all pods stays for a
//! boot, so that what is kept out is exact and what is let through never depends on when we looked. It needs control
//! groups of the second version; where pods are in the first version's, sockets know no group, and the other two
//! conditions stand alone. A socket can be looked at where packets are made, source addresses are changed where they
//! leave, so the flow carries the mark between; only flows that are kept out are ever marked.

use std::net::IpAddr;

use crate::rules::{
    Action, Chain, ChainKind, Families, Hook, Is, L4, Match, POD_MARK, PROBE_SOURCE_V4, PROBE_SOURCE_V6,
    Rule, Set, TABLE, Table,
};

/// What varies from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRules {
    /// The families in use.
    pub families: Families,
    /// The user that probes are sent by.
    pub prober: u32,
    /// Where all pods are, if sockets know.
    pub pods: Option<PodsGroup>,
}

/// A control group of the second version, as the packet filter names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodsGroup {
    /// The number of its folder.
    pub id: u64,
    /// How deep it is; what is directly below the root has 1.
    pub level: u32,
}

/// Where probes go, IPv4.
pub const PROBE_SET_V4: Set = Set { name: "probes-v4", six: false };

/// Where probes go, IPv6.
pub const PROBE_SET_V6: Set = Set { name: "probes-v6", six: true };

/// Just before the place where networks masquerade: the first source translation wins.
const BEFORE_SRCNAT: i32 = 99;

/// After connections are tracked, before anything is decided about them.
const MANGLE: i32 = -150;

/// The table of the node's namespace.
#[must_use]
pub fn node_table(node: &NodeRules) -> Table {
    let mut sets = vec![PROBE_SET_V4];
    let mut rules = vec![probe(node, PROBE_SET_V4, PROBE_SOURCE_V4.into())];
    if node.families == Families::Both {
        sets.push(PROBE_SET_V6);
        rules.push(probe(node, PROBE_SET_V6, PROBE_SOURCE_V6.into()));
    }
    let keep_out = node.pods.map(|pods| Chain {
        name: "mangle-output",
        kind: ChainKind::Filter,
        hook: Hook::Output,
        priority: MANGLE,
        rules: sets.iter().map(|set| mark_pods(node.prober, *set, pods)).collect(),
    });
    let chain = Chain {
        name: "nat-postrouting",
        kind: ChainKind::Nat,
        hook: Hook::Postrouting,
        priority: BEFORE_SRCNAT,
        rules,
    };
    Table { name: TABLE, sets, chains: keep_out.into_iter().chain([chain]).collect() }
}

fn probe(node: &NodeRules, set: Set, source: IpAddr) -> Rule {
    let mut when = vec![Match::Protocol(L4::Tcp), Match::User(node.prober), Match::InSet(set)];
    when.extend(node.pods.map(|_| Match::FlowMark(Is::Not, POD_MARK)));
    Rule { when, then: Action::Snat(source) }
}

fn mark_pods(prober: u32, set: Set, pods: PodsGroup) -> Rule {
    let when = vec![Match::Protocol(L4::Tcp), Match::User(prober), Match::InSet(set), Match::Below(pods)];
    Rule { when, then: Action::SetFlowMark(POD_MARK) }
}
