//! From shapes to the model. Every value that does not hold is refused by its field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ambit_model::address::{NetworkAddress, NetworkRange};
use ambit_model::delta::{Change, Delta};
use ambit_model::name::{Label, Network, ServiceKey, WorkloadUid};
use ambit_model::policy::{
    AccountMatch, Action, Clause, Condition, Match, Policy, PolicyScope, RangeMatch, Rule, TextMatch,
};
use ambit_model::service::{
    AppProtocol, BalanceMode, Families, HealthRule, LoadBalancing, Scope, Service, ServicePort, Visibility,
};
use ambit_model::workload::{
    ApplicationTunnel, GatewayDestination, GatewayRef, Handover, Health, Locality, Tunnel, Workload,
    WorkloadKind,
};

use super::fault::{FieldFault, LocalError};
use super::shape;

/// How a dump shows a range that could not be read. Read back, it is one again.
pub(super) const UNREADABLE: &str = "unreadable";

pub(super) fn file(file: shape::File) -> Result<Delta, LocalError> {
    let shape::File { workloads, services, policies, staged_services } = file;
    let mut delta = Delta::default();
    let mut found = BTreeMap::new();
    for (i, workload) in workloads.into_iter().enumerate() {
        let workload = self::workload(workload, &format!("workloads[{i}]"))?;
        let uid = workload.uid.clone();
        if found.insert(uid.clone(), workload).is_some() {
            return Err(fault(format!("workloads[{i}].uid"), FieldFault::Twice { value: uid.to_string() }));
        }
    }
    for (key, endpoints) in staged_services {
        let key = named(&key, || format!("stagedServices[{key}]"))?;
        join(&mut found, &key, endpoints);
    }
    let mut keys = std::collections::BTreeSet::new();
    for (i, service) in services.into_iter().enumerate() {
        let (service, endpoints) = self::service(service, &format!("services[{i}]"))?;
        let key = service.key();
        if !keys.insert(key.clone()) {
            return Err(fault(format!("services[{i}]"), FieldFault::Twice { value: key.to_string() }));
        }
        join(&mut found, &key, endpoints);
        delta.changes.push(Change::Service(Arc::new(service)));
    }
    let mut keys = std::collections::BTreeSet::new();
    for (i, policy) in policies.into_iter().enumerate() {
        let policy = self::policy(policy, &format!("policies[{i}]"))?;
        if !keys.insert(policy.key.clone()) {
            return Err(fault(format!("policies[{i}]"), FieldFault::Twice { value: policy.key.to_string() }));
        }
        delta.changes.push(Change::Policy(Arc::new(policy)));
    }
    delta.changes.extend(found.into_values().map(|w| Change::Workload(Arc::new(w))));
    Ok(delta)
}

/// In the model, a workload says which services it is an endpoint of. What it says itself goes before what the
/// service says of it.
fn join(
    workloads: &mut BTreeMap<WorkloadUid, Workload>,
    key: &ServiceKey,
    endpoints: BTreeMap<String, shape::Endpoint>,
) {
    for endpoint in endpoints.into_values() {
        let shape::Endpoint { workload_uid, port, status: _ } = endpoint;
        let Some(workload) = workloads.get_mut(&WorkloadUid::from(workload_uid)) else { continue };
        let ports = workload.services.entry(key.clone()).or_default();
        for (service_port, target) in port {
            ports.entry(service_port).or_insert(target);
        }
    }
}

