//! What a peer may ask for (`ztunnel.md` 5.2): a CONNECT target is an address of the pod it arrived at, or of
//! something this pod is the waypoint of. Owns that check and the resolution to the application's port.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::RESERVED_PORTS;
use super::find::{services_at, visible};
use super::gateway;
use crate::address::{Authority, ListenAddr, NetworkAddress, TargetAddr};
use crate::balance::target_port;
use crate::name::Hostname;
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::workload::{GatewayRef, Handover, Workload};

/// A target that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Where the application listens. Policy is judged against this.
    pub target: TargetAddr,
    /// How the connection is handed over.
    pub handed: Handed,
    /// The service that was asked for by name.
    pub service: Option<Arc<Service>>,
}

/// How a connection is handed to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// Bytes unchanged.
    Plain,
    /// After a PROXY header that names this destination.
    Proxy(SocketAddr),
}

/// Why a target may not be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The address is neither this pod's nor one it is the waypoint of.
    #[error("target {asked} is not an address of this workload ({own}) and it is not its waypoint")]
    NotOurs {
        /// The address asked for.
        asked: IpAddr,
        /// The address it was asked at.
        own: IpAddr,
    },
    /// No service of that host is this workload's or goes through it.
    #[error("host {0} is not a service of this workload and it is not its waypoint")]
    HostNotOurs(Hostname),
    /// No service of that host is known.
    #[error("host {0} is not a known service")]
    HostUnknown(Hostname),
    /// The service does not say which port of the workload is meant.
    #[error("service {hostname} has no target for port {port}")]
    PortUnresolved {
        /// The host.
        hostname: Hostname,
        /// The service port.
        port: u16,
    },
    /// A PROXY header is wanted and the service has no address to put in it.
    #[error("service {0} has no address")]
    NoVip(Hostname),
    /// The target is one of our own listeners.
    #[error("port {0} of this pod is the mesh's own")]
    ReservedPort(u16),
}

impl NotAdmitted {
    /// The status that answers the CONNECT (`ztunnel.md` 2.6).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NotOurs { .. } | Self::HostNotOurs(_) => 400,
            Self::HostUnknown(_) | Self::PortUnresolved { .. } | Self::NoVip(_) | Self::ReservedPort(_) => {
                503
            }
        }
    }
}

/// May a peer ask `local`, at this address of its tunnel listener, for this target?
///
/// # Errors
/// Why not.
pub fn admit(
    world: &Snapshot,
    local: &Workload,
    at: ListenAddr,
    asked: &Authority,
) -> Result<Admission, NotAdmitted> {
    let (ip, port, service) = match asked {
        Authority::Address(address) => {
            let ip = address_of(world, local, at, address.ip())?;
            (ip, address.port(), None)
        }
        Authority::Host { hostname, port } => {
            let service = service_of(world, local, hostname)?;
            let target = target_port(service, local, *port);
            let unresolved = || NotAdmitted::PortUnresolved { hostname: hostname.clone(), port: *port };
            (at.ip(), target.ok_or_else(unresolved)?, Some(service))
        }
    };
    if RESERVED_PORTS.contains(&port) {
        return Err(NotAdmitted::ReservedPort(port));
    }
    let tunnel = local.application_tunnel;
    let target = SocketAddr::new(ip, tunnel.and_then(|t| t.port).unwrap_or(port));
    let handed = match tunnel.map(|t| t.protocol) {
        None | Some(Handover::Plain) => Handed::Plain,
        Some(Handover::Proxy) => Handed::Proxy(named_in_header(local, asked, service)?),
    };
    Ok(Admission { target: TargetAddr::new(target), handed, service: service.map(Arc::clone) })
}

/// The address to dial for an address asked for.
fn address_of(
    world: &Snapshot,
    local: &Workload,
    at: ListenAddr,
    asked: IpAddr,
) -> Result<IpAddr, NotAdmitted> {
    // Asked for by another of its addresses, the pod gets the connection there.
    if asked == at.ip() || (local.addresses.contains(&asked) && !local.host_network) {
        return Ok(asked);
    }
    if local.application_tunnel.is_some() || is_waypoint_at(world, local, asked) {
        return Ok(at.ip());
    }
    Err(NotAdmitted::NotOurs { asked, own: at.ip() })
}

fn is_waypoint_at(world: &Snapshot, local: &Workload, asked: IpAddr) -> bool {
    let address = NetworkAddress::new(local.network.clone(), asked);
    if let Some(workload) = world.workload_by_address(&address) {
        return workload.waypoint.as_ref().is_some_and(|r| gateway::is(world, r, local));
    }
    services_at(world, &address).any(|service| is_waypoint_of(world, local, service))
}

/// True when the workload is a waypoint of a service, one of several included.
fn is_waypoint_of(world: &Snapshot, local: &Workload, service: &Service) -> bool {
    let weighted = service.weighted_waypoints.iter().map(|(reference, _)| reference);
    let is = |reference: &GatewayRef| gateway::is(world, reference, local);
    service.waypoint.iter().chain(weighted).any(is)
}

/// The service a host asks for: one of the workload's own first, then one it is the waypoint of. A workload
/// with an application tunnel takes any.
fn service_of<'a>(
    world: &'a Snapshot,
    local: &Workload,
    hostname: &Hostname,
) -> Result<&'a Arc<Service>, NotAdmitted> {
    let seen = || world.services_by_host(hostname).iter().filter(|s| visible(s, Some(&local.namespace)));
    let order = |s: &&Arc<Service>| (s.namespace != local.namespace, !s.canonical);
    let own = |s: &&Arc<Service>| local.services.contains_key(&s.key());
    let through = |s: &&Arc<Service>| local.application_tunnel.is_some() || is_waypoint_of(world, local, s);
    if let Some(service) = seen().filter(own).min_by_key(order) {
        return Ok(service);
    }
    if let Some(service) = seen().filter(through).min_by_key(order) {
        return Ok(service);
    }
    let known = seen().next().is_some();
    Err(if known {
        NotAdmitted::HostNotOurs(hostname.clone())
    } else {
        NotAdmitted::HostUnknown(hostname.clone())
    })
}

/// The destination a PROXY header names: what was asked for, or an address of the service asked for; on our own
/// network if it has one there, IPv4 before IPv6.
fn named_in_header(
    local: &Workload,
    asked: &Authority,
    service: Option<&Arc<Service>>,
) -> Result<SocketAddr, NotAdmitted> {
    match asked {
        Authority::Address(address) => Ok(*address),
        Authority::Host { hostname, port } => service
            .into_iter()
            .flat_map(|s| &s.vips)
            .min_by_key(|vip| (vip.network != local.network, vip.ip.is_ipv6()))
            .map(|vip| SocketAddr::new(vip.ip, *port))
            .ok_or_else(|| NotAdmitted::NoVip(hostname.clone())),
    }
}

/// The service a connection is counted for at its destination: the one the client named, if it is one of the
/// workload's; else the first of these (by key) that leads to this port.
#[must_use]
pub fn served<'a>(
    world: &'a Snapshot,
    local: &Workload,
    named: Option<&str>,
    target: TargetAddr,
) -> Option<&'a Arc<Service>> {
    let own = || local.services.keys().filter_map(|key| world.service(key));
    let by_name = named.and_then(|name| own().find(|s| s.hostname.as_str() == name));
    let leads_here =
        |s: &&Arc<Service>| s.ports.keys().any(|port| target_port(s, local, *port) == Some(target.port()));
    by_name.or_else(|| own().find(leads_here))
}

#[cfg(test)]
mod tests;
