//! The service behind an address or a host name, as one client sees it: visibility and ranking
//! (`ztunnel.md` 4.1).

use std::cmp::Reverse;
use std::sync::Arc;

use crate::address::NetworkAddress;
use crate::name::{Hostname, Namespace};
use crate::service::{Service, Visibility};
use crate::snapshot::Snapshot;

/// The service that answers for an address: by exact address first, else by the ranges that hold it. Without a
/// client's namespace every service is visible.
#[must_use]
pub fn service_by_address<'a>(
    world: &'a Snapshot,
    address: &NetworkAddress,
    client: Option<&Namespace>,
) -> Option<&'a Arc<Service>> {
    best(world.services_by_vip(address), client).or_else(|| {
        world
            .services_by_range(address)
            .filter(|(_, s)| visible(s, client))
            // The first of equals is kept, which is the one with the smaller key.
            .min_by_key(|(length, s)| (!is_own(s, client), Reverse(*length), !s.canonical))
            .map(|(_, service)| service)
    })
}

/// The service of a host name.
#[must_use]
pub fn service_by_host<'a>(
    world: &'a Snapshot,
    hostname: &Hostname,
    client: Option<&Namespace>,
) -> Option<&'a Arc<Service>> {
    best(world.services_by_host(hostname), client)
}

/// All services that answer for an address, for one client or another.
pub(super) fn services_at<'a>(
    world: &'a Snapshot,
    address: &NetworkAddress,
) -> impl Iterator<Item = &'a Arc<Service>> {
    let ranged = world.services_by_range(address).map(|(_, service)| service);
    world.services_by_vip(address).iter().chain(ranged)
}

/// The client's own namespace goes first, then the canonical one, then the smaller key.
fn best<'a>(services: &'a [Arc<Service>], client: Option<&Namespace>) -> Option<&'a Arc<Service>> {
    among(services.iter(), client)
}

/// The same among some of them, which come by exact address first.
pub(super) fn preferred<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    client: &Namespace,
) -> Option<&'a Arc<Service>> {
    among(services, Some(client))
}

fn among<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    client: Option<&Namespace>,
) -> Option<&'a Arc<Service>> {
    services.filter(|s| visible(s, client)).min_by_key(|s| (!is_own(s, client), !s.canonical))
}

pub(crate) fn visible(service: &Service, client: Option<&Namespace>) -> bool {
    match (service.visibility, client) {
        (Visibility::Public, _) | (Visibility::Namespace, None) => true,
        (Visibility::Namespace, Some(namespace)) => service.namespace == *namespace,
    }
}

fn is_own(service: &Service, client: Option<&Namespace>) -> bool {
    client.is_some_and(|namespace| service.namespace == *namespace)
}
