//! How many requests and tunnels one thread has under way, and whose go first when it has many (`waypoint.md` 6.1, 6.4).
//! Owns the bounds, each client's share of them, and keeping off a client that takes its requests back as fast as it
//! makes them.
//!
//! While half of the room is free, everybody gets what they ask for. Beyond it nobody gets more than an even share, so
//! whoever fills a waypoint is refused and others are not. Clients are who they have proven to be, whatever number of
//! tunnels they come through. Where a waypoint has more to do than it can (`pressure`), the bound is a smaller one, and
//! whoever has its even share of that is refused, however few others there are.

pub(crate) mod count;
pub(crate) mod memory;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ambit_model::name::Identity;
use ambit_process::clock::{Instant, now};
use tokio::sync::Notify;

/// A request that is taken back sooner was hardly meant.
const HASTE: Duration = Duration::from_secs(1);
/// So many of them within one second, and they most of all: no client of any use does that (CVE-2023-44487).
const HASTY_MOST: u32 = 500;
/// For so long a client that does it is answered nothing else.
const KEPT_OFF: Duration = Duration::from_secs(1);
/// As many as there is room for.
const UNBOUND: usize = usize::MAX;
/// Clients before those that are gone are looked for.
const SWEEP_AT: usize = 64;

/// The requests under way of one thread.
pub(crate) struct Room {
    counts: Arc<Counts>,
    clients: Mutex<HashMap<Identity, Weak<Share>>>,
}

struct Counts {
    requests: Places,
    tunnels: Places,
    /// What clients share evenly of requests while there is more to do than can be done.
    bound: AtomicUsize,
}

/// So many of something, which clients share. Only one thread counts up: nobody comes between looking and counting.
struct Places {
    most: usize,
    all: AtomicUsize,
    /// Clients with at least one.
    clients: AtomicUsize,
}

/// One client's part of them.
pub(crate) struct Share {
    counts: Arc<Counts>,
    mine: AtomicUsize,
    tunnels: AtomicUsize,
    haste: Mutex<Haste>,
    /// Its connections are to end.
    away: Notify,
}

/// One request under way. Dropped, it is over.
pub(crate) struct Seat {
    share: Arc<Share>,
    began: Instant,
    answered: bool,
}

/// One tunnel that is open. Dropped, it is over.
pub(crate) struct Tunnel(Arc<Share>);

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// There are too many, of this client's above all.
    #[error("too many requests are under way")]
    Crowded,
    /// There is more to do than can be done, and the client has its share of that.
    #[error("there is too much to do, and the client has its share of it")]
    Pressed,
    /// The client takes its requests back as fast as it makes them.
    #[error("the client takes its requests back at once")]
    Hasty,
}

impl Room {
    pub(crate) fn new(requests: usize, tunnels: usize) -> Self {
        let (requests, tunnels) = (Places::new(requests), Places::new(tunnels));
        let counts = Counts { requests, tunnels, bound: AtomicUsize::new(UNBOUND) };
        Self { counts: Arc::new(counts), clients: Mutex::default() }
    }

    /// How many are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.counts.requests.all.load(Ordering::Relaxed)
    }

    /// From now on clients share so many evenly; none: as many as there is room for. Whoever has more keeps it.
    pub(crate) fn bind(&self, bound: Option<usize>) {
        self.counts.bound.store(bound.unwrap_or(UNBOUND), Ordering::Relaxed);
    }

    /// Has those clients leave that have more than an even share: of all that is under way, and of the bound.
    pub(crate) fn send_largest_away(&self) {
        let Counts { requests: Places { all, clients, .. }, bound, .. } = &*self.counts;
        let clients = clients.load(Ordering::Relaxed);
        let even = |of: &AtomicUsize| even(of.load(Ordering::Relaxed), clients);
        let most = even(all).max(even(bound));
        let known = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for share in known.values().filter_map(Weak::upgrade) {
            if share.mine.load(Ordering::Relaxed) > most {
                share.away.notify_waiters();
            }
        }
    }

    /// The part of one client, which all of its tunnels share.
    pub(crate) fn share(&self, client: &Identity) -> Arc<Share> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = clients.get(client).and_then(Weak::upgrade) {
            return share;
        }
        if clients.len() >= SWEEP_AT && clients.len() == clients.capacity() {
            clients.retain(|_, share| share.strong_count() > 0);
        }
        let haste = Mutex::new(Haste { since: now(), begun: 0, hasty: 0, until: None });
        let (counts, away) = (Arc::clone(&self.counts), Notify::new());
        let (mine, tunnels) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let share = Arc::new(Share { counts, mine, tunnels, haste, away });
        clients.insert(client.clone(), Arc::downgrade(&share));
        share
    }
}

