//! Copies over real sockets and a real tunnel: application, near end, tunnel, far end, application.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::*;
use crate::accept::Accepted;
use crate::cut::{self, Cutter};
use crate::testing::{Bench, opened, sockets};

/// Two applications with a tunnel between them.
struct Ends {
    bench: Bench,
    client: TcpStream,
    server: TcpStream,
    cutter: Cutter,
    near: oneshot::Receiver<(Outcome, Arc<Count>)>,
    far: oneshot::Receiver<Outcome>,
}

async fn ends() -> Ends {
    let mut bench = Bench::new();
    let (streams, mut arrived) = mpsc::channel(1);
    let serve = move |accepted: Accepted, stop| {
        let streams = streams.clone();
        async move {
            accepted.serve(stop, |arrival| streams.try_send(opened(arrival)).unwrap_or_default()).await;
        }
    };
    let hop = bench.listen(serve).await;
    let ((client, near_app), (far_app, server)) = (sockets().await, sockets().await);
    let carried = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    let far_stream = arrived.recv().await.flatten().unwrap();
    let ((near_done, near), (far_done, far)) = (oneshot::channel(), oneshot::channel());
    let (cutter, cut) = cut::pair();
    bench.tasks.spawn("near", move |_| async move {
        let count = Arc::new(Count::default());
        let outcome = tunnel(near_app, carried.stream, &*count, cut).await;
        near_done.send((outcome, count)).unwrap_or_default();
    });
    bench.tasks.spawn("far", move |_| async move {
        let outcome = tunnel(far_app, far_stream, &Count::default(), std::future::pending()).await;
        far_done.send(outcome).unwrap_or_default();
    });
    Ends { bench, client, server, cutter, near, far }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("takes too long")
}

#[tokio::test]
async fn a_half_that_is_closed_lets_the_other_go_on_and_bytes_are_counted() {
    let mut ends = ends().await;
    ends.client.write_all(b"question").await.unwrap();
    ends.client.shutdown().await.unwrap();
    let mut got = Vec::new();
    soon(ends.server.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"question");
    tokio::time::sleep(Duration::from_millis(50)).await;
    ends.server.write_all(b"late answer").await.unwrap();
    ends.server.shutdown().await.unwrap();
    got.clear();
    soon(ends.client.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"late answer");
    let (outcome, count) = soon(ends.near).await.unwrap();
    assert!(matches!(outcome, Outcome::Closed), "{outcome:?}");
    assert!(matches!(soon(ends.far).await.unwrap(), Outcome::Closed));
    assert_eq!((count.total_sent(), count.total_received()), (8, 11));
}

