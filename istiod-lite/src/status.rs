//! Conditions and addresses onto objects, so that their authors learn what became of them. Owns when something is
//! written; what is said is `conditions`', where it is written is the writer's business. Looks at what the object
//! says now, so that a restart writes nothing anew.

mod attached;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ambit_cluster::kinds::meta::Meta;
use ambit_cluster::kinds::policy::{PolicyAction, PolicyCondition};
use ambit_cluster::kinds::waypoint::PART_OF;
use ambit_cluster::writer::WriteError;
use ambit_cluster::{Fault, Kind, ObjectRef, Writer};
use serde_json::{Value, json};

use crate::conditions::{self, Condition, KINDS};
use crate::index::attached::route_kind;
use crate::index::users::Named;
use crate::index::{Space, World};
use crate::translate::provider;
use crate::translate::target::is_of_all;
use crate::translate::waypoint::class_of;
use crate::vips::{self, Given};

/// The kinds whose authors are told something.
const TOLD: [Kind; 17] = [
    Kind::AuthorizationPolicy,
    Kind::RequestAuthentication,
    Kind::RateLimitPolicy,
    Kind::ExtProcPolicy,
    Kind::Service,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::Gateway,
    Kind::GatewayClass,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::TlsRoute,
    Kind::TcpRoute,
    Kind::BackendTlsPolicy,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::Telemetry,
];

/// Those of the Gateway API, whose status is of another shape.
const ATTACHED: [Kind; 7] = [
    Kind::Gateway,
    Kind::GatewayClass,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::TlsRoute,
    Kind::TcpRoute,
    Kind::BackendTlsPolicy,
];

/// What an object says of itself now.
struct Known<'a> {
    conditions: &'a [PolicyCondition],
    generation: i64,
    addresses: Given,
}

/// What is to be said of an object beside what holds in the world.
#[derive(Debug, Clone, Copy, Default)]
pub struct News<'a> {
    /// Addresses that it is to have instead of those that it has.
    pub given: Option<&'a Given>,
    /// It does not read any more, or never did, and since when.
    pub fault: Option<&'a (Fault, SystemTime)>,
}

/// Writes what is to be said of an object, if it does not say so already.
///
/// # Errors
/// When it cannot be written.
pub fn report(
    world: &World,
    name: &ObjectRef,
    news: News<'_>,
    writer: &Writer,
    now: SystemTime,
) -> Result<(), WriteError> {
    if ATTACHED.contains(&name.kind) {
        let patch = attached::patch(world, name, now);
        return patch.map_or(Ok(()), |patch| writer.patch(name, patch));
    }
    let News { given, fault } = news;
    let in_force = known(world, name);
    let is_in_force = in_force.is_some() || name.kind == Kind::PeerAuthentication && is_peer(world, name);
    let nothing = fault.map(|_| Known { conditions: &[], generation: 0, addresses: Given::new() });
    let Some(known) = in_force.or(nothing) else { return writer.clear(name) };
    let wanted = conditions::of(world, name);
    if given.is_none() && fault.is_none() && is_said(&wanted, &known) {
        return Ok(());
    }
    let addresses = given.unwrap_or(&known.addresses);
    if wanted.is_empty() && addresses.is_empty() && fault.is_none() {
        return writer.clear(name);
    }
    let mut patch = if addresses.is_empty() && given.is_none() {
        json!({ "status": {} })
    } else {
        vips::patch(addresses)
    };
    let mut list: Vec<Value> = wanted.iter().map(|it| condition(it, name.kind, &known, now)).collect();
    // Of which generation it is, is not known of what does not read.
    let nothing = Known { conditions: &[], generation: 0, addresses: Given::new() };
    list.extend(fault.map(|(fault, since)| {
        condition(&conditions::refused(fault, is_in_force), name.kind, &nothing, *since)
    }));
    if let Some(status) = patch.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("conditions".into(), list.into());
    }
    writer.patch(name, patch)
}

fn is_peer(world: &World, at: &ObjectRef) -> bool {
    world.space(&at.namespace).is_some_and(|space| space.peers.contains_key(&at.name))
}

