//! A pool and far ends on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;
use crate::accept::Accepted;
use crate::head::Refusal;
use crate::testing::{Authority, Bench, identity, opened};

/// Opens every stream and keeps it.
async fn keep(accepted: Accepted, stop: Stop) {
    let mut kept = Vec::new();
    accepted.serve(stop, |arrival| kept.push(opened(arrival))).await;
}

#[tokio::test]
async fn streams_of_one_key_share_a_tunnel_and_know_their_peer() {
    let mut bench = Bench::new();
    let hop = bench.listen(keep).await;
    let opened = join_all((0..100).map(|_| bench.open(hop))).await;
    for carried in &opened {
        assert_eq!(carried.as_ref().ok().map(|c| c.peer.clone()), Some(identity("db")));
    }
    assert_eq!(bench.pool.tunnels(), 1);
    let _more = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(bench.pool.tunnels(), 2);
}

#[tokio::test]
async fn tunnels_are_opened_with_the_windows_that_were_said_last() {
    let mut bench = Bench::new();
    let (tell, mut told) = tokio::sync::mpsc::channel(8);
    let hop = bench
        .listen(move |accepted, stop| {
            let tell = tell.clone();
            async move {
                let mut kept = Vec::new();
                let take = |arrival| {
                    let mut stream = opened(arrival).unwrap();
                    stream.send.reserve_capacity(50_000);
                    let _ = tell.try_send(stream.send.capacity());
                    stream.send.reserve_capacity(0);
                    kept.push(stream);
                };
                accepted.serve(stop, take).await;
            }
        })
        .await;
    let other = Key { source_ip: Some([127, 0, 0, 1].into()), ..bench.key(hop) };
    let connect = move || async move { TcpStream::connect(hop.socket()).await };
    let _first = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    bench.pool.use_windows(Windows { stream: 20_000, ..Windows::default() });
    let _same = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    let head = crate::testing::head();
    let _new = bench.pool.open(&other, &head, connect).await.unwrap_or_else(|e| panic!("{e:?}"));
    let told = [told.recv().await, told.recv().await, told.recv().await].map(Option::unwrap);
    assert_eq!(told, [50_000, 50_000, 20_000], "what is open keeps its own");
}

#[tokio::test]
async fn a_peer_that_allows_few_streams_gets_more_tunnels_instead_of_a_queue() {
    let mut bench = Bench::new();
    let hop = few_streams(&mut bench, 10).await;
    let opened = join_all((0..35).map(|_| bench.open(hop))).await;
    assert!(opened.iter().all(Result::is_ok));
    assert_eq!(bench.pool.tunnels(), 4);
    drop(opened);
    for _ in 0..40 {
        bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    }
    assert_eq!(bench.pool.tunnels(), 4, "seats that were given back are used again");
}

#[tokio::test]
async fn a_peer_that_allows_no_stream_is_a_failure_not_a_series_of_dials() {
    let mut bench = Bench::new();
    let hop = few_streams(&mut bench, 0).await;
    // The first stream goes out before the limit is known, at its own risk; the second waits and learns it.
    let first = async {
        let _refused_or_silent = bench.open(hop).await;
        std::future::pending().await
    };
    let second = tokio::select! {
        biased;
        () = first => None,
        second = bench.open(hop) => second.err(),
    };
    assert!(
        matches!(&second, Some(OpenError::Dial(e)) if matches!(**e, DialError::NoStreams { .. })),
        "{second:?}"
    );
}

/// A far end as `db` with its own stream limit, that opens every stream and keeps it.
async fn few_streams(bench: &mut Bench, limit: u32) -> HopAddr {
    raw_far_end(bench, limit, |tls| tls).await
}

type Tls = ambit_tls::ServerStream<TcpStream>;

