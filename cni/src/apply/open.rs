//! Connections that are open when a pod joins: they go on as they are, and only new ones are redirected.
//!
//! A namespace without address translation does not track its flows. The first packet of an open connection after
//! rules come would be taken for a new flow's: redirected in its middle, answered with a reset, its other end left
//! waiting. So flows are tracked a moment before, by a table that goes with its socket, and those that are silent
//! meanwhile are written into the kernel's list from its own list of sockets. Redirection then knows them as flows that
//! began before it. Nothing that begins later passes by it.
//!
//! What is written would lead a later connection of the same ends past redirection, should it outlive its own. So each
//! is written in its state, by whoever began it, and with the time that the kernel gives that state; and what is left in
//! the list from an earlier time, whose end nobody saw, is struck out first.
//!
//! Owns both lists. Failing here leaves a pod as joining would without it: open connections end.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ambit_sys::netlink::attribute::{Attributes, Messages, attribute};
use ambit_sys::netlink::nftables::{Batch, NEW_CHAIN, NEW_RULE, NEW_TABLE};
use ambit_sys::netlink::talk::{Talk, TalkError};
use ambit_sys::netlink::{APPEND, CREATE, EXCLUSIVE, Family, REQUEST};

use crate::apply::address::addresses_here;
use crate::apply::flows::{
    ADDRESSES, AT_ONCE, FAMILIES, FROM_PORT, NEW_FLOW, PROTOCOL, PROTOCOL_NUMBER, PROTOCOL_STATE, STATUS,
    TIMEOUT, TO_PORT, TUPLE, TUPLE_BACK, forget, list as list_flows, port, tell,
};
use crate::apply::nft::{chain_attributes, rule_attributes};
use crate::rules::{
    Action, Chain, ChainKind, Hook, Is, Match, RETURN_MARK, Rule, Table, joining_chain, redirected_to,
};

/// The table by which the kernel tracks flows; nobody sees it for longer than joining takes.
const TRACKING: &str = "ambit-joining";

/// Connections of one pod that are kept; what is open beyond them ends, as all would.
const KEPT: usize = 65_536;

/// Numbers of linux/netfilter/nf_tables.h: the table goes when the socket that made it is closed.
const TABLE_FLAGS: u16 = 2;
const OWNED: u32 = 2;