/// The objects of which something else may have to be said when this one changes.
#[must_use]
pub fn affected(world: &World, at: &ObjectRef) -> Vec<ObjectRef> {
    if at.kind == Kind::ConfigMap {
        return if world.is_own(at) { all(world) } else { referring(world, at) };
    }
    if at.kind == Kind::Secret {
        let rules = world.naming(&at.name).into_iter().map(|it| &it.metadata);
        return rules.map(|it| ObjectRef::new(Kind::DestinationRule, &it.namespace, &it.name)).collect();
    }
    let mut all = nearest(world, at);
    // What becomes of a route depends on what becomes of what it is attached to, and on others that are.
    let routes: Vec<_> = parents_of_all(&all, at).flat_map(|it| world.routes_by_way_of(it)).collect();
    let rules: Vec<_> = parents_of_all(&all, at).flat_map(|it| world.rules_of(it)).collect();
    // And what becomes of a policy that is attached to a route, on what becomes of that.
    let limits: Vec<_> = routes.iter().flat_map(|it| world.attached_to_route(it)).collect();
    all.extend(routes);
    all.extend(limits);
    all.extend(rules);
    // Policies say who goes before whom, and rules that a policy goes before them.
    let secured: Vec<_> =
        world.secured_near(at).into_iter().chain(parents_of_all(&all, at).cloned()).collect();
    let policies = secured.iter().flat_map(|it| world.securing(it));
    all.extend(policies.map(|it| policy_ref(&it.metadata)));
    if at.kind == Kind::BackendTlsPolicy {
        all.extend(secured.iter().flat_map(|it| world.rules_of(it)));
    }
    let beside = world.parents_of(at).into_iter().flat_map(|it| world.routes_of(&it));
    all.extend(beside);
    // What is delegated is said where it is delegated from.
    all.extend(world.roots_of(at));
    // Whether somebody can be asked depends on whether their service is there.
    let hosts = hosts(world, at);
    if is_asked(world, &hosts) {
        all.extend(asking(world));
    }
    all.extend(served_by(world, &hosts));
    all
}

fn policy_ref(meta: &Meta) -> ObjectRef {
    ObjectRef::new(Kind::BackendTlsPolicy, &meta.namespace, &meta.name)
}

/// The policies that refer to a config map.
fn referring(world: &World, at: &ObjectRef) -> Vec<ObjectRef> {
    world.referring(at).map(|it| policy_ref(&it.metadata)).collect()
}

/// The hosts of a service or a service entry.
fn hosts(world: &World, at: &ObjectRef) -> Vec<String> {
    let entry = || world.space(&at.namespace)?.entries.get(&at.name);
    match at.kind {
        Kind::Service => vec![world.hostname(&at.namespace, &at.name)],
        Kind::ServiceEntry => entry().iter().flat_map(|it| &it.spec.hosts).map(|it| it.0.clone()).collect(),
        _ => Vec::new(),
    }
}

/// Whether these are of the service of somebody who is asked about requests.
fn is_asked(world: &World, hosts: &[String]) -> bool {
    if hosts.is_empty() || world.mesh.providers.is_empty() {
        return false;
    }
    let authorizers = provider::providers(&world.mesh).filter_map(|it| it.authorizer().cloned());
    authorizers.into_iter().any(|it| hosts.iter().any(|host| *host == *it.at.host.as_str()))
}

/// Limits that one of these hosts counts, and processors that are there, of whichever namespace.
fn served_by(world: &World, hosts: &[String]) -> Vec<ObjectRef> {
    let is_there = |home: &str, service: (&str, u32)| {
        let at = provider::service(world, home, service);
        at.is_some_and(|at| hosts.iter().any(|host| *host == *at.host.as_str()))
    };
    let of_space = |(home, space): (&Arc<str>, &Space)| {
        let limits = space.rate_limits.iter().filter(|(_, it)| {
            it.spec.global.as_ref().is_some_and(|it| is_there(home, (&it.service, it.port)))
        });
        let limits = limits.map(|(name, _)| ObjectRef::new(Kind::RateLimitPolicy, home, name));
        let processors = space.ext_procs.iter();
        let processors = processors.filter(|(_, it)| is_there(home, (&it.spec.service, it.spec.port)));
        let processors = processors.map(|(name, _)| ObjectRef::new(Kind::ExtProcPolicy, home, name));
        limits.chain(processors).collect::<Vec<_>>()
    };
    if hosts.is_empty() { Vec::new() } else { world.spaces().flat_map(of_space).collect() }
}

