//! Which addresses a namespace has. Owns the listing; what they mean is the caller's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ambit_sys::netlink::Family;
use ambit_sys::netlink::attribute::{Attributes, attribute};
use ambit_sys::netlink::talk::{Talk, TalkError};
use ambit_sys::netns::Netns;

use crate::apply::ApplyError;

// Numbers of linux/rtnetlink.h and if_addr.h.
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const ADDRESS: u16 = 1;
/// This end's; on a link with two ends the one above is the other's.
const LOCAL: u16 = 2;
/// `ifaddrmsg`: family, length, flags, scope, interface.
const HEAD: usize = 8;

/// All addresses of all interfaces, IPv4-mapped ones as IPv4.
pub fn addresses(netns: &Netns) -> Result<BTreeSet<IpAddr>, ApplyError> {
    let failed = |source| ApplyError::Kernel { what: "read a namespace's addresses", source };
    netns.run(addresses_here)?.map_err(failed)
}

/// Those of the calling thread's namespace.
pub(super) fn addresses_here() -> Result<BTreeSet<IpAddr>, TalkError> {
    let listed = Talk::open(Family::Route)?.list(GET_ADDRESS, &[0; HEAD], &Attributes::new())?;
    let all = listed.iter().filter(|it| it.kind == NEW_ADDRESS);
    Ok(all.filter_map(|it| address(it.body.get(HEAD..)?)).collect())
}

fn address(attributes: &[u8]) -> Option<IpAddr> {
    let bytes = attribute(attributes, LOCAL).or_else(|| attribute(attributes, ADDRESS))?;
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*bytes.first_chunk::<16>()?).to_canonical()),
    }
}
