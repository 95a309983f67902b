//! Keeps our roots in the configurations of the webhooks that are served here (`control-plane.md` 8.1): without
//! them the API server does not believe our serving certificate. Owns when that is looked at.

use std::time::Duration;

use ambit_cluster::api::{ApiError, Client};
use ambit_process::stop::Stop;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::ca::text::Text;
use crate::metrics::Metrics;

/// How soon a configuration that was installed, or installed again, is served.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Keeps the roots of webhooks.
pub struct Hooks {
    client: Client,
    roots: Text,
    leading: watch::Receiver<bool>,
    names: Vec<String>,
    metrics: Metrics,
}

impl Hooks {
    /// Keeps those in the configurations of these names, while `leading`.
    #[must_use]
    pub fn new(
        client: Client,
        roots: Text,
        leading: watch::Receiver<bool>,
        names: Vec<String>,
        metrics: Metrics,
    ) -> Self {
        Self { client, roots, leading, names, metrics }
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: Stop) {
        let mut told = String::new();
        loop {
            let roots = self.roots.borrow_and_update().clone();
            let leads = *self.leading.borrow_and_update();
            if let Some(roots) = roots.filter(|_| leads) {
                let trouble = self.look(&roots).await;
                if !trouble.is_empty() && trouble != told {
                    warn!(target: "hooks", error = trouble, "the API server cannot be told whom to believe");
                }
                told = trouble;
            }
            // All arms are cancel-safe.
            tokio::select! {
                () = stop.stopped() => return,
                // Election and keeper end with the program only; then the others go on.
                Ok(()) = self.leading.changed() => {}
                Ok(()) = self.roots.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Looks once at each; what did not go well.
    async fn look(&self, roots: &str) -> String {
        let mut troubles = Vec::new();
        for name in &self.names {
            match Box::pin(self.client.believe_hooks(name, roots)).await {
                Ok(false) => {}
                Ok(true) => {
                    self.metrics.hook_written();
                    info!(target: "hooks", configuration = name, "roots written");
                }
                // Not installed, or not yet; or whoever wrote meanwhile is seen the next time.
                Err(ApiError::NotFound { .. } | ApiError::Conflict) => {}
                Err(error) => troubles.push(format!("{name}: {error}")),
            }
        }
        troubles.join("; ")
    }
}
