//! What is said of VirtualServices (`waypoint.md` 4.1): who carries them out, after which others, and what of them is not
//! honoured. Of one that is for gateways at the mesh's border alone nothing is said: those speak of it.

use ambit_cluster::kinds::virtual_service::VirtualService;
use ambit_cluster::{Kind, ObjectRef};

use super::{Condition, PARTIALLY_INVALID, RESOLVED_REFS, WAYPOINT_ACCEPTED, bound};
use crate::index::World;
use crate::translate::route::virtual_service::{Reading, virtual_service};
use crate::translate::waypoint::{Asker, Attachment, attach};

/// All that is to be said of one now.
pub(super) fn said(world: &World, at: &ObjectRef, object: &VirtualService) -> Vec<Condition> {
    if !object.is_for_mesh() {
        return Vec::new();
    }
    if object.spec.hosts.is_empty() {
        return vec![delegate(world, at)];
    }
    let reading = virtual_service(world, object);
    let mut all = vec![accepted(world, at, &reading)];
    let notes = &reading.notes;
    if let Some(first) = notes.unresolved.first() {
        let list: Vec<&str> = notes.unresolved.iter().map(|it| it.text.as_str()).collect();
        let text = format!("requests for these are answered with an error: {}", list.join("; "));
        all.push(Condition::new(RESOLVED_REFS, "False", first.reason, text));
    }
    let mut parts = Vec::new();
    if !notes.unsupported.is_empty() {
        let list = notes.unsupported.join("; ");
        parts.push(format!("Dropped Rule: requests for these are answered with an error: {list}"));
    }
    if !reading.ignored.is_empty() {
        parts.push(format!("these have no effect: {}", reading.ignored.join("; ")));
    }
    if !parts.is_empty() {
        all.push(Condition::new(PARTIALLY_INVALID, "True", "UnsupportedValue", parts.join(". ")));
    }
    all
}

/// One without hosts does what others delegate to it.
fn delegate(world: &World, at: &ObjectRef) -> Condition {
    let roots = world.routes_of(at).into_iter().filter(|it| it.kind == Kind::VirtualService && it != at);
    let roots: Vec<String> = roots.map(|it| it.to_string()).collect();
    if roots.is_empty() {
        let text = "it has no hosts, and no other VirtualService delegates to it";
        return Condition::new(WAYPOINT_ACCEPTED, "False", "NoMatchingHost", text);
    }
    let text = format!("a part of {}", roots.join(", "));
    Condition::new(WAYPOINT_ACCEPTED, "True", "Accepted", text)
}

fn accepted(world: &World, at: &ObjectRef, reading: &Reading) -> Condition {
    let refuse = |reason, text: String| Condition::new(WAYPOINT_ACCEPTED, "False", reason, text);
    let mut services: Vec<&ObjectRef> = reading.hosts.iter().flat_map(|it| &it.objects).collect();
    services.sort_unstable();
    services.dedup();
    if services.is_empty() {
        let hosts: Vec<&str> = reading.hosts.iter().map(|it| it.written.as_str()).collect();
        let hosts = hosts.join(", ");
        let text =
            format!("no service of its namespace, or that goes through a waypoint there, is called {hosts}");
        return refuse("NoMatchingHost", text);
    }
    if reading.is_broken {
        let text = format!("no rule can be carried out: {}", reading.notes.unsupported.join("; "));
        return refuse("UnsupportedValue", text);
    }
    let (mut left, mut remarks) = (Vec::new(), Vec::new());
    for service in services {
        match route_before(world, service) {
            None => left.push(service),
            Some(route) => {
                remarks.push(format!("at {service} it is passed over: {route} is attached there"));
            }
        }
    }
    let carried: Vec<Result<String, Told>> = left.iter().map(|it| carrier(world, it)).collect();
    let mut by: Vec<&str> = carried.iter().filter_map(|it| it.as_deref().ok()).collect();
    match carried.iter().find_map(|it| it.as_ref().err()) {
        _ if left.is_empty() => return refuse("Conflicted", remarks.join("; ")),
        Some((reason, why)) if by.is_empty() => {
            return refuse(reason, format!("nobody carries it out: {why}"));
        }
        Some((_, why)) => remarks.push(format!("not everywhere: {why}")),
        None => {}
    }
    by.sort_unstable();
    by.dedup();
    if let Some(older) = older(world, at, &left) {
        remarks.push(format!("its rules come after those of {older}, which is older"));
    }
    let more: String = remarks.iter().map(|it| format!("; {it}")).collect();
    Condition::new(
        WAYPOINT_ACCEPTED,
        "True",
        "Accepted",
        format!("carried out by waypoint {}{more}", by.join(", ")),
    )
}

/// A route of the Gateway API that is attached to a service, and comes before any VirtualService.
fn route_before(world: &World, service: &ObjectRef) -> Option<ObjectRef> {
    let mut routes = world.routes_of(service).into_iter();
    routes.find(|it| {
        matches!(it.kind, Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute)
            && world.parents_of(it).contains(service)
    })
}

/// Another VirtualService of the same services that is older.
fn older(world: &World, at: &ObjectRef, services: &[&ObjectRef]) -> Option<ObjectRef> {
    let age =
        |it: &ObjectRef| Some(world.space(&it.namespace)?.virtual_services.get(&it.name)?.metadata.age());
    let others = services.iter().flat_map(|it| world.routes_of(it));
    let mut beside = others.filter(|it| it.kind == Kind::VirtualService && it != at && age(it) < age(at));
    beside.find(|it| {
        let theirs = world.parents_of(it);
        services.iter().any(|service| theirs.contains(service))
    })
}

/// A reason in a word, and in a sentence.
type Told = (&'static str, String);

/// The waypoint of a service, or why there is none.
fn carrier(world: &World, at: &ObjectRef) -> Result<String, Told> {
    let said = Asker::of(world, at).map(|it| attach(world, it));
    match said.unwrap_or(Attachment::Unasked) {
        Attachment::Bound(it) => Ok(format!("\"{}\"", it.waypoint)),
        Attachment::Unbound(it) => Err(bound::why(it.fault, it.waypoint)),
        Attachment::Unasked => {
            let text = format!("neither {at} nor its namespace has the label istio.io/use-waypoint");
            Err(("MissingUseWaypointLabel", text))
        }
    }
}
