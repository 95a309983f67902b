//! Whose translation an object takes part in. Asked before and after each change, so that what left a selector is
//! translated again as well as what entered it.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::kinds::meta::{Texts, selects};
use ambit_cluster::kinds::waypoint::USE;
use ambit_cluster::{Kind, ObjectRef};

use crate::index::attached::route_kind;
use crate::index::unit::{Unit, UnitKind};
use crate::index::users::Named;
use crate::index::{Space, World};
use crate::translate::target::is_of_all;

/// The units that an object, as it is now, takes part in.
#[must_use]
pub fn of(world: &World, at: &ObjectRef) -> BTreeSet<Unit> {
    let mut units = of_object(world, at);
    // Whose a credential is follows from rules, from what they are about, and from its waypoints.
    let bears_on_it = matches!(
        at.kind,
        Kind::DestinationRule
            | Kind::Gateway
            | Kind::GatewayClass
            | Kind::Namespace
            | Kind::Service
            | Kind::ServiceEntry
    );
    if bears_on_it && world.secrets > 0 {
        credentials(world, &mut units);
    }
    units
}

fn credentials(world: &World, units: &mut BTreeSet<Unit>) {
    for (name, space) in world.spaces() {
        units.extend(named(UnitKind::Credential, name, space.secrets.keys()));
    }
}

fn of_object(world: &World, at: &ObjectRef) -> BTreeSet<Unit> {
    let mut units = BTreeSet::new();
    if at.kind == Kind::Node {
        let pods = world.placed.get(at.name.as_ref()).into_iter().flatten();
        units.extend(pods.filter_map(Unit::new));
        return units;
    }
    if at.kind == Kind::GatewayClass {
        world.gateways_of(&at.name).for_each(|gateway| going_through(world, gateway, &mut units));
        return units;
    }
    units.extend(Unit::new(at));
    units.extend(world.fronts(at).iter().filter_map(Unit::new));
    let home = if at.kind == Kind::Namespace { &at.name } else { &at.namespace };
    let Some(space) = world.space(home) else { return units };
    match at.kind {
        Kind::Namespace if at.name.as_ref() == world.mesh.system_namespace => everything(world, &mut units),
        Kind::Namespace => {
            units.extend(named(UnitKind::Service, home, space.services.keys()));
            units.extend(named(UnitKind::ServiceEntry, home, space.entries.keys()));
            waypointed(space, home, &mut units);
            visible(world, space, home, &mut units);
            spoken_of(world, space, home, &mut units);
        }
        Kind::Gateway if !world.ways_of(at).is_empty() => everything(world, &mut units),
        Kind::Gateway => going_through(world, Named { namespace: home, name: &at.name }, &mut units),
        Kind::Service => service(world, space, at, &mut units),
        Kind::ServiceEntry => entry(world, space, at, &mut units),
        Kind::EndpointSlice => slice(space, at, &mut units),
        Kind::AuthorizationPolicy => policy(world, space, at, &mut units),
        Kind::PeerAuthentication => peer(world, space, at, &mut units),
        Kind::RequestAuthentication | Kind::RateLimitPolicy | Kind::ExtProcPolicy => {
            targeted(world, space, at, &mut units);
        }
        Kind::DestinationRule => {
            let rule = space.destination_rules.get(&at.name);
            units.extend(rule.iter().flat_map(|it| world.governed_by(it)));
        }
        Kind::Pod => {
            let labels = space.pods.get(&at.name).map(|it| world.parted(space, &it.metadata.labels));
            units.extend(labels.into_iter().flatten());
        }
        Kind::WorkloadEntry => {
            let labels = space.workloads.get(&at.name).map(|it| world.parted(space, &it.labels()));
            units.extend(labels.into_iter().flatten());
        }
        Kind::Node | Kind::ServiceAccount | Kind::GatewayClass | Kind::TlsRoute | Kind::TcpRoute => {}
        Kind::HttpRoute | Kind::GrpcRoute => routed(world, at, &mut units),
        Kind::BackendTlsPolicy => units.extend(world.secured_near(at).iter().filter_map(Unit::new)),
        Kind::Secret => units.extend(world.governed_naming(&at.name)),
        Kind::ConfigMap => units.extend(world.secured_by(at).iter().filter_map(Unit::new)),
        Kind::VirtualService => beside(world, at, &mut units),
        // Of several at one place the oldest counts.
        Kind::Telemetry => units.extend(named(UnitKind::Telemetry, home, space.telemetries.keys())),
    }
    units
}

