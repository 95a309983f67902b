//! Seats on a tunnel: how many streams use it, whether it takes more, since when it is idle.
//! Owns the count; no lock, for streams come and go on the connection path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Set in the count once no more seats are given.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// One tunnel's seats.
#[derive(Debug)]
pub(super) struct Seats {
    taken: AtomicUsize,
    /// True once the peer has told its limit.
    settled: AtomicBool,
    born: Instant,
    /// Milliseconds after birth at which the last seat was given back.
    idle_since: AtomicU64,
    emptied: Notify,
}

/// A stream's place on a tunnel. Given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Seats>);

impl Seats {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            settled: AtomicBool::new(false),
            born: Instant::now(),
            idle_since: AtomicU64::new(0),
            emptied: Notify::new(),
        })
    }

    /// A seat, if fewer than `limit` are taken and the tunnel is not closing.
    pub(super) fn take(self: &Arc<Self>, limit: usize) -> Option<Seat> {
        let sit = |taken: usize| (taken & CLOSED == 0 && taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, sit).ok()?;
        Some(Seat(Arc::clone(self)))
    }

    pub(super) fn settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// No seats from now on; those taken stay.
    pub(super) fn close(&self) {
        self.taken.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.taken.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Closes, unless somebody sits.
    pub(super) fn close_if_empty(&self) -> bool {
        self.taken.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether streams are still open, closed or not.
    pub(super) fn streams_left(&self) -> bool {
        self.taken.load(Ordering::Acquire) & !CLOSED != 0
    }

    /// When it became empty, if it is.
    pub(super) fn empty_since(&self) -> Option<Instant> {
        let empty = self.taken.load(Ordering::Acquire) == 0;
        empty.then(|| self.born + Duration::from_millis(self.idle_since.load(Ordering::Acquire)))
    }

    /// Returns once it was empty for `limit`, and is closed therefore. Cancel-safe.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let Some(since) = self.empty_since() else {
                self.emptied.notified().await;
                continue;
            };
            if Instant::now() >= since + limit && self.close_if_empty() {
                return;
            }
            sleep_until(since + limit).await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let millis = u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.idle_since.store(millis, Ordering::Release);
        if self.0.taken.fetch_sub(1, Ordering::AcqRel) & !CLOSED == 1 {
            self.0.emptied.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_seats_than_the_limit_and_none_once_closed() {
        let seats = Seats::new();
        let (a, b) = (seats.take(2), seats.take(2));
        assert!(a.is_some() && b.is_some() && seats.take(2).is_none());
        drop(a);
        assert!(seats.take(2).is_some());
        seats.close();
        assert!(seats.take(9).is_none() && seats.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_counts_from_the_last_seat_given_back() {
        let limit = Duration::from_secs(300);
        let seats = Seats::new();
        let started = Instant::now();
        let seat = seats.take(1);
        let leave = async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            drop(seat);
        };
        tokio::join!(seats.idle_for(limit), leave);
        assert_eq!(started.elapsed(), Duration::from_secs(1300));
        assert!(seats.take(1).is_none());
    }
}
