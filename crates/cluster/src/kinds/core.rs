//! Nodes, namespaces, service accounts and pods: what is read of them, and no more.

use std::sync::Arc;

use serde::Deserialize;

use crate::kinds::meta::{Meta, shared, snug};
use crate::kinds::scalar::{Ip, Port, PortName};
use crate::kinds::text::Text;

/// A machine; all that is read are its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Metadata.
    pub metadata: Meta,
    /// Addresses.
    pub status: NodeStatus,
}

/// What is read of a node's status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// The node's own addresses.
    pub addresses: Vec<NodeAddress>,
}

/// One address of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub address: String,
}

/// A namespace; all that is read are its labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Metadata.
    pub metadata: Meta,
}

/// A service account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    /// Metadata.
    pub metadata: Meta,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

impl Pod {
    /// The service account; `default` when none is given.
    #[must_use]
    pub fn service_account(&self) -> &str {
        if self.spec.service_account_name.is_empty() { "default" } else { &self.spec.service_account_name }
    }

    /// All its addresses, the older single field included.
    #[must_use]
    pub fn ips(&self) -> Vec<std::net::IpAddr> {
        if self.status.pod_ips.is_empty() {
            return self.status.pod_ip.iter().map(|ip| ip.0).collect();
        }
        self.status.pod_ips.iter().map(|entry| entry.ip.0).collect()
    }

    /// Whether all its containers have ended for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether the condition `Ready` holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.conditions.ready
    }
}

/// What is read of a pod's specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it runs on; empty: not placed yet.
    pub node_name: Text,
    /// The account it runs as; empty: `default`.
    pub service_account_name: Text,
    /// It shares its node's network.
    pub host_network: bool,
    /// Containers.
    #[serde(deserialize_with = "shared")]
    pub containers: Arc<[Container]>,
    /// Containers that run before those, or beside them (`restartPolicy: Always`).
    #[serde(deserialize_with = "shared")]
    pub init_containers: Arc<[Container]>,
}

/// What is read of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its ports.
    #[serde(deserialize_with = "snug")]
    pub ports: Vec<ContainerPort>,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: String,
    /// Asked to tell whether it is alive.
    pub liveness_probe: Option<Probe>,
    /// Asked to tell whether it is ready.
    pub readiness_probe: Option<Probe>,
    /// Asked to tell whether it has started.
    pub startup_probe: Option<Probe>,
}

/// A container's port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The number.
    pub container_port: Port,
    /// The name.
    pub name: String,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    pub protocol: String,
}

/// What is read of a probe: whether it comes over the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// By HTTP.
    pub http_get: Option<ProbePort>,
    /// By TCP.
    pub tcp_socket: Option<ProbePort>,
    /// By gRPC.
    pub grpc: Option<ProbePort>,
}

/// Where a probe asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct ProbePort {
    /// The port.
    pub port: Option<PortName>,
}

/// What is read of a pod's status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// How far it is.
    pub phase: Phase,
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Ip>,
    /// All its addresses.
    #[serde(rename = "podIPs", deserialize_with = "snug")]
    pub pod_ips: Vec<PodIp>,
    /// Its node's address.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<Ip>,
    /// What is read of its conditions.
    pub conditions: PodConditions,
}

/// The condition by which the node daemon says whether a pod is proven to be in the mesh.
pub const ENROLLED: &str = "ambit.io/Enrolled";

/// Of a pod's conditions two: there are six or more, on each of very many pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodConditions {
    /// Whether `Ready` holds.
    pub ready: bool,
    /// [`ENROLLED`], where it is there.
    pub enrolled: Option<Box<Enrolled>>,
}

/// What [`ENROLLED`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// `True`, `False` or `Unknown`.
    pub status: Box<str>,
    /// Why, in a word.
    pub reason: Box<str>,
    /// Since when the status is what it is.
    pub since: Box<str>,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Phase {
    /// Accepted, not all containers started.
    #[default]
    Pending,
    /// Started.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Its node does not answer.
    Unknown,
}

/// One entry of `podIPs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PodIp {
    /// The address.
    pub ip: Ip,
}

/// Something that is true, false or unknown of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// What about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// A pod's condition, with what is kept of one alone.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    status: Box<str>,
    reason: Box<str>,
    last_transition_time: Option<Box<str>>,
}

impl<'de> Deserialize<'de> for PodConditions {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut it = Self::default();
        for listed in Vec::<Listed>::deserialize(input)? {
            let Listed { kind, status, reason, last_transition_time } = listed;
            match kind.as_str() {
                "Ready" => it.ready = &*status == "True",
                ENROLLED => {
                    let since = last_transition_time.unwrap_or_default();
                    it.enrolled = Some(Box::new(Enrolled { status, reason, since }));
                }
                _ => {}
            }
        }
        Ok(it)
    }
}
