//! Streams in rows: those of a row are woken together, and the next row once these have had their turn. What a stream
//! and its connection touch to tell something is then still near the processor when it goes out and is answered; of
//! a thousand that are woken at once, the last have pushed out what the first need next.
//! Owns who is woken when. What is told is `talk`'s.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;

use crate::library::Library;

/// Of a thousand streams each holds sixteen; of ten thousand as many as still fit beside each other.
const ROWS: usize = 64;

/// The rows.
#[derive(Debug)]
pub struct Rows(Vec<watch::Sender<Arc<Library>>>);

impl Rows {
    /// All are told of this library first.
    #[must_use]
    pub fn new(library: &Arc<Library>) -> Self {
        Self((0..ROWS).map(|_| watch::channel(Arc::clone(library)).0).collect())
    }

    /// Told last of the first newer library: whoever waits here begins when every row has it.
    #[must_use]
    pub fn last(&self) -> Option<watch::Receiver<Arc<Library>>> {
        self.0.last().map(watch::Sender::subscribe)
    }

    pub(super) fn receivers(&self) -> Vec<watch::Receiver<Arc<Library>>> {
        self.0.iter().map(watch::Sender::subscribe).collect()
    }

    /// Tells all of newer libraries, on the runtime that it is polled on: streams of the same runtime are woken
    /// without a system call. Each time another row is the first. Ends with the libraries.
    pub async fn follow(self, mut newest: watch::Receiver<Arc<Library>>) {
        let (mut first, count) = (0, self.0.len());
        while newest.changed().await.is_ok() {
            let library = Arc::clone(&newest.borrow_and_update());
            for row in self.0.iter().cycle().skip(first).take(count) {
                row.send_replace(Arc::clone(&library));
                turn().await;
            }
            first = (first + 1) % count.max(1);
        }
    }
}

/// Lets everybody go first who is to run now. Not as tokio's `yield_now`, which waits for the system's events as well.
async fn turn() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;
    use crate::sample;
    use ambit_model::delta::Delta;

    const EACH: usize = 4;

    /// What each stream did, in order: it took a library up, and its connection sent.
    type Log = Arc<Mutex<Vec<(usize, &'static str)>>>;

    async fn stream(row: usize, mut told: watch::Receiver<Arc<Library>>, log: Log) {
        told.changed().await.unwrap();
        assert_eq!(told.borrow_and_update().generation(), 1);
        log.lock().unwrap().push((row, "taken"));
        // The connection is a task of its own, which this one wakes.
        let sent = Arc::clone(&log);
        let mut connection = JoinSet::new();
        connection.spawn(async move { sent.lock().unwrap().push((row, "sent")) });
        connection.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_row_is_done_before_the_one_after_the_next_is_woken_and_all_are_told() {
        let older = Arc::new(Library::default());
        let (rows, log) = (Rows::new(&older), Log::default());
        let mut streams = JoinSet::new();
        for (row, told) in rows.receivers().into_iter().enumerate() {
            for _ in 0..EACH {
                streams.spawn(stream(row, told.clone(), Arc::clone(&log)));
            }
        }
        let mut last = rows.last().unwrap();
        let (newest, view) = watch::channel(older);
        let mut told = JoinSet::new();
        told.spawn(rows.follow(view));
        tokio::task::yield_now().await;
        newest.send_replace(Arc::new(Library::default().with(&Delta { changes: vec![sample::pod("a", 1)] })));
        last.changed().await.unwrap();
        let all = async { while streams.join_next().await.is_some_and(|it| it.is_ok()) {} };
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        let log = log.lock().unwrap().clone();
        assert_eq!(log.len(), 2 * ROWS * EACH);
        for row in 2..ROWS {
            let begun = log.iter().position(|it| *it == (row, "taken")).unwrap();
            let done = log.iter().rposition(|it| *it == (row - 2, "sent")).unwrap();
            assert!(done < begun, "row {row} is woken before row {} is done", row - 2);
        }
        drop(newest);
        told.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn nobody_is_the_last_each_time() {
        let older = Arc::new(Library::default());
        let rows = Rows::new(&older);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut streams = JoinSet::new();
        for (row, mut told) in rows.receivers().into_iter().enumerate() {
            let order = Arc::clone(&order);
            streams.spawn(async move {
                while told.changed().await.is_ok() {
                    told.borrow_and_update();
                    order.lock().unwrap().push(row);
                }
            });
        }
        let (newest, view) = watch::channel(older);
        let mut told = JoinSet::new();
        told.spawn(rows.follow(view));
        for pass in 0..3 {
            tokio::task::yield_now().await;
            newest.send_modify(|_| ());
            let all = async {
                while order.lock().unwrap().len() < (pass + 1) * ROWS {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        }
        let order = order.lock().unwrap().clone();
        assert_eq!([order[0], order[ROWS], order[2 * ROWS]], [0, 1, 2]);
        drop(newest);
        told.join_next().await.unwrap().unwrap();
        while streams.join_next().await.is_some() {}
    }
}
