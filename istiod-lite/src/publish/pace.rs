//! How soon after one push the next may follow. A change goes out at once; while changes keep coming, what would reach
//! a large mesh one by one reaches it together, since a push costs each subscriber a message and us its answer.
//! Pure: owns the moment of the last push, no timer.

use std::time::Duration;

use tokio::time::Instant;

/// What a push to one subscriber takes here, with its answer (some 25 µs, `cargo xtask scale`), and half of that: it
/// keeps the thread that tells them from being busy with nothing else.
const EACH: Duration = Duration::from_micros(36);

/// However many there are, changes wait no longer than this: half of what may pass until one has arrived.
const LONGEST: Duration = Duration::from_millis(50);

/// The pace of pushes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// A push went out.
    pub(super) fn pushed(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// When the next may go out; none: now.
    pub(super) fn next(&self, subscribers: usize, now: Instant) -> Option<Instant> {
        let count = u32::try_from(subscribers).unwrap_or(u32::MAX);
        let wait = EACH.saturating_mul(count).min(LONGEST);
        self.last.map(|last| last + wait).filter(|next| *next > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_only_for_the_push_before_it_and_the_longer_the_more_there_are_to_be_told() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        assert_eq!(pace.next(10_000, begin), None, "nothing went before");
        pace.pushed(begin);
        for (subscribers, waits) in [(0, 0), (2, 72), (400, 14_400), (1_000, 36_000), (10_000, 50_000)] {
            let (waits, short) = (Duration::from_micros(waits), Duration::from_micros(1));
            assert_eq!(pace.next(subscribers, begin + waits), None, "{subscribers}");
            let until = (!waits.is_zero()).then(|| begin + waits);
            assert_eq!(pace.next(subscribers, begin + waits.saturating_sub(short)), until, "{subscribers}");
        }
    }
}
