//! The status of gateways, of their classes, of routes and of policies, as the Gateway API writes it. Owns the shape; what
//! is said is `conditions`'. In a route's list of parents, and a policy's of ancestors, others have entries as well: they
//! stay as they are.

use std::time::SystemTime;

use ambit_cluster::kinds::backend_tls::AncestorStatus;
use ambit_cluster::kinds::gateway::{Gateway, GatewayAddress};
use ambit_cluster::kinds::policy::PolicyCondition;
use ambit_cluster::kinds::route::{CONTROLLER, ParentRef, ParentStatus};
use ambit_cluster::{Kind, ObjectRef};
use serde_json::{Map, Value, json};

use super::{Known, condition};
use crate::conditions::gateway::{self, SaidOfGateway};
use crate::conditions::route::route;
use crate::conditions::{Condition, backend_tls};
use crate::index::World;
use crate::index::routed::parent_kind;
use crate::vips::Given;

/// What is to be written onto an object of the Gateway API; nothing, if it says so already.
pub(super) fn patch(world: &World, at: &ObjectRef, now: SystemTime) -> Option<Value> {
    match at.kind {
        Kind::Gateway => of_gateway(world, at, now),
        Kind::GatewayClass => of_class(world, at, now),
        Kind::BackendTlsPolicy => of_policy(world, at, now),
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute => of_route(world, at, now),
        _ => None,
    }
}

fn of_gateway(world: &World, at: &ObjectRef, now: SystemTime) -> Option<Value> {
    let said = gateway::gateway(world, at)?;
    let object = world.space(&at.namespace)?.gateways.get(&at.name)?;
    if is_said_of(&said, object) {
        return None;
    }
    let SaidOfGateway { conditions, addresses, listeners } = said;
    let generation = object.metadata.generation;
    let known = |conditions| Known { conditions, generation, addresses: Given::new() };
    let shown = |all: &[Condition], before: &Known<'_>| -> Vec<Value> {
        all.iter().map(|it| condition(it, Kind::Gateway, before, now)).collect()
    };
    let of_listener = |(name, all): &(String, Vec<Condition>)| {
        let before = object.status.listeners.iter().find(|it| it.name == *name);
        let before = known(before.map(|it| it.conditions.as_slice()).unwrap_or_default());
        json!({"name": name, "attachedRoutes": 0, "supportedKinds": [], "conditions": shown(all, &before)})
    };
    let addresses = addresses.iter().map(|it| json!({"type": kind_of(it), "value": it.value}));
    Some(json!({"status": {
        "conditions": shown(&conditions, &known(&object.status.conditions)),
        "addresses": addresses.collect::<Vec<_>>(),
        "listeners": listeners.iter().map(of_listener).collect::<Vec<_>>(),
    }}))
}

fn kind_of(it: &GatewayAddress) -> &str {
    if it.kind.is_empty() { "IPAddress" } else { &it.kind }
}

fn is_said_of(said: &SaidOfGateway, object: &Gateway) -> bool {
    let generation = object.metadata.generation;
    let listeners = said.listeners.iter().all(|(name, all)| {
        let before = object.status.listeners.iter().find(|it| it.name == *name);
        before.is_some_and(|it| is_all_said(all, (&it.conditions, generation)))
    });
    said.addresses == object.status.addresses
        && said.listeners.len() == object.status.listeners.len()
        && listeners
        && is_all_said(&said.conditions, (&object.status.conditions, generation))
}

/// Whether these conditions are there as they are to be, whatever others say beside them.
fn is_all_said(wanted: &[Condition], (there, generation): (&[PolicyCondition], i64)) -> bool {
    let is = |it: &Condition| {
        there.iter().any(|before| {
            before.kind == it.kind
                && before.status == it.status
                && before.reason == it.reason
                && before.message == it.message
                && before.observed_generation == generation.max(0)
        })
    };
    wanted.iter().all(is)
}

fn of_class(world: &World, at: &ObjectRef, now: SystemTime) -> Option<Value> {
    let wanted = gateway::class(world, &at.name);
    let object = world.class(&at.name)?;
    let generation = object.metadata.generation;
    if wanted.is_empty() || is_all_said(&wanted, (&object.status.conditions, generation)) {
        return None;
    }
    let before = Known { conditions: &object.status.conditions, generation, addresses: Given::new() };
    let list: Vec<Value> = wanted.iter().map(|it| condition(it, at.kind, &before, now)).collect();
    Some(json!({"status": {"conditions": list}}))
}

