//! What is said of routes (`waypoint.md` 2.19), for each service or service entry that they are attached to. What is
//! said of gateways that they are attached to as well is those gateways' business.

use ambit_cluster::kinds::route::ParentRef;
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::http_route::RouteKind;

use super::{Condition, PARTIALLY_INVALID, RESOLVED_REFS, bound};
use crate::index::World;
use crate::index::routed::parent_kind;
use crate::translate::route::connections::connections;
use crate::translate::route::{ReadParent, Reading, grpc, http};
use crate::translate::waypoint::{Asker, Attachment, attach};

/// Whether it is in force.
pub(super) const ACCEPTED: &str = "Accepted";
/// Whether there is a waypoint that carries it out.
const RESOLVED_WAYPOINTS: &str = "ResolvedWaypoints";

/// All that is to be said of a route now, by what it is attached to.
#[must_use]
pub fn route(world: &World, at: &ObjectRef) -> Vec<(ParentRef, Vec<Condition>)> {
    let Some(reading) = read(world, at) else { return Vec::new() };
    let said = |it: &ReadParent| (it.written.clone(), of_parent(world, at, (&reading, it)));
    reading.parents.iter().map(said).collect()
}

fn read(world: &World, at: &ObjectRef) -> Option<Reading> {
    let space = world.space(&at.namespace)?;
    match at.kind {
        Kind::HttpRoute => Some(http(world, space.http_routes.get(&at.name)?)),
        Kind::GrpcRoute => Some(grpc(world, space.grpc_routes.get(&at.name)?)),
        Kind::TlsRoute => Some(connections(world, space.tls_routes.get(&at.name)?, RouteKind::Tls)),
        Kind::TcpRoute => Some(connections(world, space.tcp_routes.get(&at.name)?, RouteKind::Tcp)),
        _ => None,
    }
}

fn of_parent(world: &World, at: &ObjectRef, (reading, parent): (&Reading, &ReadParent)) -> Vec<Condition> {
    let accepted = accepted(world, at, (reading, parent));
    let is_accepted = accepted.status == "True";
    let notes = &reading.notes;
    let resolved = match notes.unresolved.as_slice() {
        [] => Condition::new(RESOLVED_REFS, "True", RESOLVED_REFS, "all that it refers to is there"),
        [first, ..] => {
            let list: Vec<&str> = notes.unresolved.iter().map(|it| it.text.as_str()).collect();
            let text = format!("requests for these are answered with an error: {}", list.join("; "));
            Condition::new(RESOLVED_REFS, "False", first.reason, text)
        }
    };
    let mut all = vec![accepted, resolved];
    if is_accepted && !notes.unsupported.is_empty() {
        let list = notes.unsupported.join("; ");
        let text = format!("Dropped Rule: requests for these are answered with an error: {list}");
        all.push(Condition::new(PARTIALLY_INVALID, "True", "UnsupportedValue", text));
    }
    if is_accepted {
        all.push(waypoint(world, at, parent));
    }
    all
}

fn accepted(world: &World, at: &ObjectRef, (reading, parent): (&Reading, &ReadParent)) -> Condition {
    let refuse = |reason, text: String| Condition::new(ACCEPTED, "False", reason, text);
    if parent.services.is_empty() {
        let text = format!("there is no {} {} with such a port", parent.written.kind, parent.written.name);
        return refuse("NoMatchingParent", text);
    }
    if reading.is_broken {
        return refuse(
            "UnsupportedValue",
            format!("no rule can be carried out: {}", reading.notes.unsupported.join("; ")),
        );
    }
    if let Some(winner) = winner(world, at, parent) {
        let first = match winner.kind {
            Kind::GrpcRoute => "gRPC",
            Kind::HttpRoute => "HTTP",
            _ => "TLS",
        };
        return refuse("Conflicted", format!("{winner} is attached there as well, and {first} comes first"));
    }
    let text = passed_over(world, at, parent).map_or_else(
        || "attached".into(),
        |it| format!("attached; it comes before {it}, which is passed over there"),
    );
    Condition::new(ACCEPTED, "True", ACCEPTED, text)
}

/// A virtual service of the same place, which a route comes before.
fn passed_over(world: &World, at: &ObjectRef, parent: &ReadParent) -> Option<ObjectRef> {
    let place = place(at, &parent.written)?;
    let mut others = world.routes_of(&place).into_iter().filter(|it| it.kind == Kind::VirtualService);
    others.find(|it| world.parents_of(it).contains(&place))
}

/// Kinds of routes, the one that comes first before those that it comes before.
const ORDER: [Kind; 4] = [Kind::GrpcRoute, Kind::HttpRoute, Kind::TlsRoute, Kind::TcpRoute];

/// A route at the same place whose kind comes before that of this one.
fn winner(world: &World, at: &ObjectRef, parent: &ReadParent) -> Option<ObjectRef> {
    let place = place(at, &parent.written)?;
    let first = ORDER.iter().take_while(|kind| **kind != at.kind);
    let takes_it = |other: &ObjectRef| {
        let refs = world.parent_refs(other).iter();
        let mut here = refs.filter(|it| self::place(other, it).as_ref() == Some(&place));
        here.any(|it| it.port.is_none() || it.port == parent.written.port)
    };
    let all = world.routes_of(&place);
    first.into_iter().find_map(|kind| all.iter().find(|it| it.kind == *kind && takes_it(it)).cloned())
}

/// The object that a parent is.
fn place(at: &ObjectRef, parent: &ParentRef) -> Option<ObjectRef> {
    let namespace = parent.namespace.as_deref().unwrap_or(&at.namespace);
    Some(ObjectRef::new(parent_kind(parent)?, namespace, &parent.name))
}

/// Whether anybody carries it out.
fn waypoint(world: &World, at: &ObjectRef, parent: &ReadParent) -> Condition {
    let said = || {
        let place = place(at, &parent.written)?;
        Asker::of(world, &place).map(|it| attach(world, it))
    };
    match said().unwrap_or(Attachment::Unasked) {
        Attachment::Bound(it) => {
            let text = format!("carried out by waypoint \"{}\"", it.waypoint);
            Condition::new(RESOLVED_WAYPOINTS, "True", RESOLVED_WAYPOINTS, text)
        }
        Attachment::Unbound(it) => {
            let (reason, why) = bound::why(it.fault, it.waypoint);
            Condition::new(RESOLVED_WAYPOINTS, "False", reason, format!("nobody carries it out: {why}"))
        }
        Attachment::Unasked => {
            let text = "nobody carries it out: neither the parent nor its namespace has the label istio.io/use-waypoint";
            Condition::new(RESOLVED_WAYPOINTS, "False", "MissingUseWaypointLabel", text)
        }
    }
}
