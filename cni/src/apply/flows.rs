//! The kernel's list of flows (conntrack): reading it, and striking flows out.
//! Owns its numbers and messages. Which flows those are to be, `open` and `names` say.

use ambit_sys::netlink::attribute::{Attributes, Messages, attribute};
use ambit_sys::netlink::nftables::head;
use ambit_sys::netlink::talk::{Talk, TalkError};
use ambit_sys::netlink::{ACK, REQUEST};

/// Flows written or struck out with one message to the kernel, whose refusals must find room in the answers.
pub(super) const AT_ONCE: usize = 64;

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
pub(super) const NEW_FLOW: u16 = 1 << 8;
const GET_FLOW: u16 = 1 << 8 | 1;
const DELETE_FLOW: u16 = 1 << 8 | 2;
pub(super) const TUPLE: u16 = 1;
pub(super) const TUPLE_BACK: u16 = 2;
pub(super) const STATUS: u16 = 3;
pub(super) const PROTOCOL_STATE: u16 = 4;
pub(super) const TIMEOUT: u16 = 7;
pub(super) const ZONE: u16 = 18;

// Within a tuple.
pub(super) const ADDRESSES: u16 = 1;
pub(super) const PROTOCOL: u16 = 2;
pub(super) const PROTOCOL_NUMBER: u16 = 1;
pub(super) const FROM_PORT: u16 = 2;
pub(super) const TO_PORT: u16 = 3;

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub(super) const FAMILIES: [u8; 2] = [2, 10];

/// All flows of a family that a filter lets through, as attributes. A kernel before 5.8 filters nothing, so what it lists
/// is to be looked at again.
pub(super) fn list(talk: &mut Talk, family: u8, filter: &Attributes) -> Result<Vec<Vec<u8>>, TalkError> {
    let listed = talk.list(GET_FLOW, &head(family, 0), filter)?;
    Ok(listed.into_iter().filter_map(|it| it.body.get(4..).map(<[u8]>::to_vec)).collect())
}

/// Strikes listed flows of a family out. One that has ended meanwhile is gone already.
pub(super) fn forget(talk: &mut Talk, family: u8, flows: &[Vec<u8>]) -> Result<(), TalkError> {
    let which = |flow: &Vec<u8>| {
        let which = Attributes::new().raw(TUPLE, attribute(flow, TUPLE).unwrap_or_default());
        // Without its zone another flow would be meant.
        match attribute(flow, ZONE) {
            Some(zone) => which.raw(ZONE, zone),
            None => which,
        }
    };
    for some in flows.chunks(AT_ONCE) {
        let changes: Vec<_> = some.iter().map(|flow| (family, which(flow))).collect();
        tell(talk, (DELETE_FLOW, REQUEST), &changes)?;
    }
    Ok(())
}

/// Tells the kernel of some flows, whose refusals are passed over. Returns how many there were.
pub(super) fn tell(
    talk: &mut Talk,
    (kind, flags): (u16, u16),
    changes: &[(u8, Attributes)],
) -> Result<usize, TalkError> {
    let (mut messages, mut last) = (Messages::default(), 0);
    for (number, (family, flow)) in (1..).zip(changes) {
        // The kernel takes them in order: the last one's answer comes after all refusals.
        let ack = if number == changes.len() { ACK } else { 0 };
        last = messages.push(kind, flags | ack, &head(*family, 0), flow);
    }
    talk.tell_each(&messages, last)
}

/// A port of one way of a flow, if that is of this protocol.
pub(super) fn port(flow: &[u8], way: u16, (protocol, which): (u8, u16)) -> Option<u16> {
    let tuple = [way, PROTOCOL].into_iter().try_fold(flow, attribute)?;
    let is_it = attribute(tuple, PROTOCOL_NUMBER) == Some(&[protocol]);
    attribute(tuple, which).filter(|_| is_it)?.first_chunk().copied().map(u16::from_be_bytes)
}