fn of_route(world: &World, at: &ObjectRef, now: SystemTime) -> Option<Value> {
    let wanted = route(world, at);
    let space = world.space(&at.namespace)?;
    let (parents, generation) = match at.kind {
        Kind::HttpRoute => {
            let it = space.http_routes.get(&at.name)?;
            (&it.status.parents, it.metadata.generation)
        }
        Kind::TlsRoute | Kind::TcpRoute => {
            let all = if at.kind == Kind::TlsRoute { &space.tls_routes } else { &space.tcp_routes };
            let it = all.get(&at.name)?;
            (&it.status.parents, it.metadata.generation)
        }
        _ => {
            let it = space.grpc_routes.get(&at.name)?;
            (&it.status.parents, it.metadata.generation)
        }
    };
    let entries: Vec<Entry<'_>> = parents.iter().map(Entry::of_route).collect();
    let list = entries_of(at.kind, &wanted, (&entries, generation), now)?;
    Some(json!({"status": {"parents": list}}))
}

fn of_policy(world: &World, at: &ObjectRef, now: SystemTime) -> Option<Value> {
    let policy = world.space(&at.namespace)?.backend_tls.get(&at.name)?;
    let wanted = backend_tls::said(world, policy);
    let entries: Vec<Entry<'_>> = policy.status.ancestors.iter().map(Entry::of_policy).collect();
    let list = entries_of(at.kind, &wanted, (&entries, policy.metadata.generation), now)?;
    Some(json!({"status": {"ancestors": list}}))
}

/// An entry of a list in which each controller has its own.
#[derive(Clone, Copy)]
struct Entry<'a> {
    /// How what it is about is called.
    key: &'static str,
    about: &'a ParentRef,
    controller: &'a str,
    conditions: &'a [PolicyCondition],
}

impl<'a> Entry<'a> {
    fn of_route(it: &'a ParentStatus) -> Self {
        let (about, controller) = (&it.parent_ref, &it.controller_name);
        Self { key: "parentRef", about, controller, conditions: &it.conditions }
    }

    fn of_policy(it: &'a AncestorStatus) -> Self {
        let (about, controller) = (&it.ancestor_ref, &it.controller_name);
        Self { key: "ancestorRef", about, controller, conditions: &it.conditions }
    }
}

/// The list, if it does not say so already: the others' entries as they are, and ours. Those of gateways are others',
/// though upstream's control plane writes them by the same name.
fn entries_of(
    kind: Kind,
    wanted: &[(ParentRef, Vec<Condition>)],
    (entries, generation): (&[Entry<'_>], i64),
    now: SystemTime,
) -> Option<Vec<Value>> {
    let key = if kind == Kind::BackendTlsPolicy { "ancestorRef" } else { "parentRef" };
    let (ours, others): (Vec<Entry<'_>>, Vec<Entry<'_>>) =
        entries.iter().partition(|it| it.controller == CONTROLLER && parent_kind(it.about).is_some());
    let before = |parent: &ParentRef| ours.iter().find(|it| it.about == parent);
    let is_said = |(parent, all): &(ParentRef, Vec<Condition>)| {
        before(parent).is_some_and(|it| {
            it.conditions.len() == all.len() && is_all_said(all, (it.conditions, generation))
        })
    };
    if ours.len() == wanted.len() && wanted.iter().all(is_said) {
        return None;
    }
    let entry = |(parent, all): &(ParentRef, Vec<Condition>)| {
        let conditions = before(parent).map(|it| it.conditions).unwrap_or_default();
        let known = Known { conditions, generation, addresses: Given::new() };
        let list: Vec<Value> = all.iter().map(|it| condition(it, kind, &known, now)).collect();
        json!({key: reference(parent), "controllerName": CONTROLLER, "conditions": list})
    };
    let kept = others.into_iter().map(|it| {
        json!({it.key: reference(it.about), "controllerName": it.controller,
               "conditions": it.conditions.iter().map(as_it_was).collect::<Vec<_>>()})
    });
    Some(kept.chain(wanted.iter().map(entry)).collect())
}

fn reference(it: &ParentRef) -> Value {
    let mut members = Map::new();
    members.insert("group".into(), it.group.as_str().into());
    members.insert("kind".into(), it.kind.as_str().into());
    members.insert("name".into(), it.name.as_str().into());
    let namespace = it.namespace.as_ref().map(|it| ("namespace", it.as_str().into()));
    let section = it.section_name.as_ref().map(|it| ("sectionName", it.as_str().into()));
    let port = it.port.map(|it| ("port", Value::from(it.0)));
    members.extend([namespace, section, port].into_iter().flatten().map(|(key, it)| (key.into(), it)));
    Value::Object(members)
}

fn as_it_was(it: &PolicyCondition) -> Value {
    json!({
        "type": it.kind, "status": it.status, "reason": it.reason, "message": it.message,
        "lastTransitionTime": it.last_transition_time, "observedGeneration": it.observed_generation,
    })
}

#[cfg(test)]
mod tests;
