//! Redirection as data: what is to stand in a namespace's packet filter. Pure.
//! Owns the vocabulary and its limits. `pod` and `node` say which rules, `text` and `bytes` render them, `apply` acts.
//!
//! One table in each namespace holds everything of ours (`ambit`, family inet), so replacing it in one transaction
//! leaves nothing of an earlier version behind, whatever that version had in it. Rules stand in the base chains
//! themselves: there is no other owner of these chains to keep apart from.

mod bytes;
mod node;
mod pod;
mod text;

use std::fmt;
use std::net::IpAddr;

pub use bytes::{Expression, expressions};
pub use node::{NodeRules, PROBE_SET_V4, PROBE_SET_V6, PodsGroup, node_table};
pub(crate) use pod::{DNS, NAMES, joining_chain, redirected_to};
pub use pod::{PodRules, leaving_table, parting_table, pod_table};

/// The one table that is ours in every namespace.
pub const TABLE: &str = "ambit";

/// Tables that upstream's agent leaves in a pod or on a node; removed in the transaction that installs ours.
pub const FOREIGN_TABLES: [&str; 3] = ["istio-ambient-nat", "istio-ambient-mangle", "istio-ambient-raw"];

/// What ztunnel marks its packets with, and the bits that are looked at.
pub const PROXY_MARK: Masked = Masked { value: 0x539, mask: 0xfff };

/// What packets on the way back to ztunnel are marked with.
pub const RETURN_MARK: Masked = Masked { value: 0x111, mask: 0xfff };

/// What flows to probe targets are marked with on a node when a pod on the node's network makes them.
pub const POD_MARK: Masked = Masked { value: 0x222, mask: 0xfff };

/// The source that probes come from, in every mesh.
pub const PROBE_SOURCE_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 7, 127);

/// The same for IPv6.
pub const PROBE_SOURCE_V6: std::net::Ipv6Addr =
    std::net::Ipv6Addr::new(0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff);

/// A value under a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masked {
    /// The bits.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

/// Which address families the node uses. Addresses and rules of an unused family do not exist for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// Both.
    Both,
}

impl Families {
    /// Whether an address is of a family in use.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() || self == Self::Both
    }
}

/// A table of the packet filter, family inet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Named sets.
    pub sets: Vec<Set>,
    /// Chains with their rules, in order.
    pub chains: Vec<Chain>,
}

/// A set of `address . port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// IPv6 addresses, else IPv4.
    pub six: bool,
}

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// What kind of chain.
    pub kind: ChainKind,
    /// Where packets enter it.
    pub hook: Hook,
    /// Among chains at that hook: lower is earlier.
    pub priority: i32,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What kind of chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// First packets of flows, for address translation.
    Nat,
    /// All packets.
    Filter,
    /// All packets; a changed mark looks the route up again.
    Route,
}

/// Where packets enter a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Coming in.
    Prerouting,
    /// Made here.
    Output,
    /// Going out.
    Postrouting,
}

/// A rule: when all matches hold, the action. Every rule counts its packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The conditions.
    pub when: Vec<Match>,
    /// What then.
    pub then: Action,
}

/// Equal or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// Equal.
    Equal,
    /// Not equal.
    Not,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The transport protocol.
    Protocol(L4),
    /// The source address; implies its family.
    Source(Is, IpAddr),
    /// The destination address; implies its family.
    Destination(Is, IpAddr),
    /// The destination port; needs a protocol before it.
    ToPort(Is, u16),
    /// The source port; needs a protocol before it.
    FromPort(Is, u16),
    /// The interface a packet came in by.
    From(Is, InterfaceName),
    /// The interface a packet leaves by.
    To(Is, InterfaceName),
    /// The packet's mark.
    Mark(Is, Masked),
    /// The flow's mark.
    FlowMark(Is, Masked),
    /// Destination and port are in a set; implies its family, needs a protocol before it.
    InSet(Set),
    /// The user of the process that made the packet.
    User(u32),
    /// The process that made the socket is somewhere below a control group.
    Below(PodsGroup),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Done with this hook.
    Accept,
    /// Done with this chain.
    Return,
    /// To a port of this namespace.
    Redirect(u16),
    /// The flow gets the bits of this mark.
    SetFlowMark(Masked),
    /// The packet gets the flow's mark.
    RestoreMark,
    /// The flow is tracked in a zone of its own.
    Zone(u16),
    /// The flow is tracked in a zone of its own as far as its first direction goes; its answers are not.
    FirstZone(u16),
    /// The packet gets another source address.
    Snat(IpAddr),
}

/// The name of a network interface: 1 to 15 bytes without `/`, whitespace or control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(Box<str>);

/// Why a text is no interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no interface name; use 1 to 15 bytes without '/', ':', whitespace or control characters"
)]
pub struct NoInterfaceName {
    text: String,
}

impl InterfaceName {
    /// The loopback interface.
    #[must_use]
    pub fn loopback() -> Self {
        Self("lo".into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for InterfaceName {
    type Err = NoInterfaceName;

    fn from_str(text: &str) -> Result<Self, NoInterfaceName> {
        let fine = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':' | '"' | '*');
        let valid = (1..=15).contains(&text.len()) && text.chars().all(fine) && text != "." && text != "..";
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(NoInterfaceName { text: text.chars().take(64).collect() })
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}

#[cfg(test)]
mod tests;