#[tokio::test]
async fn bulk_goes_both_ways_unchanged() {
    let ends = ends().await;
    let size = 5_000_000;
    let bytes: Vec<u8> = (0_u32..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let (mut client_read, mut client_write) = ends.client.into_split();
    let (mut server_read, mut server_write) = ends.server.into_split();
    let send = |mut to: tokio::net::tcp::OwnedWriteHalf, bytes: Vec<u8>| async move {
        to.write_all(&bytes).await.unwrap();
        to.shutdown().await.unwrap();
        to
    };
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (reads, writes) = (
        async { tokio::join!(client_read.read_to_end(&mut down), server_read.read_to_end(&mut up)) },
        async { tokio::join!(send(client_write, bytes.clone()), send(server_write, bytes.clone())) },
    );
    ((_, _), (client_write, server_write)) = soon(async { tokio::join!(reads, writes) }).await;
    drop((client_write, server_write));
    assert!(up == bytes && down == bytes);
}

#[tokio::test]
async fn a_reset_of_one_application_reaches_the_other_as_a_reset() {
    for from_client in [true, false] {
        let Ends { bench: _bench, mut client, mut server, near, far, .. } = ends().await;
        client.write_all(b"x").await.unwrap();
        soon(server.read_u8()).await.unwrap();
        let (breaks, mut sees) = if from_client { (client, server) } else { (server, client) };
        reset_on_drop(&breaks);
        drop(breaks);
        let error = soon(sees.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "from_client: {from_client}");
        let (near, far) = (soon(near).await.unwrap().0, soon(far).await.unwrap());
        let (broke, told) = if from_client { (near, far) } else { (far, near) };
        assert!(matches!(broke, Outcome::App(_)), "{broke:?}");
        assert!(matches!(told, Outcome::Peer(Reset::Broken)), "{told:?}");
    }
}

#[tokio::test]
async fn a_reset_is_seen_also_after_the_other_half_was_closed() {
    let Ends { bench: _bench, mut client, mut server, near, .. } = ends().await;
    server.shutdown().await.unwrap();
    assert_eq!(soon(client.read(&mut [0; 8])).await.unwrap(), 0);
    reset_on_drop(&server);
    drop(server);
    client.write_all(b"into the void").await.unwrap();
    let (outcome, _) = soon(near).await.unwrap();
    assert!(matches!(outcome, Outcome::Peer(Reset::Broken)), "{outcome:?}");
}

#[tokio::test]
async fn a_cut_ends_both_sides_with_a_reset() {
    let Ends { bench: _bench, mut client, mut server, cutter, near, far } = ends().await;
    client.write_all(b"x").await.unwrap();
    soon(server.read_u8()).await.unwrap();
    cutter.cut(Why::Revoked);
    for side in [&mut client, &mut server] {
        assert_eq!(soon(side.read_u8()).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    assert!(matches!(soon(near).await.unwrap().0, Outcome::Cut(Why::Revoked)));
    assert!(matches!(soon(far).await.unwrap(), Outcome::Peer(Reset::Cancelled)));
}

#[tokio::test]
async fn a_lost_tunnel_resets_the_application() {
    let Ends { bench, mut client, server: _server, near, .. } = ends().await;
    let drained = bench.tasks; // the far end lives in there
    drop(drained);
    let _ = near.await; // the near pump was in there too
    let seen = soon(client.read(&mut [0; 8])).await;
    assert!(matches!(seen, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_slow_reader_holds_the_writer_back() {
    let Ends { bench: _bench, mut client, server, near: _near, far: _far, cutter: _cutter } = ends().await;
    let chunk = vec![0_u8; 64 * 1024];
    let mut written = 0_usize;
    while let Ok(Ok(())) = timeout(Duration::from_secs(2), client.write_all(&chunk)).await {
        written += chunk.len();
        assert!(written < 64 << 20, "nobody reads, yet everything is taken");
    }
    // one stream's window, what the sender may keep, and four kernels' buffers
    assert!(written > 1 << 20, "{written}");
    drop(server);
}

#[tokio::test]
async fn plain_copies_pass_halves_and_resets_through() {
    let ((mut client, near), (far, mut server)) = (sockets().await, sockets().await);
    let mut tasks = ambit_process::tasks::Tasks::new(&ambit_process::stop::Stop::new());
    let (done, outcome) = oneshot::channel();
    tasks.spawn("plain", |_| async move {
        let count = Count::default();
        let outcome = plain(near, far, &count, std::future::pending()).await;
        done.send((outcome, count.total_sent())).unwrap_or_default();
    });
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    soon(server.read_to_end(&mut got)).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    soon(client.read_exact(&mut answer)).await.unwrap();
    reset_on_drop(&server);
    drop(server);
    assert_eq!(soon(client.read_u8()).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (outcome, sent) = soon(outcome).await.unwrap();
    assert!(matches!(outcome, Outcome::Destination(_)), "{outcome:?}");
    assert_eq!((got.as_slice(), &answer, sent), (&b"question"[..], b"answer", 8));
}

#[tokio::test]
async fn a_stream_in_use_and_one_being_opened_stay_small() {
    let mut bench = Bench::new();
    let serve = |accepted: Accepted, stop| async move {
        let mut kept = Vec::new();
        accepted.serve(stop, |arrival| kept.push(opened(arrival))).await;
    };
    let hop = bench.listen(serve).await;
    let opening = size_of_val(&bench.open(hop));
    let carried = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    let (app, _far) = sockets().await;
    let count = Count::default();
    let copying = size_of_val(&tunnel(app, carried.stream, &count, std::future::pending()));
    // Without the buffer, 1 KiB while there is talk only.
    assert!(copying <= 1024 && opening <= 2048, "copying {copying} B, opening {opening} B");
}
