//! Messages as proto3 JSON: lower camel case, enums by name, bytes in base64, defaults left out.
//! Messages are taken apart completely, so that a field added to a schema does not compile until it is written.

use ambit_wire::pb::security as sec;
use ambit_wire::pb::workload as pb;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// A workload or a service.
#[must_use]
pub fn address(message: pb::Address) -> Value {
    let pb::Address { r#type } = message;
    match r#type {
        None => json!({}),
        Some(pb::address::Type::Workload(it)) => json!({ "workload": workload(*it) }),
        Some(pb::address::Type::Service(it)) => json!({ "service": service(*it) }),
    }
}

/// A policy. The outer lists carry the names that upstream's schema gives them.
#[must_use]
pub fn authorization(message: sec::Authorization) -> Value {
    let sec::Authorization { name, namespace, scope, action, rules, dry_run, extensions: _ } = message;
    let clause = |it: sec::Clause| object([("matches", list(it.matches, one_match))]);
    let rule = |it: sec::Rule| object([("rules", list(it.clauses, clause))]);
    object([
        ("name", text(name)),
        ("namespace", text(namespace)),
        ("scope", named(scope, sec::Scope::try_from(scope).map(|it| it.as_str_name()))),
        ("action", named(action, sec::Action::try_from(action).map(|it| it.as_str_name()))),
        ("groups", list(rules, rule)),
        ("dryRun", truth(dry_run)),
    ])
}

fn one_match(message: sec::Match) -> Value {
    let sec::Match {
        namespaces,
        not_namespaces,
        principals,
        not_principals,
        source_ips,
        not_source_ips,
        destination_ips,
        not_destination_ips,
        destination_ports,
        not_destination_ports,
        service_accounts,
        not_service_accounts,
        extensions: _,
    } = message;
    object([
        ("namespaces", list(namespaces, string_match)),
        ("notNamespaces", list(not_namespaces, string_match)),
        ("principals", list(principals, string_match)),
        ("notPrincipals", list(not_principals, string_match)),
        ("sourceIps", list(source_ips, range)),
        ("notSourceIps", list(not_source_ips, range)),
        ("destinationIps", list(destination_ips, range)),
        ("notDestinationIps", list(not_destination_ips, range)),
        ("destinationPorts", list(destination_ports, Value::from)),
        ("notDestinationPorts", list(not_destination_ports, Value::from)),
        ("serviceAccounts", list(service_accounts, account)),
        ("notServiceAccounts", list(not_service_accounts, account)),
    ])
}

fn string_match(message: sec::StringMatch) -> Value {
    use sec::string_match::MatchType;
    let sec::StringMatch { match_type } = message;
    match match_type {
        None => json!({}),
        Some(MatchType::Exact(it)) => json!({ "exact": it }),
        Some(MatchType::Prefix(it)) => json!({ "prefix": it }),
        Some(MatchType::Suffix(it)) => json!({ "suffix": it }),
        Some(MatchType::Presence(())) => json!({ "presence": {} }),
    }
}

fn range(message: sec::Address) -> Value {
    let sec::Address { address, length } = message;
    object([("address", bytes(&address)), ("length", number(length))])
}

fn account(message: sec::ServiceAccountMatch) -> Value {
    let sec::ServiceAccountMatch { namespace, service_account } = message;
    object([("namespace", text(namespace)), ("serviceAccount", text(service_account))])
}

fn workload(message: pb::Workload) -> Value {
    let pb::Workload {
        name,
        namespace,
        addresses,
        network,
        tunnel_protocol,
        trust_domain,
        service_account,
        waypoint,
        node,
        canonical_name,
        canonical_revision,
        workload_type,
        workload_name,
        native_tunnel,
        authorization_policies,
        status,
        cluster_id,
        network_gateway,
        uid,
        hostname,
        services,
        application_tunnel,
        locality,
        network_mode,
        extensions: _,
        capacity,
        ambit_labels: _, // told for routes, which show them
    } = message;
    let services: Map<_, _> = services.into_iter().map(|(key, ports)| (key, port_list(ports))).collect();
    let tunnel = pb::TunnelProtocol::try_from(tunnel_protocol).map(|it| it.as_str_name());
    let mode = pb::NetworkMode::try_from(network_mode).map(|it| it.as_str_name());
    object([
        ("uid", text(uid)),
        ("name", text(name)),
        ("namespace", text(namespace)),
        ("addresses", list(addresses, |it| bytes(&it).unwrap_or_default())),
        ("hostname", text(hostname)),
        ("network", text(network)),
        ("tunnelProtocol", named(tunnel_protocol, tunnel)),
        ("trustDomain", text(trust_domain)),
        ("serviceAccount", text(service_account)),
        ("waypoint", waypoint.map(gateway)),
        ("networkGateway", network_gateway.map(gateway)),
        ("node", text(node)),
        ("canonicalName", text(canonical_name)),
        ("canonicalRevision", text(canonical_revision)),
        ("workloadType", kind(workload_type)),
        ("workloadName", text(workload_name)),
        ("nativeTunnel", truth(native_tunnel)),
        ("applicationTunnel", application_tunnel.map(handover)),
        ("services", (!services.is_empty()).then(|| services.into())),
        ("authorizationPolicies", list(authorization_policies, Value::from)),
        ("status", named(status, pb::WorkloadStatus::try_from(status).map(|it| it.as_str_name()))),
        ("clusterId", text(cluster_id)),
        ("locality", locality.map(place)),
        ("networkMode", named(network_mode, mode)),
        ("capacity", capacity.map(Value::from)),
    ])
}

