//! Services by the ranges they answer for. One look-up a prefix length that is in use, instead of one a range.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::shelf::Shelf;
use crate::address::{NetworkAddress, NetworkRange};
use crate::name::{Network, ServiceKey};
use crate::service::Service;

/// Ranges of services, by network.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Ranges {
    shelves: Shelf<(Network, IpNet), Service>,
    lengths: HashTrieMapSync<(Network, Family), Lengths>,
}

/// Prefix lengths in use and by how many (service, range) pairs.
type Lengths = RedBlackTreeMapSync<u8, usize>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Ranges {
    /// The services whose ranges hold an address, longest range first.
    pub(super) fn holding<'a>(
        &'a self,
        address: &NetworkAddress,
    ) -> impl Iterator<Item = (u8, &'a Arc<Service>)> + use<'a> {
        let (network, ip) = (address.network.clone(), address.ip);
        let lengths = self.lengths.get(&(network.clone(), Family::of(ip)));
        lengths.into_iter().flat_map(|l| l.keys().rev()).flat_map(move |length| {
            let range = IpNet::new(ip, *length).ok().map(|r| (network.clone(), r.trunc()));
            range.map_or(&[][..], |key| self.shelves.all(&key)).iter().map(move |s| (*length, s))
        })
    }

    pub(super) fn put(&mut self, range: &NetworkRange, service: &Arc<Service>) {
        let key = (range.network.clone(), range.range.trunc());
        if self.shelves.all(&key).iter().any(|s| Arc::ptr_eq(s, service)) {
            return;
        }
        self.shelves.put(key, service, Service::key);
        let family = (range.network.clone(), Family::of(range.range.addr()));
        let mut lengths = self.lengths.get(&family).cloned().unwrap_or_else(Lengths::new_sync);
        let used = lengths.get(&range.range.prefix_len()).copied().unwrap_or(0);
        lengths.insert_mut(range.range.prefix_len(), used + 1);
        self.lengths.insert_mut(family, lengths);
    }

    pub(super) fn take(&mut self, range: &NetworkRange, service: &ServiceKey) {
        let key = (range.network.clone(), range.range.trunc());
        if !self.shelves.all(&key).iter().any(|s| s.key() == *service) {
            return;
        }
        self.shelves.take(&key, |s| s.key() == *service);
        let family = (range.network.clone(), Family::of(range.range.addr()));
        let Some(mut lengths) = self.lengths.get(&family).cloned() else { return };
        match lengths.get(&range.range.prefix_len()).copied() {
            Some(used) if used > 1 => lengths.insert_mut(range.range.prefix_len(), used - 1),
            Some(_) | None => {
                lengths.remove_mut(&range.range.prefix_len());
            }
        }
        if lengths.is_empty() {
            self.lengths.remove_mut(&family);
        } else {
            self.lengths.insert_mut(family, lengths);
        }
    }
}
