//! Why a flow goes nowhere. Owns the reasons, their words and whom to blame.

use crate::address::NetworkAddress;
use crate::balance::NoEndpoint;
use crate::name::{Label, Network, ServiceKey, WorkloadUid};
use crate::workload::{GatewayDestination, GatewayRef};

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The application dialled one of our own listeners.
    #[error("port {port} on this pod is the mesh's own")]
    ReservedPort {
        /// The port.
        port: u16,
    },
    /// The service has no endpoint for this connection.
    #[error("service {service}: {why}")]
    NoEndpoint {
        /// The service.
        service: ServiceKey,
        /// What is wrong with its endpoints.
        why: NoEndpoint,
    },
    /// The service is at whatever address is asked for, and it has none of its own where it was asked for by another.
    #[error("service {service} is where it is asked for, and it was not asked for at an address of its own")]
    AddressNeeded {
        /// The service.
        service: ServiceKey,
    },
    /// The workload has neither an address in an allowed family nor a name.
    #[error("workload {workload} has no address that may be used")]
    NoAddress {
        /// The workload.
        workload: WorkloadUid,
    },
    /// The waypoint that must be gone through was not found. Never gone around.
    #[error("waypoint {}: {why}", Shown(.waypoint))]
    WaypointUnresolved {
        /// The reference.
        waypoint: GatewayDestination,
        /// What is wrong with it.
        why: Unresolved,
    },
    /// The destination is on another network and no gateway is known for it.
    #[error("workload {workload} is on network {network:?}, which has no gateway")]
    GatewayMissing {
        /// The workload.
        workload: WorkloadUid,
        /// Its network.
        network: Network,
    },
    /// The gateway of another network was not found.
    #[error("network gateway {}: {why}", Shown(.gateway))]
    GatewayUnresolved {
        /// The reference.
        gateway: GatewayDestination,
        /// What is wrong with it.
        why: Unresolved,
    },
    /// The destination is behind a gateway, and the service that leads there lists nobody who may answer.
    #[error(
        "workload {workload} is on another network, and its service lists no identity that may answer there"
    )]
    NobodyExpected {
        /// The workload.
        workload: WorkloadUid,
    },
    /// Not an end: resolve this name, then plan again with the answer among the hints.
    #[error("name {hostname} must be resolved first")]
    NameNeeded {
        /// The name.
        hostname: Label,
    },
    /// The name resolves to nothing.
    #[error("name {hostname} resolves to no address")]
    NameUnresolved {
        /// The name.
        hostname: Label,
    },
}

/// What is wrong with a reference to a gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No service and no workload has this host.
    #[error("neither a service nor a workload {0} is known")]
    UnknownHost(ServiceKey),
    /// No workload and no service has this address.
    #[error("nothing is known at {0}")]
    UnknownAddress(NetworkAddress),
    /// It is a service without an endpoint that would do.
    #[error("service {service}: {why}")]
    NoEndpoint {
        /// The service.
        service: ServiceKey,
        /// What is wrong with its endpoints.
        why: NoEndpoint,
    },
    /// It is on another network and the destination is not a service.
    #[error("it is on another network, where only services can be asked for")]
    OtherNetwork,
}

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The application that dialled.
    Client,
    /// The destination, its endpoints or its ports.
    Destination,
    /// The mesh: its waypoints, gateways and names.
    Mesh,
}

impl Refusal {
    /// Who has to change something.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::ReservedPort { .. } | Self::NoEndpoint { why: NoEndpoint::PortNotOnService(_), .. } => {
                Blame::Client
            }
            Self::NoEndpoint { .. } | Self::NoAddress { .. } | Self::AddressNeeded { .. } => {
                Blame::Destination
            }
            Self::WaypointUnresolved { .. }
            | Self::GatewayMissing { .. }
            | Self::GatewayUnresolved { .. }
            | Self::NobodyExpected { .. }
            | Self::NameNeeded { .. }
            | Self::NameUnresolved { .. } => Blame::Mesh,
        }
    }

    /// A closed label for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ReservedPort { .. } => "reserved_port",
            Self::NoEndpoint { why: NoEndpoint::PortNotOnService(_), .. } => "port_not_on_service",
            Self::NoEndpoint { why: NoEndpoint::Unhealthy(_), .. } => "no_healthy_upstream",
            Self::NoEndpoint { .. } => "no_endpoint",
            Self::NoAddress { .. } | Self::AddressNeeded { .. } => "no_address",
            Self::WaypointUnresolved { .. } => "waypoint_unresolved",
            Self::GatewayMissing { .. } => "gateway_missing",
            Self::GatewayUnresolved { .. } => "gateway_unresolved",
            Self::NobodyExpected { .. } => "nobody_expected",
            Self::NameNeeded { .. } | Self::NameUnresolved { .. } => "name_unresolved",
        }
    }
}

pub(super) fn unresolved_waypoint(reference: &GatewayRef, why: Unresolved) -> Refusal {
    Refusal::WaypointUnresolved { waypoint: reference.destination.clone(), why }
}

struct Shown<'a>(&'a GatewayDestination);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            GatewayDestination::Host(key) => key.fmt(f),
            GatewayDestination::Address(address) => address.fmt(f),
        }
    }
}
