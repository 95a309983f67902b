//! Addresses for hosts of service entries that have none (`control-plane.md` 1.11): pure.
//! Owns who gets which. An address follows from the host's name, so that another control plane, or this one without
//! its memory, gives the same; one that was given stays, for clients remember it. Writing them down is `publish`'s.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ambit_cluster::kinds::entry::{Resolution, ServiceEntry};
use ambit_cluster::{Kind, ObjectRef};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use twox_hash::XxHash64;

use crate::index::World;

/// The label by which an entry wants none.
const OPT_OUT: &str = "networking.istio.io/enable-autoallocate-ip";

/// Where addresses are taken from.
#[derive(Debug, Clone, Copy)]
pub struct Ranges {
    /// Of IPv4.
    pub v4: Ipv4Net,
    /// Of IPv6.
    pub v6: Ipv6Net,
}

/// The addresses of one entry, in the order of its hosts: host and address.
pub type Given = Vec<(String, IpAddr)>;

/// Entries whose addresses are to be others than they are, with what they are to be.
#[must_use]
pub fn plan(world: &World, ranges: Ranges) -> Vec<(ObjectRef, Given)> {
    let mut entries: Vec<&ServiceEntry> =
        world.spaces().flat_map(|(_, space)| space.entries.values()).map(AsRef::as_ref).collect();
    entries.sort_by_key(|entry| entry.metadata.age());
    let mut taken = Taken::new(ranges, &entries);
    let kept: Vec<Given> = entries.iter().map(|entry| taken.keep(entry)).collect();
    let mut changed = Vec::new();
    for (entry, kept) in entries.into_iter().zip(kept) {
        let given = taken.fill(entry, &kept);
        let now = entry.status.addresses.iter().map(|it| (it.host.as_str(), it.value.0));
        if !now.eq(given.iter().map(|(host, ip)| (host.as_str(), *ip))) {
            let meta = &entry.metadata;
            changed.push((ObjectRef::new(Kind::ServiceEntry, &meta.namespace, &meta.name), given));
        }
    }
    changed
}

/// The addresses as they are written into an entry's status.
#[must_use]
pub fn patch(given: &Given) -> Value {
    let addresses: Vec<Value> =
        given.iter().map(|(host, ip)| json!({ "value": ip.to_string(), "host": host })).collect();
    json!({ "status": { "addresses": addresses } })
}

/// The hosts of an entry that are given addresses.
fn hosts(entry: &ServiceEntry) -> impl Iterator<Item = &str> {
    let spec = &entry.spec;
    let wants = spec.resolution != Resolution::None
        && spec.addresses.is_empty()
        && entry.metadata.label(OPT_OUT).is_none_or(|it| !it.eq_ignore_ascii_case("false"));
    let wildcards = spec.resolution == Resolution::DynamicDns;
    let hosts = spec.hosts.iter().map(|host| host.0.as_str());
    hosts.filter(move |host| wants && (wildcards || !host.starts_with('*')))
}

/// What is in use.
struct Taken {
    ranges: Ranges,
    /// What people wrote down, within the ranges.
    written: Vec<IpNet>,
    given: BTreeSet<IpAddr>,
}

impl Taken {
    fn new(ranges: Ranges, entries: &[&ServiceEntry]) -> Self {
        let written = entries.iter().flat_map(|entry| &entry.spec.addresses).map(|cidr| cidr.0);
        // A wider one, as of all addresses there are, is meant for what nobody else has: it takes nothing from others.
        let inside = |net: &IpNet| match net {
            IpNet::V4(net) => ranges.v4.contains(net),
            IpNet::V6(net) => ranges.v6.contains(net),
        };
        Self { ranges, written: written.filter(inside).collect(), given: BTreeSet::new() }
    }

