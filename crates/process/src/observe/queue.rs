//! The queue of log lines and the thread that writes them. Owns back-pressure: a slow reader of
//! standard output costs lines, which are counted, never time on the data path.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
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
    lines: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the writer thread, which ends with the last clone.
    pub(super) fn start(out: Box<dyn Write + Send>) -> Self {
        Self::with_capacity(out, LINES)
    }

    fn with_capacity(out: Box<dyn Write + Send>, lines: usize) -> Self {
        let (lines, received) = sync_channel(lines);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        // Without a thread every line counts as dropped: the program runs on, silently.
        let _ =
            std::thread::Builder::new().name("log".into()).spawn(move || write_all(&received, out, &count));
        Self { lines, dropped }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits, bounded, until everything queued before is written.
    pub(super) fn flush(&self) {
        let (tell, told) = sync_channel(1);
        if self.lines.try_send(Entry::Flush(tell)).is_ok() {
            let _ = told.recv_timeout(FLUSH_WAIT);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
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

fn write_all(received: &Receiver<Entry>, mut out: Box<dyn Write + Send>, dropped: &AtomicU64) {
    let mut batch = Vec::new();
    let mut told = 0;
    while let Ok(first) = received.recv() {
        let mut waiting = None;
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => batch.extend_from_slice(&line),
                Entry::Flush(tell) => waiting = Some(tell),
            }
            next =
                if batch.len() < BATCH_BYTES && waiting.is_none() { received.try_recv().ok() } else { None };
        }
        let now = dropped.load(Ordering::Relaxed);
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
    use std::sync::mpsc::channel;

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
}
