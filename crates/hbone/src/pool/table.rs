//! Which tunnels there are, which are being dialled, which dials have just failed.
//! Decides for one stream at a time: sit down, wait, dial, or give up. Awaits nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ambit_model::name::Identity;
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::watch;
use tokio::time::Instant;

use super::seat::{Seat, Seats};
use super::{Key, PoolSettings};
use crate::dial::DialError;
use crate::stall::Stalls;

/// A dial that failed is not tried again before this many times as long as it took: at most a tenth of the time goes
/// into dials that fail, and a peer that refuses at once is tried again at once, for it may be about to return.
const PATIENCE: u32 = 10;
/// Keys that are remembered without a tunnel, for their failure; beyond it old ones are swept.
const FAILURES_MAX: usize = 256;

/// A tunnel that takes streams.
pub(super) struct Held {
    pub(super) send: SendRequest<Bytes>,
    pub(super) seats: Arc<Seats>,
    pub(super) peer: Identity,
    pub(super) stalls: Stalls,
}

/// A seat on a tunnel, and how to use it.
pub(super) struct Taken {
    pub(super) send: SendRequest<Bytes>,
    pub(super) seat: Seat,
    pub(super) peer: Identity,
    pub(super) stalls: Stalls,
}

/// What one stream is to do.
pub(super) enum Look {
    Taken(Taken),
    Failed(Arc<DialError>),
    Wait { attempt: Option<u64>, changed: watch::Receiver<()> },
    Dial { attempt: u64, changed: watch::Receiver<()> },
}

struct Failure {
    attempt: u64,
    until: Instant,
    error: Arc<DialError>,
}

struct Entry {
    tunnels: Vec<Held>,
    attempt: Option<u64>,
    /// When the last attempt began.
    began: Instant,
    failure: Option<Failure>,
    changed: watch::Sender<()>,
}

pub(super) struct Table {
    entries: HashMap<Key, Entry>,
    settings: PoolSettings,
    /// Tunnels and attempts together.
    live: usize,
    attempts: u64,
}

impl Table {
    pub(super) fn new(settings: PoolSettings) -> Self {
        Self { entries: HashMap::new(), settings, live: 0, attempts: 0 }
    }

    pub(super) fn tunnels(&self) -> usize {
        self.entries.values().map(|entry| entry.tunnels.len()).sum()
    }

    /// `waited` is the attempt whose outcome the stream has waited for, if it has.
    pub(super) fn look(&mut self, key: &Key, waited: Option<u64>, now: Instant) -> Look {
        let limit = self.settings.streams_per_tunnel;
        if let Some(entry) = self.entries.get(key) {
            if let Some(taken) = entry.tunnels.iter().find_map(|held| held.take(limit)) {
                return Look::Taken(taken);
            }
            if let Some(error) = entry.failed(waited, now) {
                return Look::Failed(error);
            }
            if entry.attempt.is_some() || entry.tunnels.iter().any(Held::unsettled) {
                return Look::Wait { attempt: entry.attempt, changed: entry.changed.subscribe() };
            }
        }
        if self.live >= self.settings.tunnels && !self.make_room() {
            return Look::Failed(Arc::new(DialError::Full { hop: key.hop }));
        }
        self.dial(key, now)
    }

