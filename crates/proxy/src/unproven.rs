//! Connections to the tunnel port whose client has proven nothing yet: how many there may be, and whose go first.
//! Owns the bound for the whole process, all pods and threads together; how long a handshake may take is `hbone`'s.
//!
//! A handshake costs its client a packet and us its buffers, so their number is bounded. A bound alone would let
//! one client fill it and keep all others out for as long as a handshake may take. So when it is full, places are
//! shared by source: a newcomer takes one from the source that holds most, and whoever holds most gets no more.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Handshakes at a time. One lasts some milliseconds; at 30 KiB each, this many are 15 MiB.
const MOST: usize = 512;

/// The handshakes under way. Cheap to clone.
#[derive(Clone)]
pub struct Unproven {
    table: Arc<Mutex<Table>>,
    most: usize,
}

#[derive(Default)]
struct Table {
    /// By source, in the order they came.
    sources: HashMap<IpAddr, Vec<Held>>,
    all: usize,
    next: u64,
}

/// Dropped, it takes the place away.
struct Held {
    number: u64,
    _keeps: oneshot::Sender<()>,
}

/// A place among the handshakes; dropping it gives it up.
pub struct Place {
    table: Arc<Mutex<Table>>,
    source: IpAddr,
    number: u64,
    kept: oneshot::Receiver<()>,
}

impl Default for Unproven {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Unproven {
    /// Room for so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { table: Arc::default(), most }
    }

    /// A place for a connection from `source`; none when all are taken and `source` holds its share of them.
    #[must_use]
    pub fn enter(&self, source: IpAddr) -> Option<Place> {
        let mut table = lock(&self.table);
        if table.all >= self.most && !table.make_room(source) {
            return None;
        }
        let (keeps, kept) = oneshot::channel();
        table.next += 1;
        table.all += 1;
        let number = table.next;
        table.sources.entry(source).or_default().push(Held { number, _keeps: keeps });
        Some(Place { table: Arc::clone(&self.table), source, number, kept })
    }
}

impl Place {
    /// Returns once the place was taken away. Cancel-safe.
    pub async fn lost(&mut self) {
        // Nothing is ever sent: the sender goes with the place.
        let _ = (&mut self.kept).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.table).remove(self.source, self.number);
    }
}

impl Table {
    /// Takes a place from the source that holds most: the newest, which has cost least. Among equals, from the one
    /// that came first: an honest handshake is over by then. False when `newcomer` holds its share already.
    fn make_room(&mut self, newcomer: IpAddr) -> bool {
        let own = self.sources.get(&newcomer).map_or(0, Vec::len);
        let first = |held: &[Held]| held.first().map_or(0, |held| held.number);
        let heaviest = self.sources.iter().max_by_key(|(_, held)| (held.len(), Reverse(first(held))));
        let gives = |held: &[Held]| own == 0 || own + 1 < held.len();
        let newest =
            heaviest.filter(|(_, held)| gives(held)).and_then(|(ip, held)| Some((*ip, held.last()?.number)));
        let Some((source, number)) = newest else { return false };
        self.remove(source, number);
        true
    }

    fn remove(&mut self, source: IpAddr, number: u64) {
        let Some(held) = self.sources.get_mut(&source) else { return };
        let before = held.len();
        held.retain(|held| held.number != number);
        self.all -= before - held.len();
        if held.is_empty() {
            self.sources.remove(&source);
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Which of these still have their places.
    fn kept(places: &mut [Option<Place>]) -> Vec<bool> {
        let gone = |place: &mut Place| place.kept.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        places.iter_mut().map(|place| place.as_mut().is_some_and(|place| !gone(place))).collect()
    }

    #[test]
    fn a_source_that_fills_all_places_gives_them_up_to_others_one_by_one_until_they_share() {
        let unproven = Unproven::new(4);
        let mut flood: Vec<_> = (0..6).map(|_| unproven.enter(ip(1))).collect();
        assert_eq!(kept(&mut flood), [true, true, true, true, false, false]);
        let mut others: Vec<_> = (0..3).map(|_| unproven.enter(ip(2))).collect();
        assert_eq!(kept(&mut flood), [true, true, false, false, false, false]);
        assert_eq!(kept(&mut others), [true, true, false]);
        assert!(unproven.enter(ip(1)).is_none());
        drop(others);
        assert!(unproven.enter(ip(1)).is_some(), "what was given up is there again");
    }

    #[test]
    fn of_many_sources_with_one_place_each_the_first_goes() {
        let unproven = Unproven::new(3);
        let mut places: Vec<_> = (0..5).map(|n| unproven.enter(ip(n))).collect();
        assert_eq!(kept(&mut places), [false, false, true, true, true]);
    }

    #[test]
    fn nothing_is_kept_of_what_has_ended() {
        let unproven = Unproven::new(2);
        drop((0..100).filter_map(|n| unproven.enter(ip(n))).collect::<Vec<_>>());
        let table = lock(&unproven.table);
        assert_eq!((table.all, table.sources.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_place_that_is_taken_away_tells_its_holder() {
        let unproven = Unproven::new(1);
        let mut first = unproven.enter(ip(1)).unwrap();
        let _second = unproven.enter(ip(2)).unwrap();
        first.lost().await;
    }
}