// Numbers of linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const FLOW_MARK: u16 = 8;
/// `IPS_SEEN_REPLY`, `IPS_ASSURED`, and `IPS_CONFIRMED`, without which the kernel refuses the others.
const OPEN: u32 = 2 | 4 | 8;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`: where the two are in their numbering is not known to us.
const LIBERAL: [u8; 2] = [8, 8];

// Numbers of linux/sock_diag.h, linux/inet_diag.h and netinet/tcp.h.
const BY_FAMILY: u16 = 20;
const TCP: u8 = 6;
const SYN_SENT: u8 = 2;
const LISTENING: u8 = 10;
const NEW_SYN_RECV: u8 = 12;
/// All but closed ones, and those that only wait for what is late.
const STATES: u32 = 0x1fff & !(1 | 1 << 6 | 1 << 7);
const V4: u8 = 2;
const V6: u8 = 10;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct End {
    address: IpAddr,
    port: u16,
}

/// A socket: one that listens has no other end that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    this: End,
    that: End,
    state: u8,
}

/// A connection as the kernel is to remember it: from the end that began it, in a state of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    from: End,
    to: End,
    state: u8,
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
    let before = list(&mut sockets)?;
    if before.is_empty() {
        return Ok(None);
    }
    // Another socket than the table's owner: each answer is looked for by its own number.
    let mut flows = Talk::open(Family::Netfilter)?;
    let past = Past::clear(&mut flows)?;
    let before = past.connections(&before);
    // Before packets are looked at: of those that come in the middle, the first to speak is taken for who began.
    write(&mut flows, &before)?;
    let mut owner = Talk::open(Family::Netfilter)?;
    let (batch, last) = tracking();
    owner.tell(&batch, last)?;
    let tracked = Tracked { _owner: owner };
    // Only now: whatever is opened from here on, its packets show it. What was there before is refused.
    let now = past.connections(&list(&mut sockets)?);
    write(&mut flows, &now)?;
    strike(&mut flows, &before, &now)?;
    Ok(Some(tracked))
}

/// What an earlier time in the mesh left behind.
struct Past {
    /// The namespace's own addresses.
    here: BTreeSet<IpAddr>,
    /// Ends of what ztunnel delivered then, from its own to the application's. It has let go of them, which the
    /// application may not have noticed.
    delivered: HashSet<(End, End)>,
}

impl Past {
    /// Strikes out the flows of TCP from an earlier time: those led to ztunnel or delivered by it, and those of this
    /// namespace's own addresses that nobody translates, which are written anew. Others are somebody else's.
    fn clear(talk: &mut Talk) -> Result<Self, TalkError> {
        let mut past = Self { here: addresses_here()?, delivered: HashSet::new() };
        for family in FAMILIES {
            let mut left = list_flows(talk, family, &Attributes::new())?;
            let delivered = left.iter().filter(|flow| is_delivered(flow));
            past.delivered.extend(
                delivered.filter_map(|it| Some((end(it, TUPLE, FROM_PORT)?, end(it, TUPLE, TO_PORT)?))),
            );
            left.retain(|flow| is_led(flow) || is_delivered(flow) || is_plain(flow, &past.here));
            forget(talk, family, &left)?;
        }
        Ok(past)
    }

    /// What is open, but for what ztunnel delivered: written down, it would lead clients past it who use these ports.
    fn connections(&self, sockets: &[Socket]) -> Vec<Open> {
        let is_at_home = |it: &Socket| it.this.address.is_loopback() || self.here.contains(&it.this.address);
        let own: Vec<_> =
            sockets.iter().filter(|it| it.state == LISTENING || is_at_home(it)).copied().collect();
        let mut open = connections(&own);
        open.retain(|it| !self.delivered.contains(&(it.from, it.to)));
        open
    }
}

fn is_led(flow: &[u8]) -> bool {
    port(flow, TUPLE_BACK, (TCP, FROM_PORT)).is_some_and(redirected_to)
}

fn is_delivered(flow: &[u8]) -> bool {
    let mark = attribute(flow, FLOW_MARK).and_then(|it| it.first_chunk().copied()).map(u32::from_be_bytes);
    let is_tcp = port(flow, TUPLE, (TCP, FROM_PORT)).is_some();
    is_tcp && mark.is_some_and(|it| it & RETURN_MARK.mask == RETURN_MARK.value)
}

fn is_plain(flow: &[u8], here: &BTreeSet<IpAddr>) -> bool {
    let way = |way, from, to| Some((end(flow, way, from)?, end(flow, way, to)?));
    match (way(TUPLE, FROM_PORT, TO_PORT), way(TUPLE_BACK, TO_PORT, FROM_PORT)) {
        (Some(out), Some(back)) => {
            out == back && (here.contains(&out.0.address) || here.contains(&out.1.address))
        }
        _ => false,
    }
}

/// One end of one way of a flow of TCP, by the number of its port. Its address has half that number.
fn end(flow: &[u8], way: u16, which: u16) -> Option<End> {
    let port = port(flow, way, (TCP, which))?;
    let addresses = [way, ADDRESSES].into_iter().try_fold(flow, attribute)?;
    let four =
        attribute(addresses, which - 1).and_then(|it| it.first_chunk::<4>().copied()).map(IpAddr::from);
    let six = || attribute(addresses, which + 1)?.first_chunk::<16>().copied().map(IpAddr::from);
    Some(End { address: four.or_else(six)?, port })
}

/// Strikes out what was written of connections that have ended since, unseen.
fn strike(talk: &mut Talk, before: &[Open], now: &[Open]) -> Result<(), TalkError> {
    let ends = |it: &Open| (it.from, it.to);
    let there: HashSet<_> = now.iter().map(ends).collect();
    for family in FAMILIES {
        let gone = before.iter().filter(|it| it.family() == family && !there.contains(&ends(it)));
        let flows: Vec<_> = gone.map(|it| flow(it).into_bytes()).collect();
        forget(talk, family, &flows)?;
    }
    Ok(())
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
    Some(Socket { this, that, state })
}

/// What is open. No socket says who began: whoever has a port that is listened at did not.
fn connections(sockets: &[Socket]) -> Vec<Open> {
    let listened: HashSet<u16> =
        sockets.iter().filter(|it| it.state == LISTENING).map(|it| it.this.port).collect();
    // One of each family is no connection.
    let is_open =
        |it: &&Socket| it.state != LISTENING && it.this.address.is_ipv4() == it.that.address.is_ipv4();
    let connection = |&Socket { this, that, state }: &Socket| {
        let taken = match state {
            SYN_SENT => false,
            NEW_SYN_RECV => true,
            // Of one whose listener is gone, the lower port is the server's.
            _ => listened.contains(&this.port) || this.port < that.port && !listened.contains(&that.port),
        };
        let (from, to) = if taken { (that, this) } else { (this, that) };
        Open { from, to, state }
    };
    sockets.iter().filter(is_open).map(connection).take(KEPT).collect()
}

/// A socket of IPv6 may carry IPv4.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        V4 => bytes.first_chunk::<4>().copied().map(IpAddr::from),
        V6 => bytes.first_chunk::<16>().copied().map(|it| Ipv6Addr::from(it).to_canonical()),
        _ => None,
    }
}

/// Writes connections into the kernel's list; what a packet has shown meanwhile is there already.
fn write(talk: &mut Talk, all: &[Open]) -> Result<(), TalkError> {
    for some in all.chunks(AT_ONCE) {
        let some: Vec<_> = some.iter().map(|it| (it.family(), flow(it))).collect();
        tell(talk, (NEW_FLOW, REQUEST | CREATE | EXCLUSIVE), &some)?;
    }
    Ok(())
}

impl Open {
    fn family(&self) -> u8 {
        if self.from.address.is_ipv4() { V4 } else { V6 }
    }

    /// The state as the kernel's list has it (`TCP_CONNTRACK_…`), and the seconds after which it forgets one in it that
    /// says nothing, both as it does by itself.
    fn tracked(&self) -> (u8, u32) {
        match self.state {
            SYN_SENT => (1, 120),
            3 | NEW_SYN_RECV => (2, 60),
            // FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT; LAST_ACK and CLOSING.
            4 | 5 => (4, 120),
            8 => (5, 60),
            9 | 11 => (6, 30),
            _ => (3, 432_000),
        }
    }
}

fn flow(open: &Open) -> Attributes {
    let Open { from, to, state } = open;
    let (tracked, seconds) = open.tracked();
    let tcp = Attributes::new().raw(1, &[tracked]).raw(4, &LIBERAL).raw(5, &LIBERAL);
    // Nothing has come back yet.
    let status = if *state == SYN_SENT { OPEN & 8 } else { OPEN };
    Attributes::new()
        .nested(TUPLE, &tuple(from, to))
        .nested(TUPLE_BACK, &tuple(to, from))
        .be32(STATUS, status)
        .nested(PROTOCOL_STATE, &Attributes::new().nested(1, &tcp))
        .be32(TIMEOUT, seconds)
}

fn tuple(from: &End, to: &End) -> Attributes {
    let addresses = match (from.address, to.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Attributes::new().raw(1, &from.octets()).raw(2, &to.octets()),
        (from, to) => Attributes::new().raw(3, &v6(from).octets()).raw(4, &v6(to).octets()),
    };
    let ports = Attributes::new()
        .raw(PROTOCOL_NUMBER, &[TCP])
        .raw(FROM_PORT, &from.port.to_be_bytes())
        .raw(TO_PORT, &to.port.to_be_bytes());
    Attributes::new().nested(ADDRESSES, &addresses).nested(PROTOCOL, &ports)
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(it) => it,
        IpAddr::V4(it) => it.to_ipv6_mapped(),
    }
}

#[cfg(test)]
mod tests;
