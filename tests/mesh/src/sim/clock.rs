//! Virtual time: what happens next, in order; of what happens at the same time, what was planned first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Things to happen.
pub(super) struct Clock<E> {
    start: Instant,
    now: Duration,
    planned: u64,
    queue: BinaryHeap<Reverse<Planned<E>>>,
}

struct Planned<E> {
    at: Duration,
    nth: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.nth == other.nth
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

impl<E> Clock<E> {
    pub(super) fn new() -> Self {
        // The state machines want an `Instant`; only differences to this one are ever looked at.
        Self { start: Instant::now(), now: Duration::ZERO, planned: 0, queue: BinaryHeap::new() }
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(super) fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    pub(super) fn at(&mut self, at: Duration, event: E) {
        self.planned += 1;
        self.queue.push(Reverse(Planned { at: at.max(self.now), nth: self.planned, event }));
    }

    pub(super) fn at_instant(&mut self, at: Instant, event: E) {
        self.at(at.saturating_duration_since(self.start), event);
    }

    /// The next thing; time is then.
    pub(super) fn next(&mut self) -> Option<E> {
        let Reverse(Planned { at, event, .. }) = self.queue.pop()?;
        self.now = at;
        Some(event)
    }
}
