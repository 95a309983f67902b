//! What one waypoint knows of a service's endpoints while it serves: how busy each is, how it has done lately, and how
//! much there is of everything. Owns that state; what is decided by it is `choice`'s and `outlier`'s. Time is a moment
//! since whenever the caller began to count.

use std::collections::HashMap;
use std::time::Duration;

use super::outlier::{Health, may_leave_out};
use super::table::Table;
use super::{Adaptive, Came, Gradient, Limits, Outlier};
use crate::balance::{Endpoint, Pick};
use crate::http_route::RetryBudget;
use crate::name::WorkloadUid;

/// The state of the endpoints of one service's port.
#[derive(Debug, Default)]
pub struct Ward {
    pub(super) hosts: HashMap<WorkloadUid, Host>,
    pub(super) table: Option<Table>,
    /// The turn of who went last.
    pub(super) turn: u64,
    /// When is looked next who may come back.
    look_at: Option<Duration>,
    /// How many may be under way, where that is found out.
    gradient: Option<Gradient>,
    requests: u32,
    pending: u32,
    retries: u32,
    connections: u32,
}

/// One endpoint.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Requests under way.
    pub(super) active: u32,
    /// When its turn is.
    pub(super) turn: u64,
    /// Since when it is known.
    pub(super) since: Duration,
    pub(super) health: Health,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Overflow {
    /// Requests under way.
    #[error("there are as many requests as there may be")]
    Requests,
    /// Requests under way, of which there are as many as are answered quickly.
    #[error("there are as many requests as are answered quickly")]
    Adaptive,
    /// Requests that wait for a connection.
    #[error("as many requests wait for a connection as may")]
    Pending,
    /// Connections.
    #[error("there are as many connections as there may be")]
    Connections,
}

impl Overflow {
    /// In one word.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Adaptive => "adaptive",
            Self::Pending => "pending",
            Self::Connections => "connections",
        }
    }
}

impl Ward {
    /// Takes in who is there now. Those that are new begin now; of those that are gone, what is under way is remembered.
    pub(super) fn know(&mut self, endpoints: &[Endpoint], now: Duration, pick: &mut impl Pick) {
        for endpoint in endpoints {
            let uid = &endpoint.workload.uid;
            if !self.hosts.contains_key(uid) {
                // Not all at the same place in the round, else they would be first all together.
                let turn = self.turn.saturating_add(pick.below(super::choice::ROUND));
                self.hosts.insert(uid.clone(), Host { turn, since: now, ..Host::default() });
            }
        }
        if self.hosts.len() > endpoints.len() {
            let there: std::collections::HashSet<_> = endpoints.iter().map(|it| &it.workload.uid).collect();
            self.hosts.retain(|uid, host| host.active > 0 || there.contains(uid));
        }
    }

    /// Looks who may come back, once each interval.
    pub(super) fn look(&mut self, rule: &Outlier, now: Duration) {
        let interval = rule.interval.max(Duration::from_millis(1));
        let mut at = *self.look_at.get_or_insert(now + interval);
        // Who had no traffic for long has nothing to look at but the last of it.
        if now.saturating_sub(at) > interval.saturating_mul(1_000) {
            at = now;
        }
        while at <= now {
            self.hosts.values_mut().for_each(|host| host.health.look(rule, at));
            at += interval;
        }
        self.look_at = Some(at);
    }

    /// A request goes to an endpoint.
    pub fn begin(&mut self, uid: &WorkloadUid) {
        let host = self.hosts.entry(uid.clone()).or_default();
        host.active += 1;
    }

    /// It is over.
    pub fn end(&mut self, uid: &WorkloadUid) {
        if let Some(host) = self.hosts.get_mut(uid) {
            host.active = host.active.saturating_sub(1);
        }
    }

    /// An attempt has come to this; true: the endpoint is left out from now on.
    pub fn came(&mut self, rule: &Outlier, uid: &WorkloadUid, came: Came, now: Duration) -> bool {
        self.look(rule, now);
        let (out, all) = (self.left_out(), self.hosts.len());
        let Some(host) = self.hosts.get_mut(uid) else { return false };
        let fails = host.health.came(rule, came);
        if !fails || host.health.is_out() || !may_leave_out(rule, out, all) {
            return false;
        }
        host.health.leave_out(now);
        true
    }

    /// Whether an endpoint is left out.
    #[must_use]
    pub fn leaves_out(&self, uid: &WorkloadUid) -> bool {
        self.hosts.get(uid).is_some_and(|host| host.health.is_out())
    }

    /// How many endpoints are left out.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.hosts.values().filter(|host| host.health.is_out()).count()
    }

    /// One more request.
    ///
    /// # Errors
    /// When there are too many.
    pub fn enter(&mut self, limits: &Limits, adaptive: Option<Adaptive>) -> Result<(), Overflow> {
        let under_way = self.requests;
        match adaptive {
            None => self.gradient = None,
            Some(bounds) => {
                let gradient = self.gradient.get_or_insert_with(|| Gradient::new(bounds));
                if !gradient.allows(under_way, bounds) {
                    return Err(Overflow::Adaptive);
                }
            }
        }
        take(&mut self.requests, limits.requests, Overflow::Requests)
    }

    /// A request was answered after so long; none: not at all.
    pub fn answered(&mut self, took: Option<Duration>, bounds: Adaptive) {
        let under_way = self.requests;
        if let Some(gradient) = &mut self.gradient {
            gradient.came(took, under_way, bounds);
        }
    }

    /// One less.
    pub fn leave(&mut self) {
        self.requests = self.requests.saturating_sub(1);
    }

    /// One more that waits for a connection.
    ///
    /// # Errors
    /// When too many wait.
    pub fn wait(&mut self, limits: &Limits) -> Result<(), Overflow> {
        take(&mut self.pending, limits.pending, Overflow::Pending)
    }

    /// One less.
    pub fn waited(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// One more connection.
    ///
    /// # Errors
    /// When there are too many. To an endpoint that has none there is always one: else those who hold theirs open
    /// could keep everybody from it.
    pub fn connect(&mut self, limits: &Limits, is_first: bool) -> Result<(), Overflow> {
        let limit = limits.connections.filter(|_| !is_first);
        take(&mut self.connections, limit, Overflow::Connections)
    }

    /// One less.
    pub fn disconnect(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    /// One more that is tried again; false: too many are.
    pub fn retry(&mut self, limits: &Limits, budget: Option<RetryBudget>) -> bool {
        let is_in_budget = budget.is_none_or(|it| it.allows(self.retries, self.requests));
        if !is_in_budget || limits.retries.is_some_and(|most| self.retries >= most) {
            return false;
        }
        self.retries += 1;
        true
    }

    /// One less.
    pub fn retried(&mut self) {
        self.retries = self.retries.saturating_sub(1);
    }

    /// Whether nothing is under way, and nobody left out: then nothing is lost by forgetting it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.requests == 0 && self.connections == 0 && self.left_out() == 0
    }
}

fn take(count: &mut u32, limit: Option<u32>, overflow: Overflow) -> Result<(), Overflow> {
    if limit.is_some_and(|most| *count >= most) {
        return Err(overflow);
    }
    *count += 1;
    Ok(())
}
