//! How many streams are being let in at once. The first answer is the dearest: after a restart everybody wants it at
//! the same moment, and fifty that are served one after the other are served sooner than a thousand side by side,
//! whose requests and answers would all have to be held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tonic::Status;

use super::now;

/// First answers at once: enough that nobody waits for a round trip of somebody else.
const AT_ONCE: usize = 32;
/// Who takes longer for the first answer holds up nobody any more.
const TURN: Duration = Duration::from_secs(5);
/// The longest wait before the door; beyond it the subscriber is told to come back later.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The door.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// Only the first in line looks whether there is room; the others wait for it, in the order they came.
    line: tokio::sync::Mutex<()>,
    room: Arc<Room>,
}

#[derive(Debug, Default)]
struct Room {
    inside: Mutex<Inside>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// Until when each may hold others up.
    until: BTreeMap<u64, Instant>,
}

/// A turn; given back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    number: u64,
    room: Arc<Room>,
}

impl Door {
    /// Waits for a turn; refuses when that takes too long.
    pub(super) async fn enter(&self) -> Result<Pass, Status> {
        let turn = tokio::time::timeout(LONGEST_WAIT, async {
            let _first = self.line.lock().await;
            loop {
                // Asked for before looking: whoever leaves in between is noticed.
                let left = self.room.left.notified();
                match self.room.take(now()) {
                    Ok(number) => return Pass { number, room: Arc::clone(&self.room) },
                    Err(until) => drop(tokio::time::timeout_at(until.into(), left).await),
                }
            }
        });
        let late = |_| Status::resource_exhausted("too many streams are opened at once; try again later");
        turn.await.map_err(late)
    }
}

impl Room {
    /// A place, or when to look again at the latest.
    fn take(&self, now: Instant) -> Result<u64, Instant> {
        let mut inside = self.inside();
        inside.until.retain(|_, until| *until > now);
        if inside.until.len() >= AT_ONCE {
            return Err(inside.until.values().min().copied().unwrap_or(now));
        }
        let number = inside.next;
        inside.next += 1;
        inside.until.insert(number, now + TURN);
        Ok(number)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.room.inside().until.remove(&self.number);
        self.room.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    async fn soon(door: &Door) -> Option<Pass> {
        tokio::time::timeout(Duration::from_millis(1), door.enter()).await.ok()?.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_let_in_as_places_are_given_back_in_the_order_it_came() {
        let door = Door::default();
        let mut inside = Vec::new();
        for _ in 0..AT_ONCE {
            inside.push(soon(&door).await.unwrap());
        }
        assert!(soon(&door).await.is_none());
        let mut first = Box::pin(door.enter());
        let mut second = Box::pin(door.enter());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        inside.pop();
        assert!((&mut second).now_or_never().is_none(), "it came later");
        let kept = first.now_or_never().unwrap();
        assert!((&mut second).now_or_never().is_none());
        inside.pop();
        assert!(second.now_or_never().unwrap().is_ok() && kept.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_holds_up_the_others_for_a_while_only() {
        let door = Door::default();
        let mut inside = Vec::new();
        for _ in 0..AT_ONCE {
            inside.push(soon(&door).await.unwrap());
        }
        let began = now();
        let _late = door.enter().await.unwrap();
        assert_eq!(now() - began, TURN);
        inside.clear();
        assert_eq!(door.room.inside().until.len(), 1, "a place that lapsed is given back once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_to_come_back() {
        let door = Door::default();
        let _stuck = door.line.lock().await;
        let began = now();
        assert_eq!(door.enter().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert_eq!(now() - began, LONGEST_WAIT);
    }
}
