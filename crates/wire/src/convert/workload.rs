//! Workloads. What may be left out on the wire is a default here: an identity's trust domain and account, the
//! cluster, the capacity.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_model::name::{PolicyKey, ServiceKey, TrustDomain};
use ambit_model::workload::{ApplicationTunnel, Handover, Health, Locality, Tunnel, Workload, WorkloadKind};

use super::{ConvertError, address, check_count, gateway, known, name, name_or_default, port};
use crate::limits;
use crate::pb::workload as pb;
use crate::pb::workload::application_tunnel::Protocol;

/// The cluster of a workload that names none.
const DEFAULT_CLUSTER: &str = "Kubernetes";

/// A workload from its message.
pub fn workload_from_pb(raw: pb::Workload) -> Result<Workload, ConvertError> {
    let pb::Workload {
        name: display_name,
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
        extensions: _, // opaque, and nobody's yet
        capacity,
        ambit_labels,
    } = raw;
    check_count("ambit_labels", limits::WORKLOAD_LABELS, ambit_labels.len())?;
    Ok(Workload {
        uid: uid.into(),
        name: display_name.into(),
        namespace: name("namespace", &namespace)?,
        addresses: ips(&addresses)?,
        hostname: hostname.into(),
        network: network.into(),
        tunnel: tunnel(tunnel_protocol)?,
        native_tunnel,
        trust_domain: name_or_default("trust_domain", &trust_domain)?,
        service_account: name_or_default("service_account", &service_account)?,
        waypoint: gateway::maybe_from_pb("waypoint", waypoint)?,
        network_gateway: gateway::maybe_from_pb("network_gateway", network_gateway)?,
        node: node.into(),
        canonical_name: canonical_name.into(),
        canonical_revision: canonical_revision.into(),
        kind: kind(workload_type),
        workload_name: workload_name.into(),
        application_tunnel: application_tunnel.map(handover).transpose()?,
        services: memberships(services)?,
        policies: policies(&authorization_policies)?,
        health: health(status)?,
        cluster: if cluster_id.is_empty() { DEFAULT_CLUSTER.into() } else { cluster_id.into() },
        locality: locality.map(place).unwrap_or_default(),
        host_network: host_network(network_mode)?,
        capacity: capacity.unwrap_or(1),
        labels: ambit_labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
    })
}

fn ips(raw: &[impl AsRef<[u8]>]) -> Result<Vec<IpAddr>, ConvertError> {
    raw.iter().map(|raw| address::ip_from_bytes("addresses", raw.as_ref())).collect()
}

fn policies(raw: &[String]) -> Result<Vec<PolicyKey>, ConvertError> {
    raw.iter().map(|key| name("authorization_policies", key)).collect()
}

fn tunnel(raw: i32) -> Result<Tunnel, ConvertError> {
    match known("tunnel_protocol", raw)? {
        pb::TunnelProtocol::None => Ok(Tunnel::None),
        pb::TunnelProtocol::Hbone => Ok(Tunnel::Hbone),
        pb::TunnelProtocol::LegacyIstioMtls => Err(ConvertError::LegacyMtls),
    }
}

/// Telemetry only: an unknown kind is no reason to refuse a workload.
fn kind(raw: i32) -> WorkloadKind {
    match pb::WorkloadType::try_from(raw).unwrap_or_default() {
        pb::WorkloadType::Deployment => WorkloadKind::Deployment,
        pb::WorkloadType::Cronjob => WorkloadKind::CronJob,
        pb::WorkloadType::Pod => WorkloadKind::Pod,
        pb::WorkloadType::Job => WorkloadKind::Job,
    }
}

fn health(raw: i32) -> Result<Health, ConvertError> {
    Ok(match known("status", raw)? {
        pb::WorkloadStatus::Healthy => Health::Healthy,
        pb::WorkloadStatus::Unhealthy => Health::Unhealthy,
    })
}

fn host_network(raw: i32) -> Result<bool, ConvertError> {
    Ok(match known("network_mode", raw)? {
        pb::NetworkMode::Standard => false,
        pb::NetworkMode::HostNetwork => true,
    })
}

fn handover(raw: pb::ApplicationTunnel) -> Result<ApplicationTunnel, ConvertError> {
    let pb::ApplicationTunnel { protocol, port: raw_port } = raw;
    let protocol = match known("application_tunnel.protocol", protocol)? {
        Protocol::None => Handover::Plain,
        Protocol::Proxy => Handover::Proxy,
    };
    let port = port("application_tunnel.port", raw_port)?;
    Ok(ApplicationTunnel { protocol, port: (port != 0).then_some(port) })
}

fn place(raw: pb::Locality) -> Locality {
    let pb::Locality { region, zone, subzone } = raw;
    Locality { region: region.into(), zone: zone.into(), subzone: subzone.into() }
}

fn memberships(
    raw: BTreeMap<String, pb::PortList>,
) -> Result<BTreeMap<ServiceKey, BTreeMap<u16, u16>>, ConvertError> {
    let own_ports = |list: pb::PortList| {
        let pb::PortList { ports } = list;
        ports.into_iter().map(own_port).collect::<Result<BTreeMap<_, _>, _>>()
    };
    raw.into_iter().map(|(key, list)| Ok((name("services", &key)?, own_ports(list)?))).collect()
}

