//! What is due, for which identity, and in which order: a pure state machine over time.
//! Owns states and backoff. Makes no call and reads no clock (`vault` drives it).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::name::Identity;
use tokio::time::Instant;

use crate::issue::IssueError;

/// Calls to the authority at one moment: it signs for a whole mesh.
const CALLS_MAX: usize = 8;
/// Identities on one node. A node has some hundred pods; more than this is somebody's mistake.
const IDENTITIES_MAX: usize = 10_000;
/// Traffic that finds a failed attempt starts another, but not more often than this.
const TRAFFIC_RETRY: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Long enough for an authority that signs for thousands of nodes; one that is back is noticed sooner (`again`).
const BACKOFF_MAX: Duration = Duration::from_secs(150);

/// Why something is wanted; later ones are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A refresh or a retry of our own accord.
    Background,
    /// A workload arrived.
    Warmup,
    /// A connection waits.
    Traffic,
}

/// A credential and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease<C> {
    pub(super) credential: C,
    pub(super) refresh_at: Instant,
    pub(super) expires_at: Instant,
}

/// One call, told apart from those of an identity that was forgotten meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight(u64);

/// How a call ended.
pub(super) enum Landing<C> {
    Issued(Lease<C>),
    /// `chance` in 0..1 spreads the retries of many.
    Failed {
        why: Arc<IssueError>,
        chance: f64,
    },
}

