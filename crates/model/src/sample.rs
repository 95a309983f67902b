//! Nouns for this crate's tests, by a line each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use crate::address::{ClientAddr, NetworkAddress, OriginalDst};
use crate::balance::Pick;
use crate::delta::{Change, Delta};
use crate::http_path::{Normalization, RequestTarget};
use crate::http_route::{
    Around, Asked, Backend, Filters, HeaderMatch, Match as HttpMatch, Parent, PathMatch, QueryMatch, Route,
    Rule as HttpRule, Timeouts, Upstream, ValueMatch,
};
use crate::name::{Identity, Label, Network, PolicyKey, ServiceAccount, TrustDomain};
use crate::policy::{Action, Clause, Match, Policy, PolicyScope, Rule};
use crate::route::Flow;
use crate::service::{
    AppProtocol, BalanceMode, Families, HealthRule, LoadBalancing, Scope, Service, ServicePort, Visibility,
};
use crate::snapshot::Snapshot;
use crate::workload::{GatewayDestination, GatewayRef, Health, Locality, Tunnel, Workload, WorkloadKind};

/// A healthy HBONE pod `<ns>/<name>` with one address and the account `<name>`.
pub(crate) fn pod(namespaced: &str, ip: &str) -> Workload {
    let (namespace, name) = namespaced.split_once('/').unwrap();
    Workload {
        uid: format!("Kubernetes//Pod/{namespaced}").into(),
        name: name.into(),
        namespace: namespace.parse().unwrap(),
        addresses: if ip.is_empty() { vec![] } else { ip.split(' ').map(self::ip).collect() },
        hostname: Label::default(),
        network: Network::default(),
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        trust_domain: TrustDomain::default(),
        service_account: name.parse::<ServiceAccount>().unwrap(),
        waypoint: None,
        network_gateway: None,
        node: "n1".into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        kind: WorkloadKind::Pod,
        workload_name: name.into(),
        application_tunnel: None,
        services: BTreeMap::new(),
        policies: vec![],
        health: Health::Healthy,
        cluster: "Kubernetes".into(),
        locality: Locality::default(),
        host_network: false,
        capacity: 1,
        labels: Default::default(),
    }
}

impl Workload {
    /// Makes it an endpoint of a service, with these ports of its own.
    pub(crate) fn serving(mut self, key: &str, ports: &[(u16, u16)]) -> Self {
        self.services.insert(key.parse().unwrap(), ports.iter().copied().collect());
        self
    }
}

/// A service `<ns>/<host>` with ports `service -> target` and addresses on the default network.
pub(crate) fn service(key: &str, vips: &[&str], ports: &[(u16, u16)]) -> Service {
    let (namespace, hostname) = key.split_once('/').unwrap();
    let port = |(port, target): &(u16, u16)| {
        (*port, ServicePort { target: *target, protocol: AppProtocol::Unknown })
    };
    Service {
        name: hostname.split('.').next().unwrap().into(),
        namespace: namespace.parse().unwrap(),
        hostname: hostname.parse().unwrap(),
        vips: vips.iter().map(|v| at(v)).collect(),
        ranges: vec![],
        ports: ports.iter().map(port).collect(),
        subject_alt_names: vec![],
        waypoint: None,
        weighted_waypoints: vec![],
        load_balancing: None,
        families: Families::Automatic,
        canonical: false,
        ingress_use_waypoint: false,
        visibility: Visibility::Public,
    }
}

pub(crate) fn balancing(mode: BalanceMode, preference: &[Scope]) -> Option<LoadBalancing> {
    Some(LoadBalancing { preference: preference.to_vec(), mode, health: HealthRule::OnlyHealthy })
}

pub(crate) fn by_host(key: &str) -> GatewayRef {
    GatewayRef { destination: GatewayDestination::Host(key.parse().unwrap()), hbone_port: 15008 }
}

pub(crate) fn by_address(address: &str) -> GatewayRef {
    GatewayRef { destination: GatewayDestination::Address(at(address)), hbone_port: 15008 }
}

/// A policy `<ns>/<name>` of one rule of one clause of these alternatives.
pub(crate) fn policy(key: &str, scope: PolicyScope, action: Action, matches: Vec<Match>) -> Policy {
    let rules = vec![Rule { clauses: vec![Clause { matches }] }];
    Policy { key: policy_key(key), scope, action, rules, dry_run: false }
}

pub(crate) fn policy_key(key: &str) -> PolicyKey {
    key.parse().unwrap()
}

