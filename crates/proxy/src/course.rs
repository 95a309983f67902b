//! The course of a proxy's run that is the same for both: signals that end it, and what the subscription's progress
//! means to the rest. Owns neither stop nor subscription.

use ambit_process::ready::Gate;
use ambit_process::stop::{self, Stop};
use ambit_process::tasks::Tasks;
use ambit_tls::vault::Vault;
use ambit_xds::pump::Progress;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::watch;
use tracing::info;

use crate::discovery;
use crate::side::Reason;

/// Pulls `stop` at a signal.
pub fn heed_signals(stop: Stop, tasks: &mut Tasks) {
    tasks.spawn("signals", |end| async move {
        tokio::select! {
            caught = stop::on_signals(stop.clone()) => {
                if let Err(error) = caught {
                    tracing::error!(%error, "cannot wait for signals");
                    stop.stop();
                }
            }
            () = end.stopped() => {}
        }
    });
}

/// Whom to tell of the first complete view.
#[derive(Debug)]
pub struct Synced {
    /// Readiness waits for it.
    pub gate: Gate,
    /// Connections may wait for it.
    pub tell: watch::Sender<bool>,
}

impl Synced {
    /// Tells.
    pub fn now(&self) {
        self.gate.set(true);
        self.tell.send_replace(true);
    }
}

/// Whom the subscription's course concerns.
pub struct Heard {
    /// Whom to tell of the first complete view.
    pub synced: Synced,
    /// Whose certificates may be had again when the control plane is back.
    pub vault: Vault,
    /// Streams that ended, by why.
    pub ended: Family<Reason, Counter>,
}

/// Follows the subscription: tells of the first complete view, counts how streams end, and has certificates that
/// could not be had asked for again when the control plane is back, which mostly signs them, too.
pub async fn follow(mut progress: watch::Receiver<Progress>, heard: Heard, stop: Stop) {
    let Heard { synced, vault, ended } = heard;
    let mut last = Progress::default();
    loop {
        let now = progress.borrow_and_update().clone();
        if now.in_step && !last.in_step {
            info!(resources = now.retained, "the world is known");
            synced.now();
        }
        if let Some(ending) = now.last_ending.as_ref().filter(|_| last.connected && !now.connected) {
            ended.get_or_create(&Reason(discovery::reason(ending))).inc();
        }
        if now.connected && !last.connected {
            vault.try_again().await;
        }
        last = now;
        tokio::select! {
            () = stop.stopped() => return,
            changed = progress.changed() => if changed.is_err() { return },
        }
    }
}