impl Share {
    /// Lets one more request in, if there is room for it.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Seat, Full> {
        let began = now();
        if !self.haste().begin(began) {
            return Err(Full::Hasty);
        }
        let Counts { requests, bound, .. } = &*self.counts;
        if !requests.have_room(&self.mine) {
            return Err(Full::Crowded);
        }
        let clients = requests.clients_with(&self.mine);
        if self.mine.load(Ordering::Relaxed) >= even(bound.load(Ordering::Relaxed), clients) {
            return Err(Full::Pressed);
        }
        requests.take(&self.mine);
        Ok(Seat { share: Arc::clone(self), began, answered: false })
    }

    /// Lets one more tunnel be open, if there is room for it: whoever has many leaves half of it to others.
    pub(crate) fn open(self: &Arc<Self>) -> Option<Tunnel> {
        let tunnels = &self.counts.tunnels;
        tunnels.have_room(&self.tunnels).then(|| {
            tunnels.take(&self.tunnels);
            Tunnel(Arc::clone(self))
        })
    }

    /// Returns when the client's connections are to end because it has the largest share. Cancel-safe.
    pub(crate) async fn sent_away(&self) {
        self.away.notified().await;
    }

    /// Whether the client is answered nothing now for its haste.
    pub(crate) fn is_kept_off(&self) -> bool {
        self.haste().is_kept_off(now())
    }

    fn haste(&self) -> MutexGuard<'_, Haste> {
        self.haste.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// There is an answer: whatever the client does now, it has waited for it.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.answered {
            self.share.haste().broken_off(self.began, now());
        }
        self.share.counts.requests.give_back(&self.share.mine);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.counts.tunnels.give_back(&self.0.tunnels);
    }
}

impl Places {
    fn new(most: usize) -> Self {
        Self { most, all: AtomicUsize::new(0), clients: AtomicUsize::new(0) }
    }

    /// Clients with at least one, once this one has one more.
    fn clients_with(&self, mine: &AtomicUsize) -> usize {
        self.clients.load(Ordering::Relaxed) + usize::from(mine.load(Ordering::Relaxed) == 0)
    }

    fn have_room(&self, mine: &AtomicUsize) -> bool {
        let (all, clients) = (self.all.load(Ordering::Relaxed), self.clients_with(mine));
        lets_in(self.most, all, mine.load(Ordering::Relaxed), clients)
    }

