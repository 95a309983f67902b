//! A workload: one pod, one virtual machine, one external endpoint, one gateway (`wire.md` 4).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::NetworkAddress;
use crate::name::{
    ClusterId, Identity, Label, Namespace, Network, NodeName, PolicyKey, ServiceAccount, ServiceKey,
    TrustDomain, WorkloadUid,
};

/// One workload as the mesh knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The key; equals the xDS resource name.
    pub uid: WorkloadUid,
    /// The pod's or entry's name; informational.
    pub name: Label,
    /// Part of the identity.
    pub namespace: Namespace,
    /// Its addresses, in the order given.
    pub addresses: Vec<IpAddr>,
    /// A DNS name to be resolved when there is no address; empty: none.
    pub hostname: Label,
    /// The network its addresses live on.
    pub network: Network,
    /// How peers reach it.
    pub tunnel: Tunnel,
    /// It terminates HBONE itself.
    pub native_tunnel: bool,
    /// Defaults to `cluster.local`.
    pub trust_domain: TrustDomain,
    /// Defaults to `default`.
    pub service_account: ServiceAccount,
    /// The waypoint for traffic addressed to this workload directly.
    pub waypoint: Option<GatewayRef>,
    /// How to reach it from another network.
    pub network_gateway: Option<GatewayRef>,
    /// The node it runs on; empty: none.
    pub node: NodeName,
    /// Telemetry: the canonical service.
    pub canonical_name: Label,
    /// Telemetry: the canonical service's revision.
    pub canonical_revision: Label,
    /// Telemetry: the owner's kind.
    pub kind: WorkloadKind,
    /// Telemetry: the owner's name.
    pub workload_name: Label,
    /// How the last hop hands traffic over.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Services it is an endpoint of, with its own ports: service port -> target port (0: unresolved).
    pub services: BTreeMap<ServiceKey, BTreeMap<u16, u16>>,
    /// Policies chosen for it by selector.
    pub policies: Vec<PolicyKey>,
    /// Whether it may be given traffic.
    pub health: Health,
    /// The cluster it lives in; empty on the wire means `Kubernetes`.
    pub cluster: ClusterId,
    /// Where it runs.
    pub locality: Locality,
    /// It shares its node's address, so it is never found by address.
    pub host_network: bool,
    /// Relative weight among endpoints; 0 is never picked.
    pub capacity: u32,
    /// Those of its labels that routes look at.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

impl Workload {
    /// The identity that it proves and that peers expect of it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            trust_domain: self.trust_domain.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }
}

/// How peers reach a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// Plain TCP.
    None,
    /// HTTP CONNECT over mutual TLS.
    Hbone,
}

/// Whether a workload may be given traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Ready.
    Healthy,
    /// Not ready.
    Unhealthy,
}

/// The kind of object that owns a workload; telemetry only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// A Pod; what control planes send today.
    Pod,
    /// A Job.
    Job,
}

impl WorkloadKind {
    /// The lower-case name used in `baggage` (`ztunnel.md` 2.5).
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }
}

/// How the last hop hands traffic to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// The encoding.
    pub protocol: Handover,
    /// The port instead of the original one.
    pub port: Option<u16>,
}

/// The encoding of a hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handover {
    /// Bytes unchanged.
    Plain,
    /// A PROXY protocol version 2 header first.
    Proxy,
}

/// Region, zone and subzone of a node. Empty parts are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The region.
    pub region: Label,
    /// The zone.
    pub zone: Label,
    /// The subzone.
    pub subzone: Label,
}

/// Where a waypoint or network gateway is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayRef {
    /// By host or by address.
    pub destination: GatewayDestination,
    /// The port for HBONE with mutual TLS.
    pub hbone_port: u16,
}

/// The two ways to name a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// A service, or a workload with that host name.
    Host(ServiceKey),
    /// An address on a network.
    Address(NetworkAddress),
}
