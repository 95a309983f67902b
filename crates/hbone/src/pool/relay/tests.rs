//! A near pool, a gateway that passes bytes on, and a far end behind it, on loopback.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambit_model::address::HopAddr;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::accept::{Accepted, Arrival};
use crate::cut::{self, Why};
use crate::head::{Baggage, Opened, Refusal};
use crate::pump::{self, Count};
use crate::testing::{Bench, head, identity, opened, sockets};

/// What a far end has been asked by whom.
type Asked = Arc<Mutex<Vec<(Identity, Connect)>>>;

/// A gateway, and the streams it relays at the moment.
struct Gateway {
    hop: HopAddr,
    relaying: Arc<AtomicUsize>,
    asked: Asked,
}

impl Gateway {
    /// Joins every stream to a new connection to `to`.
    async fn start(bench: &mut Bench, to: SocketAddr) -> Self {
        let (relaying, asked) = (Arc::new(AtomicUsize::new(0)), Asked::default());
        let (counted, noted) = (Arc::clone(&relaying), Arc::clone(&asked));
        let serve = move |accepted: Accepted, stop| {
            let (relaying, asked) = (Arc::clone(&counted), Arc::clone(&noted));
            async move {
                let (peer, mut streams) = (accepted.peer().clone(), Tasks::new(&Stop::new()));
                let take = |arrival: Arrival| {
                    note_asked(&asked, &peer, &arrival);
                    let relaying = Arc::clone(&relaying);
                    streams.spawn("relayed", move |_| async move {
                        relaying.fetch_add(1, Ordering::SeqCst);
                        let far = TcpStream::connect(to).await.unwrap();
                        let stream = opened(arrival).unwrap();
                        pump::tunnel(far, stream, &Count::default(), std::future::pending::<Why>()).await;
                        relaying.fetch_sub(1, Ordering::SeqCst);
                    });
                };
                accepted.serve(stop, take).await;
                while streams.one_ended().await {}
            }
        };
        let hop = bench.listen_as("gateway", serve).await;
        Self { hop, relaying, asked }
    }

    /// Opens a stream through it, to be answered by one of `expect`.
    async fn open(&self, bench: &Bench, expect: &[&str]) -> Result<Carried, RelayError> {
        let key = Key { expect: Arc::from([identity("gateway")]), ..bench.key(self.hop) };
        let expect = expect.iter().map(|account| identity(account)).collect();
        let (outer, inner) = (head(), Connect { network: Some("near".into()), ..head() });
        let through = Through { key: &key, outer: &outer, expect, inner: &inner };
        let hop = self.hop.socket();
        bench.pool.open_through(&through, || TcpStream::connect(hop)).await
    }
}

fn note_asked(asked: &Asked, peer: &Identity, arrival: &Arrival) {
    asked.lock().unwrap().push((peer.clone(), arrival.head().unwrap().clone()));
}