    fn take(&self, mine: &AtomicUsize) {
        self.all.fetch_add(1, Ordering::Relaxed);
        if mine.fetch_add(1, Ordering::Relaxed) == 0 {
            self.clients.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn give_back(&self, mine: &AtomicUsize) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if mine.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether a client that has `mine` of `all` may have one more, with `clients` asking.
fn lets_in(most: usize, all: usize, mine: usize, clients: usize) -> bool {
    all < most && (all < most / 2 || mine < even(most, clients))
}

/// What of so many is one client's. One that is alone leaves room for another; and each may have one.
fn even(of: usize, clients: usize) -> usize {
    (of / clients.max(2)).max(1)
}

/// How many requests a client has begun of late, and taken back at once.
struct Haste {
    since: Instant,
    begun: u32,
    hasty: u32,
    until: Option<Instant>,
}

impl Haste {
    fn is_kept_off(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn begin(&mut self, now: Instant) -> bool {
        if self.is_kept_off(now) {
            return false;
        }
        if now.saturating_duration_since(self.since) >= HASTE {
            (self.since, self.begun, self.hasty) = (now, 0, 0);
        }
        self.begun = self.begun.saturating_add(1);
        true
    }

    fn broken_off(&mut self, began: Instant, now: Instant) {
        if now.saturating_duration_since(began) >= HASTE {
            return;
        }
        self.hasty = self.hasty.saturating_add(1);
        if self.hasty >= HASTY_MOST && self.hasty > self.begun / 2 {
            *self = Self { since: now, begun: 0, hasty: 0, until: Some(now + KEPT_OFF) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn client(name: &str) -> Identity {
        format!("spiffe://cluster.local/ns/shop/sa/{name}").parse().unwrap()
    }

    #[test]
    fn who_fills_the_room_leaves_half_of_it_to_others_and_they_share_it() {
        let room = Room::new(100, 100);
        let greedy = room.share(&client("greedy"));
        let mut held: Vec<Seat> = std::iter::from_fn(|| greedy.enter().ok()).take(1000).collect();
        assert_eq!(held.len(), 50);
        // Another tunnel of the same client is the same client.
        assert_eq!(room.share(&client("greedy")).enter().err(), Some(Full::Crowded));
        for name in ["one", "two"] {
            let share = room.share(&client(name));
            held.extend(std::iter::from_fn(|| share.enter().ok()).take(1000));
        }
        // The first of two gets half, as long as there are two, and then it is full.
        assert_eq!(held.len(), 100);
        assert_eq!(room.share(&client("three")).enter().err(), Some(Full::Crowded));
        held.truncate(40);
        assert!(room.share(&client("three")).enter().is_ok());
        drop(held);
        assert_eq!(room.counts.requests.all.load(Ordering::Relaxed), 0);
        assert_eq!(room.counts.requests.clients.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_opens_tunnel_after_tunnel_leaves_half_of_them_to_others() {
        let room = Room::new(100, 10);
        let greedy = room.share(&client("greedy"));
        let held: Vec<Tunnel> = std::iter::from_fn(|| greedy.open()).take(1000).collect();
        assert_eq!(held.len(), 5);
        let other = room.share(&client("other"));
        let others: Vec<Tunnel> = std::iter::from_fn(|| other.open()).take(1000).collect();
        assert_eq!(others.len(), 5);
        assert!(room.share(&client("third")).open().is_none(), "it is full");
        drop(held);
        assert!(room.share(&client("third")).open().is_some());
        drop(others);
        assert_eq!(room.counts.tunnels.all.load(Ordering::Relaxed), 0);
        assert_eq!(room.counts.tunnels.clients.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn room_is_given_by_these_rules() {
        for (most, all, mine, clients, wanted) in [
            (100, 0, 0, 1, true),
            (100, 49, 49, 1, true),
            (100, 50, 50, 1, false),
            (100, 50, 0, 2, true),
            (100, 99, 49, 2, true),
            (100, 99, 50, 2, false),
            (100, 60, 24, 4, true),
            (100, 60, 25, 4, false),
            // With more clients than there is room for, each may have one while there is any.
            (10, 9, 0, 1000, true),
            (10, 9, 1, 1000, false),
            (10, 10, 0, 1000, false),
        ] {
            assert_eq!(lets_in(most, all, mine, clients), wanted, "{most} {all} {mine} {clients}");
        }
    }

    #[test]
    fn under_pressure_who_has_its_share_is_refused_and_others_are_not_whatever_is_under_way() {
        let room = Room::new(1000, 100);
        let greedy = room.share(&client("greedy"));
        let mut held: Vec<Seat> = std::iter::from_fn(|| greedy.enter().ok()).take(40).collect();
        room.bind(Some(20));
        assert_eq!(greedy.enter().err(), Some(Full::Pressed));
        // Of those that come now, nobody gets more than an even part of what clients share.
        for (name, wanted) in [("one", 10), ("two", 6), ("three", 5)] {
            let share = room.share(&client(name));
            let mine: Vec<Seat> = std::iter::from_fn(|| share.enter().ok()).take(100).collect();
            assert_eq!(mine.len(), wanted, "{name}");
            held.extend(mine);
        }
        room.bind(Some(1));
        assert!(room.share(&client("four")).enter().is_ok(), "each may have one");
        room.bind(None);
        assert!(greedy.enter().is_ok());
    }

    #[test]
    fn who_has_more_than_an_even_share_is_sent_away_and_nobody_else() {
        let room = Room::new(1000, 100);
        let shares = [("greedy", 20), ("quiet", 3), ("idle", 0)].map(|(name, most)| {
            let share = room.share(&client(name));
            let held: Vec<Seat> = std::iter::from_fn(|| share.enter().ok()).take(most).collect();
            (share, held)
        });
        let mut away: Vec<_> = shares.iter().map(|(share, _)| Box::pin(share.sent_away())).collect();
        let mut leave = || {
            let mut cx = Context::from_waker(Waker::noop());
            away.iter_mut().map(|it| it.as_mut().poll(&mut cx).is_ready()).collect::<Vec<_>>()
        };
        assert_eq!(leave(), [false; 3]);
        room.send_largest_away();
        assert_eq!(leave(), [false; 3], "there is room for all that");
        room.bind(Some(8));
        room.send_largest_away();
        assert_eq!(leave(), [true, false, false]);
    }

    #[test]
    fn clients_that_are_gone_are_forgotten() {
        let room = Room::new(100, 100);
        for number in 0..10_000 {
            room.share(&client(&format!("c{number}")));
        }
        assert!(room.clients.lock().unwrap().len() <= 4 * SWEEP_AT);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_requests_back_at_once_is_kept_off_for_a_while() {
        let room = Room::new(100, 100);
        let hasty = room.share(&client("hasty"));
        let taken_back = || std::iter::from_fn(|| hasty.enter().ok()).take(10_000).count();
        assert_eq!(taken_back(), usize::try_from(HASTY_MOST).unwrap());
        assert_eq!(hasty.enter().err(), Some(Full::Hasty));
        assert!(hasty.is_kept_off());
        assert!(room.share(&client("other")).enter().is_ok());
        tokio::time::advance(KEPT_OFF).await;
        assert!(!hasty.is_kept_off());
        assert!(hasty.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_answered_or_waits_or_seldom_leaves_is_not_kept_off() {
        let room = Room::new(100, 100);
        let share = room.share(&client("answered"));
        for number in 0..5000 {
            let mut seat = share.enter().unwrap_or_else(|full| panic!("{number}: {full}"));
            // Two of five leave.
            if number % 5 < 3 {
                seat.answered();
            }
        }
        let share = room.share(&client("patient"));
        for _ in 0..20 {
            let seats: Vec<Seat> = std::iter::from_fn(|| share.enter().ok()).take(50).collect();
            tokio::time::advance(HASTE).await;
            assert_eq!(seats.len(), 50);
        }
        let share = room.share(&client("slow"));
        for number in 0..5000 {
            assert!(share.enter().is_ok(), "{number}");
            // Four hundred a second.
            tokio::time::advance(Duration::from_micros(2500)).await;
        }
    }
}
