//! What is said of waypoints: on what goes through one, and on policies that are attached to what goes through one.

use ambit_cluster::kinds::policy::{AuthorizationPolicy, PolicyTarget};

use super::{Condition, WAYPOINT_ACCEPTED, WAYPOINT_BOUND};
use crate::index::World;
use crate::index::users::Named;
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
    match it.closed {
        Some(_) => "traffic is refused until it is, for what is demanded of it would be passed by",
        None => "traffic goes without it",
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
        Fault::Elsewhere => {
            let text =
                format!("only its own namespace may see it, and waypoint \"{waypoint}\" is in another");
            ("CrossNamespaceWaypointForbidden", text)
        }
    }
}

/// Nobody enforces a policy that is attached to objects: either no waypoint is attached to these, or the waypoint does
/// not judge requests yet.
pub(super) fn targeted(world: &World, policy: &AuthorizationPolicy) -> Option<Condition> {
    let targets: Vec<&PolicyTarget> = policy.spec.targets().collect();
    let failing: Vec<_> = targets.iter().map(|target| unbound(world, policy, target)).collect();
    let named = |target: &&PolicyTarget| {
        let group = if target.group.is_empty() { "core" } else { &target.group };
        format!("{}.{group}:{}/{}", target.kind, policy.metadata.namespace, target.name)
    };
    let list = targets.iter().map(named).collect::<Vec<_>>().join(", ");
    let (reason, why) = match failing.as_slice() {
        [] => return None,
        [one] => *one,
        [..] => ("Invalid", "enforced for none of its targets"),
    };
    Some(Condition::new(WAYPOINT_ACCEPTED, "False", reason, format!("{why}: {list}")))
}

const NOT_JUDGED: (&str, &str) =
    ("UnsupportedValue", "the waypoint of the target does not judge requests, so nobody enforces it");
const NOT_BOUND: (&str, &str) =
    ("AncestorNotBound", "no waypoint enforces it, for none is attached to the target");

fn unbound(
    world: &World,
    policy: &AuthorizationPolicy,
    target: &PolicyTarget,
) -> (&'static str, &'static str) {
    let (home, name) = (policy.metadata.namespace.as_str(), target.name.as_str());
    let space = world.space(home);
    let standing = |asker| match attach(world, asker) {
        Attachment::Bound(_) => NOT_JUDGED,
        Attachment::Unasked | Attachment::Unbound(_) => NOT_BOUND,
    };
    let found = match (target.group.as_str(), target.kind.as_str()) {
        ("" | "core", "Service") => {
            space.and_then(|it| it.services.get(name)).map(|it| standing(Asker::Service(it)))
        }
        ("networking.istio.io", "ServiceEntry") => {
            space.and_then(|it| it.entries.get(name)).map(|it| standing(Asker::Entry(it)))
        }
        ("gateway.networking.k8s.io", "Gateway") => space
            .and_then(|it| it.gateways.get(name))
            .map(|it| if is_waypoint(world, it) { NOT_JUDGED } else { NOT_BOUND }),
        ("gateway.networking.k8s.io", "GatewayClass") if home != world.mesh.root_namespace => {
            return ("Invalid", "a class is a target only in the root namespace");
        }
        ("gateway.networking.k8s.io", "GatewayClass") => Some(of_class(world, name)),
        _ => return ("Invalid", "a policy cannot be attached to objects of this kind"),
    };
    found.unwrap_or(("TargetNotFound", "the target does not exist"))
}

fn of_class(world: &World, class: &str) -> (&'static str, &'static str) {
    let mut gateways = world.spaces().flat_map(|(_, space)| space.gateways.values());
    let is_used = gateways.any(|it| it.spec.gateway_class_name == class && class_of(world, it).is_some());
    if is_used { NOT_JUDGED } else { NOT_BOUND }
}