/// The policies that want somebody to be asked.
fn asking(world: &World) -> Vec<ObjectRef> {
    let all = world.spaces().flat_map(|(home, space)| space.policies.iter().map(move |it| (home, it)));
    let custom = all.filter(|(_, (_, it))| it.spec.action == PolicyAction::Custom);
    custom.map(|(home, (name, _))| ObjectRef::new(Kind::AuthorizationPolicy, home, name)).collect()
}

/// What routes and rules are about, among these.
fn parents_of_all<'a>(all: &'a [ObjectRef], at: &'a ObjectRef) -> impl Iterator<Item = &'a ObjectRef> {
    all.iter().chain([at]).filter(|it| matches!(it.kind, Kind::Service | Kind::ServiceEntry))
}

fn nearest(world: &World, at: &ObjectRef) -> Vec<ObjectRef> {
    if at.kind == Kind::GatewayClass {
        let gateways = world.gateways_of(&at.name);
        let told = gateways.flat_map(|gateway| {
            let itself = ObjectRef::new(Kind::Gateway, gateway.namespace, gateway.name);
            told_of(world, gateway).into_iter().chain([itself])
        });
        return own(at).chain(told).chain(mesh_wide(world)).collect();
    }
    let home = if at.kind == Kind::Namespace { &at.name } else { &at.namespace };
    let users = || told_of(world, Named { namespace: home, name: &at.name });
    let Some(space) = world.space(home) else {
        let gateways = || users().into_iter().chain(mesh_wide(world));
        return own(at).chain(gateways().filter(|_| at.kind == Kind::Gateway)).collect();
    };
    match at.kind {
        Kind::Namespace => all_of(home, space),
        // What a policy is attached to comes and goes.
        Kind::Service | Kind::ServiceEntry | Kind::Gateway => {
            let attached = space.attached().map(|it| it.reference(home));
            let users = users().into_iter().chain(mesh_wide(world)).filter(|_| at.kind == Kind::Gateway);
            let beside = behind(world, space, at).chain(telling(home, space));
            own(at).chain(attached).chain(users).chain(beside).collect()
        }
        Kind::Pod => behind(world, space, at).chain(world.fronts(at)).collect(),
        Kind::WorkloadEntry => own(at).chain(world.fronts(at)).collect(),
        Kind::EndpointSlice => world.fronts(at),
        // Of several at one place the oldest counts.
        Kind::Telemetry => own(at).chain(telling(home, space)).collect(),
        Kind::AuthorizationPolicy
        | Kind::RequestAuthentication
        | Kind::RateLimitPolicy
        | Kind::ExtProcPolicy => own(at).chain(targets(world, space, at)).collect(),
        Kind::HttpRoute | Kind::GrpcRoute => {
            let attached: Vec<_> = world.attached_to_route(at).collect();
            let services = if attached.is_empty() { Vec::new() } else { world.own_parents(at) };
            own(at).chain(attached).chain(services).collect()
        }
        _ => own(at).collect(),
    }
}

/// What is attached to waypoints of the whole mesh, or says what is told of them, is in force with the first of them, in
/// whichever namespace.
fn mesh_wide(world: &World) -> Vec<ObjectRef> {
    let root = world.mesh.root_namespace.as_str();
    let Some(space) = world.space(root) else { return Vec::new() };
    let attached = space.attached().filter(|it| it.targets.iter().any(|it| it.kind == "GatewayClass"));
    attached.map(|it| it.reference(root)).chain(telling(root, space)).collect()
}

