//! How long the bodies of one exchange may stand still (`waypoint.md` 6.1). Owns the wait of each side; what comes of it
//! is for whoever waits. What moves one way keeps the other: who only listens to a stream has nothing to say.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ambit_process::clock::{Instant, now};
use tokio::time::{Sleep, sleep_until};

/// One side of an exchange; clones are its other sides. Costs a timer only where something is waited for, and one for
/// all waits of a side.
pub(crate) struct Idle {
    /// None: any time.
    limit: Option<Duration>,
    moves: Arc<Moves>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// When something has last come, on either side.
struct Moves {
    began: Instant,
    /// Only where a wait has begun does it matter when.
    matters: AtomicBool,
    last_ms: AtomicU64,
}

impl Clone for Idle {
    fn clone(&self) -> Self {
        Self { limit: self.limit, moves: Arc::clone(&self.moves), sleep: None }
    }
}

impl Idle {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        let (matters, last_ms) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { limit, moves: Arc::new(Moves { began: now(), matters, last_ms }), sleep: None }
    }

    /// Something came.
    pub(crate) fn moved(&self) {
        let moves = &self.moves;
        if moves.matters.load(Ordering::Relaxed) {
            let after = moves.began.elapsed().as_millis();
            moves.last_ms.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Ready once nothing has come for too long, counted from the first wait on. To be asked whenever there is nothing.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let moves = &self.moves;
        let sleep = self.sleep.get_or_insert_with(|| {
            moves.matters.store(true, Ordering::Relaxed);
            Box::pin(sleep_until(now() + limit))
        });
        loop {
            ready!(sleep.as_mut().poll(cx));
            // What came meanwhile has not moved the timer, which would cost more than to look at it once in a while.
            let last = Duration::from_millis(moves.last_ms.load(Ordering::Relaxed));
            let Some(due) = moves.began.checked_add(last + limit) else { return Poll::Pending };
            if due <= now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_side_is_idle_when_nothing_has_moved_for_its_limit() {
        let mut idle = Idle::new(Some(LIMIT));
        let other = idle.clone();
        let began = now();
        for number in 0..5 {
            assert!(timeout(LIMIT * 9 / 10, poll_fn(|cx| idle.poll(cx))).await.is_err());
            // What moves the other way is as good.
            if number % 2 == 0 { idle.moved() } else { other.moved() }
        }
        let moved = now();
        poll_fn(|cx| idle.poll(cx)).await;
        assert!(moved - began > 4 * LIMIT, "it was idle before: {:?}", moved - began);
        let waited = now() - moved;
        let close = Duration::from_millis(10);
        assert!((LIMIT - close..LIMIT + close).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_is_idle() {
        let mut idle = Idle::new(None);
        assert!(timeout(100 * LIMIT, poll_fn(|cx| idle.poll(cx))).await.is_err());
        advance(LIMIT).await;
    }
}
