//! Tasks that others add to, owned by whoever lent them the crew. Owns nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambit_process::stop::Stop;
use ambit_process::tasks::{Drained, Tasks};

/// A set of tasks that others may add to. Clones share it; when the last is dropped, what still runs is aborted.
#[derive(Clone)]
pub(crate) struct Crew(Arc<Mutex<Option<Tasks>>>);

impl Crew {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Tasks::new(&Stop::new())))))
    }

    /// Starts a task. Once the crew has been sent home, nothing is started any more.
    pub(crate) fn add(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            tasks.spawn(name, |_| task);
        }
    }

    /// Waits for all tasks to end by themselves, and aborts after `limit`.
    pub(crate) async fn end(&self, limit: Duration) -> Option<Drained> {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match tasks {
            Some(tasks) => Some(tasks.drain(limit).await),
            None => None,
        }
    }
}