/// The gateways that something may be a part of: by its label, or because they name their service.
fn behind<'a>(world: &'a World, space: &'a Space, at: &'a ObjectRef) -> impl Iterator<Item = ObjectRef> + 'a {
    let labels = match at.kind {
        Kind::Pod => space.pods.get(&at.name).map(|it| &it.metadata.labels),
        Kind::Service => space.services.get(&at.name).map(|it| &it.metadata.labels),
        _ => None,
    };
    let part_of = labels.and_then(|it| it.get(PART_OF)).map(String::as_str);
    let gateways = space.gateways.iter().filter(move |(name, it)| {
        let is_service = at.kind == Kind::Service && it.name_of_parts() == &*at.name;
        is_service || part_of == Some(name) || !it.spec.addresses.is_empty()
    });
    let ours = gateways.filter(|(_, it)| class_of(world, it).is_some());
    ours.map(|(name, _)| ObjectRef::new(Kind::Gateway, &at.namespace, name))
}

/// Those who go through a waypoint are told of it, unless there are too many of them to be told.
fn told_of(world: &World, gateway: Named<'_>) -> Vec<ObjectRef> {
    world.users(gateway).into_iter().filter(|it| TOLD.contains(&it.kind)).collect()
}

/// While a waypoint is not there, what becomes of traffic depends on whether a policy is attached.
fn targets(world: &World, space: &Space, policy: &ObjectRef) -> Vec<ObjectRef> {
    let namespace = &policy.namespace;
    let told = space.targets_of(policy).into_iter().flat_map(|target| match target.kind.as_str() {
        "Service" => vec![ObjectRef::new(Kind::Service, namespace, &target.name)],
        "ServiceEntry" => vec![ObjectRef::new(Kind::ServiceEntry, namespace, &target.name)],
        "Gateway" => told_of(world, Named { namespace, name: &target.name }),
        "GatewayClass" if is_of_all(&target.name) => {
            world.users_of_all().into_iter().filter(|it| TOLD.contains(&it.kind)).collect()
        }
        "GatewayClass" => world.gateways_of(&target.name).flat_map(|it| told_of(world, it)).collect(),
        "HTTPRoute" | "GRPCRoute" => {
            let route = route_kind(target).map(|kind| ObjectRef::new(kind, namespace, &target.name));
            route.map(|it| world.own_parents(&it)).unwrap_or_default()
        }
        _ => Vec::new(),
    });
    told.collect()
}

/// All objects of which something may have to be said.
#[must_use]
pub fn all(world: &World) -> Vec<ObjectRef> {
    let classes = world.classes().map(|name| ObjectRef::new(Kind::GatewayClass, "", name));
    world.spaces().flat_map(|(name, space)| all_of(name, space)).chain(classes).collect()
}

/// What a namespace's objects say of what is told of requests.
fn telling(home: &str, space: &Space) -> impl Iterator<Item = ObjectRef> {
    space.telemetries.keys().map(move |name| ObjectRef::new(Kind::Telemetry, home, name))
}

fn own(at: &ObjectRef) -> impl Iterator<Item = ObjectRef> {
    TOLD.contains(&at.kind).then(|| at.clone()).into_iter()
}