/// Of which waypoint a service is, its namespace may say, and with it who may speak of it.
fn spoken_of(world: &World, space: &Space, home: &Arc<str>, units: &mut BTreeSet<Unit>) {
    let services = space.services.keys().map(|name| (Kind::Service, name));
    let entries = space.entries.keys().map(|name| (Kind::ServiceEntry, name));
    for (kind, name) in services.chain(entries) {
        let routes = world.routes_of(&ObjectRef::new(kind, home, name));
        let of_kind = routes.iter().filter(|it| it.kind == Kind::VirtualService);
        units.extend(of_kind.filter_map(Unit::new));
    }
}

/// Virtual services that delegate to one, and those that speak of the same services.
fn beside(world: &World, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    let services = world.parents_of(at);
    let others = services.iter().chain([at]).flat_map(|it| world.routes_of(it));
    units.extend(others.filter(|it| it.kind == Kind::VirtualService).filter_map(|it| Unit::new(&it)));
}

/// All that goes through a waypoint, or is a part of it.
fn going_through(world: &World, gateway: Named<'_>, units: &mut BTreeSet<Unit>) {
    units.extend(world.users(gateway).iter().filter_map(Unit::new));
}

/// Workloads go through a waypoint of their namespace, or are let through to another's by their namespace's labels.
fn waypointed(space: &Space, home: &Arc<str>, units: &mut BTreeSet<Unit>) {
    let by_namespace = space.object.as_ref().is_some_and(|it| it.metadata.label(USE).is_some());
    let pods = space.pods.iter().filter(|(_, it)| by_namespace || it.metadata.label(USE).is_some());
    units.extend(named(UnitKind::Pod, home, pods.map(|(name, _)| name)));
    units.extend(named(UnitKind::WorkloadEntry, home, space.workloads.keys()));
}

/// When visibility goes by labels of a namespace, which entry is preferred for a host does so as well, and where routes
/// to that host lead.
fn visible(world: &World, space: &Space, home: &Arc<str>, units: &mut BTreeSet<Unit>) {
    if world.mesh.visibility.is_none() {
        return;
    }
    for (name, entry) in &space.entries {
        entry.spec.hosts.iter().for_each(|host| rivals(world, &host.0, units));
        let routes = world.routes_by_way_of(&ObjectRef::new(Kind::ServiceEntry, home, name));
        units.extend(routes.iter().filter_map(Unit::new));
    }
}

fn service(world: &World, space: &Space, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    units.extend(world.routes_by_way_of(at).iter().filter_map(Unit::new));
    let Some(service) = space.services.get(&at.name) else { return };
    if !service.spec.selector.is_empty() {
        chosen(space, &at.namespace, &service.spec.selector, units);
    }
    for (name, slice) in &space.slices {
        if slice.service() == Some(&at.name) {
            units.extend(named(UnitKind::EndpointSlice, &at.namespace, [name]));
            units.extend(targets(space, &at.namespace, name));
        }
    }
    rivals(world, &world.hostname(&at.namespace, &at.name), units);
}

