//! How long a body may stand still (`waypoint.md` 6.1). Owns one side's wait; what comes of it is for whoever waits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ambit_process::clock::{Instant, now};
use tokio::time::{Sleep, sleep_until};

/// One side of an exchange. Costs a timer only where something is waited for, and one for all waits.
pub(crate) struct Idle {
    /// None: any time.
    limit: Option<Duration>,
    moved: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, moved: None, sleep: None }
    }

    /// Something came.
    pub(crate) fn moved(&mut self) {
        // Only where a wait has begun does it matter when.
        if self.sleep.is_some() {
            self.moved = Some(now());
        }
    }

    /// Ready once nothing has come for too long, counted from the first wait on. To be asked whenever there is nothing.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(now() + limit)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            // What came meanwhile has not moved the timer, which would cost more than to look at it once in a while.
            let Some(moved) = self.moved.take() else { return Poll::Ready(()) };
            sleep.as_mut().reset(moved + limit);
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
        let began = now();
        for _ in 0..5 {
            assert!(timeout(LIMIT * 9 / 10, poll_fn(|cx| idle.poll(cx))).await.is_err());
            idle.moved();
        }
        let moved = now();
        poll_fn(|cx| idle.poll(cx)).await;
        assert_eq!(moved - began, 5 * (LIMIT * 9 / 10));
        let waited = now() - moved;
        assert!((LIMIT..LIMIT + Duration::from_millis(10)).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_is_idle() {
        let mut idle = Idle::new(None);
        assert!(timeout(100 * LIMIT, poll_fn(|cx| idle.poll(cx))).await.is_err());
        advance(LIMIT).await;
    }
}