fn all_of(namespace: &str, space: &Space) -> Vec<ObjectRef> {
    let policies = space.policies.keys().map(|name| (Kind::AuthorizationPolicy, name));
    let tokens = space.authentications.keys().map(|name| (Kind::RequestAuthentication, name));
    let limits = space.rate_limits.keys().map(|name| (Kind::RateLimitPolicy, name));
    let processors = space.ext_procs.keys().map(|name| (Kind::ExtProcPolicy, name));
    let services = space.services.keys().map(|name| (Kind::Service, name));
    let entries = space.entries.keys().map(|name| (Kind::ServiceEntry, name));
    let workloads = space.workloads.keys().map(|name| (Kind::WorkloadEntry, name));
    let gateways = space.gateways.keys().map(|name| (Kind::Gateway, name));
    let http = space.http_routes.keys().map(|name| (Kind::HttpRoute, name));
    let grpc = space.grpc_routes.keys().map(|name| (Kind::GrpcRoute, name));
    let tls = space.tls_routes.keys().map(|name| (Kind::TlsRoute, name));
    let connections = tls.chain(space.tcp_routes.keys().map(|name| (Kind::TcpRoute, name)));
    let secured = space.backend_tls.keys().map(|name| (Kind::BackendTlsPolicy, name));
    let ordered = space.virtual_services.keys().map(|name| (Kind::VirtualService, name));
    let rules = space.destination_rules.keys().map(|name| (Kind::DestinationRule, name));
    let policies = policies.chain(tokens).chain(limits).chain(processors).chain(ordered).chain(rules);
    let objects = policies
        .chain(services)
        .chain(entries)
        .chain(workloads)
        .chain(gateways)
        .chain(http)
        .chain(grpc)
        .chain(connections)
        .chain(secured);
    let objects = objects.map(|(kind, name)| ObjectRef::new(kind, namespace, name));
    objects.chain(telling(namespace, space)).collect()
}

fn known<'a>(world: &'a World, at: &ObjectRef) -> Option<Known<'a>> {
    let space = world.space(&at.namespace)?;
    let plain = |conditions, generation| Known { conditions, generation, addresses: Given::new() };
    Some(match at.kind {
        Kind::AuthorizationPolicy => {
            let it = space.policies.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::RateLimitPolicy => {
            let it = space.rate_limits.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::ExtProcPolicy => {
            let it = space.ext_procs.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::RequestAuthentication => {
            let it = space.authentications.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::Service => {
            let it = space.services.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::DestinationRule => {
            let it = space.destination_rules.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::Telemetry => {
            let it = space.telemetries.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::VirtualService => {
            let it = space.virtual_services.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::WorkloadEntry => {
            let it = space.workloads.get(&at.name)?;
            plain(&it.status.conditions, it.metadata.generation)
        }
        Kind::ServiceEntry => {
            let it = space.entries.get(&at.name)?;
            let address = |(host, ip): (&String, IpAddr)| (host.clone(), ip);
            let addresses =
                it.status.addresses.iter().map(|it| (&it.host, it.value.0)).map(address).collect();
            Known { conditions: &it.status.conditions, generation: it.metadata.generation, addresses }
        }
        _ => return None,
    })
}

/// Whether the object says exactly what is to be said, of its present generation.
fn is_said(wanted: &[Condition], known: &Known<'_>) -> bool {
    let mut ours = known.conditions.iter().filter(|it| KINDS.contains(&it.kind.as_str()));
    let count = ours.clone().count();
    let is = |before: &PolicyCondition| {
        let same = |it: &Condition| {
            it.kind == before.kind
                && it.status == before.status
                && it.reason == before.reason
                && it.message == before.message
        };
        before.observed_generation == known.generation.max(0) && wanted.iter().any(same)
    };
    count == wanted.len() && ours.all(is)
}

fn condition(wanted: &Condition, kind: Kind, known: &Known<'_>, now: SystemTime) -> Value {
    let same = |it: &&PolicyCondition| it.kind == wanted.kind && it.status == wanted.status;
    let before = known.conditions.iter().find(same).filter(|it| !it.last_transition_time.is_empty());
    let since = before.map_or_else(|| time(now), |before| before.last_transition_time.clone());
    let generation = Some(known.generation).filter(|it| *it > 0);
    // Istio writes the generation as text, Kubernetes as a number. What is null is absent.
    let generation = if kind == Kind::Service || ATTACHED.contains(&kind) {
        json!(generation)
    } else {
        json!(generation.map(|it| it.to_string()))
    };
    json!({
        "type": wanted.kind,
        "status": wanted.status,
        "reason": wanted.reason,
        "message": wanted.message,
        "lastTransitionTime": since,
        "observedGeneration": generation,
    })
}

fn time(now: SystemTime) -> String {
    jiff::Timestamp::try_from(now).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
