//! What all programs of the measurement are told: a client, a server behind a service, and through which waypoint that
//! service is reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_model::address::NetworkAddress;
use ambit_model::delta::{Change, Delta};
use ambit_model::http_route::{
    Backend, Filters, HeaderEdits, Match, Parent, PathMatch, Route, Rule, Timeouts, Upstream,
};
use ambit_model::service::{AppProtocol, Families, Service, ServicePort, Visibility};
use ambit_model::workload::{
    GatewayDestination, GatewayRef, Health, Locality, Tunnel, Workload, WorkloadKind,
};
use anyhow::Result;

use crate::pods::{CLIENT, Place, SERVER};

/// Our waypoint.
pub const OURS: Place = Place { name: "way", ip: "10.77.0.3" };
/// The peer.
pub const PEER: Place = Place { name: "peer", ip: "10.77.0.4" };
/// The service's own address; its port 80 is the server's 8080.
pub const SERVICE: &str = "10.77.1.1";

/// Everybody, and the service without a waypoint.
///
/// # Errors
/// Never, unless a constant here is no name.
pub fn world() -> Result<Delta> {
    let mut changes = vec![Change::Service(Arc::new(web(None)?)), route("all", "/", None)?];
    for place in [CLIENT, SERVER, OURS, PEER] {
        changes.push(Change::Workload(Arc::new(workload(place)?)));
    }
    for place in [OURS, PEER] {
        let port = ServicePort { target: 15008, protocol: AppProtocol::Unknown };
        let ports = BTreeMap::from([(15008, port)]);
        changes.push(Change::Service(Arc::new(service(place.name, vec![], ports)?)));
    }
    Ok(changes.into_iter().collect())
}

/// The service, now reached through this place.
///
/// # Errors
/// As [`world`].
pub fn through(place: Option<Place>) -> Result<Delta> {
    Ok([Change::Service(Arc::new(web(place)?))].into_iter().collect())
}

/// A route of the service for what begins with this path; answers bear `x-generation` where one is told.
///
/// # Errors
/// As [`world`].
pub fn route(name: &str, path: &str, generation: Option<u64>) -> Result<Change> {
    let mut filters = Filters::default();
    if let Some(generation) = generation {
        let mut edits = HeaderEdits::default();
        edits.set("x-generation".parse()?, generation.to_string().parse()?)?;
        filters.response_headers = edits;
    }
    let service = key("web").parse()?;
    let on = Match { path: PathMatch::Prefix(path.into()), ..Match::default() };
    let to = Upstream { service, port: 80, subset: None };
    let rule = Rule {
        name: "".into(),
        matches: vec![on],
        filters: Ok(filters),
        backends: vec![Backend { to: Ok(to), weight: 1, filters: Ok(Filters::default()) }],
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    };
    Ok(Change::Route(Arc::new(Route {
        key: format!("HTTPRoute/perf/{name}").parse()?,
        created_s: 1,
        parents: vec![Parent { service: key("web").parse()?, port: None }],
        rules: vec![Arc::new(rule)],
    })))
}

fn key(service: &str) -> String {
    format!("perf/{service}.perf.svc.cluster.local")
}

fn web(through: Option<Place>) -> Result<Service> {
    let vips = vec![NetworkAddress::new("".into(), SERVICE.parse()?)];
    let ports = BTreeMap::from([(80, ServicePort { target: 8080, protocol: AppProtocol::Http11 })]);
    let waypoint = match through {
        None => None,
        Some(place) => Some(GatewayRef {
            destination: GatewayDestination::Host(key(place.name).parse()?),
            hbone_port: 15008,
        }),
    };
    Ok(Service { waypoint, ..service("web", vips, ports)? })
}

fn service(name: &str, vips: Vec<NetworkAddress>, ports: BTreeMap<u16, ServicePort>) -> Result<Service> {
    Ok(Service {
        name: name.into(),
        namespace: "perf".parse()?,
        hostname: format!("{name}.perf.svc.cluster.local").parse()?,
        vips,
        ranges: Vec::new(),
        ports,
        subject_alt_names: Vec::new(),
        waypoint: None,
        weighted_waypoints: Vec::new(),
        load_balancing: None,
        families: Families::Automatic,
        canonical: false,
        ingress_use_waypoint: false,
        visibility: Visibility::Public,
    })
}

fn workload(place: Place) -> Result<Workload> {
    let (of, ports) = match place.name {
        "server" => ("web", BTreeMap::from([(80, 8080)])),
        own => (own, BTreeMap::from([(15008, 15008)])),
    };
    let services =
        if place.name == CLIENT.name { BTreeMap::new() } else { BTreeMap::from([(key(of).parse()?, ports)]) };
    Ok(Workload {
        uid: format!("cluster1//v1/pod/perf/{}", place.name).into(),
        name: place.name.into(),
        namespace: "perf".parse()?,
        addresses: vec![place.ip.parse()?],
        hostname: "".into(),
        network: "".into(),
        tunnel: Tunnel::Hbone,
        native_tunnel: [OURS.name, PEER.name].contains(&place.name),
        trust_domain: "cluster.local".parse()?,
        service_account: place.name.parse()?,
        waypoint: None,
        network_gateway: None,
        node: place.name.into(),
        canonical_name: place.name.into(),
        canonical_revision: "v1".into(),
        kind: WorkloadKind::Pod,
        workload_name: place.name.into(),
        application_tunnel: None,
        services,
        policies: Vec::new(),
        health: Health::Healthy,
        cluster: "cluster1".into(),
        locality: Locality::default(),
        host_network: false,
        capacity: 1,
        labels: Default::default(),
    })
}
