//! Endpoints that are asked how they are (`waypoint.md` 7.5): what they are asked, and when one is taken for unwell. Owns
//! that count; asking is done elsewhere.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How endpoints are asked how they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probe {
    /// What they are asked.
    pub ask: Ask,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// After so many bad answers in a row one is left out.
    pub unhealthy: u32,
    /// After so many good ones in a row it may come back.
    pub healthy: u32,
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Whether it accepts connections.
    Tcp,
    /// A GET request.
    Http {
        /// Its path.
        path: Box<str>,
        /// Whom it asks for; none: the service.
        host: Option<Box<str>>,
        /// Statuses of good answers.
        good: RangeInclusive<u16>,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// About which service; empty: about all of it.
        service: Box<str>,
    },
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            ask: Ask::Tcp,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            unhealthy: 3,
            healthy: 2,
        }
    }
}

/// How one endpoint has answered lately. Who was never asked is well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vital {
    /// Answers in a row that speak for a change.
    against: u32,
    is_out: bool,
}

impl Vital {
    /// Whether it is left out.
    #[must_use]
    pub fn is_out(self) -> bool {
        self.is_out
    }

    /// Takes in an answer; true: it is left out from now on, or no longer.
    pub fn came(&mut self, probe: &Probe, is_good: bool) -> bool {
        if is_good != self.is_out {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = if self.is_out { probe.healthy } else { probe.unhealthy };
        if self.against < needed {
            return false;
        }
        *self = Self { against: 0, is_out: !self.is_out };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_left_out_and_comes_back_after_as_many_answers_in_a_row_as_were_asked_for() {
        let probe = Probe { unhealthy: 3, healthy: 2, ..Probe::default() };
        let mut vital = Vital::default();
        for (answers, out) in [
            ("++", false),
            ("--+", false),
            ("--", false),
            ("-", true),
            ("+-+", true),
            ("+", false),
            ("---", true),
            ("++", false),
        ] {
            for answer in answers.chars() {
                let before = vital.is_out();
                assert_eq!(vital.came(&probe, answer == '+'), vital.is_out() != before);
            }
            assert_eq!(vital.is_out(), out, "{answers}");
        }
    }
}
