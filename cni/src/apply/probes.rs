//! The node's probe sets: brought to the wanted elements by their difference, in one transaction.
//! Owns the set messages. Who wants which element is `node::probes`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ambit_sys::netlink::CREATE;
use ambit_sys::netlink::attribute::{Attributes, attribute, attributes};
use ambit_sys::netlink::nftables::Batch;

use crate::apply::nft::{is_missing, list, open};
use crate::apply::{ApplyError, TalkError};
use crate::rules::{Families, PROBE_SET_V4, PROBE_SET_V6, Set, TABLE};

/// An address and port that probes may reach.
pub type ProbeTarget = SocketAddr;

/// How many elements came and went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeChange {
    /// Added.
    pub added: usize,
    /// Removed.
    pub removed: usize,
}

const NEW_ELEMENTS: u16 = 12;
const GET_ELEMENTS: u16 = 13;
const DEL_ELEMENTS: u16 = 14;
const LIST_ELEMENT: u16 = 1;

/// Elements in one message; an attribute holds at most 64 KiB and an element takes up to 36 bytes.
const ELEMENTS: usize = 1000;

/// What becomes of elements that nobody wants.
#[derive(Debug, Clone)]
pub enum Surplus {
    /// All go.
    Goes,
    /// Only these go: after a start not everybody has said yet what they want.
    GoesOf(BTreeSet<ProbeTarget>),
}

impl Surplus {
    fn goes(&self, target: &ProbeTarget) -> bool {
        match self {
            Self::Goes => true,
            Self::GoesOf(those) => those.contains(target),
        }
    }
}

/// Brings the sets of the calling thread's namespace to `wanted`. Targets of families not in use do not exist.
pub fn sync_probes(
    wanted: &BTreeSet<ProbeTarget>,
    used: Families,
    surplus: &Surplus,
) -> Result<ProbeChange, ApplyError> {
    let mut talk = open()?;
    let mut batch = Batch::begin();
    let mut change = ProbeChange::default();
    for set in sets(used) {
        let listed = list(&mut talk, GET_ELEMENTS, &Attributes::new().text(1, TABLE).text(2, set.name))?;
        let found: BTreeSet<_> = listed.iter().flat_map(|message| elements(message, set)).collect();
        let mine: BTreeSet<_> = wanted.iter().copied().filter(|it| it.is_ipv6() == set.six).collect();
        let missing: Vec<_> = mine.difference(&found).copied().collect();
        let extra: Vec<_> = found.difference(&mine).copied().filter(|it| surplus.goes(it)).collect();
        for (kind, flags, targets) in [(NEW_ELEMENTS, CREATE, &missing), (DEL_ELEMENTS, 0, &extra)] {
            for part in targets.chunks(ELEMENTS) {
                batch.add(kind, flags, &element_attributes(set, part));
            }
        }
        change.added += missing.len();
        change.removed += extra.len();
    }
    if change == ProbeChange::default() {
        return Ok(change);
    }
    let (messages, last) = batch.end();
    match talk.tell(&messages, last) {
        Ok(()) => Ok(change),
        Err(source) => Err(ApplyError::Kernel { what: blame(&source), source }),
    }
}

fn blame(error: &TalkError) -> &'static str {
    if is_missing(error) { "find the probe sets; somebody removed them" } else { "change the probe sets" }
}

fn sets(used: Families) -> Vec<Set> {
    let mut sets = vec![PROBE_SET_V4];
    if used == Families::Both {
        sets.push(PROBE_SET_V6);
    }
    sets
}

fn element_attributes(set: Set, targets: &[ProbeTarget]) -> Attributes {
    let mut all = Attributes::new();
    for target in targets {
        let key = Attributes::new().raw(1, &key(*target));
        all = all.nested(LIST_ELEMENT, &Attributes::new().nested(1, &key));
    }
    Attributes::new().text(1, TABLE).text(2, set.name).nested(3, &all)
}

/// Parts of a key are padded to 4 bytes each.
fn key(target: ProbeTarget) -> Vec<u8> {
    let mut bytes = match target.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(target.port().to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn elements(message: &[u8], set: Set) -> Vec<ProbeTarget> {
    let list = attribute(message, 3).unwrap_or_default();
    let keys = attributes(list).filter_map(|(_, element)| attribute(attribute(element, 1)?, 1));
    keys.filter_map(|key| target(key, set)).collect()
}

fn target(key: &[u8], set: Set) -> Option<ProbeTarget> {
    let (ip, rest): (IpAddr, &[u8]) = if set.six {
        let (octets, rest) = key.split_first_chunk::<16>()?;
        (Ipv6Addr::from(*octets).into(), rest)
    } else {
        let (octets, rest) = key.split_first_chunk::<4>()?;
        (Ipv4Addr::from(*octets).into(), rest)
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*rest.first_chunk()?)))
}
