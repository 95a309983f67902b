//! IP addresses and ranges as bytes. Owns canonical form on the wire: IPv4 has 4 bytes, never 16.

use std::net::{IpAddr, Ipv6Addr};

use ambit_model::address::{NetworkAddress, NetworkRange};
use bytes::Bytes;
use ipnet::IpNet;

use super::ConvertError;
use crate::pb::workload as pb;

/// An address of 4 or 16 bytes, in canonical form.
pub(super) fn ip_from_bytes(field: &'static str, raw: &[u8]) -> Result<IpAddr, ConvertError> {
    if let Ok(four) = <[u8; 4]>::try_from(raw) {
        return Ok(IpAddr::from(four));
    }
    match <[u8; 16]>::try_from(raw) {
        Ok(sixteen) => Ok(Ipv6Addr::from(sixteen).to_canonical()),
        Err(_) => Err(ConvertError::AddressLength { field, found: raw.len() }),
    }
}

pub(super) fn ip_to_bytes(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(four) => Bytes::copy_from_slice(&four.octets()),
        IpAddr::V6(six) => Bytes::copy_from_slice(&six.octets()),
    }
}

/// A range: its host bits are cut, and one inside the IPv4-mapped block is an IPv4 range.
pub(super) fn range_from_bytes(field: &'static str, raw: &[u8], length: u32) -> Result<IpNet, ConvertError> {
    let ip = ip_from_bytes(field, raw)?;
    let mapped = ip.is_ipv4() && raw.len() == 16;
    // A range wider than the mapped block covers other addresses as well and stays IPv6.
    let (ip, cut) = match ip {
        IpAddr::V4(four) if mapped && length < 96 => (IpAddr::V6(four.to_ipv6_mapped()), 0),
        ip => (ip, if mapped { 96 } else { 0 }),
    };
    let limit = if raw.len() == 4 { 32 } else { 128 };
    let too_long = ConvertError::PrefixLength { field, found: length, limit };
    let length = u8::try_from(length.saturating_sub(cut)).map_err(|_| too_long.clone())?;
    IpNet::new(ip, length).map(|range| range.trunc()).map_err(|_| too_long)
}

/// An address or a range on a network.
pub(super) enum Place {
    Address(NetworkAddress),
    Range(NetworkRange),
}

pub(super) fn place_from_pb(field: &'static str, raw: pb::NetworkAddress) -> Result<Place, ConvertError> {
    let pb::NetworkAddress { network, address, length } = raw;
    let ip = ip_from_bytes(field, &address)?;
    let Some(length) = length else {
        return Ok(Place::Address(NetworkAddress::new(network.into(), ip)));
    };
    let range = range_from_bytes(field, &address, length)?;
    if range.prefix_len() == range.max_prefix_len() {
        return Ok(Place::Address(NetworkAddress::new(network.into(), ip)));
    }
    Ok(Place::Range(NetworkRange { network: network.into(), range }))
}

pub(super) fn address_to_pb(address: &NetworkAddress) -> pb::NetworkAddress {
    let NetworkAddress { network, ip } = address;
    pb::NetworkAddress { network: network.to_string(), address: ip_to_bytes(*ip), length: None }
}

pub(super) fn range_to_pb(range: &NetworkRange) -> pb::NetworkAddress {
    let NetworkRange { network, range } = range;
    pb::NetworkAddress {
        network: network.to_string(),
        address: ip_to_bytes(range.addr()),
        length: Some(range.prefix_len().into()),
    }
}
