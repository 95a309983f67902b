//! A Kubernetes service to a service (`control-plane.md` 1.6).

use std::collections::BTreeMap;

use ambit_cluster::kinds::scalar::PortName;
use ambit_cluster::kinds::service::{
    IpFamily, Service as Object, ServicePort as Port, ServiceSpec, ServiceType,
};
use ambit_model::address::NetworkAddress;
use ambit_model::service::{Families, LoadBalancing, Service, ServicePort, Visibility};

use super::waypoint::{self, Asker};
use super::{At, balance, protocol};

/// The service; none for one that is only another name.
pub(super) fn translate(at: &At<'_>, object: &Object) -> Option<Service> {
    let spec = &object.spec;
    if spec.kind == ServiceType::ExternalName {
        return None;
    }
    let network = at.network();
    let mut service = Service {
        name: at.name.into(),
        namespace: at.namespace.parse().ok()?,
        hostname: at.world.hostname(at.namespace, at.name).parse().ok()?,
        vips: spec.vips().into_iter().map(|ip| NetworkAddress::new(network.clone(), ip)).collect(),
        ranges: Vec::new(),
        ports: ports(spec),
        subject_alt_names: Vec::new(),
        waypoint: None,
        weighted_waypoints: Vec::new(),
        load_balancing: load_balancing(at, object),
        families: families(&spec.ip_families),
        canonical: true,
        ingress_use_waypoint: false,
        visibility: Visibility::Public,
    };
    waypoint::on_service(at.world, Asker::Service(object), &mut service);
    Some(service)
}

/// The same number over TCP and UDP is one port to the mesh: that of TCP, the only one it carries.
fn ports(spec: &ServiceSpec) -> BTreeMap<u16, ServicePort> {
    let mut ports = BTreeMap::new();
    let is_tcp = |port: &&Port| port.protocol.is_empty() || port.protocol == "TCP";
    let (tcp, others): (Vec<_>, Vec<_>) = spec.ports.iter().partition(is_tcp);
    for port in tcp.into_iter().chain(others) {
        let target = match &port.target_port {
            Some(PortName::Number(target)) => *target,
            Some(PortName::Name(_)) => 0,
            None => port.port.0,
        };
        let port = (port.port.0, ServicePort { target, protocol: protocol::of_service(port) });
        ports.entry(port.0).or_insert(port.1);
    }
    ports
}

fn load_balancing(at: &At<'_>, object: &Object) -> Option<LoadBalancing> {
    let spec = &object.spec;
    let chosen = if spec.internal_traffic_policy == "Local" {
        Some(balance::same_node())
    } else {
        balance::preference(spec.traffic_distribution.as_deref(), &object.metadata, at.space)
    };
    if spec.publish_not_ready_addresses { Some(balance::unready_too(chosen)) } else { chosen }
}

fn families(given: &[IpFamily]) -> Families {
    match given {
        [] => Families::Automatic,
        [IpFamily::IPv4] => Families::V4,
        [IpFamily::IPv6] => Families::V6,
        _ => Families::Dual,
    }
}
