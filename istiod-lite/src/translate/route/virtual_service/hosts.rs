//! Whose requests a VirtualService is for, and what its destinations are called. Owns short names, wildcards, and who may
//! speak of which service: its own namespace, and that of its waypoint (`waypoint.md` 4.1).

use ambit_cluster::kinds::meta::Texts;
use ambit_cluster::kinds::virtual_service::{Destination, VirtualService};
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::name::ServiceKey;

use crate::index::World;
use crate::index::unit::{Unit, UnitKind};
use crate::index::users::{Choice, canary, choice};
use crate::translate::hosts::known_as;
use crate::translate::is_exported;

/// A host, and the services that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadHost {
    /// As it was written.
    pub written: String,
    /// Its services that the object may speak of.
    pub services: Vec<ServiceKey>,
    /// The objects that those are of.
    pub objects: Vec<ObjectRef>,
}

/// A host in full: without a dot, a service of the same namespace.
pub(super) fn full(world: &World, namespace: &str, host: &str) -> String {
    let is_short = !host.contains('.') && !host.starts_with('*');
    if is_short { world.hostname(namespace, host) } else { host.to_ascii_lowercase() }
}

/// What a VirtualService calls a host; nothing, if it is a wildcard.
#[must_use]
pub fn host_of(world: &World, namespace: &str, written: &str) -> Option<String> {
    Some(full(world, namespace, written)).filter(|it| !it.starts_with('*'))
}

/// The hosts that a VirtualService leads to.
#[must_use]
pub fn destination_hosts(world: &World, object: &VirtualService) -> Vec<String> {
    let rules = object.spec.http.iter().flat_map(|it| {
        let to = it.route.iter().map(|it| &it.destination);
        to.chain(&it.mirror).chain(it.mirrors.iter().map(|it| &it.destination))
    });
    let spec = &object.spec;
    let connections =
        spec.tls.iter().flat_map(|it| &it.route).chain(spec.tcp.iter().flat_map(|it| &it.route));
    let name = |it: &Destination| host_of(world, &object.metadata.namespace, &it.host);
    rules.chain(connections.map(|it| &it.destination)).filter_map(name).collect()
}

/// The services of each host.
#[must_use]
pub fn services(world: &World, object: &VirtualService) -> Vec<ReadHost> {
    if !object.is_for_mesh() {
        return Vec::new();
    }
    object.spec.hosts.iter().map(|written| of_host(world, object, written)).collect()
}

fn of_host(world: &World, object: &VirtualService, written: &str) -> ReadHost {
    let host = full(world, &object.metadata.namespace, written);
    let mut read = ReadHost { written: written.into(), services: Vec::new(), objects: Vec::new() };
    let closer = closer(world, object, &host);
    let mut take = |name: &str, unit: &Unit| {
        if speaks_of(world, object, unit)
            && !is_outdone(world, &closer, name)
            && let Ok(key) = format!("{}/{name}", unit.namespace).parse()
        {
            read.services.push(key);
            read.objects.extend(object_of(unit));
        }
    };
    match host.strip_prefix('*') {
        None => world.claims(&host).for_each(|unit| take(&host, unit)),
        Some(end) => {
            let mut all: Vec<_> = world.claimed().filter(|(name, _)| name.ends_with(end)).collect();
            // The same each time, in whatever order they are kept.
            all.sort_unstable();
            all.into_iter().for_each(|(name, unit)| take(name, unit));
        }
    }
    read
}

fn object_of(unit: &Unit) -> Option<ObjectRef> {
    let kind = match unit.kind {
        UnitKind::Service => Kind::Service,
        UnitKind::ServiceEntry => Kind::ServiceEntry,
        _ => return None,
    };
    Some(ObjectRef::new(kind, &unit.namespace, &unit.name))
}

/// Whether a VirtualService may speak of a service: it is of its namespace or of its waypoint's, and that one may see
/// it.
fn speaks_of(world: &World, object: &VirtualService, unit: &Unit) -> bool {
    let own = object.metadata.namespace.as_str();
    let waypoints = waypoints(world, unit);
    let is_seen = |by: &str| is_exported(&object.spec.export_to, own, by);
    if waypoints.is_empty() {
        return own == &*unit.namespace && is_seen(&unit.namespace);
    }
    waypoints.iter().any(|by| is_seen(by) && (own == &*unit.namespace || own == *by))
}

/// The namespaces of the waypoints that a service is labelled to go through.
fn waypoints<'a>(world: &'a World, unit: &'a Unit) -> Vec<&'a str> {
    let Some(space) = world.space(&unit.namespace) else { return Vec::new() };
    let labels = match unit.kind {
        UnitKind::Service => space.services.get(&unit.name).map(|it| &it.metadata.labels),
        _ => space.entries.get(&unit.name).map(|it| &it.metadata.labels),
    };
    let around = space.object.as_ref().map(|it| &it.metadata.labels);
    let said = |labels: Option<&'a Texts>| labels.map(|it| choice(it, &unit.namespace));
    let named = match said(labels) {
        None | Some(Choice::Unsaid) => match said(around) {
            Some(Choice::Waypoint(named)) => Some(named),
            _ => None,
        },
        Some(Choice::Nobody) => None,
        Some(Choice::Waypoint(named)) => Some(named),
    };
    let second = [labels, around].into_iter().flatten().find_map(|it| canary(it, &unit.namespace));
    named.into_iter().chain(second).map(|it| it.namespace).collect()
}

/// What other VirtualServices call hosts that is closer than a wildcard, each with who does.
fn closer<'a>(world: &'a World, object: &VirtualService, by: &str) -> Vec<(String, &'a VirtualService)> {
    if !by.starts_with('*') {
        return Vec::new();
    }
    let others = world.spaces().flat_map(|(_, space)| space.virtual_services.values()).map(AsRef::as_ref);
    let others = others.filter(|other| other.is_for_mesh() && !std::ptr::eq(*other, object));
    let named = others.flat_map(|other| {
        let full = |it: &String| full(world, &other.metadata.namespace, it);
        other.spec.hosts.iter().map(move |it| (full(it), other))
    });
    named.filter(|(it, _)| it.len() > by.len() || !it.starts_with('*')).collect()
}

/// Whether another VirtualService names the host more closely, which is then the one that counts.
fn is_outdone(world: &World, closer: &[(String, &VirtualService)], name: &str) -> bool {
    closer.iter().any(|(it, other)| {
        it.strip_prefix('*').map_or(it == name, |end| name.ends_with(end))
            && world.claims(name).any(|unit| speaks_of(world, other, unit))
    })
}

/// The service that a host is: of one's own namespace, or else the one that is preferred elsewhere.
pub(super) fn found(world: &World, namespace: &str, host: &str) -> Option<ServiceKey> {
    format!("{}/{host}", known_as(world, namespace, host)?.namespace).parse().ok()
}

/// A service's ports.
pub(super) fn ports(world: &World, service: &ServiceKey) -> Option<Vec<u16>> {
    let namespace = service.namespace.as_str();
    let first =
        known_as(world, namespace, service.hostname.as_str()).filter(|it| *it.namespace == *namespace)?;
    let space = world.space(namespace)?;
    Some(match first.kind {
        UnitKind::Service => space.services.get(&first.name)?.spec.ports.iter().map(|it| it.port.0).collect(),
        _ => space.entries.get(&first.name)?.spec.ports.iter().map(|it| it.number.0).collect(),
    })
}