fn workload(raw: shape::Workload, at: &str) -> Result<Workload, LocalError> {
    let field = |name: &str| format!("{at}.{name}");
    let uid = match (raw.uid.is_empty(), raw.name.is_empty()) {
        (false, _) => WorkloadUid::from(raw.uid),
        (true, false) => WorkloadUid::from(format!("Kubernetes//Pod/{}/{}", raw.namespace, raw.name)),
        (true, true) => return Err(fault(at.into(), FieldFault::Nameless)),
    };
    let services = memberships(raw.services, &field("services"))?;
    Ok(Workload {
        uid,
        name: raw.name.into(),
        namespace: named(&raw.namespace, || field("namespace"))?,
        addresses: each(&raw.workload_ips, &field("workloadIps"), |text| ip(text))?,
        hostname: raw.hostname.into(),
        network: raw.network.into(),
        tunnel: match raw.protocol {
            shape::Protocol::Tcp => Tunnel::None,
            shape::Protocol::Hbone => Tunnel::Hbone,
        },
        native_tunnel: raw.native_tunnel,
        trust_domain: or_default(&raw.trust_domain, || field("trustDomain"))?,
        service_account: or_default(&raw.service_account, || field("serviceAccount"))?,
        waypoint: gateway(raw.waypoint, &field("waypoint"))?,
        network_gateway: gateway(raw.network_gateway, &field("networkGateway"))?,
        node: raw.node.into(),
        canonical_name: raw.canonical_name.into(),
        canonical_revision: raw.canonical_revision.into(),
        kind: kind(&raw.workload_type).map_err(|f| fault(field("workloadType"), f))?,
        workload_name: raw.workload_name.into(),
        application_tunnel: raw.application_tunnel.as_ref().map(application_tunnel),
        services,
        policies: each(&raw.authorization_policies, &field("authorizationPolicies"), |text| {
            Ok(text.parse()?)
        })?,
        health: match raw.status {
            shape::Status::Healthy => Health::Healthy,
            shape::Status::Unhealthy => Health::Unhealthy,
        },
        cluster: raw.cluster_id.into(),
        locality: raw.locality.map(locality).unwrap_or_default(),
        host_network: raw.network_mode == shape::NetworkMode::HostNetwork,
        capacity: raw.capacity,
        labels: raw.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
    })
}

fn memberships(
    raw: shape::Memberships,
    at: &str,
) -> Result<BTreeMap<ServiceKey, BTreeMap<u16, u16>>, LocalError> {
    let ports: Vec<(String, shape::Ports)> = match raw {
        shape::Memberships::Ports(ports) => ports.into_iter().collect(),
        shape::Memberships::Keys(keys) => keys.into_iter().map(|k| (k, shape::Ports::new())).collect(),
    };
    ports.into_iter().map(|(key, ports)| Ok((named(&key, || format!("{at}[{key}]"))?, ports))).collect()
}

fn kind(text: &str) -> Result<WorkloadKind, FieldFault> {
    let all = [WorkloadKind::Deployment, WorkloadKind::CronJob, WorkloadKind::Pod, WorkloadKind::Job];
    if text.is_empty() {
        return Ok(WorkloadKind::Deployment);
    }
    let same = |kind: &WorkloadKind| kind.label().eq_ignore_ascii_case(text);
    all.into_iter().find(same).ok_or_else(|| FieldFault::Kind { value: text.into() })
}

fn application_tunnel(raw: &shape::ApplicationTunnel) -> ApplicationTunnel {
    let shape::ApplicationTunnel { protocol, port } = *raw;
    let protocol = match protocol {
        shape::Handover::Plain => Handover::Plain,
        shape::Handover::Proxy => Handover::Proxy,
    };
    // 0 keeps the original port, as on the wire.
    ApplicationTunnel { protocol, port: port.filter(|p| *p != 0) }
}

fn locality(raw: shape::Locality) -> Locality {
    let shape::Locality { region, zone, subzone } = raw;
    Locality { region: region.into(), zone: zone.into(), subzone: subzone.into() }
}

fn gateway(raw: Option<shape::Gateway>, at: &str) -> Result<Option<GatewayRef>, LocalError> {
    raw.map(|raw| gateway_ref(raw, at)).transpose()
}

fn gateway_ref(raw: shape::Gateway, at: &str) -> Result<GatewayRef, LocalError> {
    let shape::Gateway { destination, hbone_mtls_port } = raw;
    let parsed = match network_address(&destination) {
        Ok(address) => GatewayDestination::Address(address),
        Err(_) => match destination.parse::<ServiceKey>() {
            Ok(key) => GatewayDestination::Host(key),
            Err(_) => {
                let field = format!("{at}.destination");
                return Err(fault(field, FieldFault::Gateway { value: destination }));
            }
        },
    };
    Ok(GatewayRef { destination: parsed, hbone_port: hbone_mtls_port })
}

