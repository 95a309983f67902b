//! What the authors of objects are told of them (`control-plane.md` 3.5): pure. Owns each condition's words.
//! What is said is what holds. Of waypoints it is said in `bound`.
//! Writing it down is `status`'s.

pub mod backend_tls;
mod bound;
mod destination;
pub mod gateway;
pub mod route;
mod telemetry;
mod virtual_service;

use ambit_cluster::fault::{Fault, Wrong};
use ambit_cluster::kinds::authentication::RequestAuthentication;
use ambit_cluster::kinds::entry::{Resolution, ServiceEntry};
use ambit_cluster::kinds::mesh::Visible;
use ambit_cluster::kinds::policy::AuthorizationPolicy;
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::policy::{Action, Clause, Match, Policy};

use crate::index::World;
use crate::translate::waypoint::Asker;
use crate::translate::{Reason, Verdict, verdict};

/// What tunnels make of a policy.
pub const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
/// What waypoints make of a policy.
pub const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
/// Whether an object's waypoint is attached.
pub const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
/// Whether an object does nothing without a waypoint.
pub const WAYPOINT_MISSING: &str = "istio.io/WaypointMissing";
/// For whom a service entry is.
pub const VISIBILITY_APPLIED: &str = "istio.io/VisibilityApplied";

/// Whether all that an object refers to is there.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// Whether a part of an object is not in force.
pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";

/// Whether an object reads; said of those that do not.
pub const ACCEPTED: &str = "istio.io/Accepted";

/// All of them: what is found of these on an object was said by us.
pub const KINDS: [&str; 8] = [
    ZTUNNEL_ACCEPTED,
    WAYPOINT_ACCEPTED,
    WAYPOINT_BOUND,
    WAYPOINT_MISSING,
    VISIBILITY_APPLIED,
    RESOLVED_REFS,
    PARTIALLY_INVALID,
    ACCEPTED,
];

/// One thing that is said of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What about.
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

impl Condition {
    fn new(
        kind: &'static str,
        status: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status, reason, message: message.into() }
    }
}

