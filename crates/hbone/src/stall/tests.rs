//! Windows that grow, and a tunnel whose other streams do not feel the stalled.

use std::time::Duration;

use ambit_process::net::TcpStream;
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::*;
use crate::accept::Accepted;
use crate::cut::Why;
use crate::pump::{Count, tunnel};
use crate::stream::Stream;
use crate::testing::{Bench, opened, sockets};

const MIB: u32 = 1024 * 1024;

#[test]
fn a_window_grows_with_the_stalled_and_goes_back_when_none_is_left() {
    static SPENT: AtomicU32 = AtomicU32::new(0);
    let (stalls, mut growth) = pair_out_of(Windows::default(), &SPENT);
    let one = stalls.enter();
    assert_eq!(growth.changed().now_or_never(), None, "one of four takes nothing from the others");
    let two = stalls.enter();
    assert_eq!(growth.changed().now_or_never(), Some((16 + 2 * 4) * MIB));
    let more: Vec<_> = (0..8).map(|_| stalls.enter()).collect();
    assert_eq!(growth.changed().now_or_never(), Some((16 + 10 * 4) * MIB));
    drop((more, two));
    assert_eq!(growth.changed().now_or_never(), None, "not while one is stalled");
    drop(one);
    assert_eq!(growth.changed().now_or_never(), Some(16 * MIB));
}

#[test]
fn all_tunnels_together_grow_by_no_more_than_the_process_can_spare() {
    static SPENT: AtomicU32 = AtomicU32::new(0);
    let (first, mut grown) = pair_out_of(Windows::default(), &SPENT);
    let (second, mut late) = pair_out_of(Windows::default(), &SPENT);
    let stalled = ([(); 20].map(|()| first.enter()), [(); 20].map(|()| second.enter()));
    assert_eq!(grown.changed().now_or_never(), Some((16 + 80) * MIB));
    assert_eq!(late.changed().now_or_never(), Some(16 * MIB + SPARE - 80 * MIB));
    drop(grown);
    assert_eq!(SPENT.load(Ordering::SeqCst), SPARE - 80 * MIB, "given back with its tunnel");
    drop(late);
    assert_eq!(SPENT.load(Ordering::SeqCst), 0);
    drop(stalled);
}

/// A near end and a far end that hands out the streams it opened.
struct Road {
    bench: Bench,
    hop: ambit_model::address::HopAddr,
    arrived: mpsc::Receiver<Option<Stream>>,
}

impl Road {
    async fn new() -> Self {
        let mut bench = Bench::new();
        let (streams, arrived) = mpsc::channel(1);
        let serve = move |accepted: Accepted, stop| {
            let streams = streams.clone();
            async move {
                accepted.serve(stop, |arrival| streams.try_send(opened(arrival)).unwrap_or_default()).await;
            }
        };
        let hop = bench.listen(serve).await;
        Self { bench, hop, arrived }
    }

    /// Two applications with a stream between them.
    async fn join(&mut self) -> (TcpStream, TcpStream) {
        let ((client, near), (far, server)) = (sockets().await, sockets().await);
        let carried = self.bench.open(self.hop).await.unwrap_or_else(|e| panic!("{e:?}"));
        let arrived = self.arrived.recv().await.flatten().unwrap();
        for (app, stream) in [(near, carried.stream), (far, arrived)] {
            self.bench.tasks.spawn("end", move |_| async move {
                tunnel(app, stream, &Count::default(), std::future::pending::<Why>()).await;
            });
        }
        (client, server)
    }
}

/// Sends until nothing is taken any more; returns how much was.
async fn fill(app: &mut TcpStream) -> usize {
    let (piece, mut sent) = (vec![7; 256 * 1024], 0);
    while let Ok(taken) = timeout(Duration::from_secs(2), app.write(&piece)).await {
        sent += taken.unwrap();
    }
    sent
}

#[tokio::test]
async fn eight_streams_that_nobody_reads_do_not_stop_a_ninth_in_either_direction() {
    const SENT: usize = 8 * 1024 * 1024;
    for up in [true, false] {
        let mut road = Road::new().await;
        let mut stalled = Vec::new();
        for _ in 0..8 {
            let (client, server) = road.join().await;
            stalled.push(if up { (client, server) } else { (server, client) });
        }
        let filled = futures_util::future::join_all(stalled.iter_mut().map(|(sender, _)| fill(sender))).await;
        let (client, server) = road.join().await;
        assert_eq!(road.bench.pool.tunnels(), 1);
        let (mut sender, mut reader) = if up { (client, server) } else { (server, client) };
        let sending = async {
            sender.write_all(&vec![7; SENT]).await.unwrap();
            sender.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let passed =
            timeout(Duration::from_secs(60), async { tokio::join!(sending, reader.read_to_end(&mut got)) });
        assert!(passed.await.is_ok(), "{} of {SENT} bytes came, up: {up}", got.len());
        // Read at last, the stalled ones lose nothing; with nobody stalled the window is the usual one again.
        let (sender, reader) = stalled.first_mut().unwrap();
        let mut one = vec![0; filled[0]];
        timeout(Duration::from_secs(60), reader.read_exact(&mut one)).await.unwrap().unwrap();
        timeout(Duration::from_secs(60), sender.write_all(b"more")).await.unwrap().unwrap();
        drop(stalled);
        let spent = async {
            while SPENT.load(Ordering::SeqCst) > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(Duration::from_secs(60), spent).await.is_ok(), "what was spare is given back");
    }
}
