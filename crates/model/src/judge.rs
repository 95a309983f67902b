//! May this peer do this? A verdict, and the policy that said so.
//! Owns which policies apply and in what order they speak (`ztunnel.md` 6, `wire.md` 5.3). What one condition
//! means is in `matching`. Logs nothing: what dry runs would have said is part of the opinion.

mod matching;

use std::fmt;
use std::sync::Arc;

use crate::address::{ClientAddr, OriginalDst};
use crate::name::{Identity, PolicyKey};
use crate::policy::{Action, Policy, PolicyScope};
use crate::snapshot::Snapshot;
use crate::workload::Workload;
use matching::Facts;

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let in.
    Allow {
        /// The policy that allowed it; none when no allow policy applies.
        by: Option<PolicyKey>,
    },
    /// Kept out.
    Deny(Denial),
}

impl Verdict {
    /// True when let in.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// True when it may turn out otherwise: a policy is chosen but not known yet.
    #[must_use]
    pub fn awaits_policy(&self) -> bool {
        matches!(self, Self::Deny(Denial::PolicyMissing(_)))
    }

    /// The denial as an error, for `?`.
    ///
    /// # Errors
    /// The denial, when this is one.
    pub fn allowed(self) -> Result<(), Denial> {
        match self {
            Self::Allow { .. } => Ok(()),
            Self::Deny(denial) => Err(denial),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow { by: None } => {
                f.write_str("allowed: no allow policy applies and no deny policy matches")
            }
            Self::Allow { by: Some(policy) } => write!(f, "allowed by policy {policy}"),
            Self::Deny(denial) => denial.fmt(f),
        }
    }
}

/// Why a peer is kept out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// A deny policy matched.
    #[error("denied by policy {0}")]
    Policy(PolicyKey),
    /// Allow policies apply and none of them matched.
    #[error("denied: none of the allow policies matched: {}", Names(.considered))]
    NothingAllows {
        /// Those that apply; never empty.
        considered: Vec<PolicyKey>,
    },
    /// A policy was chosen for the workload but is not known (yet): it could be one that denies.
    #[error("denied: policy {0} applies but is not known yet")]
    PolicyMissing(PolicyKey),
}

impl Denial {
    /// The policy to look at first.
    #[must_use]
    pub fn policy(&self) -> Option<&PolicyKey> {
        match self {
            Self::Policy(key) | Self::PolicyMissing(key) => Some(key),
            Self::NothingAllows { considered } => considered.first(),
        }
    }

    /// A closed label for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Policy(_) => "policy",
            Self::NothingAllows { .. } => "nothing_allows",
            Self::PolicyMissing(_) => "policy_missing",
        }
    }
}

struct Names<'a>(&'a [PolicyKey]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            name.fmt(f)?;
        }
        Ok(())
    }
}

/// A verdict, and what policies in dry run would have said. The latter change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// What is enforced.
    pub verdict: Verdict,
    /// For the log.
    pub dry_run: Vec<Rehearsal>,
}

/// What policies in dry run would have said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rehearsal {
    /// This deny policy matched.
    WouldDeny(PolicyKey),
    /// This allow policy matched.
    WouldAllow(PolicyKey),
    /// No enforced allow policy applies, and none of those in dry run matched: enforced, they would deny.
    NothingWouldAllow,
}

/// Judges a connection at its destination. `from` is the peer as the destination's node sees it, `to` what the
/// application is asked for, on the port it listens on. No peer identity means plaintext.
#[must_use]
pub fn judge(
    world: &Snapshot,
    dest: &Workload,
    peer: Option<&Identity>,
    from: ClientAddr,
    to: OriginalDst,
) -> Verdict {
    consider(world, dest, peer, from, to).verdict
}

/// Like `judge`, with what policies in dry run would have said.
#[must_use]
pub fn consider(
    world: &Snapshot,
    dest: &Workload,
    peer: Option<&Identity>,
    from: ClientAddr,
    to: OriginalDst,
) -> Opinion {
    let facts = Facts::new(peer, from, to);
    let applicable = applicable(world, dest);
    Opinion { verdict: decide(&applicable, &facts), dry_run: rehearse(&applicable, &facts) }
}