/// All that is to be said of an object now.
#[must_use]
pub fn of(world: &World, at: &ObjectRef) -> Vec<Condition> {
    let Some(space) = world.space(&at.namespace) else { return Vec::new() };
    match at.kind {
        Kind::AuthorizationPolicy => {
            space.policies.get(&at.name).map(|it| policy(world, it)).unwrap_or_default()
        }
        Kind::RateLimitPolicy => {
            let limits = space.rate_limits.get(&at.name);
            limits.and_then(|it| bound::limited(world, it)).into_iter().collect()
        }
        Kind::ExtProcPolicy => {
            let policy = space.ext_procs.get(&at.name);
            policy.and_then(|it| bound::processed(world, it)).into_iter().collect()
        }
        Kind::RequestAuthentication => {
            space.authentications.get(&at.name).map(|it| tokens(world, it)).unwrap_or_default()
        }
        Kind::Service => {
            let service = space.services.get(&at.name);
            service.and_then(|it| bound::bound(world, Asker::Service(it))).into_iter().collect()
        }
        Kind::WorkloadEntry => {
            let workload = space.workloads.get(&at.name);
            let labels = workload.map(|it| it.labels());
            let account = workload.map_or("", |it| it.spec.service_account.as_str());
            let namespace = at.namespace.as_ref();
            let said = labels.and_then(|labels| {
                bound::bound(world, Asker::Workload { namespace, labels: &labels, account })
            });
            said.into_iter().collect()
        }
        Kind::DestinationRule => {
            let rule = space.destination_rules.get(&at.name);
            rule.map(|it| destination::said(world, it)).into_iter().collect()
        }
        Kind::VirtualService => {
            let object = space.virtual_services.get(&at.name);
            object.map(|it| virtual_service::said(world, at, it)).unwrap_or_default()
        }
        Kind::ServiceEntry => space.entries.get(&at.name).map(|it| entry(world, it)).unwrap_or_default(),
        Kind::Telemetry => {
            let object = space.telemetries.get(&at.name);
            object.and_then(|it| telemetry::said(world, it)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What is to be said of an object that got into the cluster and does not read.
#[must_use]
pub fn refused(fault: &Fault, is_in_force: bool) -> Condition {
    let Wrong { field, value, problem, remedy } = &fault.wrong;
    let outcome =
        if is_in_force { "its last good version stays in force" } else { "nothing of it is in force" };
    let at: String = [field, value].iter().filter(|it| !it.is_empty()).map(|it| format!("{it}: ")).collect();
    let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
    Condition::new(ACCEPTED, "False", "Invalid", format!("{at}{problem}{remedy} ({outcome})"))
}

/// What is to be said of a policy: by its author's choice it is for tunnels or for waypoints.
#[must_use]
pub fn policy(world: &World, policy: &AuthorizationPolicy) -> Vec<Condition> {
    let accepted =
        |status, message: &str| Condition::new(ZTUNNEL_ACCEPTED, status, "UnsupportedValue", message);
    let said = match verdict(world, policy) {
        Verdict::NotSent(Reason::Targeted) => return bound::targeted(world, policy).into_iter().collect(),
        Verdict::NotSent(Reason::DryRun) => {
            accepted("False", "a dry run is not carried out by ztunnel, so the policy is not sent")
        }
        Verdict::NotSent(Reason::Action) => {
            accepted("False", "ztunnel carries out ALLOW and DENY only; attach it to a waypoint")
        }
        Verdict::NotSent(Reason::Name) => {
            accepted("False", "its name or namespace is not one that can be sent")
        }
        Verdict::Sent { unseen, .. } if unseen.is_empty() => {
            Condition::new(ZTUNNEL_ACCEPTED, "True", "Accepted", "attached to ztunnel")
        }
        Verdict::Sent { policy, unseen } => {
            let list = unseen.into_iter().collect::<Vec<_>>().join(", ");
            let (status, outcome) = reduced(&policy);
            accepted(status, &format!("ztunnel does not see HTTP attributes ({list}): {outcome}"))
        }
    };
    vec![said]
}

/// What is to be said of whose tokens are believed: only waypoints see tokens.
fn tokens(world: &World, object: &RequestAuthentication) -> Vec<Condition> {
    if object.spec.targets().next().is_some() {
        return bound::believed(world, object).into_iter().collect();
    }
    let text = "ztunnel does not see tokens, so nothing comes of it; attach it to a waypoint with targetRefs";
    vec![Condition::new(ZTUNNEL_ACCEPTED, "False", "UnsupportedValue", text)]
}

/// What is left of a policy that asked for more than a tunnel sees. One that protects nothing any more is not
/// accepted. (Upstream says that it is.)
fn reduced(policy: &Policy) -> (&'static str, &'static str) {
    let matches = |clause: &Clause| {
        clause.matches.is_empty() || clause.matches.iter().any(|it| *it != Match::default())
    };
    let fires = policy.rules.iter().any(|rule| rule.clauses.iter().all(matches));
    match policy.action {
        Action::Allow => ("True", "rules with them are left out, which allows less than was asked for"),
        Action::Deny if fires => ("True", "it denies without them, which denies more than was asked for"),
        Action::Deny => ("False", "nothing is left to deny by; attach it to a waypoint with targetRefs"),
    }
}

fn entry(world: &World, entry: &ServiceEntry) -> Vec<Condition> {
    let meta = &entry.metadata;
    let visible = world.visibility(&meta.namespace).map(|visible| match visible {
        Visible::Unspecified | Visible::Public => ("Public", "every namespace may see it"),
        Visible::Namespace => ("Namespace", "only its own namespace may see it"),
        Visible::None => ("None", "nobody may see it, so nothing of it is sent"),
    });
    let visible = visible.map(|(reason, text)| Condition::new(VISIBILITY_APPLIED, "True", reason, text));
    let bound = bound::bound(world, Asker::Entry(entry));
    let missing = missing(entry).filter(|_| bound.as_ref().is_none_or(|it| it.status == "False"));
    [bound, missing, visible].into_iter().flatten().collect()
}

/// What an object without a waypoint cannot do.
fn missing(entry: &ServiceEntry) -> Option<Condition> {
    let spec = &entry.spec;
    let strategy = entry.metadata.annotation("istio.io/connect-strategy").unwrap_or_default();
    let wildcard = spec.hosts.iter().any(|host| host.0.starts_with('*'));
    if spec.resolution == Resolution::DynamicDns && wildcard {
        let text =
            "its hosts are looked up by a waypoint only, so it does nothing until it is attached to one";
        return Some(Condition::new(WAYPOINT_MISSING, "True", "NoWaypointForWildcardService", text));
    }
    strategy.eq_ignore_ascii_case("RACE_FIRST_TCP_CONNECT").then(|| {
        let text =
            "connections are raced by a waypoint only, so this has no effect until it is attached to one";
        Condition::new(WAYPOINT_MISSING, "True", "NoWaypointForRacingConnectStrategy", text)
    })
}

#[cfg(test)]
mod tests;
