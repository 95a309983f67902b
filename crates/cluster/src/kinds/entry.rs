//! Istio's entries for services and workloads outside of Kubernetes, with its field names.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::{Meta, Texts};
use crate::kinds::policy::PolicyCondition;
use crate::kinds::scalar::{Cidr, Ip, Port, Word};
use crate::kinds::schema;

/// A service outside of Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceEntry {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ServiceEntrySpec,
    /// What was given.
    pub status: ServiceEntryStatus,
}

impl ServiceEntry {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        let spec = &self.spec;
        if spec.hosts.is_empty() {
            return Err(Wrong::field("spec.hosts", "[]", "no host", "name at least one host"));
        }
        if let Some((at, host)) = spec.hosts.iter().enumerate().find(|(_, host)| host.0.contains('/')) {
            let remedy = "write a DNS name; what can see the entry is said by exportTo";
            return Err(Wrong::field(format!("spec.hosts[{at}]"), &host.0, "not a host name", remedy));
        }
        let inline = !spec.endpoints.is_empty();
        if inline && spec.workload_selector.is_some() {
            let remedy = "keep one of the two";
            return Err(Wrong::field("spec.endpoints", "", "given together with workloadSelector", remedy));
        }
        if inline && matches!(spec.resolution, Resolution::None | Resolution::DynamicDns) {
            let remedy = "remove the endpoints, or use STATIC or DNS";
            return Err(Wrong::field("spec.endpoints", "", "this resolution takes no endpoints", remedy));
        }
        Ok(())
    }
}

/// What is read of a service entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["hosts"]))]
pub struct ServiceEntrySpec {
    /// Host names.
    #[schemars(length(min = 1, max = 256))]
    pub hosts: Vec<Word>,
    /// Virtual addresses and ranges.
    #[schemars(length(max = 256))]
    pub addresses: Vec<Cidr>,
    /// Ports.
    #[schemars(schema_with = "schema::by_name::<EntryPort>", length(max = 256))]
    pub ports: Vec<EntryPort>,
    /// Not used by the mesh.
    #[schemars(extend("enum" = ["MESH_EXTERNAL", "MESH_INTERNAL"]))]
    pub location: String,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints.
    #[schemars(length(max = 4096))]
    pub endpoints: Vec<EntryEndpoint>,
    /// Endpoints by label.
    pub workload_selector: Option<WorkloadSelector>,
    /// Not used by the mesh.
    pub export_to: Vec<String>,
    /// Further identities accepted of its endpoints.
    pub subject_alt_names: Vec<Word>,
}

/// Chooses pods and workload entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadSelector {
    /// The labels.
    pub labels: Texts,
}

/// How endpoints are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// The client has the address already.
    #[default]
    None,
    /// They are given.
    Static,
    /// By DNS.
    Dns,
    /// By DNS, one address at a time.
    DnsRoundRobin,
    /// By DNS at the moment of the request.
    DynamicDns,
}

/// A service entry's port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["number", "name"]))]
pub struct EntryPort {
    /// The number clients use.
    pub number: Port,
    /// What is spoken there.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub protocol: String,
    /// Its name.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The endpoint's port; none: the same number.
    #[serde(default)]
    pub target_port: Option<Port>,
}

/// An endpoint written into a service entry; also the specification of a workload entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EntryEndpoint {
    /// An IP address or a host name.
    #[schemars(length(max = 256))]
    pub address: String,
    /// Ports by the service port's name.
    #[schemars(extend("maxProperties" = 128))]
    pub ports: BTreeMap<String, Port>,
    /// Labels.
    #[schemars(extend("maxProperties" = 256))]
    pub labels: Texts,
    /// The network; empty: the cluster's own.
    #[schemars(length(max = 2048))]
    pub network: String,
    /// `region/zone/subzone`.
    #[schemars(length(max = 2048))]
    pub locality: String,
    /// Relative weight; 0: not given.
    pub weight: u32,
    /// The account it runs as.
    #[schemars(length(max = 253))]
    pub service_account: String,
}

/// What is read of a service entry's status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServiceEntryStatus {
    /// Addresses that were given to hosts.
    pub addresses: Vec<GivenAddress>,
    /// What is true of it.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<PolicyCondition>,
}

/// An address that was given to a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct GivenAddress {
    /// The address.
    pub value: Ip,
    /// The host.
    #[serde(default)]
    pub host: String,
}

/// A workload outside of Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WorkloadEntry {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: EntryEndpoint,
    /// What is.
    pub status: WorkloadEntryStatus,
}

/// What is read of a workload entry's status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorkloadEntryStatus {
    /// What is true of it.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<PolicyCondition>,
}

impl WorkloadEntry {
    /// Its labels: those of its metadata before those that it says beside its address.
    #[must_use]
    pub fn labels(&self) -> Texts {
        let mut labels = self.spec.labels.clone();
        labels.extend(self.metadata.labels.clone());
        labels
    }

    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        if self.spec.address.is_empty() && self.spec.network.is_empty() {
            let remedy = "give an IP address or a host name";
            return Err(Wrong::field("spec.address", "", "missing", remedy));
        }
        Ok(())
    }
}
