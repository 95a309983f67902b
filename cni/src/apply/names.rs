//! Flows of names that were led to ztunnel: a datagram has no end, so the kernel keeps them for half a minute or more.
//! Owns finding them, those that wait for an answer, and forgetting them once nothing is redirected any more: a query
//! from the same port would be taken for another of theirs, should the pod come back into the mesh.

use ambit_sys::netlink::attribute::{Attributes, Messages, attribute};
use ambit_sys::netlink::nftables::head;
use ambit_sys::netlink::talk::{Talk, TalkError};
use ambit_sys::netlink::{ACK, Family, REQUEST};

use crate::rules::NAMES;

/// Flows forgotten with one message to the kernel, whose refusals must find room in the answers.
const AT_ONCE: usize = 64;

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const GET_FLOW: u16 = 1 << 8 | 1;
const DELETE_FLOW: u16 = 1 << 8 | 2;
const TUPLE: u16 = 1;
const TUPLE_BACK: u16 = 2;
const STATUS: u16 = 3;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `NLA_F_NESTED`, which newer attributes must have and older ones may.
const NESTED: u16 = 1 << 15;
const STATUS_MASK: u16 = 26;
/// `IPS_SEEN_REPLY`.
const ANSWERED: u32 = 2;

// Within a tuple.
const PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const FROM_PORT: u16 = 2;
const UDP: u8 = 17;
/// What a filter looks at of the way back: the protocol's number and the port it comes from. In `FILTER`, 2.
const LOOKED_AT: u32 = 1 << 3 | 1 << 4;

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const FAMILIES: [u8; 2] = [2, 10];

/// Whether a query of the calling thread's namespace was led to ztunnel and has no answer yet. Of two that were asked
/// from one port the first answer counts for both.
pub(super) fn are_asked() -> Result<bool, TalkError> {
    let unanswered = || ours().be32(STATUS, 0).be32(STATUS_MASK, ANSWERED);
    let mut talk = Talk::open(Family::Netfilter)?;
    for family in FAMILIES {
        if find(&mut talk, family, &unanswered())?.iter().any(|flow| !is_answered(flow)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets all that were led to ztunnel.
pub(super) fn forget() -> Result<(), TalkError> {
    let mut talk = Talk::open(Family::Netfilter)?;
    for family in FAMILIES {
        let found = find(&mut talk, family, &ours())?;
        for some in found.chunks(AT_ONCE) {
            let (messages, last) = deletion(family, some);
            // One that has ended meanwhile is gone already.
            talk.tell_each(&messages, last)?;
        }
    }
    Ok(())
}

/// What a filter wants: answers come from ztunnel's port.
fn ours() -> Attributes {
    let from = Attributes::new().raw(PROTOCOL_NUMBER, &[UDP]).raw(FROM_PORT, &NAMES.to_be_bytes());
    Attributes::new()
        .nested(TUPLE_BACK, &Attributes::new().nested(PROTOCOL, &from))
        .nested(NESTED | FILTER, &Attributes::new().ne32(1, 0).ne32(2, LOOKED_AT))
}

/// A kernel before 5.8 filters nothing, so what it lists is looked at again.
fn find(talk: &mut Talk, family: u8, filter: &Attributes) -> Result<Vec<Vec<u8>>, TalkError> {
    let listed = talk.list(GET_FLOW, &head(family, 0), filter)?;
    let bodies = listed.into_iter().filter_map(|it| it.body.get(4..).map(<[u8]>::to_vec));
    Ok(bodies.filter(|flow| is_ours(flow)).collect())
}

fn is_ours(flow: &[u8]) -> bool {
    let from = [TUPLE_BACK, PROTOCOL].into_iter().try_fold(flow, attribute).unwrap_or_default();
    attribute(from, PROTOCOL_NUMBER) == Some(&[UDP])
        && attribute(from, FROM_PORT) == Some(&NAMES.to_be_bytes())
}

fn is_answered(flow: &[u8]) -> bool {
    let status = attribute(flow, STATUS).and_then(|value| value.first_chunk().copied());
    status.is_none_or(|status| u32::from_be_bytes(status) & ANSWERED != 0)
}

fn deletion(family: u8, some: &[Vec<u8>]) -> (Messages, u32) {
    let mut messages = Messages::default();
    let mut last = 0;
    for (number, flow) in (1..).zip(some) {
        // The kernel takes them in order: the last one's answer comes after all refusals.
        let ack = if number == some.len() { ACK } else { 0 };
        let which = [TUPLE, ZONE].into_iter().filter_map(|kind| Some((kind, attribute(flow, kind)?)));
        let which = which.fold(Attributes::new(), |all, (kind, value)| all.raw(kind, value));
        last = messages.push(DELETE_FLOW, REQUEST | ack, &head(family, 0), &which);
    }
    (messages, last)
}

#[cfg(test)]
mod tests;
