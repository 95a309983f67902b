//! How the daemon ends (`cni.md` 3.7): for its successor, to whom everything is left, or for good. Owns the decision,
//! and the order in which the mesh leaves the node by itself.
//!
//! For good is only what was seen to change: a daemon set that was there and is deleted, or that leaves this node out,
//! or rights that were there and are taken away. An API server that does not answer freezes what is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_cluster::api::{ApiError, Client, Fleet};
use ambit_process::stop::Stop;
use tracing::{info, warn};

use crate::config::Config;
use crate::node::link::chain;
use crate::node::retire::Control;
use crate::uninstall::{Uninstall, uninstall};

/// How often the API server is asked at the end, how long each time, and how long between. With what follows it
/// has to fit into the half minute that a pod is given to end.
const ATTEMPTS: usize = 3;
const ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);

/// How long pods may take to leave.
const LEAVING: Duration = Duration::from_secs(12);

/// Between questions until the set was seen once.
const LOOK: Duration = Duration::from_secs(5);

/// What is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything, for the next daemon.
    Kept,
    /// Nothing.
    ForGood,
}

/// Decides.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    always: bool,
    unenrol: bool,
    set: Option<Set>,
}

#[derive(Debug, Clone)]
struct Set {
    client: Client,
    namespace: String,
    name: String,
    node: String,
    /// It has been there, and we may ask.
    was_seen: Arc<AtomicBool>,
}

impl Ending {
    /// Of a daemon with this way to an API server. One that does not know its namespace is no set's.
    pub(crate) fn new(config: &Config, client: Option<Client>) -> Self {
        let it = &config.kubernetes;
        let namespace = config.install.pod_namespace.clone().filter(|it| !it.is_empty());
        let set = client.zip(namespace).map(|(client, namespace)| Set {
            client,
            namespace,
            name: it.daemon_set.clone(),
            node: config.node_name.clone(),
            was_seen: Arc::default(),
        });
        Self { always: it.disable_safe_upgrade, unenrol: it.unenrol_on_uninstall, set }
    }

    /// Looks for the set until it is seen.
    pub(crate) async fn look(self, stop: Stop) {
        let Some(set) = self.set else { return };
        let mut told = false;
        loop {
            match set.ask().await {
                Ok(Fleet::Stays) => {
                    set.was_seen.store(true, Ordering::Relaxed);
                    info!(set = set.name, namespace = set.namespace, "goes when its daemon set goes");
                    return;
                }
                Ok(_) => {}
                Err(ApiError::Forbidden { message }) if !told => {
                    told = true;
                    warn!(
                        message,
                        "cannot tell an upgrade from an uninstallation: at its end all is left in place"
                    );
                }
                Err(_) => {}
            }
            // Both arms are cancel-safe.
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// What is to be left behind by a daemon that was asked to end.
    pub(crate) async fn decide(&self) -> End {
        let Some(set) = self.set.as_ref().filter(|it| it.was_seen.load(Ordering::Relaxed) && !self.always)
        else {
            return if self.always { End::ForGood } else { End::Kept };
        };
        for attempt in 1..=ATTEMPTS {
            match set.ask().await {
                Ok(Fleet::Stays) => return End::Kept,
                Ok(why) => {
                    info!(?why, "the daemon set does not go on on this node");
                    return End::ForGood;
                }
                // It could be asked before: its rights went first, as when a release is deleted.
                Err(error @ (ApiError::Forbidden { .. } | ApiError::Unknown)) => {
                    info!(%error, "the mesh's rights are taken away");
                    return End::ForGood;
                }
                Err(error) if attempt == ATTEMPTS => {
                    warn!(error = %chain(&error), "nobody says whether the mesh leaves; all is left in place");
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        End::Kept
    }

    /// Before the daemon's parts end: lets pods out, as far as that is wanted.
    pub(crate) async fn let_out(&self, control: &Control) {
        if self.unenrol && tokio::time::timeout(LEAVING, control.let_out()).await.is_err() {
            warn!("not all pods have left the mesh in time");
        }
    }

    /// After they ended: takes the rest off the node.
    pub(crate) async fn clear(config: &Config) {
        let (what, zds) = (Uninstall::of(config), config.zds_socket());
        let cleared = tokio::task::spawn_blocking(move || {
            let removed = uninstall(&what)?;
            // Outside of the run folder it is ours as well.
            drop(std::fs::remove_file(zds));
            Ok::<_, crate::uninstall::UninstallError>(removed)
        });
        match cleared.await {
            Ok(Ok(removed)) => info!(done = removed.lines.join("; "), "the mesh is off this node"),
            Ok(Err(error)) => warn!(error = %chain(&error), "something of the mesh stays on this node"),
            Err(error) => warn!(%error, "something of the mesh stays on this node"),
        }
    }
}

impl Set {
    async fn ask(&self) -> Result<Fleet, ApiError> {
        let asked = self.client.fleet((&self.namespace, &self.name), &self.node);
        let answered = Box::pin(tokio::time::timeout(ANSWER, asked)).await;
        answered.unwrap_or(Err(ApiError::Silent { limit: ANSWER }))
    }
}
