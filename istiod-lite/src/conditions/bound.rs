//! What is said of waypoints: on what goes through one, and on policies that are attached to what goes through one.

use std::collections::BTreeSet;

use ambit_cluster::kinds::authentication::RequestAuthentication;
use ambit_cluster::kinds::ext_proc::ExtProcPolicy;
use ambit_cluster::kinds::gateway::Gateway;
use ambit_cluster::kinds::policy::{AuthorizationPolicy, PolicyAction, PolicyTarget};
use ambit_cluster::kinds::rate_limit::RateLimitPolicy;
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::request_policy::Requirement;

use super::{Condition, WAYPOINT_ACCEPTED, WAYPOINT_BOUND};
use crate::index::World;
use crate::index::attached::route_kind;
use crate::index::users::Named;
use crate::translate::authentication::authentication;
use crate::translate::demand::demand;
use crate::translate::ext_proc::ext_proc;
use crate::translate::provider::authorizer;
use crate::translate::rate_limit::rate_limit;
use crate::translate::target::is_of_all;
use crate::translate::waypoint::{
    Asker, Attachment, Bound, Canary, CanaryFault, Fault, Unbound, attach, class_of, is_waypoint,
};

/// Whether an object goes through the waypoint that it asks for, or its namespace.
pub(super) fn bound(world: &World, asker: Asker<'_>) -> Option<Condition> {
    match attach(world, asker) {
        Attachment::Unasked => None,
        Attachment::Bound(it) => {
            Some(Condition::new(WAYPOINT_BOUND, "True", "WaypointAccepted", accepted(&it)))
        }
        Attachment::Unbound(it) => {
            let (reason, why) = why(it.fault, it.waypoint);
            let outcome = outcome(&it);
            Some(Condition::new(WAYPOINT_BOUND, "False", reason, format!("{why}; {outcome}")))
        }
    }
}

