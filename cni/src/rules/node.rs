//! Which rules the node's own namespace holds, so that health probes reach enrolled pods (`cni.md` 5). Pure.
//!
//! A probe is told from other traffic by two things at once: the user who sends it (the one that kubelet runs as),
//! and a destination that some pod on this node declares as a probe's. Upstream lets any process of the node reach
//! any port of an enrolled pod unauthenticated; here such a process must be that user's and is left with the ports
//! that must answer without authentication anyway.

use std::net::IpAddr;

use crate::rules::{
    Action, Chain, ChainKind, Families, Hook, L4, Match, PROBE_SOURCE_V4, PROBE_SOURCE_V6, Rule, Set, TABLE,
    Table,
};

/// What varies from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRules {
    /// The families in use.
    pub families: Families,
    /// The user that probes are sent by.
    pub prober: u32,
}

/// Where probes go, IPv4.
pub const PROBE_SET_V4: Set = Set { name: "probes-v4", six: false };

/// Where probes go, IPv6.
pub const PROBE_SET_V6: Set = Set { name: "probes-v6", six: true };

/// Just before the place where networks masquerade: the first source translation wins.
const BEFORE_SRCNAT: i32 = 99;

/// The table of the node's namespace.
#[must_use]
pub fn node_table(node: &NodeRules) -> Table {
    let mut sets = vec![PROBE_SET_V4];
    let mut rules = vec![probe(node.prober, PROBE_SET_V4, PROBE_SOURCE_V4.into())];
    if node.families == Families::Both {
        sets.push(PROBE_SET_V6);
        rules.push(probe(node.prober, PROBE_SET_V6, PROBE_SOURCE_V6.into()));
    }
    let chain = Chain {
        name: "nat-postrouting",
        kind: ChainKind::Nat,
        hook: Hook::Postrouting,
        priority: BEFORE_SRCNAT,
        rules,
    };
    Table { name: TABLE, sets, chains: vec![chain] }
}

fn probe(prober: u32, set: Set, source: IpAddr) -> Rule {
    let when = vec![Match::Protocol(L4::Tcp), Match::User(prober), Match::InSet(set)];
    Rule { when, then: Action::Snat(source) }
}
