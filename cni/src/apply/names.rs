//! Queries for names by UDP, as the kernel remembers them: a flow has no end that it sees, so it keeps each for half a
//! minute or more, and takes what comes from the same port for more of it. Owns finding those that wait for ztunnel's
//! answer, and forgetting at each change what would lead others astray after it.

use ambit_sys::netlink::Family;
use ambit_sys::netlink::attribute::{Attributes, attribute};
use ambit_sys::netlink::talk::{Talk, TalkError};

use crate::apply::flows::{
    FAMILIES, FROM_PORT, PROTOCOL, PROTOCOL_NUMBER, STATUS, TO_PORT, TUPLE, TUPLE_BACK, ZONE,
    forget as forget_flows, list, port,
};
use crate::rules::{DNS, NAMES};

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const FILTER: u16 = 25;
/// `NLA_F_NESTED`, which newer attributes must have and older ones may.
const NESTED: u16 = 1 << 15;
const STATUS_MASK: u16 = 26;
/// `IPS_SEEN_REPLY`.
const ANSWERED: u32 = 2;

const UDP: u8 = 17;
/// What a filter looks at: the protocol's number, and the port that a flow goes to.
const LOOKED_AT: u32 = 1 << 3 | 1 << 5;

/// Whether a query of the calling thread's namespace was led to ztunnel and has no answer yet. Of two that were asked
/// from one port the first answer counts for both.
pub(super) fn are_asked() -> Result<bool, TalkError> {
    let mut talk = Talk::open(Family::Netfilter)?;
    for family in FAMILIES {
        let unanswered = Attributes::new().be32(STATUS, 0).be32(STATUS_MASK, ANSWERED);
        if find(&mut talk, family, unanswered)?.iter().any(|flow| is_led(flow) && !is_answered(flow)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets all of them. While the kernel takes rules away one by one it could take an answer for one to a query that was
/// led to ztunnel, from the same port, and drop it; so they are to be forgotten before. Those that were not led, as from
/// a pod that leaves, go as well: should the pod come back, a resolver that keeps its port would pass ztunnel by for as
/// long as it asks. An answer that is still to come to such a one needs no memory of it.
pub(super) fn forget() -> Result<(), TalkError> {
    let mut talk = Talk::open(Family::Netfilter)?;
    for family in FAMILIES {
        let found = find(&mut talk, family, Attributes::new())?;
        // One that has ended meanwhile is gone already.
        forget_flows(&mut talk, family, &found)?;
    }
    Ok(())
}

/// Queries, of a filter with `more`. A kernel before 5.8 filters nothing, so what it lists is looked at again.
fn find(talk: &mut Talk, family: u8, more: Attributes) -> Result<Vec<Vec<u8>>, TalkError> {
    let protocol = Attributes::new().raw(PROTOCOL_NUMBER, &[UDP]).raw(TO_PORT, &DNS.to_be_bytes());
    let filter = more
        .nested(TUPLE, &Attributes::new().nested(PROTOCOL, &protocol))
        .nested(NESTED | FILTER, &Attributes::new().ne32(1, LOOKED_AT).ne32(2, 0));
    let mut found = list(talk, family, &filter)?;
    found.retain(|flow| is_query(flow));
    Ok(found)
}

/// Whether it is one, and not told apart from those that may be led.
fn is_query(flow: &[u8]) -> bool {
    attribute(flow, ZONE).is_none() && port(flow, TUPLE, (UDP, TO_PORT)) == Some(DNS)
}

/// Whether a query was led to ztunnel.
fn is_led(query: &[u8]) -> bool {
    port(query, TUPLE_BACK, (UDP, FROM_PORT)) == Some(NAMES)
}

fn is_answered(flow: &[u8]) -> bool {
    let status = attribute(flow, STATUS).and_then(|value| value.first_chunk().copied());
    status.is_none_or(|status| u32::from_be_bytes(status) & ANSWERED != 0)
}

#[cfg(test)]
mod tests;
