//! Istio's DestinationRule, with its field names: how traffic to a host is spread over its endpoints, and kept within
//! bounds. Unknown fields are refused: a limit that is read without a word about it protects nobody. Rules that span several
//! fields are in `check`.

mod check;
mod resilience;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Number;

use crate::kinds::meta::{Meta, Texts};
use crate::kinds::policy::{PolicyStatus, Selector};
use crate::kinds::scalar::Port;

pub use self::resilience::{Resilience, Unread};

/// How traffic to a host is handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DestinationRule {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: DestinationSpec,
    /// What became of it.
    pub status: PolicyStatus,
}

/// What is read of a destination rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["host"]))]
pub struct DestinationSpec {
    /// The host, in full or as a service of the rule's namespace; `*` in front stands for any part.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// How its traffic is handled.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Parts of its endpoints.
    #[schemars(length(max = 256))]
    pub subsets: Vec<Subset>,
    /// Namespaces whose waypoints go by it: names, `.` for its own, `*` for all.
    #[schemars(length(max = 256))]
    pub export_to: Vec<String>,
    /// For whose traffic; only sidecars go by it.
    pub workload_selector: Option<Selector>,
}

/// A part of a host's endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct Subset {
    /// What routes call it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Labels that its endpoints have, all of them.
    #[schemars(extend("maxProperties" = 64))]
    pub labels: Texts,
    /// How its traffic is handled, where that is another.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How traffic is handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TrafficPolicy {
    /// Which endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// How much there may be at a time.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections to endpoints are secured.
    pub tls: Option<ClientTls>,
    /// The same of single ports, instead of what was said above.
    #[schemars(length(max = 4096))]
    pub port_level_settings: Vec<PortPolicy>,
    /// Tunnels of HTTP to endpoints; nothing here goes by it.
    pub tunnel: Option<TunnelSettings>,
    /// The header that endpoints are told the client by; nothing here goes by it.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many requests may be tried again at a time.
    pub retry_budget: Option<RetryBudget>,
}

/// How the traffic of one port is handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PortPolicy {
    /// The port.
    pub port: Option<PortNumber>,
    /// Which endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// How much there may be at a time.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections to endpoints are secured.
    pub tls: Option<ClientTls>,
}

/// A port, by its number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortNumber {
    /// The number.
    pub number: Port,
}

/// Which endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LoadBalancer {
    /// By an algorithm.
    pub simple: Option<Simple>,
    /// By what the request says.
    pub consistent_hash: Option<ConsistentHash>,
    /// By where it is.
    pub locality_lb_setting: Option<LocalityLb>,
    /// By where it is, weighed by how many there are; only the order of places is gone by here.
    pub zone_aware_lb_setting: Option<ZoneAwareLb>,
    /// How new endpoints get their share.
    pub warmup: Option<Warmup>,
    /// The same, as it was said before.
    pub warmup_duration_secs: String,
}

/// An algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Simple {
    /// As LEAST_REQUEST.
    Unspecified,
    /// As LEAST_REQUEST; it is an older word.
    LeastConn,
    /// The less busy of two.
    LeastRequest,
    /// Any.
    Random,
    /// Where the client meant to go.
    Passthrough,
    /// One after the other.
    RoundRobin,
}

/// The endpoint that has what a request says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConsistentHash {
    /// A header.
    pub http_header_name: String,
    /// A cookie.
    pub http_cookie: Option<HttpCookie>,
    /// The client's address.
    pub use_source_ip: bool,
    /// A parameter in the query.
    pub http_query_parameter_name: String,
    /// On a ring.
    pub ring_hash: Option<RingHash>,
    /// In Maglev's table.
    pub maglev: Option<Maglev>,
    /// The points of the ring, as it was said before.
    pub minimum_ring_size: Option<u32>,
}

/// A cookie that says which endpoint a client belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct HttpCookie {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The path it is for.
    pub path: String,
    /// How long it lasts; `0s`: as long as the browser's window. Without it nobody is given one.
    pub ttl: Option<String>,
    /// Further attributes; none is gone by here.
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CookieAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A ring of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RingHash {
    /// Its points, at least; 1024 if nothing is said.
    pub minimum_ring_size: Option<u32>,
}

/// Maglev's table of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Maglev {
    /// Its slots; 65537 if nothing is said.
    pub table_size: Option<u32>,
}

/// What the place of an endpoint has to do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LocalityLb {
    /// By hand.
    pub distribute: Vec<Distribute>,
    /// Which region stands in for which.
    pub failover: Vec<Failover>,
    /// Labels that endpoints and waypoint have in common, the most important first.
    pub failover_priority: Vec<String>,
    /// Whether it matters at all.
    pub enabled: Option<bool>,
}

/// Where the requests of a place go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Distribute {
    /// The place.
    pub from: String,
    /// Places and their shares, of a hundred.
    pub to: BTreeMap<String, u32>,
}

/// A region that stands in for another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Failover {
    /// For which.
    pub from: String,
    /// Which.
    pub to: String,
}

