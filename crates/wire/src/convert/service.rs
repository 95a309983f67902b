//! Services. Addresses and ranges share a list on the wire and part here.

use std::collections::BTreeMap;

use ambit_model::service::{
    AppProtocol, BalanceMode, Families, HealthRule, LoadBalancing, Scope, Service, ServicePort, Visibility,
};

use super::address::{Place, address_to_pb, place_from_pb, range_to_pb};
use super::{ConvertError, gateway, known, name, port};
use crate::pb::workload as pb;
use crate::pb::workload::load_balancing as balancing;

/// A service from its message.
pub fn service_from_pb(raw: pb::Service) -> Result<Service, ConvertError> {
    let pb::Service {
        name: display_name,
        namespace,
        hostname,
        addresses,
        ports,
        subject_alt_names,
        waypoint,
        load_balancing,
        ip_families,
        extensions: _, // opaque, and nobody's yet
        canonical,
        ingress_use_waypoint,
        weighted_waypoints,
        visibility,
    } = raw;
    let (mut vips, mut ranges) = (Vec::new(), Vec::new());
    for address in addresses {
        match place_from_pb("addresses", address)? {
            Place::Address(vip) => vips.push(vip),
            Place::Range(range) => ranges.push(range),
        }
    }
    Ok(Service {
        name: display_name.into(),
        namespace: name("namespace", &namespace)?,
        hostname: name("hostname", &hostname)?,
        vips,
        ranges,
        ports: ports.into_iter().map(service_port).collect::<Result<BTreeMap<_, _>, _>>()?,
        subject_alt_names: subject_alt_names.into_iter().map(Into::into).collect(),
        waypoint: gateway::maybe_from_pb("waypoint", waypoint)?,
        weighted_waypoints: weighted_waypoints.into_iter().map(weighted).collect::<Result<_, _>>()?,
        load_balancing: load_balancing.map(load_balancing_from_pb).transpose()?,
        families: families(ip_families)?,
        canonical,
        ingress_use_waypoint,
        visibility: match pb::service::Visibility::try_from(visibility).unwrap_or_default() {
            pb::service::Visibility::Public => Visibility::Public,
            pb::service::Visibility::Namespace => Visibility::Namespace,
        },
    })
}

fn service_port(raw: pb::Port) -> Result<(u16, ServicePort), ConvertError> {
    let pb::Port { service_port, target_port, app_protocol, ambit_grpc_web } = raw;
    let protocol = match pb::AppProtocol::try_from(app_protocol).unwrap_or_default() {
        pb::AppProtocol::Unknown if ambit_grpc_web => AppProtocol::GrpcWeb,
        pb::AppProtocol::Unknown => AppProtocol::Unknown,
        pb::AppProtocol::Http11 => AppProtocol::Http11,
        pb::AppProtocol::Http2 => AppProtocol::Http2,
        pb::AppProtocol::Grpc => AppProtocol::Grpc,
        pb::AppProtocol::Tcp => AppProtocol::Tcp,
        pb::AppProtocol::Tls => AppProtocol::Tls,
    };
    let target = port("ports.target_port", target_port)?;
    Ok((port("ports.service_port", service_port)?, ServicePort { target, protocol }))
}

fn weighted(raw: pb::WeightedWaypoint) -> Result<(ambit_model::workload::GatewayRef, u32), ConvertError> {
    const FIELD: &str = "weighted_waypoints.destination";
    let pb::WeightedWaypoint { destination, weight } = raw;
    let destination = destination.ok_or(ConvertError::NoAlternative { field: FIELD })?;
    Ok((gateway::from_pb(FIELD, destination)?, weight))
}

fn families(raw: i32) -> Result<Families, ConvertError> {
    Ok(match known("ip_families", raw)? {
        pb::IpFamilies::Automatic => Families::Automatic,
        pb::IpFamilies::Ipv4Only => Families::V4,
        pb::IpFamilies::Ipv6Only => Families::V6,
        pb::IpFamilies::Dual => Families::Dual,
    })
}

fn load_balancing_from_pb(raw: pb::LoadBalancing) -> Result<LoadBalancing, ConvertError> {
    let pb::LoadBalancing { routing_preference, mode, health_policy } = raw;
    let mode = match known("load_balancing.mode", mode)? {
        balancing::Mode::UnspecifiedMode => BalanceMode::Standard,
        balancing::Mode::Strict => BalanceMode::Strict,
        balancing::Mode::Failover => BalanceMode::Failover,
        balancing::Mode::Passthrough => BalanceMode::Passthrough,
    };
    let health = match known("load_balancing.health_policy", health_policy)? {
        balancing::HealthPolicy::OnlyHealthy => HealthRule::OnlyHealthy,
        balancing::HealthPolicy::AllowAll => HealthRule::AllowAll,
    };
    Ok(LoadBalancing {
        preference: routing_preference.into_iter().map(scope).collect::<Result<_, _>>()?,
        mode,
        health,
    })
}

