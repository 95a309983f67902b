//! How many requests an endpoint's service may have under way, found by how long it takes (`waypoint.md` 9.2, 19): where
//! answers take longer than they did, there is too much. Owns that number; whoever has none said goes without it.

use std::time::Duration;

/// Bounds within which the number is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Adaptive {
    /// Never fewer.
    pub least: u32,
    /// Never more.
    pub most: u32,
}

/// How much longer answers may take than they need, before there is too much.
const TOLERANCE: f64 = 1.5;
/// What the latest answer weighs.
const LATEST: f64 = 0.1;
/// How fast the number follows.
const STEP: f64 = 0.2;
/// What is left of it when an answer does not come at all.
const LOST: f64 = 0.9;
/// After so many answers it is found out anew how long they need.
const ROUND: u32 = 2_000;
/// For that, only half as many are let in for so many answers: the first ones still come from before.
const DRAIN: u32 = 50;
const MEASURE: u32 = 50;

/// The number, and what it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Gradient {
    limit: f64,
    /// How long answers take now.
    latest_s: f64,
    /// How long they need where there are few.
    needed_s: f64,
    /// Answers of this round, and how long those took that are measured.
    answers: u32,
    measured_s: f64,
}

impl Gradient {
    /// At the beginning, when nothing is known: the least.
    #[must_use]
    pub fn new(bounds: Adaptive) -> Self {
        let limit = f64::from(bounds.least.max(1));
        Self { limit, latest_s: 0.0, needed_s: 0.0, answers: 0, measured_s: 0.0 }
    }

    /// Whether one more may be under way beside so many.
    #[must_use]
    pub fn allows(&self, under_way: u32, bounds: Adaptive) -> bool {
        let (least, most) = range(bounds);
        let limit = if self.answers < DRAIN + MEASURE { self.limit / 2.0 } else { self.limit };
        f64::from(under_way) < limit.clamp(least, most)
    }

    /// An answer took so long, while so many were under way; none: it did not come in time, or at all.
    pub fn came(&mut self, took: Option<Duration>, under_way: u32, bounds: Adaptive) {
        let (least, most) = range(bounds);
        let Some(took) = took else {
            self.limit = (self.limit * LOST).clamp(least, most);
            return;
        };
        // The shortest moment that says something: what is quicker is not too much of anything.
        let took_s = took.as_secs_f64().max(0.000_1);
        self.latest_s += (took_s - self.latest_s) * if self.latest_s == 0.0 { 1.0 } else { LATEST };
        self.measure(took_s);
        if self.answers < DRAIN + MEASURE {
            return;
        }
        let gradient = (TOLERANCE * self.needed_s / self.latest_s).clamp(0.5, 1.0);
        // Room for some more than there are, so that it can be found out whether they fit.
        let wanted = self.limit * gradient + self.limit.sqrt();
        let next = self.limit + (wanted - self.limit) * STEP;
        // Where few are under way, that more would fit is not known.
        if next < self.limit || f64::from(under_way) * 2.0 >= self.limit {
            self.limit = next.clamp(least, most);
        }
    }

    /// Once in a round, finds out how long answers need.
    fn measure(&mut self, took_s: f64) {
        self.answers += 1;
        if (DRAIN..DRAIN + MEASURE).contains(&self.answers) {
            self.measured_s += took_s;
        }
        if self.answers == DRAIN + MEASURE {
            self.needed_s = self.measured_s / f64::from(MEASURE);
        }
        if self.answers >= ROUND {
            (self.answers, self.measured_s) = (0, 0.0);
        }
    }
}

/// The bounds, as far as they are ones.
fn range(bounds: Adaptive) -> (f64, f64) {
    let least = f64::from(bounds.least.max(1));
    (least, f64::from(bounds.most).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Adaptive = Adaptive { least: 4, most: 200 };

    /// Plays a server that works on so many at a time, each for 10 ms; more wait. Returns how many were let in at last.
    fn settle(gradient: &mut Gradient, at_a_time: u32, rounds: u32) -> u32 {
        let mut let_in = 0;
        for _ in 0..rounds {
            let_in = (0..1_000).find(|count| !gradient.allows(*count, BOUNDS)).unwrap();
            let waits = f64::from(let_in.max(at_a_time)) / f64::from(at_a_time);
            gradient.came(Some(Duration::from_millis(10).mul_f64(waits)), let_in, BOUNDS);
        }
        let_in
    }

    #[test]
    fn there_are_about_as_many_as_are_answered_as_quickly_as_they_can_be() {
        let mut gradient = Gradient::new(BOUNDS);
        for _ in 0..5 {
            let found = settle(&mut gradient, 40, 1_900);
            assert!((40..=90).contains(&found), "{found}");
            settle(&mut gradient, 40, 100);
        }
        settle(&mut gradient, 40, 300);
        // It got slower: fewer come in, and soon; and it stays so when it is found out anew.
        settle(&mut gradient, 10, 200);
        let slower = settle(&mut gradient, 10, 200);
        assert!((10..=30).contains(&slower), "{slower}");
        let settled = settle(&mut gradient, 10, 20_000);
        assert!((10..=40).contains(&settled), "{settled}");
    }

    #[test]
    fn it_stays_within_its_bounds_and_does_not_grow_by_idleness() {
        let mut gradient = Gradient::new(BOUNDS);
        for _ in 0..1_000 {
            gradient.came(Some(Duration::from_millis(5)), 1, BOUNDS);
        }
        assert!(!gradient.allows(4, BOUNDS), "one at a time says nothing of five");
        for _ in 0..10_000 {
            gradient.came(Some(Duration::ZERO), 1_000, BOUNDS);
        }
        assert!(gradient.allows(199, BOUNDS) && !gradient.allows(200, BOUNDS));
        for _ in 0..1_000 {
            gradient.came(None, 200, BOUNDS);
        }
        assert!(gradient.allows(3, BOUNDS) && !gradient.allows(4, BOUNDS));
    }
}
