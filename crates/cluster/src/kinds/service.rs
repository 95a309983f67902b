//! Kubernetes services and endpoint slices: what is read of them.

use serde::Deserialize;

use crate::kinds::meta::{Meta, Texts};
use crate::kinds::policy::PolicyCondition;
use crate::kinds::scalar::{ClusterIp, Port, PortName};

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ServiceSpec,
    /// What is.
    pub status: ServiceStatus,
}

/// What is read of a service's status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceStatus {
    /// What is true of it.
    pub conditions: Vec<PolicyCondition>,
}

/// What is read of a service's specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ExternalName` services are names only.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Which pods stand behind it; empty: none by label.
    pub selector: Texts,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// The address.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<ClusterIp>,
    /// All addresses.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<ClusterIp>,
    /// Address families.
    pub ip_families: Vec<IpFamily>,
    /// `Local`: only endpoints of the client's node.
    pub internal_traffic_policy: String,
    /// Which endpoints are preferred.
    pub traffic_distribution: Option<String>,
    /// Unready pods count as well.
    pub publish_not_ready_addresses: bool,
}

impl ServiceSpec {
    /// The addresses; none for a headless service.
    #[must_use]
    pub fn vips(&self) -> Vec<std::net::IpAddr> {
        if self.cluster_ips.is_empty() {
            return self.cluster_ip.iter().filter_map(|ip| ip.0).collect();
        }
        self.cluster_ips.iter().filter_map(|ip| ip.0).collect()
    }
}

/// How a service is exposed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// Also on each node.
    NodePort,
    /// Also by a load balancer.
    LoadBalancer,
    /// A DNS alias only.
    ExternalName,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum IpFamily {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

/// A service's port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The number clients use.
    pub port: Port,
    /// The pod's port; none: the same number.
    #[serde(default)]
    pub target_port: Option<PortName>,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    #[serde(default)]
    pub protocol: String,
    /// What is spoken there.
    #[serde(default)]
    pub app_protocol: Option<String>,
}

/// Endpoints of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Metadata.
    pub metadata: Meta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Their ports, by the service's port names.
    pub ports: Vec<EndpointPort>,
}

impl EndpointSlice {
    /// The service it belongs to, by its label.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.metadata.label("kubernetes.io/service-name")
    }
}

/// One endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Addresses, of which the first counts.
    pub addresses: Vec<String>,
    /// Whether it is ready.
    pub conditions: EndpointConditions,
    /// The object behind it.
    pub target_ref: Option<TargetRef>,
    /// The node it runs on.
    pub node_name: String,
    /// The zone it runs in.
    pub zone: String,
}

/// What is true of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Absent means ready.
    pub ready: Option<bool>,
}

/// The object behind an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub uid: String,
}

/// A port of all endpoints of a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// The service port's name.
    pub name: String,
    /// The number.
    pub port: Option<Port>,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    pub protocol: String,
}