    /// The attempt succeeded. Back comes the tunnel if the attempt is no longer wanted.
    pub(super) fn arrived(&mut self, key: &Key, attempt: u64, held: Held) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.attempt == Some(attempt)) {
            entry.attempt = None;
            entry.failure = None;
            entry.tunnels.push(held);
            entry.changed.send_replace(());
        }
    }

    /// The attempt failed; all who wait for it, and those who come in the next moment, are told.
    pub(super) fn failed(&mut self, key: &Key, attempt: u64, error: DialError, now: Instant) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.attempt == Some(attempt)) else {
            return;
        };
        let took = now.saturating_duration_since(entry.began);
        let until = now + took.saturating_mul(PATIENCE).min(self.settings.remember_failure);
        entry.attempt = None;
        entry.failure = Some(Failure { attempt, until, error: Arc::new(error) });
        entry.changed.send_replace(());
        self.live = self.live.saturating_sub(1);
    }

    /// The peer's limit is known now: those who wait for a seat look again. A peer that allows no stream
    /// at all is a failure, or each who waits would dial in vain.
    pub(super) fn settled(&mut self, key: &Key, seats: &Arc<Seats>, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        seats.settle();
        let barren =
            |held: &Held| Arc::ptr_eq(&held.seats, seats) && held.send.current_max_send_streams() == 0;
        if entry.tunnels.iter().any(barren) {
            let until = now + self.settings.remember_failure;
            let error = Arc::new(DialError::NoStreams { hop: key.hop });
            entry.failure = Some(Failure { attempt: self.attempts, until, error });
            seats.close();
        }
        entry.changed.send_replace(());
    }

    /// The tunnel takes no more streams, or has ended.
    pub(super) fn remove(&mut self, key: &Key, seats: &Arc<Seats>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = entry.tunnels.len();
        entry.tunnels.retain(|held| !Arc::ptr_eq(&held.seats, seats));
        self.live = self.live.saturating_sub(before - entry.tunnels.len());
        entry.changed.send_replace(());
        if entry.tunnels.is_empty() && entry.attempt.is_none() && entry.failure.is_none() {
            self.entries.remove(key);
        }
    }

    fn dial(&mut self, key: &Key, now: Instant) -> Look {
        if self.entries.len() >= self.settings.tunnels + FAILURES_MAX {
            self.entries.retain(|_, entry| !entry.is_spent(now));
        }
        let attempt = self.attempts;
        self.attempts += 1;
        self.live += 1;
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            tunnels: Vec::new(),
            attempt: None,
            began: now,
            failure: None,
            changed: watch::channel(()).0,
        });
        (entry.attempt, entry.began) = (Some(attempt), now);
        Look::Dial { attempt, changed: entry.changed.subscribe() }
    }

    /// Closes the tunnel that is idle for longest. False when all are in use.
    fn make_room(&mut self) -> bool {
        let idle = self.entries.iter().flat_map(|(key, entry)| {
            entry.tunnels.iter().filter_map(move |held| Some((held.seats.empty_since()?, key, &held.seats)))
        });
        let Some((_, key, seats)) = idle.min_by_key(|(since, _, _)| *since) else { return false };
        let (key, seats) = (key.clone(), Arc::clone(seats));
        let closed = seats.close_if_empty();
        if closed {
            self.remove(&key, &seats);
        }
        closed
    }
}

impl Entry {
    /// The failure that concerns a stream: of the attempt it waited for, or a very recent one.
    fn failed(&self, waited: Option<u64>, now: Instant) -> Option<Arc<DialError>> {
        let failure = self.failure.as_ref()?;
        let ours = waited.is_some_and(|waited| failure.attempt >= waited);
        (ours || now < failure.until).then(|| Arc::clone(&failure.error))
    }

    fn is_spent(&self, now: Instant) -> bool {
        let remembered = self.failure.as_ref().is_some_and(|failure| now < failure.until);
        self.tunnels.is_empty() && self.attempt.is_none() && !remembered
    }
}

impl Held {
    /// A seat, if the tunnel is sound and the peer allows one more stream at this moment.
    fn take(&self, limit: usize) -> Option<Taken> {
        let limit = if self.seats.settled() { limit.min(self.send.current_max_send_streams()) } else { 1 };
        let seat = self.seats.take(limit)?;
        let mut send = self.send.clone();
        // Ready unless the tunnel broke or the peer said GOAWAY; nothing is registered for the no-op waker.
        match send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {
                Some(Taken { send, seat, peer: self.peer.clone(), stalls: self.stalls.clone() })
            }
            Poll::Ready(Err(_)) | Poll::Pending => {
                self.seats.close();
                None
            }
        }
    }

    fn unsettled(&self) -> bool {
        !self.seats.settled() && !self.seats.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ambit_model::address::HopAddr;

    use super::*;

    #[test]
    fn a_failure_is_remembered_for_longer_the_longer_it_took_and_not_at_all_when_it_took_no_time() {
        let hop = HopAddr::new("10.0.0.2:15008".parse().unwrap());
        let key =
            Key { source: crate::testing::identity("web"), source_ip: None, hop, expect: Arc::from([]) };
        let millis = Duration::from_millis;
        for (took, remembered) in [(0, 0), (3, 30), (50, 500), (10_000, 500)] {
            let (mut table, start) = (Table::new(PoolSettings::default()), Instant::now());
            let Look::Dial { attempt, .. } = table.look(&key, None, start) else { panic!("{took}") };
            let failed = start + millis(took);
            table.failed(&key, attempt, DialError::Closed, failed);
            if remembered > 0 {
                let look = table.look(&key, None, failed + millis(remembered - 1));
                assert!(matches!(look, Look::Failed(_)), "{took}");
            }
            let look = table.look(&key, None, failed + millis(remembered));
            assert!(matches!(look, Look::Dial { .. }), "{took}");
        }
    }
}
