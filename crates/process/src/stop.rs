//! Asking work to end: a stop that spreads to children, and the signals that pull it.
//! Owns no task and no deadline (`tasks` has both).

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A request to end, shared by clones and inherited by children.
#[derive(Debug, Clone, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A stop that nobody has pulled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stop that is pulled with this one, but can also be pulled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Pulls it. Pulling twice changes nothing.
    pub fn stop(&self) {
        self.0.cancel();
    }

    /// Whether it was pulled.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is pulled. Cancel-safe.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }
}

/// Pulls `stop` at SIGTERM or SIGINT; a second SIGINT ends the process at once with status 0.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn on_signals(stop: Stop) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut interrupts = 0;
    loop {
        // Both arms are cancel-safe: a signal not yet taken stays pending.
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => {
                interrupts += 1;
                "SIGINT"
            }
        };
        if interrupts > 1 {
            std::process::exit(0);
        }
        info!(signal = name, "stopping");
        stop.stop();
    }
}