/// A far end as `account`, that says what it is and sends back what it gets.
async fn echo(bench: &mut Bench, account: &str) -> (HopAddr, Asked) {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let serve = move |accepted: Accepted, stop| {
        let asked = Arc::clone(&noted);
        async move {
            let (peer, mut streams) = (accepted.peer().clone(), Tasks::new(&Stop::new()));
            let take = |arrival: Arrival| {
                note_asked(&asked, &peer, &arrival);
                streams.spawn("echo", |_| async move {
                    let (near, mut far) = sockets().await;
                    let said = Baggage { namespace: "shop".into(), ..Baggage::default() };
                    let stream = arrival.open(&Opened { baggage: Some(said), ..Opened::default() }).unwrap();
                    let back = async move {
                        let (mut read, mut write) = far.split();
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                        let _ = write.shutdown().await;
                    };
                    let count = Count::default();
                    tokio::join!(pump::tunnel(near, stream, &count, std::future::pending::<Why>()), back);
                });
            };
            accepted.serve(stop, take).await;
            while streams.one_ended().await {}
        }
    };
    (bench.listen_as(account, serve).await, asked)
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test]
async fn bytes_and_half_closes_go_through_both_tunnels_and_the_inner_one_ends_with_them() {
    let mut bench = Bench::new();
    let (far, asked) = echo(&mut bench, "db").await;
    let gateway = Gateway::start(&mut bench, far.socket()).await;
    // More than any window on the way holds.
    let sent: Vec<u8> = (0..20_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    for round in 1..=2 {
        let carried = gateway.open(&bench, &["other", "db"]).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(carried.peer, identity("db"));
        assert_eq!(carried.answer.baggage.map(|said| said.namespace), Some("shop".into()));
        let ((near, mut app), count) = (sockets().await, Count::default());
        let (mut read, mut write) = app.split();
        let app = async {
            write.write_all(&sent).await.unwrap();
            // What comes back after this end comes through half-closed tunnels.
            write.shutdown().await.unwrap();
        };
        let back = async {
            let mut all = Vec::new();
            read.read_to_end(&mut all).await.unwrap();
            all
        };
        let pumped = pump::tunnel(near, carried.stream, &count, std::future::pending::<Why>());
        let (ended, (), back) = tokio::join!(pumped, app, back);
        assert!(matches!(ended, pump::Outcome::Closed), "{ended:?}");
        assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
        assert_eq!((count.total_sent(), count.total_received()), (20_000_000, 20_000_000));
        eventually("the gateway relays nothing any more", || gateway.relaying.load(Ordering::SeqCst) == 0)
            .await;
        assert_eq!(bench.pool.tunnels(), 1, "the tunnel to the gateway is kept");
        assert_eq!((gateway.asked.lock().unwrap().len(), asked.lock().unwrap().len()), (round, round));
    }
    let (outer, inner) = (gateway.asked.lock().unwrap()[0].clone(), asked.lock().unwrap()[0].clone());
    assert_eq!(outer, (identity("web"), head()));
    assert_eq!(inner, (identity("web"), Connect { network: Some("near".into()), ..head() }));
}

#[tokio::test]
async fn whoever_is_not_listed_behind_the_gateway_is_asked_for_nothing() {
    let mut bench = Bench::new();
    let (far, asked) = echo(&mut bench, "db").await;
    let gateway = Gateway::start(&mut bench, far.socket()).await;
    // Nobody listed matches nobody, and the gateway's own identity is worth nothing inside.
    for listed in [&["other", "gateway"][..], &[]] {
        let refused = gateway.open(&bench, listed).await.err();
        let Some(RelayError::Behind(OpenError::Dial(error))) = &refused else { panic!("{refused:?}") };
        assert!(matches!(**error, DialError::WrongPeer { .. }), "{error:?}");
    }
    assert!(asked.lock().unwrap().is_empty());
    eventually("refused streams are given back", || gateway.relaying.load(Ordering::SeqCst) == 0).await;
    assert_eq!(bench.pool.tunnels(), 1);
}

#[tokio::test]
async fn a_gateway_that_answers_itself_is_not_believed() {
    let mut bench = Bench::new();
    let (itself, asked) = echo(&mut bench, "gateway").await;
    let gateway = Gateway::start(&mut bench, itself.socket()).await;
    let refused = gateway.open(&bench, &["db"]).await.err();
    let Some(RelayError::Behind(OpenError::Dial(error))) = &refused else { panic!("{refused:?}") };
    assert!(matches!(**error, DialError::WrongPeer { .. }), "{error:?}");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn refusals_tell_the_gateways_from_the_far_ends() {
    let mut bench = Bench::new();
    let no = |accepted: Accepted, stop| async move {
        accepted.serve(stop, |arrival| arrival.refuse(Refusal::Denied)).await;
    };
    let far = bench.listen(no).await;
    let gateway = Gateway::start(&mut bench, far.socket()).await;
    let refused = gateway.open(&bench, &["db"]).await.err();
    assert!(matches!(refused, Some(RelayError::Behind(OpenError::Refused { status })) if status == 401));
    let hop = bench.listen_as("gateway", no).await;
    let refused = Gateway { hop, ..gateway }.open(&bench, &["db"]).await.err();
    assert!(matches!(refused, Some(RelayError::Gateway(OpenError::Refused { status })) if status == 401));
}

#[tokio::test]
async fn a_cut_is_a_reset_at_the_far_end() {
    let mut bench = Bench::new();
    let (tell, mut ended) = tokio::sync::mpsc::channel(1);
    let serve = move |accepted: Accepted, stop| {
        let tell = tell.clone();
        async move {
            let mut streams = Tasks::new(&Stop::new());
            let take = |arrival: Arrival| {
                let tell = tell.clone();
                streams.spawn("stream", move |_| async move {
                    let (near, _far) = sockets().await;
                    let stream = opened(arrival).unwrap();
                    let count = Count::default();
                    let _ = tell
                        .send(pump::tunnel(near, stream, &count, std::future::pending::<Why>()).await)
                        .await;
                });
            };
            accepted.serve(stop, take).await;
            while streams.one_ended().await {}
        }
    };
    let far = bench.listen(serve).await;
    let gateway = Gateway::start(&mut bench, far.socket()).await;
    let carried = gateway.open(&bench, &["db"]).await.unwrap_or_else(|e| panic!("{e:?}"));
    let ((near, _app), (cutter, cut)) = (sockets().await, cut::pair());
    cutter.cut(Why::Revoked);
    pump::tunnel(near, carried.stream, &Count::default(), cut).await;
    let ended = ended.recv().await;
    assert!(matches!(ended, Some(pump::Outcome::Peer(pump::Reset::Cancelled))), "{ended:?}");
}

#[tokio::test]
async fn a_far_end_that_says_nothing_is_given_up_in_time() {
    let mut bench = Bench::new();
    let silent = ambit_process::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::start(&mut bench, silent.local_addr().unwrap()).await;
    let pass = async {
        eventually("the gateway relays", || gateway.relaying.load(Ordering::SeqCst) == 1).await;
        // What is under way on real sockets arrives first; from then on nothing but time passes.
        let taken = silent.accept().await.unwrap();
        sleep(Duration::from_millis(50)).await;
        tokio::time::pause();
        taken
    };
    let (refused, _taken) = tokio::join!(gateway.open(&bench, &["db"]), pass);
    let refused = refused.err();
    let Some(RelayError::Behind(OpenError::Dial(error))) = &refused else { panic!("{refused:?}") };
    assert!(matches!(**error, DialError::Silent { stage: crate::dial::Stage::Handshake, .. }), "{error:?}");
}
