//! The text's shapes, as serde sees them. Nothing is checked here but form; values are `read`'s.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) type Ports = BTreeMap<u16, u16>;

/// A whole local file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) workloads: Vec<Workload>,
    #[serde(default)]
    pub(super) services: Vec<Service>,
    #[serde(default)]
    pub(super) policies: Vec<Policy>,
    /// Only in dumps.
    #[serde(skip)]
    pub(super) staged_services: BTreeMap<String, BTreeMap<String, Endpoint>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Workload {
    pub(super) workload_ips: Vec<String>,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) service_account: String,
    #[serde(default)]
    pub(super) trust_domain: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) network: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) node: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) hostname: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) workload_name: String,
    #[serde(default)]
    pub(super) workload_type: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) canonical_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) canonical_revision: String,
    #[serde(default)]
    pub(super) cluster_id: String,
    #[serde(default)]
    pub(super) protocol: Protocol,
    #[serde(default)]
    pub(super) network_mode: NetworkMode,
    #[serde(default)]
    pub(super) status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waypoint: Option<Gateway>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network_gateway: Option<Gateway>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) application_tunnel: Option<ApplicationTunnel>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) authorization_policies: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) locality: Option<Locality>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) native_tunnel: bool,
    #[serde(default = "one")]
    pub(super) capacity: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Memberships::is_empty")]
    pub(super) services: Memberships,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn one() -> u32 {
    1
}

#[derive(Serialize, Deserialize, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "HBONE")]
    Hbone,
}

#[derive(Serialize, Deserialize, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkMode {
    #[default]
    Standard,
    HostNetwork,
}

#[derive(Serialize, Deserialize, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Healthy,
    Unhealthy,
}

/// The services of a workload: a file says their ports, a dump only their keys.
#[derive(Clone)]
pub(super) enum Memberships {
    Ports(BTreeMap<String, Ports>),
    Keys(Vec<String>),
}

impl Memberships {
    fn is_empty(&self) -> bool {
        match self {
            Self::Ports(map) => map.is_empty(),
            Self::Keys(keys) => keys.is_empty(),
        }
    }
}

impl Default for Memberships {
    fn default() -> Self {
        Self::Keys(Vec::new())
    }
}

impl Serialize for Memberships {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ports(map) => map.serialize(to),
            Self::Keys(keys) => keys.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Memberships {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Memberships;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map \"<namespace>/<hostname>\": {<service port>: <target port>}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Memberships, A::Error> {
                let mut found = BTreeMap::new();
                while let Some((key, ports)) = map.next_entry()? {
                    found.insert(key, ports);
                }
                Ok(Memberships::Ports(found))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Memberships, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = list.next_element()? {
                    keys.push(key);
                }
                Ok(Memberships::Keys(keys))
            }
        }
        from.deserialize_any(Either)
    }
}

/// `destination` is `<network>/<ip>` or `<namespace>/<hostname>`.
#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) destination: String,
    pub(super) hbone_mtls_port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ApplicationTunnel {
    pub(super) protocol: Handover,
    #[serde(default)]
    pub(super) port: Option<u16>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum Handover {
    #[serde(rename = "NONE")]
    Plain,
    #[serde(rename = "PROXY")]
    Proxy,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Locality {
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) subzone: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) hostname: String,
    pub(super) vips: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) cidr_vips: Vec<CidrVip>,
    pub(super) ports: Ports,
    #[serde(default)]
    pub(super) endpoints: BTreeMap<String, Endpoint>,
    #[serde(default)]
    pub(super) subject_alt_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waypoint: Option<Gateway>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) weighted_waypoints: Vec<WeightedWaypoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) load_balancer: Option<LoadBalancer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ip_families: Option<IpFamilies>,
    #[serde(default)]
    pub(super) canonical: bool,
    #[serde(default)]
    pub(super) visibility: Visibility,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CidrVip {
    #[serde(default)]
    pub(super) network: String,
    pub(super) cidr: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) workload_uid: String,
    #[serde(default)]
    pub(super) port: Ports,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WeightedWaypoint {
    pub(super) destination: Gateway,
    pub(super) weight: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LoadBalancer {
    pub(super) routing_preferences: Vec<Scope>,
    pub(super) mode: Mode,
    pub(super) health_policy: HealthPolicy,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum Scope {
    Region,
    Zone,
    Subzone,
    Node,
    Cluster,
    Network,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum Mode {
    Standard,
    Strict,
    Failover,
    Passthrough,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum HealthPolicy {
    OnlyHealthy,
    AllowAll,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum IpFamilies {
    Dual,
    IPv4,
    IPv6,
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(super) enum Visibility {
    #[default]
    Public,
    Namespace,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) scope: PolicyScope,
    pub(super) action: Action,
    pub(super) dry_run: bool,
    /// Rules, clauses, matches.
    pub(super) rules: Vec<Vec<Vec<Match>>>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum PolicyScope {
    Global,
    Namespace,
    WorkloadSelector,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum Action {
    Allow,
    Deny,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Match {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) namespaces: Vec<Text>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_namespaces: Vec<Text>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) service_accounts: Vec<Account>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_service_accounts: Vec<Account>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) principals: Vec<Text>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_principals: Vec<Text>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) source_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_source_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) destination_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_destination_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) destination_ports: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_destination_ports: Vec<u16>,
}

/// `!Exact x` in YAML, `{"Exact": "x"}` in JSON.
#[derive(Serialize, Deserialize)]
pub(super) enum Text {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Presence(Nothing),
}

/// An empty list, read and written. (An empty tuple variant writes the same, but `serde_json` does not read it
/// back out of a value.)
pub(super) struct Nothing;

impl Serialize for Nothing {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq([(); 0])
    }
}

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <[(); 0]>::deserialize(from).map(|[]| Self)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) service_account: String,
}
