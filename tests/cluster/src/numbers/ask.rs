//! Requests out of a pod: new connections, one after the other, from this very process inside the pod's network.
//! Owns asking and counting. No program is started for a request, so an answer's time is the network's.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_sys::netns::Netns;
use anyhow::{Context as _, Result};

use crate::wait::pause;

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(3);

/// Requests being sent.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Total>>,
    turns: Receiver<Turn>,
}

/// Requests began to pass, or to fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) at: Instant,
    pub(super) passes: bool,
}

/// What became of all requests.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) longest: Duration,
    pub(super) first_failure: Option<String>,
}

impl Load {
    /// Asks `to` again and again out of a pod.
    pub(super) fn start(netns: PathBuf, to: SocketAddr, every: Duration) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (turn, turns) = channel();
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut total = Total::default();
            let entered = Netns::open(&netns).and_then(|netns| netns.enter_for_good());
            if let Err(error) = entered {
                total.first_failure = Some(error.to_string());
                total.failed = 1;
                return total;
            }
            let mut passing = None;
            while !seen.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let passes = total.count(to);
                let news = passing.replace(passes) != Some(passes);
                if news && turn.send(Turn { at: Instant::now(), passes }).is_err() {
                    break;
                }
                pause(every.saturating_sub(begun.elapsed()));
            }
            total
        });
        Self { over, thread: Some(thread), turns }
    }

    /// Waits for requests to pass, or to fail, from now on or since the last call.
    pub(super) fn turns(&self, passes: bool, limit: Duration) -> Result<Instant> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let word = if passes { "pass" } else { "fail" };
            let turn = self.turns.recv_timeout(left).with_context(|| format!("requests do not {word}"))?;
            if turn.passes == passes {
                return Ok(turn.at);
            }
        }
    }

    pub(super) fn finish(mut self) -> Total {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Total {
    fn count(&mut self, to: SocketAddr) -> bool {
        let begun = Instant::now();
        let asked = ask(to);
        self.sent += 1;
        self.longest = self.longest.max(begun.elapsed());
        if let Err(error) = &asked {
            self.failed += 1;
            let why = || format!("request {}: {error} after {:?}", self.sent, begun.elapsed());
            self.first_failure.get_or_insert_with(why);
        }
        asked.is_ok()
    }

    /// Both together.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            failed: self.failed + other.failed,
            longest: self.longest.max(other.longest),
            first_failure: self.first_failure.or(other.first_failure),
        }
    }
}

fn ask(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /numbers HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if &head == b"HTTP/1.1 200" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