fn kind(value: i32) -> Option<Value> {
    named(value, pb::WorkloadType::try_from(value).map(|it| it.as_str_name()))
}

fn service(message: pb::Service) -> Value {
    let pb::Service {
        name,
        namespace,
        hostname,
        addresses,
        ports,
        subject_alt_names,
        waypoint,
        load_balancing,
        ip_families,
        extensions: _,
        canonical,
        ingress_use_waypoint,
        weighted_waypoints,
        visibility,
    } = message;
    let seen = pb::service::Visibility::try_from(visibility).map(|it| it.as_str_name());
    object([
        ("name", text(name)),
        ("namespace", text(namespace)),
        ("hostname", text(hostname)),
        ("addresses", list(addresses, network_address)),
        ("ports", list(ports, port)),
        ("subjectAltNames", list(subject_alt_names, Value::from)),
        ("waypoint", waypoint.map(gateway)),
        ("loadBalancing", load_balancing.map(balancing)),
        ("ipFamilies", named(ip_families, pb::IpFamilies::try_from(ip_families).map(|it| it.as_str_name()))),
        ("canonical", truth(canonical)),
        ("ingressUseWaypoint", truth(ingress_use_waypoint)),
        ("weightedWaypoints", list(weighted_waypoints, weighted)),
        ("visibility", named(visibility, seen)),
    ])
}

fn balancing(message: pb::LoadBalancing) -> Value {
    use pb::load_balancing::{HealthPolicy, Mode, Scope};
    let pb::LoadBalancing { routing_preference, mode, health_policy } = message;
    let scope = |it: i32| Scope::try_from(it).map_or_else(|_| it.into(), |it| it.as_str_name().into());
    object([
        ("routingPreference", list(routing_preference, scope)),
        ("mode", named(mode, Mode::try_from(mode).map(|it| it.as_str_name()))),
        (
            "healthPolicy",
            named(health_policy, HealthPolicy::try_from(health_policy).map(|it| it.as_str_name())),
        ),
    ])
}

fn port_list(message: pb::PortList) -> Value {
    let pb::PortList { ports } = message;
    object([("ports", list(ports, port))])
}

fn port(message: pb::Port) -> Value {
    let pb::Port { service_port, target_port, app_protocol, ambit_grpc_web } = message;
    let spoken = pb::AppProtocol::try_from(app_protocol).map(|it| it.as_str_name());
    object([
        ("servicePort", number(service_port)),
        ("targetPort", number(target_port)),
        ("appProtocol", named(app_protocol, spoken)),
        ("ambitGrpcWeb", truth(ambit_grpc_web)),
    ])
}

fn gateway(message: pb::GatewayAddress) -> Value {
    use pb::gateway_address::Destination;
    let pb::GatewayAddress { hbone_mtls_port, destination } = message;
    let (host, at) = match destination {
        None => (None, None),
        Some(Destination::Hostname(pb::NamespacedHostname { namespace, hostname })) => {
            (Some(object([("namespace", text(namespace)), ("hostname", text(hostname))])), None)
        }
        Some(Destination::Address(it)) => (None, Some(network_address(it))),
    };
    object([("hostname", host), ("address", at), ("hboneMtlsPort", number(hbone_mtls_port))])
}

fn weighted(message: pb::WeightedWaypoint) -> Value {
    let pb::WeightedWaypoint { destination, weight } = message;
    object([("destination", destination.map(gateway)), ("weight", number(weight))])
}

fn network_address(message: pb::NetworkAddress) -> Value {
    let pb::NetworkAddress { network, address, length } = message;
    object([("network", text(network)), ("address", bytes(&address)), ("length", length.map(Value::from))])
}

fn handover(message: pb::ApplicationTunnel) -> Value {
    let pb::ApplicationTunnel { protocol, port } = message;
    let name = pb::application_tunnel::Protocol::try_from(protocol).map(|it| it.as_str_name());
    object([("protocol", named(protocol, name)), ("port", number(port))])
}

fn place(message: pb::Locality) -> Value {
    let pb::Locality { region, zone, subzone } = message;
    object([("region", text(region)), ("zone", text(zone)), ("subzone", text(subzone))])
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}

fn list<T>(items: Vec<T>, write: impl FnMut(T) -> Value) -> Option<Value> {
    (!items.is_empty()).then(|| items.into_iter().map(write).collect())
}

fn text(text: String) -> Option<Value> {
    (!text.is_empty()).then(|| text.into())
}

fn bytes(bytes: &[u8]) -> Option<Value> {
    (!bytes.is_empty()).then(|| STANDARD.encode(bytes).into())
}

fn number(number: u32) -> Option<Value> {
    (number != 0).then(|| number.into())
}

fn truth(truth: bool) -> Option<Value> {
    truth.then(|| true.into())
}

/// An enum's value by its name; the default is left out, one that has no name is a number.
fn named<E>(value: i32, name: Result<&'static str, E>) -> Option<Value> {
    (value != 0).then(|| name.map_or_else(|_| value.into(), Into::into))
}
