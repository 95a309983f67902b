//! Connections that are open when a pod joins: they go on as they are, and only new ones are redirected.
//!
//! A namespace without address translation does not track its flows. The first packet of an open connection after
//! rules come would be taken for a new flow's: redirected in its middle, answered with a reset, its other end left
//! waiting. So flows are tracked a moment before, by a table that goes with its socket, and those that are silent
//! meanwhile are written into the kernel's list from its own list of sockets. Redirection then knows them as flows that
//! began before it. Nothing that begins later passes by it.
//!
//! Owns both lists. Failing here leaves a pod as joining would without it: open connections end.

use std::net::{IpAddr, Ipv6Addr};

use ambit_sys::netlink::attribute::{Attributes, Messages};
use ambit_sys::netlink::nftables::{Batch, NEW_CHAIN, NEW_RULE, NEW_TABLE, head};
use ambit_sys::netlink::talk::{Talk, TalkError};
use ambit_sys::netlink::{ACK, APPEND, CREATE, EXCLUSIVE, Family, REQUEST};

use crate::apply::nft::{chain_attributes, rule_attributes};
use crate::rules::{Action, Chain, ChainKind, Hook, Is, Match, RETURN_MARK, Rule, Table, joining_chain};

/// The table by which the kernel tracks flows; nobody sees it for longer than joining takes.
const TRACKING: &str = "ambit-joining";

/// Connections of one pod that are kept; what is open beyond them ends, as all would.
const KEPT: usize = 65_536;

/// Flows written with one message to the kernel, whose refusals must find room in the answers.
const AT_ONCE: usize = 64;

/// Seconds after which the kernel forgets one that says nothing: its own default for open connections.
const FORGOTTEN: u32 = 432_000;

