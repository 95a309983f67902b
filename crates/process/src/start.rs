//! Runtimes: one for control work, one single-threaded runtime per traffic thread.
//! Owns the threads. What runs on them is owned by `tasks`.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep_until};

use crate::stop::Stop;

/// Threads for work that blocks (namespaces that are entered, names that are looked up) beside the control runtime.
/// Each keeps an arena of the allocator for itself, whose memory is not given back when it ends, and hundreds of
/// pods that come or go at once would start hundreds; more work waits its turn.
const BLOCKING_BESIDE_CONTROL: usize = 4;
/// Beside a traffic thread: name servers may be slow to answer, and many names wait for one that does not.
const BLOCKING_BESIDE_TRAFFIC: usize = 16;
/// A thread without work ends after this.
const BLOCKING_IDLE: Duration = Duration::from_secs(2);

/// Reading the configuration and binding sockets is over after this. What comes then takes a small program less time
/// than a large one, so the wait for the next look doubles.
const STARTED: Duration = Duration::from_millis(100);
/// Work that is seldom done mostly comes in bursts, which are over after this.
const AFTER_WORK: Duration = Duration::from_secs(1);
/// Between two looks at which code is in use, at most. What is, comes back within some tens of page faults.
const RELEASE_EACH: Duration = Duration::from_secs(60);

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
        let control = runtime(BLOCKING_BESIDE_CONTROL)?;
        let stop = Stop::new();
        let mut this = Self { control, traffic: Vec::new(), threads: Vec::new(), stop };
        for number in 0..threads {
            let runtime = runtime(BLOCKING_BESIDE_TRAFFIC)?;
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

/// Calls `release`, which is to let go of code that is not in use: once the start is over, and again and again, for
/// what a dump or a new configuration ran is not in use after it either. Ends with `stop`, or when it fails.
///
/// # Errors
/// What `release` said.
pub async fn keep_only_used_code(stop: Stop, release: impl Fn() -> io::Result<usize>) -> io::Result<()> {
    keep_only_used_code_after(stop, std::future::pending, release).await
}

/// The same, but soon after `work` as well: it returns each time that something was done which is done seldom. May be
/// dropped and called again.
///
/// # Errors
/// What `release` said.
pub async fn keep_only_used_code_after<Work: Future<Output = ()>>(
    stop: Stop,
    work: impl Fn() -> Work,
    release: impl Fn() -> io::Result<usize>,
) -> io::Result<()> {
    let mut wait = STARTED;
    let mut due = Instant::now() + wait;
    loop {
        // Cancel-safe: what is due stays due.
        tokio::select! {
            () = stop.stopped() => return Ok(()),
            () = sleep_until(due) => {
                let released = release()?;
                tracing::debug!(bytes = released, "code that is not in use is let go");
                wait = RELEASE_EACH.min(wait * 2);
                due = Instant::now() + wait;
            }
            () = work() => {
                let soon = Instant::now() + AFTER_WORK;
                if soon < due {
                    (wait, due) = (AFTER_WORK, soon);
                }
            }
        }
    }
}

fn runtime(blocking: usize) -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(blocking)
        .thread_keep_alive(BLOCKING_IDLE)
        .build()
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

    #[tokio::test(start_paused = true)]
    async fn unused_code_is_let_go_ever_more_seldom_down_to_once_a_minute_and_no_more_after_a_stop() {
        use std::cell::Cell;
        let (stop, times) = (Stop::new(), Cell::new(0));
        let release = || Ok(times.replace(times.get() + 1));
        let ends = async {
            for (millis, wanted) in [(50, 0), (100, 1), (600, 3), (60_000, 9), (60_000, 10), (60_000, 11)] {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                assert_eq!(times.get(), wanted, "{millis}");
            }
            stop.stop();
        };
        let (kept, ()) = tokio::join!(keep_only_used_code(stop.clone(), release), ends);
        assert!(kept.is_ok() && times.get() == 11);
        let fails = keep_only_used_code(Stop::new(), || Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(fails.await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test(start_paused = true)]
    async fn unused_code_is_let_go_soon_after_work_and_once_a_second_while_it_goes_on() {
        use std::cell::Cell;
        let (stop, work, times) = (Stop::new(), tokio::sync::Notify::new(), Cell::new(0));
        let release = || Ok(times.replace(times.get() + 1));
        let ends = async {
            tokio::time::sleep(Duration::from_secs(200)).await;
            let at_rest = times.get();
            for _ in 0..10 {
                work.notify_one();
                tokio::time::sleep(Duration::from_millis(90)).await;
                assert_eq!(times.get(), at_rest, "the burst is not over");
            }
            // A second after the first of it, then ever more seldom.
            for (millis, wanted) in [(110, 1), (2000, 2), (4000, 3), (8000, 4)] {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                assert_eq!(times.get(), at_rest + wanted, "{millis}");
            }
            for _ in 0..50 {
                work.notify_one();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!((8..=9).contains(&(times.get() - at_rest)), "{}", times.get() - at_rest);
            stop.stop();
        };
        let kept = keep_only_used_code_after(stop.clone(), || work.notified(), release);
        let (kept, ()) = tokio::join!(kept, ends);
        assert!(kept.is_ok());
    }

    #[test]
    fn work_that_blocks_is_done_on_few_threads_and_all_of_it_is_done() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let runtimes = Runtimes::start("few", 0).unwrap();
        let work = || {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            std::thread::yield_now();
            std::fs::read_dir("/proc").map(Iterator::count).unwrap();
            NOW.fetch_sub(1, Ordering::Relaxed);
        };
        runtimes.run(async {
            let all: Vec<_> = (0..200).map(|_| tokio::task::spawn_blocking(work)).collect();
            for done in all {
                done.await.unwrap();
            }
        });
        let most = MOST.load(Ordering::Relaxed);
        assert!((2..=BLOCKING_BESIDE_CONTROL).contains(&most), "{most}");
    }
}