async fn raw_far_end(
    bench: &mut Bench,
    limit: u32,
    look: impl Fn(Tls) -> Tls + Send + Sync + 'static,
) -> HopAddr {
    let listener = ambit_process::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hop = HopAddr::new(listener.local_addr().unwrap());
    let tls = bench.authority.credential(&identity("db")).accepting();
    let look = Arc::new(look);
    bench.tasks.spawn("few", move |_| async move {
        let mut tunnels = Tasks::new(&Stop::new());
        loop {
            let (tcp, tls, look) = (listener.accept().await.unwrap().0, tls.clone(), Arc::clone(&look));
            tunnels.spawn("tunnel", move |_| async move {
                let (tls, _) = ambit_tls::handshake::accept(tls, tcp).await.unwrap();
                let mut server = h2::server::Builder::new();
                let mut conn =
                    server.max_concurrent_streams(limit).handshake::<_, Bytes>(look(tls)).await.unwrap();
                let mut kept = Vec::new();
                while let Some(Ok((request, mut respond))) = conn.accept().await {
                    kept.push((respond.send_response(http::Response::new(()), false), request));
                }
            });
        }
    });
    hop
}

#[tokio::test]
async fn all_who_wait_for_a_dead_peer_fail_with_the_one_attempt() {
    let bench = Bench::new();
    // Accepts TCP and then says nothing, ever.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hop = HopAddr::new(silent.local_addr().unwrap());
    bench.vault.fetch(&identity("web"), Duration::from_secs(5)).await.unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    let connect = || {
        dials.fetch_add(1, Ordering::Relaxed);
        async move { TcpStream::connect(hop.socket()).await }
    };
    tokio::time::pause();
    let before = Instant::now();
    let (key, head) = (bench.key(hop), crate::testing::head());
    for result in join_all((0..50).map(|_| bench.pool.open(&key, &head, connect))).await {
        let error = result.err();
        let silent = |e: &Arc<DialError>| matches!(**e, DialError::Silent { stage: Stage::Handshake, .. });
        assert!(matches!(&error, Some(OpenError::Dial(e)) if silent(e)), "{error:?}");
    }
    assert_eq!(dials.load(Ordering::Relaxed), 1);
    assert_eq!(before.elapsed().as_secs(), 10);
    // The next one is told the same at once, and a later one tries anew.
    assert!(bench.pool.open(&key, &head, connect).await.is_err());
    assert_eq!(dials.load(Ordering::Relaxed), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(bench.pool.open(&key, &head, connect).await.is_err());
    assert_eq!(dials.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_dial_goes_on_when_the_one_who_asked_first_leaves() {
    let mut bench = Bench::new();
    let hop = bench.listen(keep).await;
    let first = bench.open(hop);
    let second = async {
        tokio::task::yield_now().await;
        bench.open(hop).await
    };
    let (left, stayed) = tokio::join!(timeout(Duration::ZERO, first), second);
    assert!(left.is_err() && stayed.is_ok());
    assert_eq!(bench.pool.tunnels(), 1);
}

#[tokio::test]
async fn a_peer_of_another_identity_gets_no_stream() {
    let mut bench = Bench::new();
    let hop = bench.listen(keep).await;
    let key = Key { expect: Arc::from([identity("other")]), ..bench.key(hop) };
    let connect = || async move { TcpStream::connect(hop.socket()).await };
    let error = bench.pool.open(&key, &crate::testing::head(), connect).await.err();
    let wrong = |e: &Arc<DialError>| matches!(**e, DialError::WrongPeer { .. });
    assert!(matches!(&error, Some(OpenError::Dial(e)) if wrong(e)), "{error:?}");
}

#[tokio::test]
async fn a_refused_stream_tells_its_status_and_leaves_the_tunnel_up() {
    let mut bench = Bench::new();
    let refuse = |accepted: Accepted, stop| async move {
        accepted.serve(stop, |arrival| arrival.refuse(Refusal::Denied)).await;
    };
    let hop = bench.listen(refuse).await;
    for _ in 0..3 {
        let error = bench.open(hop).await.err();
        assert!(matches!(error, Some(OpenError::Refused { status }) if status == 401), "{error:?}");
    }
    assert_eq!(bench.pool.tunnels(), 1);
}

#[tokio::test]
async fn a_tunnel_is_closed_once_it_was_idle_for_its_limit() {
    let settings = PoolSettings { idle: Duration::from_millis(200), ..PoolSettings::default() };
    let mut bench = Bench::with(Authority::new(), settings);
    let hop = bench.listen(keep).await;
    let carried = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    tokio::time::sleep(settings.idle * 2).await;
    assert_eq!(bench.pool.tunnels(), 1, "a stream is open");
    let idle = Instant::now();
    drop(carried);
    let closed = async {
        while bench.pool.tunnels() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), closed).await.expect("closed");
    assert!(idle.elapsed() >= settings.idle, "not idle for long enough: {:?}", idle.elapsed());
}

#[tokio::test]
async fn a_tunnel_whose_peer_says_goodbye_takes_no_more_streams_but_keeps_its_own() {
    let mut bench = Bench::new();
    let goodbye = Stop::new();
    let told = goodbye.clone();
    let serve = move |accepted: Accepted, _| {
        let told = told.clone();
        async move { keep(accepted, told).await }
    };
    let hop = bench.listen(serve).await;
    let mut first = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    goodbye.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The far end drains every tunnel from now on, so there is no second stream; but there was a second dial.
    let _ = timeout(Duration::from_millis(200), bench.open(hop)).await;
    first.stream.send.send_data(Bytes::from_static(b"still there"), false).unwrap();
    let quiet =
        timeout(Duration::from_millis(50), std::future::poll_fn(|cx| first.stream.send.poll_reset(cx)));
    assert!(quiet.await.is_err());
}

#[tokio::test]
async fn at_the_limit_the_tunnel_that_is_idle_for_longest_makes_room() {
    let settings = PoolSettings { tunnels: 2, ..PoolSettings::default() };
    let mut bench = Bench::with(Authority::new(), settings);
    let (a, b, c) = (bench.listen(keep).await, bench.listen(keep).await, bench.listen(keep).await);
    let held = bench.open(a).await.unwrap_or_else(|e| panic!("{e:?}"));
    drop(bench.open(b).await);
    let other = bench.open(c).await.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(bench.pool.tunnels(), 2);
    let full = bench.open(b).await.err();
    assert!(matches!(&full, Some(OpenError::Dial(e)) if matches!(**e, DialError::Full { .. })), "{full:?}");
    drop((held, other));
}

#[tokio::test]
async fn new_tunnels_use_the_renewed_certificate_and_old_ones_go_on() {
    let mut bench = Bench::new();
    let (hop, mut leaves) = noting_leaves(&mut bench).await;
    let old = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    let first = bench.vault.held(&identity("web")).unwrap();
    bench.authority.outdated.notify_one();
    while Arc::ptr_eq(&first, &bench.vault.held(&identity("web")).unwrap()) {
        tokio::task::yield_now().await;
    }
    let key = Key { source_ip: Some("127.0.0.1".parse().unwrap()), ..bench.key(hop) };
    let connect = || async move { TcpStream::connect(hop.socket()).await };
    let new = bench.pool.open(&key, &crate::testing::head(), connect).await;
    assert!(new.is_ok());
    let renewed = bench.vault.held(&identity("web")).unwrap();
    for credential in [first, renewed] {
        assert_eq!(leaves.recv().await.unwrap(), credential.chain()[0].der.to_vec());
    }
    let again = bench.open(hop).await;
    assert!(again.is_ok() && leaves.try_recv().is_err(), "the old tunnel takes streams");
    drop(old);
}

/// A far end that opens every stream, and tells which certificate each client showed.
async fn noting_leaves(bench: &mut Bench) -> (HopAddr, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    let (tell, leaves) = tokio::sync::mpsc::channel(8);
    let serve = move |tls: Tls| {
        tell.try_send(tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()).unwrap();
        tls
    };
    (raw_far_end(bench, u32::MAX, serve).await, leaves)
}

#[tokio::test]
async fn a_drained_pool_waits_for_its_streams_and_then_ends_them() {
    let mut bench = Bench::new();
    let hop = bench.listen(keep).await;
    let carried = bench.open(hop).await.unwrap_or_else(|e| panic!("{e:?}"));
    let pool = Arc::into_inner(bench.pool).unwrap();
    let drained = pool.drain(Duration::from_millis(100)).await;
    assert_eq!(drained, Drained { finished: 0, aborted: 1 });
    drop(carried);
}
