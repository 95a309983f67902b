//! Ending a connection from outside: by a policy that no longer allows it, or because the program stops.
//! Looking whether it was cut costs one atomic load, so the copy loop may look at every turn.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Why a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The program, or the pod, stops.
    Stopped,
    /// It is no longer allowed.
    Revoked,
}

const OPEN: u8 = 0;
const STOPPED: u8 = 1;
const REVOKED: u8 = 2;

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU8,
    waker: AtomicWaker,
}

/// Cuts. Held by whoever may end the connection; the first cut counts.
#[derive(Debug, Clone)]
pub struct Cutter(Arc<Shared>);

/// Resolves once cut. Has one owner, the connection.
#[derive(Debug)]
pub struct Cut(Arc<Shared>);

/// Both ends, for one connection.
#[must_use]
pub fn pair() -> (Cutter, Cut) {
    let shared = Arc::new(Shared::default());
    (Cutter(Arc::clone(&shared)), Cut(shared))
}

impl Cutter {
    /// Cuts the connection.
    pub fn cut(&self, why: Why) {
        let state = match why {
            Why::Stopped => STOPPED,
            Why::Revoked => REVOKED,
        };
        // Losing means that it is cut already.
        let _ = self.0.state.compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire);
        self.0.waker.wake();
    }
}

impl Cut {
    /// Why it was cut, if it was.
    #[must_use]
    pub fn why(&self) -> Option<Why> {
        match self.0.state.load(Ordering::Acquire) {
            OPEN => None,
            STOPPED => Some(Why::Stopped),
            _ => Some(Why::Revoked),
        }
    }
}

impl Future for Cut {
    type Output = Why;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Why> {
        if let Some(why) = self.why() {
            return Poll::Ready(why);
        }
        self.0.waker.register(cx.waker());
        // Looked at again: a cut between the load and the registration would wake nobody.
        self.why().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cut_counts_and_wakes_the_connection() {
        let (cutter, mut cut) = pair();
        assert_eq!(cut.why(), None);
        let later = async {
            tokio::task::yield_now().await;
            cutter.cut(Why::Revoked);
            cutter.cut(Why::Stopped);
        };
        let (why, ()) = tokio::join!(&mut cut, later);
        assert_eq!((why, cut.why()), (Why::Revoked, Some(Why::Revoked)));
    }
}
