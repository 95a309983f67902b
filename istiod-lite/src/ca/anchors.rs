//! The roots that are believed, as one object for the whole cluster, where its API has such objects
//! (`control-plane.md` 6.6): a ClusterTrustBundle, which pods mount like a file. Written by the leader, and written
//! again when somebody else changed or deleted it. Owns when that is looked at.

use std::time::Duration;

use ambit_cluster::api::{ApiError, Client, Kept};
use ambit_process::stop::Stop;
use tokio::sync::watch;
use tracing::{info, warn};

use super::text::Text;

/// The object's name, and who signs for it: its name has to begin with that.
const NAME: &str = "istio.io:istiod-ca:root-cert";
const SIGNER: &str = "istio.io/istiod-ca";

/// How soon what others did to it is undone.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How soon a cluster that knows no such objects is asked again.
const ASK_EVERY: Duration = Duration::from_secs(600);

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// Keeps the bundle.
pub struct Anchors {
    client: Client,
    roots: Text,
    leading: watch::Receiver<bool>,
}

impl Anchors {
    /// Keeps it while `leading`.
    #[must_use]
    pub fn new(client: Client, roots: Text, leading: watch::Receiver<bool>) -> Self {
        Self { client, roots, leading }
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: Stop) {
        let mut told = String::new();
        loop {
            let leads = *self.leading.borrow_and_update();
            let roots = self.roots.borrow_and_update().clone();
            let (wait, trouble) = match roots.filter(|_| leads) {
                None => (LOOK_EVERY, String::new()),
                Some(roots) => self.look(&roots).await,
            };
            if !trouble.is_empty() && trouble != told {
                warn!(target: "bundle", error = trouble, bundle = NAME, "roots not written for the whole cluster");
            }
            told = trouble;
            // All arms are cancel-safe.
            tokio::select! {
                () = stop.stopped() => return,
                // Election and keeper end with the program only; then the others go on.
                Ok(()) = self.leading.changed() => {}
                Ok(()) = self.roots.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks once; when to look again, and what did not go well.
    async fn look(&self, roots: &str) -> (Duration, String) {
        match Box::pin(self.client.keep_trust_bundle((NAME, SIGNER), roots)).await {
            Ok(Kept::Unknown) => (ASK_EVERY, String::new()),
            Ok(Kept::Same) => (LOOK_EVERY, String::new()),
            Ok(Kept::Written) => {
                info!(target: "bundle", bundle = NAME, "roots written for the whole cluster");
                (LOOK_EVERY, String::new())
            }
            // Whoever wrote meanwhile is seen the next time.
            Err(ApiError::Conflict) => (RETRY, String::new()),
            Err(error) => (RETRY, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