/// Numbers of linux/netfilter/nf_tables.h: the table goes when the socket that made it is closed.
const TABLE_FLAGS: u16 = 2;
const OWNED: u32 = 2;

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const NEW_FLOW: u16 = 1 << 8;
const TUPLE: u16 = 1;
const TUPLE_BACK: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL: u16 = 4;
const TIMEOUT: u16 = 7;
/// `IPS_SEEN_REPLY`, `IPS_ASSURED`, and `IPS_CONFIRMED`, without which the kernel refuses the others.
const OPEN: u32 = 2 | 4 | 8;
/// `TCP_CONNTRACK_ESTABLISHED`.
const ESTABLISHED: u8 = 3;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`: where the two are in their numbering is not known to us.
const LIBERAL: [u8; 2] = [8, 8];

// Numbers of linux/sock_diag.h, linux/inet_diag.h and netinet/tcp.h.
const BY_FAMILY: u16 = 20;
const TCP: u8 = 6;
const LISTENING: u8 = 10;
/// All but closed ones, and those that only wait for what is late.
const STATES: u32 = 0x1fff & !(1 | 1 << 6 | 1 << 7);
const V4: u8 = 2;
const V6: u8 = 10;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    address: IpAddr,
    port: u16,
}

/// A connection as its socket knows it: this end, that end.
type Open = (End, End);

/// A socket: one that listens has no other end.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    open: Option<Open>,
}

/// While this lives, flows are tracked.
#[must_use]
pub(super) struct Tracked {
    _owner: Talk,
}

/// Makes the kernel know all connections of the calling thread's namespace. Where there is no socket at all, as before
/// a pod's first process, there is nothing to do.
pub(super) fn remember() -> Result<Option<Tracked>, TalkError> {
    let mut sockets = Talk::open(Family::Sockets)?;
    if list(&mut sockets)?.is_empty() {
        return Ok(None);
    }
    let mut owner = Talk::open(Family::Netfilter)?;
    let (batch, last) = tracking();
    owner.tell(&batch, last)?;
    let tracked = Tracked { _owner: owner };
    // Only now: whatever is opened from here on, its packets show it.
    let mut all: Vec<Open> = list(&mut sockets)?.into_iter().filter_map(|it| it.open).collect();
    all.truncate(KEPT);
    // Another socket than the table's owner: each answer is looked for by its own number.
    let mut flows = Talk::open(Family::Netfilter)?;
    for some in all.chunks(AT_ONCE) {
        let (messages, last) = writing(some);
        // One that a packet has shown meanwhile is there already.
        flows.tell_each(&messages, last)?;
    }
    Ok(Some(tracked))
}

/// A table one of whose rules needs flows to be known, and does nothing.
fn tracking() -> (Messages, u32) {
    let rule = Rule { when: vec![Match::FlowMark(Is::Equal, RETURN_MARK)], then: Action::Return };
    let chain =
        Chain { name: "track", kind: ChainKind::Filter, hook: Hook::Output, priority: 0, rules: vec![rule] };
    let chains = vec![joining_chain(), chain];
    let table = Table { name: TRACKING, sets: Vec::new(), chains };
    let mut batch = Batch::begin();
    let owned = Attributes::new().text(1, TRACKING).be32(TABLE_FLAGS, OWNED);
    batch.add(NEW_TABLE, CREATE | EXCLUSIVE, &owned);
    for chain in &table.chains {
        batch.add(NEW_CHAIN, CREATE, &chain_attributes(&table, chain));
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            batch.add(NEW_RULE, CREATE | APPEND, &rule_attributes(&table, chain, rule));
        }
    }
    batch.end()
}

/// All sockets of TCP that can still say something.
fn list(talk: &mut Talk) -> Result<Vec<Socket>, TalkError> {
    let mut all = list_of(talk, V4)?;
    // A kernel without IPv6 has no such sockets.
    all.extend(list_of(talk, V6).unwrap_or_default());
    Ok(all)
}

fn list_of(talk: &mut Talk, family: u8) -> Result<Vec<Socket>, TalkError> {
    let mut question = vec![family, TCP, 0, 0];
    question.extend(STATES.to_ne_bytes());
    // Any addresses, ports and cookie.
    question.resize(56, 0);
    let listed = talk.list(BY_FAMILY, &question, &Attributes::new())?;
    Ok(listed.iter().filter(|it| it.kind == BY_FAMILY).filter_map(|it| read(&it.body)).collect())
}

/// One socket of the listing.
fn read(body: &[u8]) -> Option<Socket> {
    let (family, state) = (*body.first()?, *body.get(1)?);
    let port = |at: usize| body.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let this = End { address: address(family, body.get(8..24)?)?, port: port(4)? };
    let that = End { address: address(family, body.get(24..40)?)?, port: port(6)? };
    // One of each family is no connection.
    let is_open = state != LISTENING && this.address.is_ipv4() == that.address.is_ipv4();
    Some(Socket { open: is_open.then_some((this, that)) })
}

/// A socket of IPv6 may carry IPv4.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        V4 => bytes.first_chunk::<4>().copied().map(IpAddr::from),
        V6 => bytes.first_chunk::<16>().copied().map(|it| Ipv6Addr::from(it).to_canonical()),
        _ => None,
    }
}

fn writing(some: &[Open]) -> (Messages, u32) {
    let mut messages = Messages::default();
    let mut last = 0;
    for (number, open) in some.iter().enumerate() {
        // The kernel takes them in order: the last one's answer comes after all refusals.
        let ack = if number + 1 == some.len() { ACK } else { 0 };
        let family = if open.0.address.is_ipv4() { V4 } else { V6 };
        let flags = REQUEST | CREATE | EXCLUSIVE | ack;
        last = messages.push(NEW_FLOW, flags, &head(family, 0), &flow(open));
    }
    (messages, last)
}

fn flow((this, that): &Open) -> Attributes {
    let tcp = Attributes::new().raw(1, &[ESTABLISHED]).raw(4, &LIBERAL).raw(5, &LIBERAL);
    Attributes::new()
        .nested(TUPLE, &tuple(this, that))
        .nested(TUPLE_BACK, &tuple(that, this))
        .be32(STATUS, OPEN)
        .nested(PROTOCOL, &Attributes::new().nested(1, &tcp))
        .be32(TIMEOUT, FORGOTTEN)
}

fn tuple(from: &End, to: &End) -> Attributes {
    let addresses = match (from.address, to.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Attributes::new().raw(1, &from.octets()).raw(2, &to.octets()),
        (from, to) => Attributes::new().raw(3, &v6(from).octets()).raw(4, &v6(to).octets()),
    };
    let ports =
        Attributes::new().raw(1, &[TCP]).raw(2, &from.port.to_be_bytes()).raw(3, &to.port.to_be_bytes());
    Attributes::new().nested(1, &addresses).nested(2, &ports)
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(it) => it,
        IpAddr::V4(it) => it.to_ipv6_mapped(),
    }
}

#[cfg(test)]
mod tests;
