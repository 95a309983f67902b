//! Conditions on objects, so that their authors learn what became of them. Owns what is said and when it is
//! written; where it is written is the overlay's business. Looks at what the object says now, so that a restart
//! writes nothing anew.

use ambit_cluster::kinds::policy::{AuthorizationPolicy, PolicyCondition};
use ambit_cluster::overlay::{Overlay, OverlayError};
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::policy::{Action, Clause, Match, Policy};
use serde_json::json;

use crate::index::World;
use crate::translate::{Reason, Verdict, verdict};

/// The condition that says what tunnels make of a policy.
const ACCEPTED: &str = "ZtunnelAccepted";

/// What is to be said of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// `True` or `False`.
    pub status: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

/// What tunnels make of a policy; nothing when it is not for them.
#[must_use]
pub fn said(world: &World, policy: &AuthorizationPolicy) -> Option<Said> {
    let refused =
        |message: &str| Said { status: "False", reason: "UnsupportedValue", message: message.into() };
    Some(match verdict(world, policy) {
        Verdict::NotSent(Reason::Targeted) => return None,
        Verdict::NotSent(Reason::DryRun) => {
            refused("a dry run is not carried out by ztunnel, so the policy is not sent")
        }
        Verdict::NotSent(Reason::Action) => {
            refused("ztunnel carries out ALLOW and DENY only; attach it to a waypoint")
        }
        Verdict::NotSent(Reason::Name) => refused("its name or namespace is not one that can be sent"),
        Verdict::Sent { unseen, .. } if unseen.is_empty() => {
            Said { status: "True", reason: "Accepted", message: "attached to ztunnel".into() }
        }
        Verdict::Sent { policy, unseen } => {
            let list = unseen.into_iter().collect::<Vec<_>>().join(", ");
            let (status, outcome) = reduced(&policy);
            let message = format!("ztunnel does not see HTTP attributes ({list}): {outcome}");
            Said { status, reason: "UnsupportedValue", message }
        }
    })
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

/// Writes what is to be said of a policy, if it does not say so already.
///
/// # Errors
/// When the overlay cannot be written.
pub fn report(
    world: &World,
    name: &ObjectRef,
    overlay: &Overlay,
    now: std::time::SystemTime,
) -> Result<(), OverlayError> {
    let policy = (name.kind == Kind::AuthorizationPolicy)
        .then(|| world.space(&name.namespace)?.policies.get(&name.name))
        .flatten();
    let Some(policy) = policy else { return overlay.clear(name) };
    let before = policy.status.conditions.iter().find(|it| it.kind == ACCEPTED);
    match (said(world, policy), before) {
        (None, _) => overlay.clear(name),
        (Some(said), Some(before)) if is_same(&said, before) => Ok(()),
        (Some(said), before) => {
            let kept = before
                .filter(|before| before.status == said.status && !before.last_transition_time.is_empty());
            let since = kept.map_or_else(|| time(now), |before| before.last_transition_time.clone());
            // Istio writes the generation as text. What is null is absent.
            let generation = Some(policy.metadata.generation).filter(|it| *it > 0).map(|it| it.to_string());
            let condition = json!({
                "type": ACCEPTED,
                "status": said.status,
                "reason": said.reason,
                "message": said.message,
                "lastTransitionTime": since,
                "observedGeneration": generation,
            });
            overlay.patch(name, json!({ "status": { "conditions": [condition] } }))
        }
    }
}

fn is_same(said: &Said, before: &PolicyCondition) -> bool {
    (said.status, said.reason, said.message.as_str()) == (&*before.status, &*before.reason, &*before.message)
}

fn time(now: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(now).map(|time| time.to_string()).unwrap_or_default()
}