fn entry(world: &World, space: &Space, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    units.extend(world.routes_by_way_of(at).iter().filter_map(Unit::new));
    // What is attached to an entry is attached to its hosts.
    let attached = space.attached().filter(|it| it.names("ServiceEntry", &at.name));
    units.extend(attached.filter_map(|it| Unit::new(&it.reference(&at.namespace))));
    units.extend(named(UnitKind::Telemetry, &at.namespace, space.telemetries.keys()));
    let Some(entry) = space.entries.get(&at.name) else { return };
    if let Some(selector) = entry.spec.workload_selector.as_ref().filter(|it| !it.labels.is_empty()) {
        chosen(space, &at.namespace, &selector.labels, units);
    }
    for host in &entry.spec.hosts {
        rivals(world, &host.0, units);
    }
}

/// Those that claim the same host: which of them is in force may change, and with it the endpoints' memberships.
fn rivals(world: &World, host: &str, units: &mut BTreeSet<Unit>) {
    for rival in world.claims(host).filter(|rival| rival.kind == UnitKind::ServiceEntry) {
        units.insert(rival.clone());
        let entry =
            world.space(&rival.namespace).and_then(|space| Some((space, space.entries.get(&rival.name)?)));
        if let Some((space, entry)) = entry
            && let Some(selector) = entry.spec.workload_selector.as_ref().filter(|it| !it.labels.is_empty())
        {
            chosen(space, &rival.namespace, &selector.labels, units);
        }
    }
}

fn slice(space: &Space, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    units.extend(targets(space, &at.namespace, &at.name));
}

/// The pods that a slice names.
fn targets(space: &Space, namespace: &Arc<str>, slice: &str) -> Vec<Unit> {
    let endpoints = space.slices.get(slice).map(|it| it.endpoints.as_slice()).unwrap_or_default();
    let pods = endpoints.iter().filter_map(|it| it.target_ref.as_ref()).filter(|it| it.kind == "Pod");
    pods.filter_map(|it| space.pods.get_key_value(it.name.as_str()))
        .flat_map(|(name, _)| named(UnitKind::Pod, namespace, [name]))
        .collect()
}

fn policy(world: &World, space: &Space, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    targeted(world, space, at, units);
    let Some(policy) = space.policies.get(&at.name) else { return };
    let Some(selector) = policy.spec.selector.as_ref().filter(|it| !it.match_labels.is_empty()) else {
        return;
    };
    if at.namespace.as_ref() == world.mesh.root_namespace {
        for (name, space) in world.spaces() {
            chosen(space, name, &selector.match_labels, units);
        }
    } else {
        chosen(space, &at.namespace, &selector.match_labels, units);
    }
}

/// While a waypoint is not there, what goes through it goes otherwise when a policy is attached.
fn targeted(world: &World, space: &Space, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    let home = &at.namespace;
    for target in space.targets_of(at) {
        let name = target.name.as_str();
        let unit = |kind| Unit { kind, namespace: home.clone(), name: name.into() };
        match target.kind.as_str() {
            "Service" => drop(units.insert(unit(UnitKind::Service))),
            "ServiceEntry" => drop(units.insert(unit(UnitKind::ServiceEntry))),
            "Gateway" => going_through(world, Named { namespace: home, name }, units),
            "GatewayClass" if is_of_all(name) => {
                units.extend(world.users_of_all().iter().filter_map(Unit::new));
            }
            "GatewayClass" => world.gateways_of(name).for_each(|it| going_through(world, it, units)),
            _ => {
                let route = route_kind(target).map(|kind| ObjectRef::new(kind, home, name));
                let services = route.map(|it| world.own_parents(&it)).unwrap_or_default();
                units.extend(services.iter().filter_map(Unit::new));
            }
        }
    }
}

/// A limit of a route is one of the services that the route is attached to.
fn routed(world: &World, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    if world.attached_to_route(at).next().is_some() {
        units.extend(world.own_parents(at).iter().filter_map(Unit::new));
    }
}