/// What readers may know.
pub(super) enum View<'a, C> {
    Asked,
    Held(&'a Lease<C>),
    Lapsed { why: &'a Arc<IssueError>, retry_from: Instant },
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Due { at: Instant, priority: Priority },
    Flying(Flight),
}

#[derive(Debug)]
enum State<C> {
    /// Nothing to serve yet; `failures` counts the attempts since there last was.
    Asked {
        call: Call,
        failures: u32,
    },
    Fresh {
        lease: Lease<C>,
    },
    Renewing {
        lease: Lease<C>,
        call: Call,
        failures: u32,
    },
    Lapsed {
        why: Arc<IssueError>,
        failures: u32,
        since: Instant,
        retry_at: Instant,
    },
}

/// All identities.
pub(super) struct Schedule<C> {
    states: HashMap<Identity, State<C>>,
    flying: usize,
    flights: u64,
}

impl<C> Schedule<C> {
    pub(super) fn new() -> Self {
        Self { states: HashMap::new(), flying: 0, flights: 0 }
    }

    /// Somebody wants `identity`. False when there is no room for another one.
    pub(super) fn want(&mut self, identity: &Identity, priority: Priority, now: Instant) -> bool {
        let Some(state) = self.states.get_mut(identity) else {
            if self.states.len() >= IDENTITIES_MAX {
                return false;
            }
            let call = Call::Due { at: now, priority };
            self.states.insert(identity.clone(), State::Asked { call, failures: 0 });
            return true;
        };
        match state {
            State::Asked { call, .. } => call.raise(priority, now),
            State::Renewing { lease, call, .. } if lease.expires_at <= now => call.raise(priority, now),
            State::Fresh { .. } | State::Renewing { .. } => {}
            State::Lapsed { failures, since, .. } => {
                if priority == Priority::Traffic && *since + TRAFFIC_RETRY <= now {
                    let call = Call::Due { at: now, priority };
                    *state = State::Asked { call, failures: *failures };
                }
            }
        }
        true
    }

    /// Nobody wants `identity` any more; a call under way is ignored when it lands.
    pub(super) fn forget(&mut self, identity: &Identity) {
        self.states.remove(identity);
    }

    /// Everything issued may be outdated: get it anew, keep serving meanwhile.
    pub(super) fn renew_all(&mut self, now: Instant) {
        for state in self.states.values_mut() {
            match state {
                State::Fresh { lease } => lease.refresh_at = now,
                State::Lapsed { retry_at, .. } => *retry_at = now,
                State::Asked { call, .. } | State::Renewing { call, .. } => {
                    call.raise(Priority::Background, now)
                }
            }
        }
    }

    /// Ends and refreshes may come sooner than was thought, never later; what failed may be had now.
    pub(super) fn replan(&mut self, now: Instant, plan: impl Fn(&C) -> (Instant, Instant)) {
        for state in self.states.values_mut() {
            match state {
                State::Asked { call, .. } => call.raise(Priority::Background, now),
                State::Lapsed { retry_at, .. } => *retry_at = (*retry_at).min(now),
                State::Fresh { lease } => lease.shorten(plan(&lease.credential)),
                State::Renewing { lease, call, .. } => {
                    lease.shorten(plan(&lease.credential));
                    call.raise(Priority::Background, now);
                }
            }
        }
    }

    /// The authority is back, as far as is known: what has failed is tried again, though never twice within a second.
    pub(super) fn again(&mut self, now: Instant) {
        for state in self.states.values_mut() {
            match state {
                State::Lapsed { since, retry_at, .. } => {
                    *retry_at = (*retry_at).min((*since + TRAFFIC_RETRY).max(now));
                }
                State::Renewing { call: Call::Due { at, .. }, failures: 1.., .. } => {
                    *at = (*at).min(now + TRAFFIC_RETRY);
                }
                State::Asked { .. } | State::Fresh { .. } | State::Renewing { .. } => {}
            }
        }
    }

    /// The next call to make now, if one is due and fewer than the limit are under way.
    pub(super) fn begin(&mut self, now: Instant) -> Option<(Identity, Flight)> {
        if self.flying >= CALLS_MAX {
            return None;
        }
        let (_, _, identity) = self
            .states
            .iter()
            .filter_map(|(identity, state)| {
                let (at, priority) = state.due()?;
                (at <= now).then_some((std::cmp::Reverse(priority), at, identity))
            })
            .min()?;
        let identity = identity.clone();
        let flight = Flight(self.flights);
        let state = self.states.remove(&identity)?;
        self.states.insert(identity.clone(), state.takeoff(flight));
        self.flights += 1;
        self.flying += 1;
        Some((identity, flight))
    }

    /// A call ended.
    pub(super) fn landed(&mut self, identity: &Identity, flight: Flight, landing: Landing<C>, now: Instant) {
        self.flying = self.flying.saturating_sub(1);
        let flies = |state: &State<C>| state.flight() == Some(flight);
        if !self.states.get(identity).is_some_and(flies) {
            return; // forgotten, and perhaps wanted again by another call
        }
        let signed = matches!(landing, Landing::Issued(_));
        if let Some(state) = self.states.remove(identity) {
            self.states.insert(identity.clone(), state.land(landing, now));
        }
        if signed {
            self.again(now);
        }
    }

    /// When to look again; nothing while no call may begin (a landing comes first then).
    pub(super) fn next_wake(&self) -> Option<Instant> {
        if self.flying >= CALLS_MAX {
            return None;
        }
        self.states.values().filter_map(|state| Some(state.due()?.0)).min()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Identity, View<'_, C>)> {
        self.states.iter().map(|(identity, state)| (identity, state.view()))
    }
}

impl<C> Lease<C> {
    fn shorten(&mut self, (refresh_at, expires_at): (Instant, Instant)) {
        self.refresh_at = self.refresh_at.min(refresh_at);
        self.expires_at = self.expires_at.min(expires_at);
    }
}

impl Call {
    /// Sooner and more urgent, never the reverse.
    fn raise(&mut self, wanted: Priority, now: Instant) {
        if let Self::Due { at, priority } = self {
            *at = (*at).min(now);
            *priority = (*priority).max(wanted);
        }
    }
}

impl<C> State<C> {
    fn due(&self) -> Option<(Instant, Priority)> {
        match self {
            Self::Asked { call: Call::Due { at, priority }, .. }
            | Self::Renewing { call: Call::Due { at, priority }, .. } => Some((*at, *priority)),
            Self::Asked { call: Call::Flying(_), .. } | Self::Renewing { call: Call::Flying(_), .. } => None,
            Self::Fresh { lease } => Some((lease.refresh_at, Priority::Background)),
            Self::Lapsed { retry_at, .. } => Some((*retry_at, Priority::Background)),
        }
    }

    fn flight(&self) -> Option<Flight> {
        match self {
            Self::Asked { call: Call::Flying(flight), .. }
            | Self::Renewing { call: Call::Flying(flight), .. } => Some(*flight),
            _ => None,
        }
    }

    fn takeoff(self, flight: Flight) -> Self {
        let call = Call::Flying(flight);
        match self {
            Self::Asked { failures, .. } | Self::Lapsed { failures, .. } => Self::Asked { call, failures },
            Self::Fresh { lease } => Self::Renewing { lease, call, failures: 0 },
            Self::Renewing { lease, failures, .. } => Self::Renewing { lease, call, failures },
        }
    }

    fn land(self, landing: Landing<C>, now: Instant) -> Self {
        let (why, chance) = match landing {
            Landing::Issued(lease) => return Self::Fresh { lease },
            Landing::Failed { why, chance } => (why, chance),
        };
        match self {
            Self::Renewing { lease, failures, .. } if lease.expires_at > now => {
                let at = (now + backoff(failures, chance)).min(lease.expires_at);
                let call = Call::Due { at, priority: Priority::Background };
                Self::Renewing { lease, call, failures: failures.saturating_add(1) }
            }
            Self::Renewing { failures, .. }
            | Self::Asked { failures, .. }
            | Self::Lapsed { failures, .. } => {
                let retry_at = now + backoff(failures, chance);
                Self::Lapsed { why, failures: failures.saturating_add(1), since: now, retry_at }
            }
            fresh @ Self::Fresh { .. } => fresh,
        }
    }

    fn view(&self) -> View<'_, C> {
        match self {
            Self::Asked { .. } => View::Asked,
            Self::Fresh { lease } | Self::Renewing { lease, .. } => View::Held(lease),
            Self::Lapsed { why, since, .. } => View::Lapsed { why, retry_from: *since + TRAFFIC_RETRY },
        }
    }
}

/// 1 s, doubled each time up to a limit, a fifth more or less.
fn backoff(failures: u32, chance: f64) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX));
    doubled.min(BACKOFF_MAX).mul_f64(0.8 + 0.4 * chance)
}

#[cfg(test)]
mod tests;
