//! Socket addresses by the role they play. Two bare `SocketAddr`s never stand side by side.
//! Owns canonical form: an IPv4-mapped IPv6 address is IPv4 everywhere inside.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::name::{Hostname, Network};

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SocketAddr);

        impl $name {
            /// Takes an address into this role, in canonical form.
            #[must_use]
            pub fn new(address: SocketAddr) -> Self {
                Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
            }
            /// The socket address.
            #[must_use]
            pub fn socket(&self) -> SocketAddr {
                self.0
            }
            /// The IP address.
            #[must_use]
            pub fn ip(&self) -> IpAddr {
                self.0.ip()
            }
            /// The port.
            #[must_use]
            pub fn port(&self) -> u16 {
                self.0.port()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

role!(
    /// Who opened the connection, as seen by the kernel that accepted it.
    ClientAddr);
role!(
    /// Where the application meant to go: the destination before redirection.
    OriginalDst);
role!(
    /// Where we dial next: a peer's tunnel port, a waypoint, or the destination itself.
    HopAddr);
role!(
    /// Where the application at the far end listens.
    TargetAddr);
role!(
    /// Where we listen.
    ListenAddr);

/// An IP address on a network; what xDS aliases write as `<network>/<ip>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// The network; empty is the default.
    pub network: Network,
    /// The address, canonical.
    pub ip: IpAddr,
}

impl NetworkAddress {
    /// An address on a network, in canonical form.
    #[must_use]
    pub fn new(network: Network, ip: IpAddr) -> Self {
        Self { network, ip: ip.to_canonical() }
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.ip)
    }
}

/// A range of addresses on a network (a service that answers for a CIDR).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkRange {
    /// The network; empty is the default.
    pub network: Network,
    /// The range.
    pub range: ipnet::IpNet,
}

impl fmt::Display for NetworkRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.range)
    }
}

/// What a CONNECT asks for: `<ip>:<port>` or `<host>:<port>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Authority {
    /// An address, canonical.
    Address(SocketAddr),
    /// A service's host and its port; how other networks ask.
    Host {
        /// The host.
        hostname: Hostname,
        /// The service port.
        port: u16,
    },
}

impl Authority {
    /// The port that is asked for.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Host { port, .. } => *port,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { hostname, port } => write!(f, "{hostname}:{port}"),
        }
    }
}

impl From<OriginalDst> for Authority {
    fn from(dst: OriginalDst) -> Self {
        Self::Address(dst.socket())
    }
}

/// A DNS name's length (RFC 1035, 2.3.4).
const HOST_MAX: usize = 255;

/// A text that is no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the authority {value:?} is neither <ip>:<port> nor <host>:<port>")]
pub struct AuthorityError {
    /// The text as given; its beginning, if it is longer than any authority.
    pub value: String,
}

impl FromStr for Authority {
    type Err = AuthorityError;
    /// Strict: the port is there, as a number is written and not 0; an IPv6 address stands in brackets and has no
    /// scope; a host holds only what DNS names hold, and is not a broken IPv4 address.
    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        read(text).ok_or_else(|| AuthorityError { value: text.chars().take(HOST_MAX).collect() })
    }
}

fn read(text: &str) -> Option<Authority> {
    let (host, port) = text.rsplit_once(':')?;
    // "+80" and "080" would parse, too.
    if port.starts_with('0') || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok()?;
    let address = |ip: IpAddr| Authority::Address(SocketAddr::new(ip.to_canonical(), port));
    if let Some(inside) = host.strip_prefix('[') {
        let ip: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some(address(ip.into()));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Some(address(ip.into()));
    }
    let numbers = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numbers || host.len() > HOST_MAX || !host.bytes().all(in_host) {
        return None;
    }
    Some(Authority::Host { hostname: host.parse().ok()?, port })
}

/// What names in DNS are made of, underscores included.
fn in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_reads_back_as_it_was_written() {
        for text in ["10.0.0.5:8080", "[2001:db8::1]:80", "web.shop.svc.cluster.local:80"] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), text);
        }
        assert_eq!("[::ffff:10.0.0.5]:80".parse::<Authority>().unwrap().to_string(), "10.0.0.5:80");
    }

    #[test]
    fn a_refused_text_is_shown_only_as_far_as_an_authority_goes() {
        let long = "a".repeat(256) + ":80";
        assert_eq!(long.parse::<Authority>().unwrap_err().value.len(), HOST_MAX);
        assert!(long[1..].parse::<Authority>().is_ok());
    }

    #[test]
    fn texts_that_are_no_authority_are_refused() {
        for text in [
            "",
            "10.0.0.5",
            "2001:db8::1",
            "[2001:db8::1]",
            ":80",
            "web:",
            "web:+80",
            "web:080",
            "web:0",
            "web:65536",
            "web:80 ",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:00080",
            "10.0.0.256:80",
            "127.1:80",
            "2130706433:80",
            "010.0.0.1:80",
            ".:80",
            "fd00::1:80",
            "[fd00::1%1]:80",
            "[10.0.0.1]:80",
            "[fd00::1:80",
            "[web]:80",
            "a b:80",
            "a\u{e9}:80",
            "*.web:80",
            "u@web:80",
            "web/x:80",
            "web:80/x",
            "web:80:80",
        ] {
            assert_eq!(text.parse::<Authority>(), Err(AuthorityError { value: text.into() }), "{text}");
        }
    }
}
