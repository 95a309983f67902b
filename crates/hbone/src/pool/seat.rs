//! Seats on a tunnel: how many streams use it, whether it takes more, since when it is idle, and how long it may be.
//! Owns the count; no lock, for streams come and go on the connection path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Set in the count once no more seats are given.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How often an idle tunnel looks whether it is one too many; also how long it is at least kept.
const LOOK: Duration = Duration::from_secs(5);

/// The idle tunnels of all pools. One for the process, as its memory is.
static ALL: Crowd = Crowd::new();

/// Idle tunnels beside each other. Without a lock there is no order to be had, but each knows how many came after it.
#[derive(Debug)]
pub(super) struct Crowd {
    now: AtomicUsize,
    came: AtomicUsize,
}

/// How long a tunnel may be idle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) limit: Duration,
    /// With so many others idle, the longest idle are closed sooner.
    pub(super) most: usize,
    pub(super) beside: &'static Crowd,
}

/// One of the idle, until dropped.
struct Idle {
    beside: &'static Crowd,
    number: usize,
}

impl Crowd {
    const fn new() -> Self {
        Self { now: AtomicUsize::new(0), came: AtomicUsize::new(0) }
    }
}

impl Rest {
    pub(super) fn new(limit: Duration, most: usize) -> Self {
        Self { limit, most, beside: &ALL }
    }
}

impl Idle {
    fn enter(beside: &'static Crowd) -> Self {
        beside.now.fetch_add(1, Ordering::AcqRel);
        Self { beside, number: beside.came.fetch_add(1, Ordering::AcqRel) }
    }

    /// Whether there are more than `most`, and it is not one of those that came last.
    fn is_too_many(&self, most: usize) -> bool {
        let later = self.beside.came.load(Ordering::Acquire).wrapping_sub(self.number);
        self.beside.now.load(Ordering::Acquire) > most && later > most
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.beside.now.fetch_sub(1, Ordering::AcqRel);
    }
}

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

    /// Returns once it was empty for as long as it may be, and is closed therefore. Cancel-safe.
    pub(super) async fn rested(&self, rest: Rest) {
        let mut idle: Option<Idle> = None;
        loop {
            let Some(since) = self.empty_since() else {
                idle = None;
                self.emptied.notified().await;
                continue;
            };
            let now = Instant::now();
            let too_many = idle.as_ref().is_some_and(|idle| idle.is_too_many(rest.most));
            let long_enough = now >= since + rest.limit || too_many && now >= since + LOOK;
            if long_enough && self.close_if_empty() {
                return;
            }
            match &idle {
                None if now >= since + LOOK => idle = Some(Idle::enter(rest.beside)),
                // It was used since: it is the latest of all, once it was idle for a while again.
                Some(_) if now < since + LOOK => idle = None,
                _ => {}
            }
            sleep_until((since + rest.limit).min(now + LOOK)).await;
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
        tokio::join!(seats.rested(Rest::new(limit, usize::MAX)), leave);
        assert_eq!(started.elapsed(), Duration::from_secs(1300));
        assert!(seats.take(1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_idle_tunnels_those_that_were_used_last_are_kept_and_the_others_close_soon() {
        static BESIDE: Crowd = Crowd::new();
        const MOST: usize = 3;
        let limit = Duration::from_secs(300);
        let rest = Rest { limit, most: MOST, beside: &BESIDE };
        let started = Instant::now();
        let one = |number: u64| async move {
            let seats = Seats::new();
            let seat = seats.take(1);
            tokio::time::sleep(Duration::from_secs(number)).await;
            drop(seat);
            seats.rested(rest).await;
            (started + Duration::from_secs(number)).elapsed()
        };
        let idle = futures_util::future::join_all((0..10).map(one)).await;
        let (early, kept) = idle.split_at(10 - MOST);
        assert!(early.iter().all(|idle| (LOOK..LOOK * 4).contains(idle)), "{early:?}");
        assert!(kept.iter().all(|idle| *idle == limit), "{kept:?}");
        assert_eq!(BESIDE.now.load(Ordering::Acquire), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_use_is_not_one_of_the_idle() {
        static BESIDE: Crowd = Crowd::new();
        let rest = Rest { limit: Duration::from_secs(300), most: 0, beside: &BESIDE };
        let (seats, started) = (Seats::new(), Instant::now());
        let talk = async {
            for _ in 0..100 {
                drop(seats.take(1).expect("it is open"));
                tokio::time::sleep(LOOK / 2).await;
            }
        };
        tokio::join!(seats.rested(rest), talk);
        assert!(started.elapsed() > LOOK / 2 * 99, "{:?}", started.elapsed());
    }
}