pub(crate) fn identity(namespaced: &str) -> Identity {
    let (namespace, account) = namespaced.split_once('/').unwrap();
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `<ip>` on the default network, or `<network>/<ip>`.
pub(crate) fn at(text: &str) -> NetworkAddress {
    let (network, address) = text.split_once('/').unwrap_or(("", text));
    NetworkAddress::new(network.into(), ip(address))
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn flow(source: &Workload, dst: &str) -> Flow {
    let client = SocketAddr::new(source.addresses[0], 40000);
    Flow {
        source: Arc::new(source.clone()),
        client: ClientAddr::new(client),
        dst: OriginalDst::new(socket(dst)),
    }
}

/// The world that holds these.
pub(crate) fn world<const N: usize>(changes: [Change; N]) -> Snapshot {
    Snapshot::default().with(&changes.into_iter().collect::<Delta>())
}

impl From<Workload> for Change {
    fn from(workload: Workload) -> Self {
        Self::Workload(Arc::new(workload))
    }
}

impl From<Service> for Change {
    fn from(service: Service) -> Self {
        Self::Service(Arc::new(service))
    }
}

impl From<Policy> for Change {
    fn from(policy: Policy) -> Self {
        Self::Policy(Arc::new(policy))
    }
}

/// Chance that always says the same, or less where that is too much.
pub(crate) struct Always(pub(crate) u64);

impl Pick for Always {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.min(limit - 1)
    }
}

/// A route `<kind>/<ns>/<name>` of a service, of these rules.
pub(crate) fn route(key: &str, service: &str, rules: Vec<HttpRule>) -> Route {
    Route {
        key: key.parse().unwrap(),
        created_s: 0,
        parents: vec![parent(service)],
        rules: rules.into_iter().map(Arc::new).collect(),
    }
}

/// `<ns>/<host>`, or `<ns>/<host>:<port>`.
pub(crate) fn parent(text: &str) -> Parent {
    let (service, port) = text.split_once(':').map_or((text, None), |(s, port)| (s, port.parse().ok()));
    Parent { service: service.parse().unwrap(), port }
}

/// A rule that sends what matches to port 80 of a service; it is called as that.
pub(crate) fn rule(matches: Vec<HttpMatch>, to: &str) -> HttpRule {
    let upstream = Upstream { service: to.parse().unwrap(), port: 80, subset: None };
    HttpRule {
        name: to.into(),
        matches,
        filters: Ok(Filters::default()),
        backends: vec![Backend { to: Ok(upstream), weight: 1, filters: Ok(Filters::default()) }],
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    }
}

/// Demands, one after the other: `=/exact`, `/prefix`, `^/begin`, `~/regex`, `grpc:<service>/<method>` (`*`: any, `~`: regex),
/// `<METHOD>`, `<header>:<value>`, `?<parameter>=<value>`; values may begin with `~`.
pub(crate) fn matching(text: &str) -> HttpMatch {
    let value = |text: &str| match text.strip_prefix('~') {
        Some(pattern) => ValueMatch::Regex(pattern.parse().unwrap()),
        None => ValueMatch::Exact(text.into()),
    };
    let mut one = HttpMatch::default();
    for part in text.split_whitespace() {
        let part_value = |text: &str| (text != "*").then(|| value(text));
        if let Some((service, method)) = part.strip_prefix("grpc:").and_then(|it| it.split_once('/')) {
            one.path = PathMatch::Grpc { service: part_value(service), method: part_value(method) };
        } else if let Some(path) = part.strip_prefix('=') {
            one.path = PathMatch::Exact(path.into());
        } else if let Some(text) = part.strip_prefix('^') {
            one.path = PathMatch::Begins { text: text.into(), any_case: false };
        } else if let Some(pattern) = part.strip_prefix('~') {
            one.path = PathMatch::Regex(pattern.parse().unwrap());
        } else if part.starts_with('/') {
            one.path = PathMatch::Prefix(part.into());
        } else if let Some((name, of)) = part.strip_prefix('?').and_then(|it| it.split_once('=')) {
            one.query.push(QueryMatch { name: name.into(), value: value(of) });
        } else if let Some((name, of)) = part.split_once(':') {
            one.headers.push(HeaderMatch { name: name.parse().unwrap(), value: value(of) });
        } else {
            one.method = Some(part.parse().unwrap());
        }
    }
    one
}

/// A request: `<METHOD> <target> <header>:<value>…`; a method may be left out.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: RequestTarget<'static>,
    pub(crate) headers: HeaderMap,
}

pub(crate) fn request(text: &str) -> Request {
    let mut parts = text.split(' ').peekable();
    let method = parts.next_if(|part| !part.starts_with('/')).unwrap_or("GET").parse().unwrap();
    let target = parts.next().unwrap().to_owned().leak();
    let mut headers = HeaderMap::new();
    for (name, value) in parts.map(|part| part.split_once(':').unwrap()) {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    Request { method, target: RequestTarget::read(target, Normalization::Base).unwrap(), headers }
}

impl Request {
    pub(crate) fn asked(&self) -> Asked<'_> {
        let RequestTarget { path, query } = &self.target;
        Asked { path, query: *query, method: &self.method, headers: &self.headers, around: Around::default() }
    }
}

impl From<Route> for Change {
    fn from(route: Route) -> Self {
        Self::Route(Arc::new(route))
    }
}
