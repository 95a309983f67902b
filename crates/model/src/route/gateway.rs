//! Waypoints and network gateways: from a reference to a workload and a port (`ztunnel.md` 4.4, 4.5), and the
//! question whether a workload is one itself. What is referred to and cannot be found is a refusal.

use std::net::IpAddr;
use std::sync::Arc;

use super::find::{service_by_address, services_at};
use super::refusal::{Refusal, Unresolved, unresolved_waypoint};
use super::{Plan, Planner, Relayed, Tunnelled, identities, listed};
use crate::address::{Authority, NetworkAddress};
use crate::balance::{Ask, Pick, Role, choose};
use crate::name::ServiceKey;
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::workload::{GatewayDestination, GatewayRef, Workload};

/// A gateway that was found.
pub(super) struct Found {
    pub(super) workload: Arc<Workload>,
    /// The service it was found through.
    pub(super) service: Option<Arc<Service>>,
    pub(super) port: u16,
    /// An address of the family in which it is to be dialled.
    pub(super) family: IpAddr,
}

impl<'a, P: Pick> Planner<'a, P> {
    /// The waypoint to go through: none when the flow's source is that waypoint.
    pub(super) fn foreign_waypoint<'r>(&self, reference: Option<&'r GatewayRef>) -> Option<&'r GatewayRef> {
        let source = &self.flow.source;
        reference
            .filter(|r| !(source.addresses.contains(&self.flow.client.ip()) && is(self.world, r, source)))
    }

    pub(super) fn waypoint(&mut self, reference: &GatewayRef) -> Result<Found, Refusal> {
        self.resolve(reference, Role::Waypoint).map_err(|why| unresolved_waypoint(reference, why))
    }

    /// HBONE inside HBONE to a workload on another network. `inner` is the service whose listed identities
    /// answer inside.
    pub(super) fn relay(
        &mut self,
        next: &Arc<Workload>,
        inner: Option<&Service>,
        service: &Arc<Service>,
    ) -> Result<Plan, Refusal> {
        let Some(reference) = &next.network_gateway else {
            return Err(Refusal::GatewayMissing {
                workload: next.uid.clone(),
                network: next.network.clone(),
            });
        };
        let gateway = self
            .resolve(reference, Role::Gateway)
            .map_err(|why| Refusal::GatewayUnresolved { gateway: reference.destination.clone(), why })?;
        // Only the service says who answers there: a workload of another network may stand for many, and an
        // identity that we derive from its record is nothing that its own network has vouched for.
        let expect = listed(inner);
        if expect.is_empty() {
            return Err(Refusal::NobodyExpected { workload: next.uid.clone() });
        }
        let (hostname, through) = (service.hostname.clone(), gateway.service.clone());
        let outer = Tunnelled {
            hop: self.hop_of(&gateway)?,
            authority: Authority::Host { hostname, port: self.flow.dst.port() },
            expect: identities(gateway.service.as_deref(), &gateway.workload),
            destination: gateway.workload,
            service: Some(Arc::clone(service)),
        };
        let destination = Arc::clone(next);
        Ok(Plan::ViaGateway(Relayed { outer, expect, destination, gateway: through }))
    }

    fn resolve(&mut self, reference: &GatewayRef, role: Role) -> Result<Found, Unresolved> {
        let port = reference.hbone_port;
        match &reference.destination {
            GatewayDestination::Address(address) => self.resolve_address(address, port, role),
            GatewayDestination::Host(key) => self.resolve_host(key, port, role),
        }
    }

    fn resolve_address(&mut self, at: &NetworkAddress, port: u16, role: Role) -> Result<Found, Unresolved> {
        let (world, family): (&'a Snapshot, IpAddr) = (self.world, at.ip);
        if let Some(workload) = world.workload_by_address(at) {
            return Ok(Found { workload: Arc::clone(workload), service: None, port, family });
        }
        let service = service_by_address(world, at, Some(&self.flow.source.namespace))
            .filter(|service| !service.is_passed_through())
            .ok_or_else(|| Unresolved::UnknownAddress(at.clone()))?;
        self.resolve_service(service, port, role).map(|found| Found { family, ..found })
    }

    fn resolve_host(&mut self, key: &ServiceKey, port: u16, role: Role) -> Result<Found, Unresolved> {
        let world = self.world;
        if let Some(service) = world.service(key) {
            return self.resolve_service(service, port, role);
        }
        let workload = world.workload_by_host(key).ok_or_else(|| Unresolved::UnknownHost(key.clone()))?;
        let family = self.flow.dst.ip();
        Ok(Found { workload: Arc::clone(workload), service: None, port, family })
    }

    fn resolve_service(
        &mut self,
        service: &Arc<Service>,
        port: u16,
        role: Role,
    ) -> Result<Found, Unresolved> {
        let (client, avoid) = (&self.flow.source, &self.hints.avoid);
        let ask = Ask { client, service, port, role, avoid, left: &[] };
        let endpoint = choose(self.world, &ask, self.pick)
            .map_err(|why| Unresolved::NoEndpoint { service: service.key(), why })?;
        Ok(Found {
            workload: endpoint.workload,
            service: Some(Arc::clone(service)),
            port: endpoint.target_port,
            family: self.flow.dst.ip(),
        })
    }
}

/// True when a workload is what a gateway reference refers to, or one of several.
pub(super) fn is(world: &Snapshot, reference: &GatewayRef, workload: &Workload) -> bool {
    let behind = |service: &Arc<Service>| world.is_endpoint(&service.key(), &workload.uid);
    match &reference.destination {
        GatewayDestination::Address(address) => match world.workload_by_address(address) {
            Some(found) => found.uid == workload.uid,
            // Of several services with this address, clients of different namespaces mean different ones.
            None => services_at(world, address).any(behind),
        },
        GatewayDestination::Host(key) => match world.service(key) {
            Some(service) => behind(service),
            None => world.workload_by_host(key).is_some_and(|found| found.uid == workload.uid),
        },
    }
}
