//! Endpoints that fail are left out for a while (`waypoint.md` 7.3). Owns what counts as failing, for how long, and how
//! many may be left out at once. Looks on only when asked: nothing happens to who has no traffic.

use std::time::Duration;

use super::Outlier;

/// Nobody is left out for longer, unless the first time is.
const MOST: Duration = Duration::from_secs(300);

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Came {
    /// An answer with this status.
    Status(u16),
    /// No connection, or it was lost.
    Nothing,
    /// No answer in time.
    Late,
}

/// How an endpoint has done lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    errors: u32,
    gateway: u32,
    local: u32,
    /// Since when it is left out.
    out: Option<Duration>,
    /// How often it was, less the intervals in which it was not.
    times: u32,
}

impl Health {
    pub(super) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// Counts what came; true: it has failed often enough.
    pub(super) fn came(&mut self, rule: &Outlier, came: Came) -> bool {
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        if let (Some(limit), Came::Nothing | Came::Late) = (rule.split, came) {
            self.local += 1;
            return reached(self.local, limit);
        }
        let status = match came {
            Came::Status(status) => {
                self.local = 0;
                status
            }
            Came::Nothing => 503,
            Came::Late => 504,
        };
        let count = |counter: &mut u32, bad: bool| *counter = if bad { counter.saturating_add(1) } else { 0 };
        count(&mut self.errors, (500..600).contains(&status));
        count(&mut self.gateway, (502..=504).contains(&status));
        reached(self.errors, rule.errors) || reached(self.gateway, rule.gateway_errors)
    }

    pub(super) fn leave_out(&mut self, now: Duration) {
        *self = Self { out: Some(now), times: self.times + 1, ..Self::default() };
    }

    /// One interval has passed.
    pub(super) fn look(&mut self, rule: &Outlier, now: Duration) {
        match self.out {
            None => self.times = self.times.saturating_sub(1),
            Some(since) => {
                let term = rule.base.saturating_mul(self.times).min(MOST.max(rule.base));
                if now.saturating_sub(since) >= term {
                    self.out = None;
                }
            }
        }
    }
}

/// Whether one more of so many may be left out.
pub(super) fn may_leave_out(rule: &Outlier, out: usize, all: usize) -> bool {
    let most = usize::try_from(rule.most_percent).unwrap_or(usize::MAX);
    all > 0 && (out + 1).saturating_mul(100) <= most.saturating_mul(all)
}
