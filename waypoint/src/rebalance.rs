//! Connections that spread over new replicas (`waypoint.md` 9.1): who keeps one connection for days would never meet a
//! replica that came later. Owns when connections are to be opened anew; how a client is told is `inner`'s.
//!
//! All connections take part, not a share of them: whoever opens one anew may come to any replica, and after that each
//! has about as many. What is carried and no HTTP cannot be told to go, and stays.

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;

use ambit_model::name::WorkloadUid;
use ambit_model::route::Waypoint;
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Health, Workload};
use ambit_process::stop::Stop;
use ambit_proxy::world::World;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::info;

/// Replicas seldom come alone: another one within this starts the wait again.
const SETTLE: Duration = Duration::from_secs(5);
/// Where they come without end, connections move all the same.
const SETTLES: usize = 12;

/// When connections are to be opened anew.
pub(crate) struct Rebalance {
    turn: watch::Receiver<()>,
    window: Duration,
}

/// Watches who the other replicas are.
pub(crate) struct Keeper {
    turn: watch::Sender<()>,
    window: Duration,
}

impl Rebalance {
    /// Connections move within `window` of the last replica's coming; never, if it is zero.
    pub(crate) fn new(window: Duration) -> (Self, Keeper) {
        let (sender, turn) = watch::channel(());
        (Self { turn, window }, Keeper { turn: sender, window })
    }

    /// Waits until a connection that has begun by now is to end at its next opportunity: at another time for each.
    /// Cancel-safe.
    pub(crate) async fn due(&self) {
        let mut turn = self.turn.clone();
        turn.mark_unchanged();
        if turn.changed().await.is_err() {
            // The waypoint ends, and connections with it, in another way.
            return pending().await;
        }
        sleep(self.window.mul_f64(fastrand::f64())).await;
    }
}

impl Keeper {
    /// Runs to the end of the program. `synced` says that the world is known: whoever is there by then was there first.
    pub(crate) async fn run(
        self,
        (mut world, own): (World, Waypoint),
        mut synced: watch::Receiver<bool>,
        stop: Stop,
    ) {
        let watched = async {
            if self.window.is_zero() || synced.wait_for(|known| *known).await.is_err() {
                return;
            }
            let mut known = replicas(&world.load(), &own);
            while world.changed().await {
                if has_grown(&mut known, replicas(&world.load(), &own)) {
                    self.settle(&mut world, &own, &mut known).await;
                    info!(others = known.len(), "a replica has come: connections are opened anew");
                    self.turn.send_replace(());
                }
            }
        };
        // Cancel-safe: nothing is owned but what is known.
        tokio::select! {
            () = watched => {}
            () = stop.stopped() => {}
        }
    }

    /// Waits until no more come.
    async fn settle(&self, world: &mut World, own: &Waypoint, known: &mut BTreeSet<WorkloadUid>) {
        for _ in 0..SETTLES {
            let more = async {
                while world.changed().await {
                    if has_grown(known, replicas(&world.load(), own)) {
                        return;
                    }
                }
                pending().await
            };
            if timeout(SETTLE.min(self.window), more).await.is_err() {
                return;
            }
        }
    }
}

/// Who else serves the waypoint's clients. To us they have come already: that we are ready by now moves nobody.
fn replicas(world: &Snapshot, own: &Waypoint) -> BTreeSet<WorkloadUid> {
    let is_own = |it: &Workload| {
        own.addresses.iter().any(|at| at.network == it.network && it.addresses.contains(&at.ip))
    };
    let others = world.endpoints(&own.service).filter(|it| it.health == Health::Healthy && !is_own(it));
    others.map(|it| it.uid.clone()).collect()
}

/// Whether somebody is there who was not; keeps who is.
fn has_grown(known: &mut BTreeSet<WorkloadUid>, now: BTreeSet<WorkloadUid>) -> bool {
    let grown = !now.is_subset(known);
    *known = now;
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_anew_counts_and_whoever_goes_does_not() {
        let set = |names: &[&str]| names.iter().map(|it| WorkloadUid::from(*it)).collect();
        let mut known = set(&["a", "b"]);
        for (now, grown) in [
            (set(&["a"]), false),
            (set(&["a", "b"]), true),
            (set(&["a", "b"]), false),
            (set(&["b", "c"]), true),
            (set(&[]), false),
        ] {
            assert_eq!(has_grown(&mut known, now), grown);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_connection_goes_at_a_time_of_its_own_and_none_that_came_later() {
        let window = Duration::from_secs(60);
        let (rebalance, keeper) = Rebalance::new(window);
        let rebalance = std::sync::Arc::new(rebalance);
        let mut dues = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let rebalance = std::sync::Arc::clone(&rebalance);
            dues.spawn(async move { rebalance.due().await });
        }
        sleep(window).await;
        assert!(dues.try_join_next().is_none(), "nobody has come yet");
        keeper.turn.send_replace(());
        let came = ambit_process::clock::now();
        assert!(timeout(Duration::ZERO, rebalance.due()).await.is_err());
        let mut at = BTreeSet::new();
        while dues.join_next().await.is_some() {
            at.insert(came.elapsed().as_secs() / 15);
        }
        assert!(at.len() >= 2 && came.elapsed() <= window + Duration::from_secs(1), "{at:?}");
        assert!(timeout(2 * window, rebalance.due()).await.is_err(), "it has begun after the last had come");
    }
}
