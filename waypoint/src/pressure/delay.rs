//! How late one thread comes to what is due. Owns telling a queue that stands from a moment's stop: the least of several
//! in a row is taken, for a program that was not run for a while, or had one long task, is late once.

use std::time::Duration;

/// In a row: a second of a thread with work.
const KEPT: usize = 10;

/// How late a thread was, the last times.
#[derive(Debug, Default)]
pub(super) struct Delay {
    kept: [Duration; KEPT],
    next: usize,
}

impl Delay {
    /// It was so late.
    pub(super) fn note(&mut self, late: Duration) {
        if let Some(oldest) = self.kept.get_mut(self.next) {
            *oldest = late;
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// It is late by so much, at least.
    pub(super) fn least(&self) -> Duration {
        self.kept.iter().min().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_late_once_it_is_late_again_and_again_and_no_longer_with_the_first_time_that_it_is_not() {
        let mut delay = Delay::default();
        delay.note(Duration::from_secs(100));
        assert_eq!(delay.least(), Duration::ZERO, "it may have stood still");
        for late in 1..=20 {
            delay.note(Duration::from_millis(300 + late));
            let wanted = if late < 9 { 0 } else { 300 + (late - 9).max(1) };
            assert_eq!(delay.least(), Duration::from_millis(wanted), "{late}");
        }
        delay.note(Duration::from_millis(1));
        assert_eq!(delay.least(), Duration::from_millis(1));
    }
}