fn scope(raw: i32) -> Result<Scope, ConvertError> {
    const FIELD: &str = "load_balancing.routing_preference";
    Ok(match known(FIELD, raw)? {
        balancing::Scope::UnspecifiedScope => {
            return Err(ConvertError::UnknownValue { field: FIELD, value: raw });
        }
        balancing::Scope::Region => Scope::Region,
        balancing::Scope::Zone => Scope::Zone,
        balancing::Scope::Subzone => Scope::Subzone,
        balancing::Scope::Node => Scope::Node,
        balancing::Scope::Cluster => Scope::Cluster,
        balancing::Scope::Network => Scope::Network,
    })
}

/// A service's message, as upstream writes it.
#[must_use]
pub fn service_to_pb(service: &Service) -> pb::Service {
    let Service {
        name,
        namespace,
        hostname,
        vips,
        ranges,
        ports,
        subject_alt_names,
        waypoint,
        weighted_waypoints,
        load_balancing,
        families,
        canonical,
        ingress_use_waypoint,
        visibility,
    } = service;
    let weighted = |(gateway, weight): &(_, u32)| pb::WeightedWaypoint {
        destination: Some(gateway::to_pb(gateway)),
        weight: *weight,
    };
    pb::Service {
        name: name.to_string(),
        namespace: namespace.to_string(),
        hostname: hostname.to_string(),
        addresses: vips.iter().map(address_to_pb).chain(ranges.iter().map(range_to_pb)).collect(),
        ports: ports.iter().map(|(number, port)| port_to_pb(*number, *port)).collect(),
        subject_alt_names: subject_alt_names.iter().map(ToString::to_string).collect(),
        waypoint: waypoint.as_ref().map(gateway::to_pb),
        load_balancing: load_balancing.as_ref().map(load_balancing_to_pb),
        ip_families: families_to_pb(*families).into(),
        extensions: Vec::new(),
        canonical: *canonical,
        ingress_use_waypoint: *ingress_use_waypoint,
        weighted_waypoints: weighted_waypoints.iter().map(weighted).collect(),
        visibility: visibility_to_pb(*visibility).into(),
    }
}

fn port_to_pb(number: u16, port: ServicePort) -> pb::Port {
    let ServicePort { target, protocol } = port;
    let app_protocol = match protocol {
        // Whoever does not know our word goes by what the client speaks, as before there was one.
        AppProtocol::Unknown | AppProtocol::GrpcWeb => pb::AppProtocol::Unknown,
        AppProtocol::Http11 => pb::AppProtocol::Http11,
        AppProtocol::Http2 => pb::AppProtocol::Http2,
        AppProtocol::Grpc => pb::AppProtocol::Grpc,
        AppProtocol::Tcp => pb::AppProtocol::Tcp,
        AppProtocol::Tls => pb::AppProtocol::Tls,
    };
    pb::Port {
        service_port: number.into(),
        target_port: target.into(),
        app_protocol: app_protocol.into(),
        ambit_grpc_web: protocol == AppProtocol::GrpcWeb,
    }
}

fn families_to_pb(families: Families) -> pb::IpFamilies {
    match families {
        Families::Automatic => pb::IpFamilies::Automatic,
        Families::V4 => pb::IpFamilies::Ipv4Only,
        Families::V6 => pb::IpFamilies::Ipv6Only,
        Families::Dual => pb::IpFamilies::Dual,
    }
}

fn visibility_to_pb(visibility: Visibility) -> pb::service::Visibility {
    match visibility {
        Visibility::Public => pb::service::Visibility::Public,
        Visibility::Namespace => pb::service::Visibility::Namespace,
    }
}

fn load_balancing_to_pb(load_balancing: &LoadBalancing) -> pb::LoadBalancing {
    let LoadBalancing { preference, mode, health } = load_balancing;
    let mode = match mode {
        BalanceMode::Standard => balancing::Mode::UnspecifiedMode,
        BalanceMode::Strict => balancing::Mode::Strict,
        BalanceMode::Failover => balancing::Mode::Failover,
        BalanceMode::Passthrough => balancing::Mode::Passthrough,
    };
    let health = match health {
        HealthRule::OnlyHealthy => balancing::HealthPolicy::OnlyHealthy,
        HealthRule::AllowAll => balancing::HealthPolicy::AllowAll,
    };
    pb::LoadBalancing {
        routing_preference: preference.iter().map(|scope| scope_to_pb(*scope).into()).collect(),
        mode: mode.into(),
        health_policy: health.into(),
    }
}

fn scope_to_pb(scope: Scope) -> balancing::Scope {
    match scope {
        Scope::Region => balancing::Scope::Region,
        Scope::Zone => balancing::Scope::Zone,
        Scope::Subzone => balancing::Scope::Subzone,
        Scope::Node => balancing::Scope::Node,
        Scope::Cluster => balancing::Scope::Cluster,
        Scope::Network => balancing::Scope::Network,
    }
}
