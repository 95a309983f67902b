//! What the supervisor has others do: sandboxes made and taken down, probes asked. Each kind has its own limit,
//! so that neither waits for the other.

use tokio::task::{JoinError, JoinSet};

use super::pods::Done;

/// Sandboxes made or taken down at the same moment, as a kubelet would at most.
const SANDBOXES: usize = 8;
/// Probes asked at the same moment; the next waits its turn.
const PROBES: usize = 16;

/// Work under way, on threads that may block.
#[derive(Default)]
pub(crate) struct Jobs {
    sandboxes: JoinSet<Done>,
    probes: JoinSet<Done>,
}

impl Jobs {
    /// Whether another sandbox may be made now.
    pub(crate) fn sandbox_may(&self) -> bool {
        self.sandboxes.len() < SANDBOXES
    }

    pub(crate) fn sandbox(&mut self, work: impl FnOnce() -> Done + Send + 'static) {
        self.sandboxes.spawn_blocking(work);
    }

    /// How many more probes may be asked now.
    pub(crate) fn probe_room(&self) -> usize {
        PROBES.saturating_sub(self.probes.len())
    }

    pub(crate) fn probe(&mut self, work: impl FnOnce() -> Done + Send + 'static) {
        self.probes.spawn_blocking(work);
    }

    /// What was finished next; waits for ever while nothing is under way.
    /// Cancel-safe: what was not taken stays in its set.
    pub(crate) async fn finished(&mut self) -> Result<Done, JoinError> {
        tokio::select! {
            Some(done) = self.sandboxes.join_next() => done,
            Some(done) = self.probes.join_next() => done,
            else => std::future::pending().await,
        }
    }
}
