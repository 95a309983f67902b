//! Addresses for pods and services: which network a node has, and which address is free in it.
//! Pure; whoever leases an address also writes it down (`admit`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Nodes are numbered in one byte of their addresses; the first ten belong to the mesh itself.
pub(crate) const MAX_NODES: u8 = 64;

/// The networks of a mesh. Each mesh lives in namespaces of its own, so all meshes use the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Networks;

impl Networks {
    /// The shared network of all nodes; `host` is 1 for the wire itself, 10 for the control plane.
    pub(crate) fn lan(host: u8) -> [IpNet; 2] {
        [
            v4(Ipv4Addr::new(10, 90, 0, host), 24),
            v6(Ipv6Addr::new(0xfd00, 0x90, 0, 0, 0, 0, 0, host.into()), 64),
        ]
    }

    /// The pod networks of the node with this number, counted from 1; the first host is the node itself.
    pub(crate) fn pods(node: u8) -> [IpNet; 2] {
        [
            v4(Ipv4Addr::new(10, 244, node, 0), 24),
            v6(Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, 0), 64),
        ]
    }

    /// Service addresses.
    pub(crate) fn services() -> [IpNet; 2] {
        [v4(Ipv4Addr::new(10, 96, 0, 0), 16), v6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112)]
    }
}

/// The first usable address of a network: its gateway.
pub(crate) fn gateway(net: IpNet) -> IpAddr {
    nth(net, 1)
}

/// No address is free.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address is free in {net}")]
pub(crate) struct Exhausted {
    net: IpNet,
}

/// Which addresses are taken. A freed address is given out again only when the range was walked through:
/// nobody should mistake a new pod for the one that had its address a second ago.
#[derive(Debug, Default)]
pub(crate) struct Ipam {
    taken: BTreeSet<IpAddr>,
    last: Vec<(IpNet, u32)>,
}

/// Hosts tried in one network before it counts as full: a /24 without its ends.
const HOSTS: u32 = 253;

impl Ipam {
    /// Takes a free address of `net`, never its first (the gateway).
    pub(crate) fn lease(&mut self, net: IpNet) -> Result<IpAddr, Exhausted> {
        let last = self.last.iter().find(|(n, _)| *n == net).map_or(1, |(_, last)| *last);
        for step in 0..HOSTS {
            let host = 2 + (last - 1 + step) % HOSTS;
            let address = nth(net, host);
            if self.taken.insert(address) {
                self.last.retain(|(n, _)| *n != net);
                self.last.push((net, host));
                return Ok(address);
            }
        }
        Err(Exhausted { net })
    }

    /// Marks an address as taken by somebody who brought it along.
    pub(crate) fn hold(&mut self, address: IpAddr) {
        self.taken.insert(address);
    }

    pub(crate) fn release(&mut self, address: IpAddr) {
        self.taken.remove(&address);
    }
}

fn nth(net: IpNet, host: u32) -> IpAddr {
    match net.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().saturating_add(host)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().saturating_add(host.into())).into(),
    }
}

fn v4(address: Ipv4Addr, prefix: u8) -> IpNet {
    Ipv4Net::new_assert(address, prefix).into()
}

fn v6(address: Ipv6Addr, prefix: u8) -> IpNet {
    Ipv6Net::new_assert(address, prefix).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_not_reused_before_the_range_was_walked_through() {
        let mut ipam = Ipam::default();
        let [net, _] = Networks::pods(1);
        let first = ipam.lease(net).unwrap();
        assert_eq!(first, "10.244.1.2".parse::<IpAddr>().unwrap());
        ipam.release(first);
        for _ in 1..HOSTS {
            assert_ne!(ipam.lease(net).unwrap(), first);
        }
        assert_eq!(ipam.lease(net).unwrap(), first);
        assert_eq!(ipam.lease(net), Err(Exhausted { net }));
    }

    #[test]
    fn an_address_somebody_brought_along_is_not_leased() {
        let mut ipam = Ipam::default();
        let [_, net] = Networks::pods(2);
        ipam.hold("fd00:10:244:2::2".parse().unwrap());
        assert_eq!(ipam.lease(net).unwrap(), "fd00:10:244:2::3".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_gateway_is_the_first_host_of_a_network() {
        assert_eq!(gateway(Networks::pods(3)[0]), "10.244.3.1".parse::<IpAddr>().unwrap());
        assert_eq!(gateway(Networks::pods(3)[1]), "fd00:10:244:3::1".parse::<IpAddr>().unwrap());
    }
}
