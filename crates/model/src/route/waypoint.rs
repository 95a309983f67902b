//! A waypoint's part (`waypoint.md` 1.3, 1.7): what it may be asked for, and the way on from it. Owns which services
//! and workloads are a waypoint's own. What it does with requests in between is `http_route`'s.

use std::net::SocketAddr;
use std::sync::Arc;

use super::find::{preferred, services_at};
use super::{Flow, Hints, Plan, Planner, Refusal};
use crate::address::{Authority, NetworkAddress};
use crate::balance::{Ask, Endpoint, Pick, Role, candidates};
use crate::name::{Hostname, Label, Namespace, Network, ServiceKey};
use crate::request_policy::Target;
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::workload::{GatewayDestination, GatewayRef, Workload};

/// A waypoint, by everything that references call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waypoint {
    /// What its Gateway is called: policies name that, and its service may be called otherwise.
    pub gateway: Label,
    /// The service of its Gateway.
    pub service: ServiceKey,
    /// Its network, where the addresses live that it is asked for.
    pub network: Network,
    /// This replica's own addresses. Those of its service are known from the world.
    pub addresses: Vec<NetworkAddress>,
}

impl Waypoint {
    /// What its Gateway is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.gateway.as_str()
    }
}

/// What a CONNECT to a waypoint is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A port of a service: the waypoint chooses among endpoints.
    Service {
        /// The service.
        service: Arc<Service>,
        /// The port, as clients dial it.
        port: u16,
        /// Only these of its endpoints, as a route says.
        subset: Option<Label>,
    },
    /// A workload itself, which nobody may stand in for.
    Workload {
        /// The workload.
        workload: Arc<Workload>,
        /// The address and port that were dialled.
        target: SocketAddr,
    },
}

/// Why a waypoint does not serve what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBound {
    /// Nothing has the address.
    #[error("no service and no workload that is known has the address {0}")]
    UnknownAddress(NetworkAddress),
    /// Nothing has the name.
    #[error("no service that is known has the name {0}")]
    UnknownHost(Hostname),
    /// It goes through another waypoint, or through none.
    #[error("{found} does not go through this waypoint")]
    Elsewhere {
        /// What it is.
        found: String,
    },
    /// The service does not have the port.
    #[error("{service} has no port {port}")]
    NoSuchPort {
        /// The service.
        service: ServiceKey,
        /// The port.
        port: u16,
    },
}

impl Waypoint {
    /// Whose policies of requests are asked about what comes for `bound`, the widest first.
    #[must_use]
    pub fn targets(&self, bound: &Bound) -> Vec<Target> {
        let own = Target::Waypoint { namespace: self.service.namespace.clone(), name: self.gateway.clone() };
        let of_service = match bound {
            Bound::Service { service, .. } => Some(Target::Service(service.key())),
            Bound::Workload { .. } => None,
        };
        [Target::Mesh, own].into_iter().chain(of_service).collect()
    }

    /// Whether a service's traffic goes through it, all or a share.
    #[must_use]
    pub fn serves(&self, world: &Snapshot, service: &Service) -> bool {
        let shared = service.weighted_waypoints.iter().map(|(reference, _)| reference);
        service.waypoint.iter().chain(shared).any(|reference| self.is(world, reference))
    }

    /// Whether traffic that is addressed to a workload goes through it.
    #[must_use]
    pub fn serves_workload(&self, world: &Snapshot, workload: &Workload) -> bool {
        workload.waypoint.as_ref().is_some_and(|reference| self.is(world, reference))
    }

    fn is(&self, world: &Snapshot, reference: &GatewayRef) -> bool {
        match &reference.destination {
            GatewayDestination::Host(key) => *key == self.service,
            GatewayDestination::Address(address) => {
                let own = world.service(&self.service);
                self.addresses.contains(address) || own.is_some_and(|own| own.vips.contains(address))
            }
        }
    }
}