/// Places, weighed by their endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ZoneAwareLb {
    /// Whether it matters at all.
    pub enabled: Option<bool>,
    /// Which region stands in for which.
    pub failover: Vec<Failover>,
    /// Labels that endpoints and waypoint have in common.
    pub failover_priority: Vec<String>,
    /// With fewer endpoints places do not matter.
    pub min_cluster_size: Option<u32>,
}

/// How new endpoints get their share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Warmup {
    /// How long they are new.
    pub duration: String,
    /// What they get at once, of a hundred.
    pub minimum_percent: Option<Number>,
    /// How fast it grows; 1: with the time.
    pub aggression: Option<Number>,
}

/// How much there may be at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionPool {
    /// Of any protocol.
    pub tcp: Option<TcpPool>,
    /// Of HTTP.
    pub http: Option<HttpPool>,
}

/// Limits of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TcpPool {
    /// Connections.
    pub max_connections: u32,
    /// How long one may take.
    pub connect_timeout: String,
    /// Signs of life; nothing here goes by it.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How old one may become.
    pub max_connection_duration: String,
    /// How long one may be without bytes.
    pub idle_timeout: String,
}

/// Signs of life on connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpKeepalive {
    /// How many are sent.
    pub probes: u32,
    /// When the first is.
    pub time: String,
    /// How long between them.
    pub interval: String,
}

/// Limits of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpPool {
    /// Requests that wait for a connection.
    #[serde(rename = "http1MaxPendingRequests")]
    pub max_pending_requests: u32,
    /// Requests under way.
    #[serde(rename = "http2MaxRequests")]
    pub max_requests: u32,
    /// Requests of one connection in its life.
    pub max_requests_per_connection: u32,
    /// Requests that are tried again.
    pub max_retries: u32,
    /// How long a connection may be without requests.
    pub idle_timeout: String,
    /// Whether HTTP/2 is spoken where the port says HTTP/1.1.
    pub h2_upgrade_policy: H2Upgrade,
    /// What the client speaks is spoken to endpoints.
    pub use_client_protocol: bool,
    /// Requests at a time on one connection of HTTP/2.
    pub max_concurrent_streams: u32,
    /// Signs of life in HTTP/2; nothing here goes by it.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// Signs of life in HTTP/2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http2KeepAlive {
    /// How long between them.
    pub interval: String,
    /// How long an answer may take.
    pub timeout: String,
}

/// Whether HTTP/2 is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2Upgrade {
    /// As the port says.
    #[default]
    Default,
    /// Only where the port says so.
    DoNotUpgrade,
    /// Always.
    Upgrade,
}

/// When an endpoint is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OutlierDetection {
    /// An older word for gatewayErrors.
    pub consecutive_errors: Option<u32>,
    /// After so many answers with 5xx in a row; 5 if nothing is said, 0: never.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_server_errors: Option<u32>,
    /// After so many with 502, 503 or 504; 0: never.
    pub consecutive_gateway_errors: Option<u32>,
    /// After so many times without an answer, where that is counted by itself; 5 if nothing is said.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Whether times without an answer are counted by themselves.
    pub split_external_local_origin_errors: bool,
    /// How often is looked whether one may come back; 10s if nothing is said.
    pub interval: String,
    /// How long one is left out the first time; 30s if nothing is said.
    pub base_ejection_time: String,
    /// How many of a hundred may be left out; 10 if nothing is said.
    pub max_ejection_percent: Option<u32>,
    /// With fewer of a hundred left, all are used.
    pub min_health_percent: Option<u32>,
    /// Codes that count as errors; nothing here goes by it.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// How connections to endpoints are secured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClientTls {
    /// Whether, and as whom.
    pub mode: TlsMode,
    /// A file with our chain.
    pub client_certificate: String,
    /// A file with our key.
    pub private_key: String,
    /// A file with whom to believe.
    pub ca_certificates: String,
    /// A secret with all of these.
    pub credential_name: String,
    /// Names of which the endpoint proves one.
    pub subject_alt_names: Vec<String>,
    /// The name that is asked for.
    pub sni: String,
    /// Whether anybody is believed.
    pub insecure_skip_verify: Option<bool>,
    /// A file with whom not to believe any more.
    pub ca_crl: String,
}

/// Whether connections to endpoints are secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// They are not.
    #[default]
    Disable,
    /// The endpoint proves who it is.
    Simple,
    /// Both do.
    Mutual,
    /// Both do, as the mesh says; in tunnels they do anyway.
    IstioMutual,
}

/// A tunnel of HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TunnelSettings {
    /// How it is asked for.
    pub protocol: String,
    /// Where it leads.
    pub target_host: String,
    /// To which port.
    pub target_port: u32,
}

/// The header that endpoints are told the client by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyProtocol {
    /// `V1` or `V2`.
    pub version: String,
}

/// How many may be tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RetryBudget {
    /// Of a hundred under way; 20 if nothing is said.
    pub percent: Option<Number>,
    /// Always; 3 if nothing is said.
    pub min_retry_concurrency: Option<u32>,
    /// How long requests count; they do as long as they are under way.
    pub budget_interval: String,
}
