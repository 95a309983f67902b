//! Waiting, on demand, until what a name stands for is in force. Many may wait for one name, each for as long as it
//! likes and no longer. Owns waiters and their limits; asking is `subscriber`'s, carrying it `pump`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Names that are to be asked for and were not yet.
const ASKED: usize = 1024;
/// Connections that wait for a name at the same time, over all names; each holds a socket of its node.
const WAITING: usize = 10_000;

/// What came of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// What the server knows under the name is in force: look again.
    InForce,
    /// The server knows nothing under the name.
    Missing,
    /// The server has not answered in time. It may yet, and what it says then will be in force.
    Late,
    /// Too many are waiting, or nobody subscribes any more.
    Busy,
}

/// Where to ask. Clones ask at the same place.
#[derive(Debug, Clone)]
pub struct Lookups(mpsc::Sender<Asked>);

impl Lookups {
    /// Waits until what `name` stands for is in force: a uid, `<namespace>/<hostname>` or `<network>/<ip>`.
    pub async fn lookup(&self, name: &str, wait: Duration) -> Lookup {
        let (tell, told) = oneshot::channel();
        if self.0.try_send(Asked { name: name.into(), tell }).is_err() {
            return Lookup::Busy;
        }
        match timeout(wait, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Lookup::Busy,
            Err(_) => Lookup::Late,
        }
    }
}

/// Somebody who waits for a name.
#[derive(Debug)]
struct Asked {
    name: String,
    tell: oneshot::Sender<Lookup>,
}

/// All who wait.
pub(crate) struct Waiters {
    asked: mpsc::Receiver<Asked>,
    by_name: BTreeMap<String, Vec<oneshot::Sender<Lookup>>>,
    waiting: usize,
}

impl Waiters {
    pub(crate) fn new() -> (Lookups, Self) {
        let (sender, asked) = mpsc::channel(ASKED);
        (Lookups(sender), Self { asked, by_name: BTreeMap::new(), waiting: 0 })
    }

    /// The next name to ask for; none once nobody can ask any more. Cancel-safe: a name not taken stays queued.
    pub(crate) async fn next(&mut self) -> Option<String> {
        while let Some(Asked { name, tell }) = self.asked.recv().await {
            if self.waiting >= WAITING {
                self.forget_those_gone();
            }
            if self.waiting >= WAITING {
                let _ = tell.send(Lookup::Busy);
                continue;
            }
            self.by_name.entry(name.clone()).or_default().push(tell);
            self.waiting += 1;
            return Some(name);
        }
        None
    }

    /// Tells all who wait for `name`.
    pub(crate) fn settle(&mut self, name: &str, outcome: Lookup) {
        for tell in self.by_name.remove(name).unwrap_or_default() {
            self.waiting -= 1;
            // Whoever has stopped waiting does not hear it.
            let _ = tell.send(outcome);
        }
    }

    fn forget_those_gone(&mut self) {
        self.by_name.retain(|_, waiters| {
            waiters.retain(|tell| !tell.is_closed());
            !waiters.is_empty()
        });
        self.waiting = self.by_name.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_a_name_are_told_and_nobody_waits_longer_than_it_wants() {
        let (lookups, mut waiters) = Waiters::new();
        let wait = Duration::from_secs(5);
        let (first, second, late, ()) = tokio::join!(
            lookups.lookup("a", wait),
            lookups.lookup("a", wait),
            lookups.lookup("b", Duration::from_millis(10)),
            async {
                for name in ["a", "a", "b"] {
                    assert_eq!(waiters.next().await.as_deref(), Some(name));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                waiters.settle("a", Lookup::InForce);
                waiters.settle("b", Lookup::InForce);
            },
        );
        assert_eq!((first, second, late), (Lookup::InForce, Lookup::InForce, Lookup::Late));
        assert_eq!((waiters.waiting, waiters.by_name.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_bounded_and_those_who_gave_up_make_room() {
        let (lookups, mut waiters) = Waiters::new();
        let mut held = Vec::new();
        for number in 0..WAITING {
            let (tell, told) = oneshot::channel();
            lookups.0.try_send(Asked { name: number.to_string(), tell }).unwrap();
            assert!(waiters.next().await.is_some());
            held.push(told);
        }
        let mut ask = async || {
            let wait = Duration::from_secs(1);
            let next = async { timeout(wait, waiters.next()).await.ok().flatten() };
            tokio::join!(lookups.lookup("more", wait), next)
        };
        assert_eq!(ask().await, (Lookup::Busy, None));
        held.truncate(WAITING / 2);
        let (outcome, taken) = ask().await;
        assert_eq!((outcome, taken.as_deref()), (Lookup::Late, Some("more")));
    }

    #[tokio::test]
    async fn without_a_subscription_there_is_nobody_to_wait_for() {
        let (lookups, waiters) = Waiters::new();
        drop(waiters);
        assert_eq!(lookups.lookup("a", Duration::from_secs(5)).await, Lookup::Busy);
    }
}
