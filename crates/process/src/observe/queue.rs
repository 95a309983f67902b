//! The queue of log lines and the thread that writes them. Owns back-pressure: a slow reader of
//! standard output costs lines, which are counted, never time on the data path.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Some seconds of a busy node's access lines.
const LINES: usize = 10_000;
/// Written together, so that a burst costs few system calls.
const BATCH_BYTES: usize = 64 * 1024;
/// A reader of standard output that is stuck does not keep the program from ending.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    lines: Sender<Entry>,
    counts: Arc<Counts>,
}

/// What bounds the queue. The channel itself has no bound: one that has takes the memory of all its lines at once
/// (320 KB), where this one takes what is waiting.
#[derive(Debug)]
struct Counts {
    most: usize,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Counts {
    /// Makes room for a line, or counts it as dropped.
    fn enter(&self) -> bool {
        let fits = self.waiting.fetch_add(1, Ordering::Relaxed) < self.most;
        if !fits {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }
}

impl Queue {
    /// Starts the writer thread, which ends with the last clone.
    pub(super) fn start(out: Box<dyn Write + Send>) -> Self {
        Self::with_capacity(out, LINES)
    }

    fn with_capacity(out: Box<dyn Write + Send>, lines: usize) -> Self {
        let counts = Counts { most: lines, waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0) };
        let (counts, (lines, received)) = (Arc::new(counts), channel());
        let shared = Arc::clone(&counts);
        // Without a thread every line counts as dropped: the program runs on, silently.
        let _ =
            std::thread::Builder::new().name("log".into()).spawn(move || write_all(&received, out, &shared));
        Self { lines, counts }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Waits, bounded, until everything queued before is written.
    pub(super) fn flush(&self) {
        let (tell, told) = sync_channel(1);
        if self.lines.send(Entry::Flush(tell)).is_ok() {
            let _ = told.recv_timeout(FLUSH_WAIT);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.counts.enter() && self.lines.send(Entry::Line(line.to_vec())).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn write_all(received: &Receiver<Entry>, mut out: Box<dyn Write + Send>, counts: &Counts) {
    let mut batch = Vec::new();
    let mut told = 0;
    while let Ok(first) = received.recv() {
        let mut waiting = None;
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => {
                    batch.extend_from_slice(&line);
                    counts.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                Entry::Flush(tell) => waiting = Some(tell),
            }
            next =
                if batch.len() < BATCH_BYTES && waiting.is_none() { received.try_recv().ok() } else { None };
        }
        let now = counts.dropped.load(Ordering::Relaxed);
        if now != told {
            let _ = writeln!(batch, "(log lines dropped so far: {now})");
            told = now;
        }
        // A closed standard output is not worth ending the program for.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        batch.clear();
        if let Some(tell) = waiting {
            let _ = tell.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(line.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_costs_lines_and_counts_them_but_never_blocks() {
        let (_release, stuck) = channel();
        let mut queue = Queue::with_capacity(Box::new(Stuck(stuck)), 2);
        for _ in 0..10 {
            assert_eq!(queue.write(b"line\n").unwrap(), 5);
        }
        assert!(queue.dropped() >= 7, "{}", queue.dropped());
    }

    #[test]
    fn a_line_that_is_written_makes_room_for_another() {
        let (release, stuck) = channel();
        let mut queue = Queue::with_capacity(Box::new(Stuck(stuck)), 1);
        for _ in 0..3 {
            queue.write_all(b"line\n").unwrap();
            release.send(()).unwrap();
            queue.flush();
        }
        assert_eq!((queue.dropped(), queue.counts.waiting.load(Ordering::Relaxed)), (0, 0));
    }
}
