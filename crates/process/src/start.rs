//! Runtimes: one for control work, one single-threaded runtime per traffic thread.
//! Owns the threads. What runs on them is owned by `tasks`.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::stop::Stop;

/// The runtimes of a program.
#[derive(Debug)]
pub struct Runtimes {
    control: Runtime,
    traffic: Vec<Traffic>,
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
}

/// One traffic thread. A connection accepted on it stays on it.
#[derive(Debug, Clone)]
pub struct Traffic {
    number: usize,
    handle: Handle,
}

impl Traffic {
    /// Counted from 0.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Tasks alive on this thread.
    #[must_use]
    pub fn tasks_alive(&self) -> usize {
        self.handle.metrics().num_alive_tasks()
    }

    /// Tasks that wait for their turn on this thread, woken from another one.
    #[must_use]
    pub fn tasks_waiting(&self) -> usize {
        self.handle.metrics().global_queue_depth()
    }

    /// How long this thread was busy, how often it parked, and how often it parked or woke.
    #[must_use]
    pub fn work(&self) -> (Duration, u64, u64) {
        let of = self.handle.metrics();
        (of.worker_total_busy_duration(0), of.worker_park_count(0), of.worker_park_unpark_count(0))
    }

    /// The runtime; only [`crate::tasks`] spawns on it.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Enters the runtime, so that sockets made meanwhile are driven by this thread.
    pub fn enter<R>(&self, make: impl FnOnce() -> R) -> R {
        let _guard = self.handle.enter();
        make()
    }
}

impl Runtimes {
    /// Starts `threads` traffic threads named `<name>-<n>` beside the control runtime.
    ///
    /// # Errors
    /// When the system refuses a thread or an event queue.
    pub fn start(name: &str, threads: usize) -> io::Result<Self> {
        let control = Builder::new_current_thread().enable_all().build()?;
        let stop = Stop::new();
        let mut this = Self { control, traffic: Vec::new(), threads: Vec::new(), stop };
        for number in 0..threads {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            this.traffic.push(Traffic { number, handle: runtime.handle().clone() });
            let stop = this.stop.clone();
            let run = move || runtime.block_on(stop.stopped());
            this.threads.push(std::thread::Builder::new().name(format!("{name}-{number}")).spawn(run)?);
        }
        Ok(this)
    }

    /// The traffic threads.
    #[must_use]
    pub fn traffic(&self) -> &[Traffic] {
        &self.traffic
    }

    /// Runs the program's control work on this thread.
    pub fn run<Fut: Future>(&self, main: Fut) -> Fut::Output {
        self.control.block_on(main)
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        self.stop.stop();
        for thread in self.threads.drain(..) {
            // A traffic thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Tasks;

    #[test]
    fn a_task_runs_on_the_thread_it_was_given_to() {
        let runtimes = Runtimes::start("probe", 2).unwrap();
        let name = runtimes.run(async {
            let (tell, told) = tokio::sync::oneshot::channel();
            let mut tasks = Tasks::new(&Stop::new());
            tasks.spawn_on(&runtimes.traffic()[1], "who", |_| async move {
                tell.send(std::thread::current().name().map(String::from)).unwrap();
            });
            told.await.unwrap()
        });
        assert_eq!(name.as_deref(), Some("probe-1"));
    }
}
