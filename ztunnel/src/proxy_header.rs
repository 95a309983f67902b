//! The PROXY protocol header, version 2, before a connection that is handed to an application tunnel
//! (`ztunnel.md` 2.10). Owns its bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ambit_model::name::Identity;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
/// The client's identity.
const IDENTITY: u8 = 0xd0;

/// The header that tells an application of `client`, of what it asked for and of who it proved to be.
#[must_use]
pub(crate) fn encode(client: SocketAddr, asked: SocketAddr, identity: Option<&Identity>) -> Vec<u8> {
    let mut rest = Vec::new();
    let family = match (client.ip(), asked.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            rest.extend(from.octets());
            rest.extend(to.octets());
            TCP4
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            rest.extend(from.octets());
            rest.extend(to.octets());
            TCP6
        }
        _ => UNSPECIFIED,
    };
    if family != UNSPECIFIED {
        rest.extend(client.port().to_be_bytes());
        rest.extend(asked.port().to_be_bytes());
    }
    let uri = identity.map(Identity::to_string).unwrap_or_default();
    // An identity longer than a length field is none that a certificate could carry.
    if let (false, Ok(length)) = (uri.is_empty(), u16::try_from(uri.len())) {
        rest.push(IDENTITY);
        rest.extend(length.to_be_bytes());
        rest.extend(uri.as_bytes());
    }
    let mut header = SIGNATURE.to_vec();
    header.extend([PROXY, family]);
    header.extend(u16::try_from(rest.len()).unwrap_or(0).to_be_bytes());
    header.extend(rest);
    header
}

/// The same port on loopback.
#[must_use]
pub(crate) fn loopback(target: SocketAddr) -> SocketAddr {
    let ip = match target.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, target.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_holds_both_ends_and_the_identity() {
        let identity = crate::sample::identity("a");
        let header = encode("10.0.0.1:258".parse().unwrap(), "10.0.0.2:80".parse().unwrap(), Some(&identity));
        let uri = identity.to_string();
        assert_eq!(header[..12], SIGNATURE);
        assert_eq!(header[12..16], [0x21, 0x11, 0, u8::try_from(12 + 3 + uri.len()).unwrap()]);
        assert_eq!(header[16..28], [10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 0, 80]);
        assert_eq!(header[28..31], [0xd0, 0, u8::try_from(uri.len()).unwrap()]);
        assert_eq!(&header[31..], uri.as_bytes());
    }

    #[test]
    fn ends_of_two_families_are_not_told() {
        let header = encode("10.0.0.1:1".parse().unwrap(), "[fd00::2]:80".parse().unwrap(), None);
        assert_eq!(header[12..], [0x21, 0, 0, 0]);
    }
}