/// Considers a connection without an identity that is to be led to `through`, the workload's waypoint, which comes back
/// for it in its own name and is judged then. What keeps the stranger out keeps it out here already. Allow policies may
/// name either: the stranger, or the waypoint - which must be allowed to come from where the stranger is, so that nobody
/// gains an address by being led.
#[must_use]
pub fn consider_led(
    world: &Snapshot,
    dest: &Workload,
    through: &Identity,
    from: ClientAddr,
    to: OriginalDst,
) -> Opinion {
    let opinion = consider(world, dest, None, from, to);
    match opinion.verdict {
        Verdict::Deny(Denial::NothingAllows { .. }) => {
            let verdict = consider(world, dest, Some(through), from, to).verdict;
            Opinion { verdict, ..opinion }
        }
        Verdict::Allow { .. } | Verdict::Deny(Denial::Policy(_) | Denial::PolicyMissing(_)) => opinion,
    }
}

/// The policies that apply to a workload.
#[derive(Debug, Clone, Default)]
pub struct Applicable<'a> {
    /// Global ones, then those of the namespace, then the others chosen for the workload.
    pub policies: Vec<&'a Arc<Policy>>,
    /// Chosen for the workload, but not known.
    pub missing: Vec<&'a PolicyKey>,
}

/// Which policies apply to a workload: look-ups only, no scan.
#[must_use]
pub fn applicable<'a>(world: &'a Snapshot, workload: &'a Workload) -> Applicable<'a> {
    let general = world.global_policies().chain(world.namespace_policies(&workload.namespace));
    let mut found = Applicable { policies: general.collect(), missing: Vec::new() };
    for key in &workload.policies {
        match world.policy(key) {
            None => found.missing.push(key),
            Some(policy) if already(policy, workload) => {}
            Some(policy) => found.policies.push(policy),
        }
    }
    found
}

/// True when a policy applies without being chosen.
fn already(policy: &Policy, workload: &Workload) -> bool {
    match policy.scope {
        PolicyScope::Global => true,
        PolicyScope::Namespace => policy.key.namespace == workload.namespace,
        PolicyScope::Selector => false,
    }
}

/// A deny that matches speaks first, then what is not known, then the allows.
fn decide(applicable: &Applicable<'_>, facts: &Facts<'_>) -> Verdict {
    if let Some(policy) = enforced(applicable, Action::Deny).find(|p| facts.satisfy(p)) {
        return Verdict::Deny(Denial::Policy(policy.key.clone()));
    }
    if let Some(key) = applicable.missing.first() {
        return Verdict::Deny(Denial::PolicyMissing((*key).clone()));
    }
    let allows = || enforced(applicable, Action::Allow);
    if let Some(policy) = allows().find(|p| facts.satisfy(p)) {
        return Verdict::Allow { by: Some(policy.key.clone()) };
    }
    let considered: Vec<PolicyKey> = allows().map(|policy| policy.key.clone()).collect();
    if considered.is_empty() {
        Verdict::Allow { by: None }
    } else {
        Verdict::Deny(Denial::NothingAllows { considered })
    }
}

fn rehearse(applicable: &Applicable<'_>, facts: &Facts<'_>) -> Vec<Rehearsal> {
    let mut said = Vec::new();
    let (mut allows, mut allowed) = (0_usize, false);
    for policy in applicable.policies.iter().filter(|p| p.dry_run) {
        let matched = facts.satisfy(policy);
        match policy.action {
            Action::Deny if matched => said.push(Rehearsal::WouldDeny(policy.key.clone())),
            Action::Deny => {}
            Action::Allow => {
                allows += 1;
                if matched {
                    allowed = true;
                    said.push(Rehearsal::WouldAllow(policy.key.clone()));
                }
            }
        }
    }
    if allows > 0 && !allowed && enforced(applicable, Action::Allow).next().is_none() {
        said.push(Rehearsal::NothingWouldAllow);
    }
    said
}

fn enforced<'a>(applicable: &Applicable<'a>, action: Action) -> impl Iterator<Item = &'a Policy> {
    applicable
        .policies
        .iter()
        .map(|policy| &***policy)
        .filter(move |policy| !policy.dry_run && policy.action == action)
}

#[cfg(test)]
mod tests;