    /// The addresses that an entry has and may keep: one of each family for a host. Called for the oldest first.
    fn keep(&mut self, entry: &ServiceEntry) -> Given {
        let mut kept = Given::new();
        for host in hosts(entry) {
            for of_family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
                let has = entry.status.addresses.iter().filter(|it| it.host == host).map(|it| it.value.0);
                if let Some(ip) = has.filter(of_family).find(|ip| self.is_free(*ip)) {
                    self.given.insert(ip);
                    kept.push((host.into(), ip));
                }
            }
        }
        kept
    }

    /// The addresses of an entry, with new ones where it has none.
    fn fill(&mut self, entry: &ServiceEntry, kept: &Given) -> Given {
        let mut given = Given::new();
        for host in hosts(entry) {
            let has = |of_family: fn(&IpAddr) -> bool| {
                kept.iter().find(|(of, ip)| of == host && of_family(ip)).map(|(_, ip)| *ip)
            };
            let name = format!("{}/{}/{host}", entry.metadata.namespace, entry.metadata.name);
            let seed = XxHash64::oneshot(0, name.as_bytes());
            let v4 = has(IpAddr::is_ipv4).or_else(|| self.take(seed, self.v4()));
            let v6 = has(IpAddr::is_ipv6).or_else(|| self.take(seed, self.v6()));
            given.extend(v4.into_iter().chain(v6).map(|ip| (host.to_owned(), ip)));
        }
        given
    }

    fn v4(&self) -> Numbers {
        let net = self.ranges.v4;
        let first = u128::from(u32::from(net.network())) + 1;
        let last = u128::from(u32::from(net.broadcast())).saturating_sub(1);
        Numbers {
            first,
            count: (last + 1).saturating_sub(first),
            as_ip: |number| u32::try_from(number).ok().map(|number| Ipv4Addr::from(number).into()),
        }
    }

    fn v6(&self) -> Numbers {
        let net = self.ranges.v6;
        let (first, last) = (u128::from(net.network()) + 1, u128::from(net.broadcast()));
        Numbers {
            first,
            count: last.saturating_sub(first),
            as_ip: |number| Some(Ipv6Addr::from(number).into()),
        }
    }

    /// The first free address from where the seed points to on; none when all are in use.
    fn take(&mut self, seed: u64, numbers: Numbers) -> Option<IpAddr> {
        let Numbers { first, count, as_ip } = numbers;
        let start = u128::from(seed).checked_rem(count)?;
        // Within as many steps as there are addresses in use a free one is found, if there is one.
        let in_use = u128::try_from(self.given.len()).unwrap_or(count);
        let written = self.written.iter().filter(|net| net.prefix_len() < net.max_prefix_len()).count();
        let steps = if written > 0 { count } else { count.min(in_use + LOOKED_FURTHER) };
        let mut step = 0;
        while step < steps {
            let number = first + (start + step) % count;
            let ip = as_ip(number)?;
            match self.written.iter().find(|net| net.contains(&ip)) {
                None if !self.given.contains(&ip) => {
                    self.given.insert(ip);
                    return Some(ip);
                }
                // Over a whole range at once: it may be wider than anybody can count.
                Some(net) => step += last_of(net).saturating_sub(number) + 1,
                None => step += 1,
            }
        }
        None
    }

    fn is_free(&self, ip: IpAddr) -> bool {
        let inside = match ip {
            IpAddr::V4(ip) => self.ranges.v4.contains(&ip),
            IpAddr::V6(ip) => self.ranges.v6.contains(&ip),
        };
        inside && !self.given.contains(&ip) && !self.written.iter().any(|net| net.contains(&ip))
    }
}

/// Single addresses that people wrote down are passed over as well as those given; there are few in these ranges.
const LOOKED_FURTHER: u128 = 1 << 16;

/// Addresses as numbers.
#[derive(Clone, Copy)]
struct Numbers {
    first: u128,
    count: u128,
    as_ip: fn(u128) -> Option<IpAddr>,
}

fn last_of(net: &IpNet) -> u128 {
    match net {
        IpNet::V4(net) => u128::from(u32::from(net.broadcast())),
        IpNet::V6(net) => u128::from(net.broadcast()),
    }
}

#[cfg(test)]
mod tests;