fn service(
    raw: shape::Service,
    at: &str,
) -> Result<(Service, BTreeMap<String, shape::Endpoint>), LocalError> {
    let field = |name: &str| format!("{at}.{name}");
    let port = |(port, target)| (port, ServicePort { target, protocol: AppProtocol::Unknown });
    let mut weighted = Vec::new();
    for (i, entry) in raw.weighted_waypoints.into_iter().enumerate() {
        let shape::WeightedWaypoint { destination, weight } = entry;
        let at = format!("{at}.weightedWaypoints[{i}].destination");
        weighted.push((gateway_ref(destination, &at)?, weight));
    }
    let service = Service {
        name: raw.name.into(),
        namespace: named(&raw.namespace, || field("namespace"))?,
        hostname: named(&raw.hostname, || field("hostname"))?,
        vips: each(&raw.vips, &field("vips"), |text| network_address(text))?,
        ranges: each(&raw.cidr_vips, &field("cidrVips"), network_range)?,
        ports: raw.ports.into_iter().map(port).collect(),
        subject_alt_names: raw.subject_alt_names.into_iter().map(Label::from).collect(),
        waypoint: gateway(raw.waypoint, &field("waypoint"))?,
        weighted_waypoints: weighted,
        load_balancing: raw.load_balancer.map(load_balancing),
        families: match raw.ip_families {
            None => Families::Automatic,
            Some(shape::IpFamilies::Dual) => Families::Dual,
            Some(shape::IpFamilies::IPv4) => Families::V4,
            Some(shape::IpFamilies::IPv6) => Families::V6,
        },
        canonical: raw.canonical,
        ingress_use_waypoint: false,
        visibility: match raw.visibility {
            shape::Visibility::Public => Visibility::Public,
            shape::Visibility::Namespace => Visibility::Namespace,
        },
    };
    Ok((service, raw.endpoints))
}

fn load_balancing(raw: shape::LoadBalancer) -> LoadBalancing {
    let shape::LoadBalancer { routing_preferences, mode, health_policy } = raw;
    let scope = |scope| match scope {
        shape::Scope::Region => Scope::Region,
        shape::Scope::Zone => Scope::Zone,
        shape::Scope::Subzone => Scope::Subzone,
        shape::Scope::Node => Scope::Node,
        shape::Scope::Cluster => Scope::Cluster,
        shape::Scope::Network => Scope::Network,
    };
    LoadBalancing {
        preference: routing_preferences.into_iter().map(scope).collect(),
        mode: match mode {
            shape::Mode::Standard => BalanceMode::Standard,
            shape::Mode::Strict => BalanceMode::Strict,
            shape::Mode::Failover => BalanceMode::Failover,
            shape::Mode::Passthrough => BalanceMode::Passthrough,
        },
        health: match health_policy {
            shape::HealthPolicy::OnlyHealthy => HealthRule::OnlyHealthy,
            shape::HealthPolicy::AllowAll => HealthRule::AllowAll,
        },
    }
}

fn policy(raw: shape::Policy, at: &str) -> Result<Policy, LocalError> {
    let shape::Policy { name, namespace, scope, action, dry_run, rules: raw_rules } = raw;
    let mut rules = Vec::new();
    for (r, clauses) in raw_rules.into_iter().enumerate() {
        let mut rule = Rule::default();
        for (c, matches) in clauses.into_iter().enumerate() {
            let read = |(m, raw)| matching(raw, &format!("{at}.rules[{r}][{c}][{m}]"));
            let matches = matches.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
            rule.clauses.push(Clause { matches });
        }
        rules.push(rule);
    }
    Ok(Policy {
        key: ambit_model::name::PolicyKey {
            namespace: named(&namespace, || format!("{at}.namespace"))?,
            name: named(&name, || format!("{at}.name"))?,
        },
        scope: match scope {
            shape::PolicyScope::Global => PolicyScope::Global,
            shape::PolicyScope::Namespace => PolicyScope::Namespace,
            shape::PolicyScope::WorkloadSelector => PolicyScope::Selector,
        },
        action: match action {
            shape::Action::Allow => Action::Allow,
            shape::Action::Deny => Action::Deny,
        },
        rules,
        dry_run,
    })
}

