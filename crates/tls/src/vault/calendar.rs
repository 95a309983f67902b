//! Dates of certificates as moments to act at, and the clock of the machine, which may be set. Pure: both times are
//! arguments. What is done at those moments is `schedule`'s.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::credential::Validity;

/// What clocks may differ in their pace before one counts as set.
const SLACK: Duration = Duration::from_secs(5);
/// What is left of a life is not used up by renewing: never sooner than a quarter of it, within these.
const SOONEST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A certificate that begins later than that after now is of a clock that is wrong, ours or the authority's. Nobody
/// believes it where clocks are right, so another is asked for within one to two of these.
const AHEAD: Duration = Duration::from_secs(60);

/// The two clocks, side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    wall: SystemTime,
    at: Instant,
}

impl Calendar {
    pub(super) fn new(wall: SystemTime, at: Instant) -> Self {
        Self { wall, at }
    }

    /// By how much the calendar's clock was set since it was last looked at; none when it just went on.
    pub(super) fn set_by(&mut self, wall: SystemTime, now: Instant) -> Option<Duration> {
        let expected = self.wall + now.saturating_duration_since(self.at);
        let by = match wall.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        // Small differences add up until they count: the clocks are compared with when they last agreed.
        if by < SLACK {
            return None;
        }
        *self = Self { wall, at: now };
        Some(by)
    }
}

/// When to refresh and when it ends: half of the whole life, five per cent early at most, so that certificates made
/// together are not renewed together. However wrong our clock is, it lasts no longer than its life from now on.
pub(super) fn plan(validity: Validity, wall: SystemTime, now: Instant, chance: f64) -> (Instant, Instant) {
    let life = validity.not_after.duration_since(validity.not_before).unwrap_or_default();
    let before_half = life.mul_f64(0.5 - 0.05 * chance);
    let left = validity.not_after.duration_since(wall).unwrap_or_default().min(life);
    if left.is_zero() {
        return (now, now);
    }
    let until_half = (validity.not_before + before_half).duration_since(wall).unwrap_or_default();
    let least = (left / 4).clamp(SOONEST.0, SOONEST.1);
    (now + until_half.min(before_half).max(least), now + left)
}

/// The same for a certificate that has just come. (One that was believed stays so when our clock is set back.)
pub(super) fn plan_new(
    validity: Validity,
    wall: SystemTime,
    now: Instant,
    chance: f64,
) -> (Instant, Instant) {
    let (refresh, end) = plan(validity, wall, now, chance);
    let is_ahead = validity.not_before.duration_since(wall).is_ok_and(|by| by > AHEAD);
    (if is_ahead { refresh.min(now + AHEAD.mul_f64(1.0 + chance)) } else { refresh }, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::wall;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_clock_that_just_goes_on_was_not_set_and_one_that_jumps_was() {
        let now = Instant::now();
        let mut calendar = Calendar::new(wall(), now);
        assert_eq!(calendar.set_by(wall() + HOUR, now + HOUR), None);
        assert_eq!(calendar.set_by(wall() + HOUR + SLACK / 2, now + HOUR), None);
        assert_eq!(calendar.set_by(wall() + DAY, now + HOUR), Some(DAY - HOUR));
        assert_eq!(calendar.set_by(wall() + DAY + HOUR, now + HOUR * 2), None);
        assert_eq!(calendar.set_by(wall(), now + HOUR * 2), Some(DAY + HOUR));
    }

    #[test]
    fn a_life_is_renewed_at_its_half_and_no_wrong_clock_lengthens_it() {
        let validity = Validity { not_before: wall(), not_after: wall() + DAY };
        let now = Instant::now();
        let cases = [
            ("fresh", wall(), HOUR * 12, DAY),
            ("late", wall() + HOUR * 18, Duration::from_secs(60), HOUR * 6),
            (
                "nearly over",
                wall() + DAY - Duration::from_secs(8),
                Duration::from_secs(2),
                Duration::from_secs(8),
            ),
            ("our clock is a day behind", wall() - DAY, HOUR * 12, DAY),
            ("our clock is a day ahead", wall() + DAY, Duration::ZERO, Duration::ZERO),
        ];
        for (case, wall, refresh, end) in cases {
            assert_eq!(plan(validity, wall, now, 0.0), (now + refresh, now + end), "{case}");
        }
        assert_eq!(plan(validity, wall(), now, 1.0).0, now + DAY.mul_f64(0.45));
    }

    #[test]
    fn a_new_one_that_begins_later_is_soon_asked_for_again_though_not_by_all_at_once() {
        let validity = Validity { not_before: wall(), not_after: wall() + DAY };
        let now = Instant::now();
        let cases = [
            ("clocks agree", wall(), 0.0, HOUR * 12),
            ("clocks differ a little", wall() - AHEAD, 0.0, HOUR * 12),
            ("our clock is a day behind, or the authority's ahead", wall() - DAY, 0.0, AHEAD),
            ("the same for another", wall() - DAY, 1.0, AHEAD * 2),
        ];
        for (case, wall, chance, refresh) in cases {
            assert_eq!(plan_new(validity, wall, now, chance), (now + refresh, now + DAY), "{case}");
        }
    }
}
