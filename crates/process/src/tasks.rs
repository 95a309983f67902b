//! Owned tasks: every one is joined or aborted by whoever started it.
//! Owns the only calls of tokio's `spawn`; what a task does is its caller's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::error;

use crate::start::Traffic;
use crate::stop::Stop;

/// A set of tasks with one owner. Dropping the set aborts them.
#[derive(Debug)]
pub struct Tasks {
    stop: Stop,
    set: JoinSet<()>,
}

/// How a set of tasks ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Tasks that ended by themselves, within the limit.
    pub finished: usize,
    /// Tasks that had to be aborted.
    pub aborted: usize,
}

impl Tasks {
    /// An empty set. Its stop is a child of `stop`.
    #[must_use]
    pub fn new(stop: &Stop) -> Self {
        Self { stop: stop.child(), set: JoinSet::new() }
    }

    /// Starts a task on the current runtime. It is handed the set's stop and is expected to heed it.
    pub fn spawn<F, Fut>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.reap();
        self.set.spawn(Named::new(name, task(self.stop.clone())));
    }

    /// Starts a task on a traffic thread; the set still owns it.
    pub fn spawn_on<F, Fut>(&mut self, thread: &Traffic, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.reap();
        self.set.spawn_on(Named::new(name, task(self.stop.clone())), thread.handle());
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn len(&mut self) -> usize {
        self.reap();
        self.set.len()
    }

    /// Whether all have ended.
    #[must_use]
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// The stop its tasks heed.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Waits for any task to end; false when there is none. Cancel-safe.
    pub async fn one_ended(&mut self) -> bool {
        self.set.join_next().await.is_some()
    }

    /// Asks all tasks to stop and waits; those still running after `limit` are aborted.
    pub async fn drain(mut self, limit: Duration) -> Drained {
        self.stop.stop();
        let mut finished = 0;
        let all = async {
            while self.set.join_next().await.is_some() {
                finished += 1;
            }
        };
        // Reaching the limit is an answer here, not a failure: what is left is counted next.
        let _ = tokio::time::timeout(limit, all).await;
        let aborted = self.set.len();
        self.set.shutdown().await;
        Drained { finished, aborted }
    }

    /// Lets tasks end by themselves for `limit`; then asks those that are left, and aborts after `grace`.
    pub async fn finish(mut self, limit: Duration, grace: Duration) -> Drained {
        let mut finished = 0;
        let all = async {
            while self.set.join_next().await.is_some() {
                finished += 1;
            }
        };
        // As in `drain`: reaching the limit is an answer.
        let _ = tokio::time::timeout(limit, all).await;
        let Drained { finished: late, aborted } = self.drain(grace).await;
        Drained { finished: finished + late, aborted }
    }

    /// Lets go of ended tasks, so that a long-lived set does not keep their results.
    fn reap(&mut self) {
        while self.set.try_join_next().is_some() {}
    }
}

/// A task under its name. In a box of its own: the set keeps what it has started until somebody asks how it ended,
/// which may be much later, and a task that has ended should not keep the room that it worked in.
struct Named {
    name: &'static str,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Named {
    fn new(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name, task: Box::pin(task) }
    }
}

impl Future for Named {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _panics = Panics(self.name);
        self.task.as_mut().poll(cx)
    }
}

/// Says which task panicked; the set's owner keeps running.
struct Panics(&'static str);

impl Drop for Panics {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(task = self.0, "a task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_that_heed_the_stop_finish_and_the_others_are_aborted() {
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("heeds", |stop| async move { stop.stopped().await });
        tasks.spawn("ignores", |_| std::future::pending());
        assert_eq!(tasks.len(), 2);
        assert_eq!(tasks.drain(Duration::from_secs(1)).await, Drained { finished: 1, aborted: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_may_finish_unasked_within_the_limit() {
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("ends", |_| tokio::time::sleep(Duration::from_secs(3)));
        tasks.spawn("heeds", |stop| async move { stop.stopped().await });
        let started = tokio::time::Instant::now();
        let drained = tasks.finish(Duration::from_secs(10), Duration::from_secs(1)).await;
        assert_eq!(drained, Drained { finished: 2, aborted: 0 });
        assert_eq!(started.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_panicking_task_does_not_take_its_owner_along() {
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("panics", |_| async { panic!("on purpose") });
        assert!(tasks.one_ended().await);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn what_a_set_keeps_of_a_task_that_has_ended_is_small_however_large_the_task_was() {
        let room = [1_u8; 4096];
        let task = Named::new("works", async move {
            tokio::task::yield_now().await;
            assert_eq!(room.iter().map(|byte| usize::from(*byte)).sum::<usize>(), room.len());
        });
        assert!(size_of_val(&task) <= 4 * size_of::<usize>(), "{} bytes", size_of_val(&task));
        task.await;
    }

    #[tokio::test]
    async fn stopping_the_parent_stops_the_tasks() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("heeds", |stop| async move { stop.stopped().await });
        stop.stop();
        assert!(tasks.one_ended().await);
    }
}
