//! The header that tells an endpoint who its client is, before anything else on a connection (HAProxy's PROXY protocol,
//! versions 1 and 2). Owns its bytes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::address::{ClientAddr, OriginalDst};

/// What every header of version 2 begins with (2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, of a connection that is made for somebody.
const PROXY: u8 = 0x21;
/// Version 2, of a connection that is made for nobody else.
const LOCAL: u8 = 0x20;
/// Streams over IPv4.
const TCP4: u8 = 0x11;
/// Streams over IPv6.
const TCP6: u8 = 0x21;

/// In which version it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proxied {
    /// As a line of text.
    V1,
    /// As bytes.
    V2,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The client.
    pub client: ClientAddr,
    /// What it asked for.
    pub asked: OriginalDst,
}

impl Proxied {
    /// The header; of nobody, when the connection is made for nobody else.
    #[must_use]
    pub fn header(self, ends: Option<Ends>) -> Vec<u8> {
        let ends = ends.map(|Ends { client, asked }| alike(client.socket(), asked.socket()));
        match (self, ends) {
            (Self::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
            (Self::V1, Some((from, to))) => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                let (source, target) = (from.ip(), to.ip());
                format!("PROXY {family} {source} {target} {} {}\r\n", from.port(), to.port()).into_bytes()
            }
            (Self::V2, None) => [&SIGNATURE[..], &[LOCAL, 0, 0, 0]].concat(),
            (Self::V2, Some((from, to))) => {
                let (family, addresses) = match (from.ip(), to.ip()) {
                    (IpAddr::V4(from), IpAddr::V4(to)) => (TCP4, [from.octets(), to.octets()].concat()),
                    (from, to) => (TCP6, [six(from).octets(), six(to).octets()].concat()),
                };
                let length = u16::try_from(addresses.len() + 4).unwrap_or_default();
                let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                [&SIGNATURE[..], &[PROXY, family], &length.to_be_bytes(), &addresses[..], &ports[..]].concat()
            }
        }
    }
}

/// Both of one family: a header knows no other.
fn alike(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let six = |it: SocketAddr| SocketAddr::new(six(it.ip()).into(), it.port());
    (six(from), six(to))
}

fn six(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, asked: &str) -> Option<Ends> {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        Some(Ends { client: ClientAddr::new(address(client)), asked: OriginalDst::new(address(asked)) })
    }

    #[test]
    fn a_line_says_both_ends_in_one_family_or_that_there_is_nobody() {
        for (ends, wanted) in [
            (ends("10.0.0.1:4000", "10.1.0.1:80"), "PROXY TCP4 10.0.0.1 10.1.0.1 4000 80\r\n"),
            (ends("[fd00::1]:4000", "[fd00::2]:80"), "PROXY TCP6 fd00::1 fd00::2 4000 80\r\n"),
            (ends("10.0.0.1:4000", "[fd00::2]:80"), "PROXY TCP6 ::ffff:10.0.0.1 fd00::2 4000 80\r\n"),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(String::from_utf8(Proxied::V1.header(ends)).unwrap(), wanted);
        }
    }

    #[test]
    fn bytes_say_the_same() {
        let found = Proxied::V2.header(ends("10.0.0.1:4000", "10.1.0.1:80"));
        assert_eq!(found[..12], *b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a");
        assert_eq!(found[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(found[16..], [10, 0, 0, 1, 10, 1, 0, 1, 0x0f, 0xa0, 0, 80]);
        let found = Proxied::V2.header(ends("10.0.0.1:4000", "[fd00::2]:80"));
        assert_eq!((found.len(), &found[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        assert_eq!(found[26..32], [0xff, 0xff, 10, 0, 0, 1]);
        let found = Proxied::V2.header(None);
        assert_eq!((found.len(), &found[12..]), (16, &[0x20, 0, 0, 0][..]));
    }
}
