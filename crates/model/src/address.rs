//! Socket addresses by the role they play. Two bare `SocketAddr`s never stand side by side.
//! Owns canonical form: an IPv4-mapped IPv6 address is IPv4 everywhere inside.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::name::Network;

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
