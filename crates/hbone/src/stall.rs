//! Streams that are stalled: their application does not take what has arrived. Owns how a tunnel's window grows
//! meanwhile, and what that may cost the process.
//!
//! All streams of a tunnel share its window, and what a stalled one holds is missing there: four of 4 MiB would use
//! up 16 MiB, and everything else on the tunnel would stand still until somebody reads. HTTP/2 lets nobody be
//! excused from the tunnel's window, so it grows by what the stalled can hold, as soon as that is half of it; the
//! others keep all that they had. It goes back once nobody is stalled. A stalled stream can never hold more than its
//! own window, so a tunnel holds at most that for each, and all tunnels together no more than [`SPARE`] beyond their
//! ordinary windows. When that is spent, tunnels share what they have, as without this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::settings::Windows;

/// Bytes by which all windows of the process together may grow: 32 stalled streams of the usual size.
const SPARE: u32 = 128 * 1024 * 1024;
/// RFC 9113, 6.9.1.
const WINDOW_MAX: u32 = i32::MAX.cast_unsigned();

/// What is given out of [`SPARE`]. One for the process, as its memory is.
static SPENT: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
struct Shared {
    stalled: AtomicUsize,
    /// The window is larger than it usually is.
    grown: AtomicBool,
    changed: Notify,
    windows: Windows,
}

/// A tunnel's stalled streams, as its streams see them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stalls(Arc<Shared>);

/// One stream that is stalled at this moment.
pub(crate) struct Stalled<'a>(&'a Stalls);

/// A tunnel's window, as its keeper sees it. Dropped, it gives back what it took.
#[derive(Debug)]
pub(crate) struct Growth {
    shared: Arc<Shared>,
    spent: &'static AtomicU32,
    taken: u32,
}

/// Both, for one tunnel.
pub(crate) fn pair(windows: Windows) -> (Stalls, Growth) {
    pair_out_of(windows, &SPENT)
}

fn pair_out_of(windows: Windows, spent: &'static AtomicU32) -> (Stalls, Growth) {
    let (stalled, grown) = (AtomicUsize::new(0), AtomicBool::new(false));
    let shared = Arc::new(Shared { stalled, grown, changed: Notify::new(), windows });
    (Stalls(Arc::clone(&shared)), Growth { shared, spent, taken: 0 })
}

impl Stalls {
    /// Says that a stream is stalled, until what is returned is dropped. No lock; nobody is woken while the stalled
    /// are few.
    pub(crate) fn enter(&self) -> Stalled<'_> {
        let stalled = self.0.stalled.fetch_add(1, Ordering::AcqRel) + 1;
        if self.0.held_by(stalled) > 0 {
            self.0.changed.notify_one();
        }
        Stalled(self)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        let Stalls(shared) = self.0;
        if shared.stalled.fetch_sub(1, Ordering::AcqRel) == 1 && shared.grown.load(Ordering::Acquire) {
            shared.changed.notify_one();
        }
    }
}

impl Shared {
    /// What so many stalled streams can hold, if it is so much that the others would feel it.
    fn held_by(&self, stalled: usize) -> u32 {
        let held = u32::try_from(stalled).unwrap_or(u32::MAX).saturating_mul(self.windows.stream);
        if held >= self.windows.tunnel / 2 { held } else { 0 }
    }
}

impl Growth {
    /// Waits until the tunnel's window should be another; returns it. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> u32 {
        loop {
            self.shared.changed.notified().await;
            let stalled = self.shared.stalled.load(Ordering::Acquire);
            // It only grows while anybody is stalled: streams that stall and go on by turns would else move it
            // with every read.
            let wanted = if stalled == 0 { 0 } else { self.shared.held_by(stalled).max(self.taken) };
            let before = self.taken;
            self.take(wanted);
            if self.taken != before {
                return self.shared.windows.tunnel.saturating_add(self.taken).min(WINDOW_MAX);
            }
        }
    }

    /// Takes as much of `wanted` as the process can spare.
    fn take(&mut self, wanted: u32) {
        let mut granted = 0;
        let grant = |spent: u32| {
            let others = spent.saturating_sub(self.taken);
            granted = wanted.min(SPARE.saturating_sub(others));
            Some(others + granted)
        };
        // Always succeeds: a grant of nothing is one, too.
        let _ = self.spent.fetch_update(Ordering::AcqRel, Ordering::Acquire, grant);
        self.taken = granted;
        self.shared.grown.store(granted > 0, Ordering::Release);
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.take(0);
    }
}

#[cfg(test)]
mod tests;