/// What `asked` is to a waypoint. Services of the client's own namespace go first among those of one address.
///
/// # Errors
/// [`NotBound`] when it is nothing that goes through this waypoint.
pub fn bound(
    world: &Snapshot,
    waypoint: &Waypoint,
    asked: &Authority,
    client: &Namespace,
) -> Result<Bound, NotBound> {
    let served = |service: &&Arc<Service>| waypoint.serves(world, service);
    match asked {
        Authority::Address(target) => {
            let address = NetworkAddress::new(waypoint.network.clone(), target.ip());
            if let Some(service) = preferred(services_at(world, &address).filter(served), client) {
                return port_of(service, target.port());
            }
            let workload = world.workload_by_address(&address);
            match workload.filter(|workload| waypoint.serves_workload(world, workload)) {
                Some(workload) => Ok(Bound::Workload { workload: Arc::clone(workload), target: *target }),
                None => {
                    let service =
                        services_at(world, &address).next().map(|service| service.key().to_string());
                    let found = service.or_else(|| workload.map(|workload| workload.uid.to_string()));
                    Err(found
                        .map_or(NotBound::UnknownAddress(address), |found| NotBound::Elsewhere { found }))
                }
            }
        }
        Authority::Host { hostname, port } => {
            let all = world.services_by_host(hostname);
            match preferred(all.iter().filter(served), client) {
                Some(service) => port_of(service, *port),
                None => Err(all.first().map_or_else(
                    || NotBound::UnknownHost(hostname.clone()),
                    |service| NotBound::Elsewhere { found: service.key().to_string() },
                )),
            }
        }
    }
}

fn port_of(service: &Arc<Service>, port: u16) -> Result<Bound, NotBound> {
    if !service.ports.contains_key(&port) {
        return Err(NotBound::NoSuchPort { service: service.key(), port });
    }
    Ok(Bound::Service { service: Arc::clone(service), port, subset: None })
}

/// The way from a waypoint to an endpoint of a service's port, which is the flow's. No waypoint of the service is
/// asked again: its traffic has come through one, or was sent on by the routes of one.
///
/// # Errors
/// As [`super::plan`].
pub fn plan_endpoint(
    world: &Snapshot,
    flow: &Flow,
    service: &Arc<Service>,
    hints: &Hints,
    pick: &mut impl Pick,
) -> Result<Plan, Refusal> {
    Planner { world, flow, hints, pick }.beyond_waypoint(service)
}

/// The endpoints that the way from a waypoint may lead to, by uid, for who chooses among them itself.
///
/// # Errors
/// When there is none.
pub fn endpoints_of(
    world: &Snapshot,
    flow: &Flow,
    service: &Arc<Service>,
    hints: &Hints,
) -> Result<Vec<Endpoint>, Refusal> {
    let port = flow.dst.port();
    let (client, avoid, left) = (&*flow.source, &*hints.avoid, hints.left());
    let ask = Ask { client, service, port, role: Role::Destination, avoid, left };
    candidates(world, &ask).map_err(|why| Refusal::NoEndpoint { service: service.key(), why })
}

/// The way from a waypoint to this endpoint of a service.
///
/// # Errors
/// As [`plan_endpoint`].
pub fn plan_to(
    world: &Snapshot,
    flow: &Flow,
    (service, endpoint): (&Arc<Service>, Endpoint),
    hints: &Hints,
    pick: &mut impl Pick,
) -> Result<Plan, Refusal> {
    Planner { world, flow, hints, pick }.beyond_to(endpoint, service)
}

/// The way from a waypoint to a workload that was addressed itself.
pub fn plan_workload(world: &Snapshot, flow: &Flow, workload: &Arc<Workload>, pick: &mut impl Pick) -> Plan {
    Planner { world, flow, hints: &Hints::default(), pick }.addressed(workload)
}

#[cfg(test)]
mod tests;