fn matching(raw: shape::Match, at: &str) -> Result<Match, LocalError> {
    let ranges = |list: &[String], name: &str| each(list, &format!("{at}.{name}"), |text| range(text));
    let accounts = |list: &[shape::Account], name: &str| each(list, &format!("{at}.{name}"), account);
    Ok(Match {
        namespaces: Condition { any: texts(raw.namespaces), none: texts(raw.not_namespaces) },
        service_accounts: Condition {
            any: accounts(&raw.service_accounts, "serviceAccounts")?,
            none: accounts(&raw.not_service_accounts, "notServiceAccounts")?,
        },
        principals: Condition { any: texts(raw.principals), none: texts(raw.not_principals) },
        source_ips: Condition {
            any: ranges(&raw.source_ips, "sourceIps")?,
            none: ranges(&raw.not_source_ips, "notSourceIps")?,
        },
        destination_ips: Condition {
            any: ranges(&raw.destination_ips, "destinationIps")?,
            none: ranges(&raw.not_destination_ips, "notDestinationIps")?,
        },
        destination_ports: Condition { any: raw.destination_ports, none: raw.not_destination_ports },
    })
}

fn texts(raw: Vec<shape::Text>) -> Vec<TextMatch> {
    let text = |raw| match raw {
        shape::Text::Exact(text) => TextMatch::Exact(text.into()),
        shape::Text::Prefix(text) => TextMatch::Prefix(text.into()),
        shape::Text::Suffix(text) => TextMatch::Suffix(text.into()),
        shape::Text::Presence(shape::Nothing) => TextMatch::Presence,
    };
    raw.into_iter().map(text).collect()
}

fn account(raw: &shape::Account) -> Result<AccountMatch, FieldFault> {
    Ok(AccountMatch { namespace: raw.namespace.parse()?, service_account: raw.service_account.parse()? })
}

fn ip(text: &str) -> Result<IpAddr, FieldFault> {
    let parsed: Result<IpAddr, _> = text.parse();
    parsed.map(|ip| ip.to_canonical()).map_err(|_| FieldFault::Ip { value: text.into() })
}

fn network_address(text: &str) -> Result<NetworkAddress, FieldFault> {
    let refuse = || FieldFault::NetworkAddress { value: text.into() };
    let (network, address) = text.split_once('/').ok_or_else(refuse)?;
    Ok(NetworkAddress::new(Network::from(network), address.parse().map_err(|_| refuse())?))
}

fn network_range(raw: &shape::CidrVip) -> Result<NetworkRange, FieldFault> {
    let range = raw.cidr.parse().map_err(|_| FieldFault::Range { value: raw.cidr.clone() })?;
    Ok(NetworkRange { network: Network::from(raw.network.as_str()), range })
}

fn range(text: &str) -> Result<RangeMatch, FieldFault> {
    if text == UNREADABLE {
        return Ok(RangeMatch::Unreadable);
    }
    if let Ok(ip) = ip(text) {
        return Ok(RangeMatch::host(ip));
    }
    text.parse().map(RangeMatch::Range).map_err(|_| FieldFault::Range { value: text.into() })
}

/// Reads a list; the fault names the place in it.
fn each<T, U>(
    list: &[T],
    at: &str,
    read: impl Fn(&T) -> Result<U, FieldFault>,
) -> Result<Vec<U>, LocalError> {
    let entry = |(i, item)| read(item).map_err(|f| fault(format!("{at}[{i}]"), f));
    list.iter().enumerate().map(entry).collect()
}

fn named<T: FromStr<Err = ambit_model::name::NameError>>(
    text: &str,
    field: impl Fn() -> String,
) -> Result<T, LocalError> {
    text.parse().map_err(|e: ambit_model::name::NameError| fault(field(), e.into()))
}

fn or_default<T>(text: &str, field: impl Fn() -> String) -> Result<T, LocalError>
where
    T: FromStr<Err = ambit_model::name::NameError> + Default,
{
    if text.is_empty() { Ok(T::default()) } else { named(text, field) }
}

fn fault(field: String, fault: FieldFault) -> LocalError {
    LocalError::Field { field, fault }
}