fn own_port(raw: pb::Port) -> Result<(u16, u16), ConvertError> {
    // The service says what is spoken.
    let pb::Port { service_port, target_port, app_protocol: _, ambit_grpc_web: _ } = raw;
    Ok((port("services.ports.service_port", service_port)?, port("services.ports.target_port", target_port)?))
}

/// A workload's message, as upstream writes it: the trust domain is left out when it is the default one, a pod's
/// account never (a pod always has one), that of any other workload when it is the default one.
#[must_use]
pub fn workload_to_pb(workload: &Workload) -> pb::Workload {
    let Workload {
        uid,
        name,
        namespace,
        addresses,
        hostname,
        network,
        tunnel,
        native_tunnel,
        trust_domain,
        service_account: _, // by `account_to_pb`
        waypoint,
        network_gateway,
        node,
        canonical_name,
        canonical_revision,
        kind,
        workload_name,
        application_tunnel,
        services,
        policies,
        health,
        cluster,
        locality,
        host_network,
        capacity,
        labels,
    } = workload;
    pb::Workload {
        name: name.to_string(),
        namespace: namespace.to_string(),
        addresses: addresses.iter().map(|ip| address::ip_to_bytes(*ip)).collect(),
        network: network.to_string(),
        tunnel_protocol: tunnel_to_pb(*tunnel).into(),
        trust_domain: domain_to_pb(trust_domain),
        service_account: account_to_pb(workload),
        waypoint: waypoint.as_ref().map(gateway::to_pb),
        node: node.to_string(),
        canonical_name: canonical_name.to_string(),
        canonical_revision: canonical_revision.to_string(),
        workload_type: kind_to_pb(*kind).into(),
        workload_name: workload_name.to_string(),
        native_tunnel: *native_tunnel,
        authorization_policies: policies.iter().map(ToString::to_string).collect(),
        status: health_to_pb(*health).into(),
        cluster_id: cluster.to_string(),
        network_gateway: network_gateway.as_ref().map(gateway::to_pb),
        uid: uid.to_string(),
        hostname: hostname.to_string(),
        services: memberships_to_pb(services),
        application_tunnel: application_tunnel.as_ref().map(handover_to_pb),
        locality: (*locality != Locality::default()).then(|| place_to_pb(locality)),
        network_mode: network_mode_to_pb(*host_network).into(),
        extensions: Vec::new(),
        capacity: (*capacity != 1).then_some(*capacity),
        ambit_labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    }
}

fn domain_to_pb(domain: &TrustDomain) -> String {
    if *domain == TrustDomain::default() { String::new() } else { domain.to_string() }
}

fn account_to_pb(workload: &Workload) -> String {
    let account = &workload.service_account;
    let is_pod = workload.uid.as_str().contains("//Pod/");
    if !is_pod && account.as_str() == "default" { String::new() } else { account.to_string() }
}

fn tunnel_to_pb(tunnel: Tunnel) -> pb::TunnelProtocol {
    match tunnel {
        Tunnel::None => pb::TunnelProtocol::None,
        Tunnel::Hbone => pb::TunnelProtocol::Hbone,
    }
}

fn kind_to_pb(kind: WorkloadKind) -> pb::WorkloadType {
    match kind {
        WorkloadKind::Deployment => pb::WorkloadType::Deployment,
        WorkloadKind::CronJob => pb::WorkloadType::Cronjob,
        WorkloadKind::Pod => pb::WorkloadType::Pod,
        WorkloadKind::Job => pb::WorkloadType::Job,
    }
}

fn health_to_pb(health: Health) -> pb::WorkloadStatus {
    match health {
        Health::Healthy => pb::WorkloadStatus::Healthy,
        Health::Unhealthy => pb::WorkloadStatus::Unhealthy,
    }
}

fn network_mode_to_pb(host_network: bool) -> pb::NetworkMode {
    if host_network { pb::NetworkMode::HostNetwork } else { pb::NetworkMode::Standard }
}

fn handover_to_pb(tunnel: &ApplicationTunnel) -> pb::ApplicationTunnel {
    let ApplicationTunnel { protocol, port } = tunnel;
    let protocol = match protocol {
        Handover::Plain => Protocol::None,
        Handover::Proxy => Protocol::Proxy,
    };
    pb::ApplicationTunnel { protocol: protocol.into(), port: port.unwrap_or(0).into() }
}

fn place_to_pb(locality: &Locality) -> pb::Locality {
    let Locality { region, zone, subzone } = locality;
    pb::Locality { region: region.to_string(), zone: zone.to_string(), subzone: subzone.to_string() }
}

fn memberships_to_pb(services: &BTreeMap<ServiceKey, BTreeMap<u16, u16>>) -> BTreeMap<String, pb::PortList> {
    let own_port = |(service, target): (&u16, &u16)| pb::Port {
        service_port: (*service).into(),
        target_port: (*target).into(),
        ..pb::Port::default()
    };
    let list = |ports: &BTreeMap<u16, u16>| pb::PortList { ports: ports.iter().map(own_port).collect() };
    services.iter().map(|(key, ports)| (key.to_string(), list(ports))).collect()
}
