//! How fast new streams are let in. The first answer is the dearest: after a restart everybody wants it at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;

use super::now;

/// Streams let in per second, and at once after a quiet time: upstream's upper bound.
const PER_SECOND: u32 = 100;
/// The longest wait before the door; beyond it the subscriber is told to come back later.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The door.
#[derive(Debug, Default)]
pub(super) struct Door(Mutex<Turns>);

impl Door {
    /// Waits for a turn; refuses when the queue is too long.
    pub(super) async fn enter(&self) -> Result<(), Status> {
        // The lock is for an addition; nothing is awaited under it.
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(now());
        match turn {
            Some(wait) if wait.is_zero() => Ok(()),
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(Status::resource_exhausted("too many streams are opened at once; try again later")),
        }
    }
}

/// Turns given out, as the moment from which the next one is free.
#[derive(Debug, Default)]
struct Turns {
    next: Option<Instant>,
}

impl Turns {
    /// How long to wait for the next turn; none when that is too long, and then no turn is used up.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let each = Duration::from_secs(1) / PER_SECOND;
        // A quiet time saves up as many turns as a second has, and no more.
        let saved = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let turn = self.next.map_or(saved, |next| next.max(saved));
        let wait = turn.saturating_duration_since(now);
        if wait > LONGEST_WAIT {
            return None;
        }
        self.next = Some(turn + each);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_let_in_at_a_bounded_rate_and_then_turned_away() {
        let mut turns = Turns::default();
        let now = Instant::now();
        let waits: Vec<_> = std::iter::from_fn(|| turns.take(now)).take(10_000).collect();
        let at_once = waits.iter().filter(|wait| wait.is_zero()).count();
        assert_eq!(
            (at_once, waits.len()),
            (101, 601),
            "a second's worth at once, five seconds' worth in turn"
        );
        assert_eq!(
            turns.take(now + Duration::from_secs(1)),
            Some(Duration::from_secs(4) + Duration::from_millis(10))
        );
    }

    #[test]
    fn a_quiet_time_saves_a_second_and_no_more() {
        let mut turns = Turns::default();
        let now = Instant::now();
        for _ in 0..101 {
            assert_eq!(turns.take(now), Some(Duration::ZERO));
        }
        assert_ne!(turns.take(now), Some(Duration::ZERO));
        let later = now + Duration::from_secs(3600);
        let at_once = std::iter::from_fn(|| turns.take(later)).take_while(Duration::is_zero).count();
        assert_eq!(at_once, 101);
    }
}