fn peer(world: &World, space: &Space, at: &ObjectRef, units: &mut BTreeSet<Unit>) {
    units.insert(Unit::strict());
    let Some(policy) = space.peers.get(&at.name) else { return };
    let everyone = Texts::new();
    let selector = policy.selector().unwrap_or(&everyone);
    let mesh_wide = selector.is_empty() && at.namespace.as_ref() == world.mesh.root_namespace;
    let spaces = world.spaces().filter(|(name, _)| mesh_wide || **name == at.namespace);
    for (name, space) in spaces {
        chosen(space, name, selector, units);
        if selector.is_empty() {
            units.extend(named(UnitKind::Peer, name, space.peers.keys()));
        }
    }
}

/// Workloads of a namespace that have the labels. Those written into service entries carry the entry's labels.
fn chosen(space: &Space, namespace: &Arc<str>, selector: &Texts, units: &mut BTreeSet<Unit>) {
    let pods = space.pods.iter().filter(|(_, pod)| selects(selector, &pod.metadata.labels));
    units.extend(named(UnitKind::Pod, namespace, pods.map(|(name, _)| name)));
    let entries = space.entries.iter().filter(|(_, entry)| selects(selector, &entry.metadata.labels));
    units.extend(named(UnitKind::ServiceEntry, namespace, entries.map(|(name, _)| name)));
    // A workload entry's labels are two sets; that is for `translate` to know, and there are few.
    units.extend(named(UnitKind::WorkloadEntry, namespace, space.workloads.keys()));
}

/// All that may ask.
pub(super) fn workloads(world: &World, units: &mut BTreeSet<Unit>) {
    for (name, space) in world.spaces() {
        units.extend(named(UnitKind::Pod, name, space.pods.keys()));
        units.extend(named(UnitKind::WorkloadEntry, name, space.workloads.keys()));
        // Whether a label is told bears on every match that demands it.
        units.extend(named(UnitKind::VirtualService, name, space.virtual_services.keys()));
    }
}

/// Everything that is translated.
pub(super) fn all(world: &World, units: &mut BTreeSet<Unit>) {
    everything(world, units);
    credentials(world, units);
    units.insert(Unit::providers());
    for (name, space) in world.spaces() {
        units.extend(named(UnitKind::Policy, name, space.policies.keys()));
        units.extend(named(UnitKind::Peer, name, space.peers.keys()));
        units.extend(named(UnitKind::Authentication, name, space.authentications.keys()));
        units.extend(named(UnitKind::RateLimit, name, space.rate_limits.keys()));
        units.extend(named(UnitKind::ExtProc, name, space.ext_procs.keys()));
        units.extend(named(UnitKind::Telemetry, name, space.telemetries.keys()));
    }
}

fn everything(world: &World, units: &mut BTreeSet<Unit>) {
    units.insert(Unit::strict());
    for (name, space) in world.spaces() {
        units.extend(named(UnitKind::Pod, name, space.pods.keys()));
        units.extend(named(UnitKind::Service, name, space.services.keys()));
        units.extend(named(UnitKind::EndpointSlice, name, space.slices.keys()));
        units.extend(named(UnitKind::ServiceEntry, name, space.entries.keys()));
        units.extend(named(UnitKind::WorkloadEntry, name, space.workloads.keys()));
        units.extend(named(UnitKind::Gateway, name, space.gateways.keys()));
        units.extend(named(UnitKind::HttpRoute, name, space.http_routes.keys()));
        units.extend(named(UnitKind::GrpcRoute, name, space.grpc_routes.keys()));
        units.extend(named(UnitKind::TlsRoute, name, space.tls_routes.keys()));
        units.extend(named(UnitKind::TcpRoute, name, space.tcp_routes.keys()));
        units.extend(named(UnitKind::VirtualService, name, space.virtual_services.keys()));
    }
}

fn named<'a>(
    kind: UnitKind,
    namespace: &Arc<str>,
    names: impl IntoIterator<Item = &'a Arc<str>>,
) -> Vec<Unit> {
    names.into_iter().map(|name| Unit { kind, namespace: namespace.clone(), name: name.clone() }).collect()
}