fn outcome(it: &Unbound<'_>) -> &'static str {
    match (it.fault, &it.closed) {
        (Fault::Accounts, Some(_)) => {
            "all of it goes through the waypoint all the same, for what is demanded there would be passed by"
        }
        (_, Some(_)) => "traffic is refused until it is, for what is demanded of it would be passed by",
        (_, None) => "traffic goes without it",
    }
}

fn accepted(it: &Bound<'_>) -> String {
    let mut text = format!("bound to waypoint \"{}\"", it.waypoint);
    match it.ingress {
        Some(true) => text.push_str("; traffic that comes in through gateways goes through it as well"),
        Some(false) => {
            text.push_str("; traffic that comes in through gateways does not: istio.io/ingress-use-waypoint is not true");
        }
        None => {}
    }
    match &it.canary {
        Some(Canary { waypoint, by: Ok((_, weight)) }) => {
            text.push_str(&format!("; {weight} in a hundred connections go through \"{waypoint}\""));
        }
        Some(Canary { waypoint, by: Err(fault) }) => {
            let (reason, why) = why_not_also(*fault, *waypoint);
            text.push_str(&format!("; all of it, for the second waypoint is not used ({reason}): {why}"));
        }
        None => {}
    }
    text
}

fn why_not_also(fault: CanaryFault, waypoint: Named<'_>) -> (&'static str, String) {
    match fault {
        CanaryFault::Same => ("CanarySameAsPrimary", "both are the same".into()),
        CanaryFault::Weight => (
            "CanaryInvalidWeight",
            "istio.io/use-waypoint-canary-weight is not a number from 0 to 100".into(),
        ),
        CanaryFault::Waypoint(fault) => why(fault, waypoint),
    }
}

pub(super) fn why(fault: Fault, waypoint: Named<'_>) -> (&'static str, String) {
    match fault {
        Fault::NotReady => ("WaypointIsNotReady", format!("waypoint \"{waypoint}\" is not ready")),
        Fault::Denied => {
            let text = format!(
                "waypoint \"{waypoint}\" lets nothing of this namespace in; allow it by allowedRoutes of its listener"
            );
            ("AttachmentDenied", text)
        }
        Fault::Traffic(traffic) => {
            let text = format!(
                "waypoint \"{waypoint}\" is not for traffic to a {traffic}; see its label istio.io/waypoint-for"
            );
            ("UnsupportedTrafficType", text)
        }
        Fault::Accounts => {
            let text = format!("not all endpoints run as the account that waypoint \"{waypoint}\" is for");
            ("MixedServiceAccounts", text)
        }
        Fault::Elsewhere => {
            let text =
                format!("only its own namespace may see it, and waypoint \"{waypoint}\" is in another");
            ("CrossNamespaceWaypointForbidden", text)
        }
    }
}

/// Whether waypoints enforce a policy that is attached to objects: each target is one's, or goes through one.
pub(super) fn targeted(world: &World, policy: &AuthorizationPolicy) -> Option<Condition> {
    let home = &policy.metadata.namespace;
    enforced(world, (home, policy.spec.targets().collect()), || strictly(world, policy))
}

/// The same of whose tokens are believed.
pub(super) fn believed(world: &World, object: &RequestAuthentication) -> Option<Condition> {
    let not_honoured = || {
        let notes = authentication(world, object).notes;
        (!notes.is_empty()).then(|| format!("not honoured: {}", notes.join("; ")))
    };
    enforced(world, (&object.metadata.namespace, object.spec.targets().collect()), not_honoured)
}

/// The same of limits; a service that counts and is not there counts nothing.
pub(super) fn limited(world: &World, object: &RateLimitPolicy) -> Option<Condition> {
    let uncounted = || {
        let global = rate_limit(world, object)?.global?;
        let then = if global.fail_closed { "are refused" } else { "go on uncounted" };
        let Some(at) = global.at else {
            let given = object.spec.global.as_ref().map_or("", |it| it.service.as_str());
            return Some(format!("spec.global.service: {given:?} is none, so requests {then}"));
        };
        let is_there = world.claims(at.host.as_str()).next().is_some();
        (!is_there).then(|| format!("the service {at} of global is not there, so requests {then}"))
    };
    let targets = object.spec.target_refs.iter().collect();
    enforced_by(world, (&object.metadata.namespace, targets), unbound_or_route, uncounted)
}

/// The same of processors; one that is not there processes nothing.
pub(super) fn processed(world: &World, object: &ExtProcPolicy) -> Option<Condition> {
    let unprocessed = || {
        let policy = ext_proc(world, object)?;
        let then = if policy.fail_open { "go on unprocessed" } else { "are refused" };
        let Some(at) = policy.at else {
            return Some(format!("spec.service: {:?} is none, so requests {then}", object.spec.service));
        };
        let is_there = world.claims(at.host.as_str()).next().is_some();
        (!is_there).then(|| format!("the service {at} is not there, so requests {then}"))
    };
    let targets = object.spec.target_refs.iter().collect();
    enforced_by(world, (&object.metadata.namespace, targets), unbound_or_route, unprocessed)
}

pub(super) fn enforced(
    world: &World,
    targets: (&str, Vec<&PolicyTarget>),
    otherwise: impl FnOnce() -> Option<String>,
) -> Option<Condition> {
    enforced_by(world, targets, unbound, otherwise)
}

fn enforced_by(
    world: &World,
    (home, targets): (&str, Vec<&PolicyTarget>),
    unbound: impl Fn(&World, &str, &PolicyTarget) -> Result<(), NotEnforced>,
    otherwise: impl FnOnce() -> Option<String>,
) -> Option<Condition> {
    let fault = |target: &&PolicyTarget| unbound(world, home, target).err();
    let failing: Vec<_> = targets.iter().filter_map(|it| Some((*it, fault(it)?))).collect();
    let listed = |targets: &[&PolicyTarget]| {
        let named = |target: &&PolicyTarget| {
            let group = if target.group.is_empty() { "core" } else { &target.group };
            let section = Some(&target.section_name).filter(|it| !it.is_empty());
            let section = section.map(|it| format!(" ({it})")).unwrap_or_default();
            format!("{}.{group}:{home}/{}{section}", target.kind, target.name)
        };
        targets.iter().map(named).collect::<Vec<_>>().join(", ")
    };
    let no = |reason, why: &str| {
        let text = format!("{why}: {}", listed(&targets));
        Some(Condition::new(WAYPOINT_ACCEPTED, "False", reason, text))
    };
    match failing.as_slice() {
        [(_, (reason, why))] if targets.len() == 1 => return no(reason, why),
        [_, ..] if failing.len() == targets.len() => {
            return no("Invalid", "enforced for none of its targets");
        }
        _ => {}
    }
    let enforced: Vec<&PolicyTarget> =
        targets.iter().copied().filter(|it| failing.iter().all(|(other, _)| other != it)).collect();
    if enforced.is_empty() {
        return None;
    }
    let mut text = format!("enforced by waypoints: {}", listed(&enforced));
    if !failing.is_empty() {
        let failing: Vec<&PolicyTarget> = failing.iter().map(|(target, _)| *target).collect();
        text.push_str(&format!("; not enforced: {}", listed(&failing)));
    }
    let otherwise = otherwise();
    text.extend(otherwise.iter().map(|it| format!("; {it}")));
    let is_whole = failing.is_empty() && otherwise.is_none();
    let reason = if is_whole { "Accepted" } else { "PartiallyInvalid" };
    Some(Condition::new(WAYPOINT_ACCEPTED, "True", reason, text))
}

/// Why nobody can be asked, where somebody is to be.
fn unasked(world: &World, policy: &AuthorizationPolicy) -> Option<String> {
    if policy.spec.action != PolicyAction::Custom {
        return None;
    }
    let named = policy.spec.provider.as_ref().map(|it| it.name.as_str()).unwrap_or_default();
    let provider = authorizer(&world.mesh, named);
    let Some(whom) = provider.as_ref().and_then(|it| it.authorizer()) else {
        return Some(format!(
            "the mesh's configuration has no provider {named:?} that can be asked, so all that it is about is refused"
        ));
    };
    let is_there = world.claims(whom.at.host.as_str()).next().is_some();
    let (at, then) = (&whom.at, if whom.fail_open { "goes on unasked" } else { "is refused" });
    (!is_there).then(|| {
        format!("the service {at} of the provider {named:?} is not there, so all that it is about {then}")
    })
}

/// What of a policy waypoints read strictly, for they do not know it.
fn strictly(world: &World, policy: &AuthorizationPolicy) -> Option<String> {
    if let Some(why) = unasked(world, policy) {
        return Some(why);
    }
    let demand = demand(world, policy)?;
    let unknown = |it: &Requirement| match it {
        Requirement::Unknown(key) => Some(key.to_string()),
        _ => None,
    };
    let keys: BTreeSet<String> =
        demand.rules.iter().flat_map(|rule| &rule.when).filter_map(unknown).collect();
    if keys.is_empty() {
        return None;
    }
    let list = keys.into_iter().collect::<Vec<_>>().join(", ");
    let outcome = match policy.spec.action {
        PolicyAction::Deny | PolicyAction::Custom => "rules with them deny without them",
        PolicyAction::Allow | PolicyAction::Audit => "rules with them never match",
    };
    Some(format!("conditions that do not read ({list}): {outcome}"))
}

const NOT_JUDGED: (&str, &str) = (
    "UnsupportedValue",
    "the waypoint of the target is not one of ours, so nobody that is known here enforces it",
);
const NOT_BOUND: (&str, &str) =
    ("AncestorNotBound", "no waypoint enforces it, for none is attached to the target");

const NOT_SENT: (&str, &str) = (
    "UnsupportedValue",
    "of classes, waypoints go by istio-waypoint and ambit-waypoint alone, each of which stands for all of them",
);

/// Why a policy is not enforced for a target.
type NotEnforced = (&'static str, &'static str);

const NOT_FOUND: (&str, &str) = ("TargetNotFound", "the target does not exist");

/// Limits and processors may be attached to routes as well: where one of those services is bound that a route is attached
/// to, it is in force, and with it what is attached to it.
fn unbound_or_route(world: &World, home: &str, target: &PolicyTarget) -> Result<(), NotEnforced> {
    let Some(kind) = route_kind(target) else { return unbound(world, home, target) };
    let (name, section) = (target.name.as_str(), target.section_name.as_str());
    let space = world.space(home);
    let has_rule = match kind {
        Kind::GrpcRoute => space
            .and_then(|it| it.grpc_routes.get(name))
            .map(|it| it.spec.rules.iter().any(|it| it.name == section)),
        _ => space
            .and_then(|it| it.http_routes.get(name))
            .map(|it| it.spec.rules.iter().any(|it| it.name == section)),
    };
    match has_rule {
        None => return Err(NOT_FOUND),
        Some(false) if !section.is_empty() => {
            return Err(("TargetNotFound", "the route has no rule of the name that sectionName gives"));
        }
        Some(_) => {}
    }
    let parents = world.parents_of(&ObjectRef::new(kind, home, name));
    let mut said = parents.iter().filter_map(|it| Some(standing(world, Asker::of(world, it)?)));
    let first = said.next().unwrap_or(Err(NOT_BOUND));
    said.fold(first, |one, other| one.or(other))
}

fn standing(world: &World, asker: Asker<'_>) -> Result<(), NotEnforced> {
    match attach(world, asker) {
        Attachment::Bound(it) => {
            let waypoint =
                world.space(it.waypoint.namespace).and_then(|space| space.gateways.get(it.waypoint.name));
            waypoint.map_or(Err(NOT_BOUND), |it| judged(world, it))
        }
        Attachment::Unasked | Attachment::Unbound(_) => Err(NOT_BOUND),
    }
}

fn unbound(world: &World, home: &str, target: &PolicyTarget) -> Result<(), NotEnforced> {
    let name = target.name.as_str();
    let space = world.space(home);
    let standing = |asker| standing(world, asker);
    let found = match (target.group.as_str(), target.kind.as_str()) {
        ("" | "core", "Service") => {
            space.and_then(|it| it.services.get(name)).map(|it| standing(Asker::Service(it)))
        }
        ("networking.istio.io", "ServiceEntry") => {
            space.and_then(|it| it.entries.get(name)).map(|it| standing(Asker::Entry(it)))
        }
        ("gateway.networking.k8s.io", "Gateway") => space
            .and_then(|it| it.gateways.get(name))
            .map(|it| if is_waypoint(world, it) { judged(world, it) } else { Err(NOT_BOUND) }),
        ("gateway.networking.k8s.io", "GatewayClass") if home != world.mesh.root_namespace => {
            return Err(("Invalid", "a class is a target only in the root namespace"));
        }
        ("gateway.networking.k8s.io", "GatewayClass") => Some(of_class(world, name)),
        _ => return Err(("Invalid", "a policy cannot be attached to objects of this kind")),
    };
    found.unwrap_or(Err(NOT_FOUND))
}

fn of_class(world: &World, class: &str) -> Result<(), NotEnforced> {
    let waypoints = || {
        let gateways = world.spaces().flat_map(|(_, space)| space.gateways.values());
        gateways.filter(|it| is_waypoint(world, it)).map(AsRef::as_ref)
    };
    // What is for all waypoints is in force at any of ours, of whichever class that is.
    if is_of_all(class) && waypoints().any(|it| judged(world, it).is_ok()) {
        return Ok(());
    }
    let mut of_class = waypoints().filter(|it| it.spec.gateway_class_name == class);
    match of_class.next().map_or(Err(NOT_BOUND), |it| judged(world, it)) {
        Ok(()) if !is_of_all(class) => Err(NOT_SENT),
        said => said,
    }
}

/// Ours judge requests.
fn judged(world: &World, waypoint: &Gateway) -> Result<(), NotEnforced> {
    let is_ours = class_of(world, waypoint).is_some_and(|class| class.is_ours);
    if is_ours { Ok(()) } else { Err(NOT_JUDGED) }
}
