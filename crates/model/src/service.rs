//! A service: a host name with virtual addresses and ports (`wire.md` 4). It carries no endpoints:
//! membership comes from the workloads.

use std::collections::BTreeMap;

use crate::address::{NetworkAddress, NetworkRange};
use crate::name::{Hostname, Label, Namespace, ServiceKey};
use crate::workload::GatewayRef;

/// One service as the mesh knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The object's name; informational.
    pub name: Label,
    /// The owning namespace; half of the key.
    pub namespace: Namespace,
    /// The host; half of the key.
    pub hostname: Hostname,
    /// Virtual addresses; empty for a headless service.
    pub vips: Vec<NetworkAddress>,
    /// Virtual ranges.
    pub ranges: Vec<NetworkRange>,
    /// Ports by service port.
    pub ports: BTreeMap<u16, ServicePort>,
    /// Further identities accepted of its endpoints, as SPIFFE URIs.
    pub subject_alt_names: Vec<Label>,
    /// The waypoint all clients go through.
    pub waypoint: Option<GatewayRef>,
    /// A weighted choice of waypoints per connection; overrides `waypoint` when any weight is above 0.
    pub weighted_waypoints: Vec<(GatewayRef, u32)>,
    /// How an endpoint is chosen.
    pub load_balancing: Option<LoadBalancing>,
    /// Address families the service supports.
    pub families: Families,
    /// Preferred among services of one host name outside its namespace.
    pub canonical: bool,
    /// Ingress gateways use the waypoint as well.
    pub ingress_use_waypoint: bool,
    /// Who may resolve it.
    pub visibility: Visibility,
}

impl Service {
    /// `<namespace>/<hostname>`.
    #[must_use]
    pub fn key(&self) -> ServiceKey {
        ServiceKey { namespace: self.namespace.clone(), hostname: self.hostname.clone() }
    }
}

/// One port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// The default target port; 0 when it is named and differs by workload.
    pub target: u16,
    /// What is spoken there.
    pub protocol: AppProtocol,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// Not said.
    Unknown,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC, asked for as browsers do.
    GrpcWeb,
    /// Opaque TCP.
    Tcp,
    /// TLS.
    Tls,
}

impl AppProtocol {
    /// Whether it is HTTP of any kind.
    #[must_use]
    pub fn is_http(self) -> bool {
        match self {
            Self::Http11 | Self::Http2 | Self::Grpc | Self::GrpcWeb => true,
            Self::Unknown | Self::Tcp | Self::Tls => false,
        }
    }
}

/// Address families a service supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Families {
    /// From its addresses.
    Automatic,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

impl Service {
    /// Whether nobody chooses among its endpoints: clients have the address of theirs already.
    #[must_use]
    pub fn is_passed_through(&self) -> bool {
        self.load_balancing.as_ref().is_some_and(|it| it.mode == BalanceMode::Passthrough)
    }
}

/// Who may resolve a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Every client.
    Public,
    /// Clients of its namespace.
    Namespace,
}

/// How an endpoint of a service is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoadBalancing {
    /// What is compared, most significant first.
    pub preference: Vec<Scope>,
    /// What the comparison means.
    pub mode: BalanceMode,
    /// Whether unhealthy endpoints take part.
    pub health: HealthRule,
}

/// One thing in which a client and an endpoint may agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The same region.
    Region,
    /// The same zone.
    Zone,
    /// The same subzone.
    Subzone,
    /// The same node.
    Node,
    /// The same cluster.
    Cluster,
    /// The same network.
    Network,
}

/// What agreeing means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BalanceMode {
    /// No preference.
    Standard,
    /// Only endpoints that agree in everything.
    Strict,
    /// The endpoints that agree in most.
    Failover,
    /// No choice: the original destination is kept.
    Passthrough,
}

/// Which endpoints are eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthRule {
    /// Healthy ones.
    OnlyHealthy,
    /// All.
    AllowAll,
}
