//! A waypoint that has more to do than it can (`waypoint.md` 6.4): what each rung of the ladder does, that who asks for
//! little does not feel it, that it is counted, and that it ends. There is too little memory because the test says so:
//! the limit of the control group follows what the process has.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ambit_hbone::pool::OpenError;
use ambit_model::delta::Change;
use ambit_model::http_route::{Filters, Mirror, Rule, Share};
use ambit_model::provider::Takes;
use ambit_model::service::AppProtocol;
use ambit_model::traffic::{Balance, Handling};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Seen, Speaks, backend};
use crate::client::{Answer, Client, empty, http1, http2, is_unseen};
use crate::resilience::handled;
use crate::routes::{route, rule, to};
use crate::scene::{GROUP, PATIENCE, Scene, endpoint, endpoint_of, memory, scene_with, service, shop};
use crate::traces::{collector, header};

const WEB: &str = "10.1.0.1:80";
/// Of its limit, the memory in use where so many rungs are in force, in percent: in the middle between two.
const PERCENT: [u64; 6] = [10, 78, 85, 90, 95, 120];
/// Requests that one client holds.
const HELD: usize = 40;

/// Lets the waypoint have as much memory as the test says.
struct Dial(Arc<AtomicU64>);

impl Dial {
    fn new(scene: &mut Scene, group: PathBuf) -> Self {
        let percent = Arc::new(AtomicU64::new(PERCENT[0]));
        let (pid, wanted) = (scene.pid(), Arc::clone(&percent));
        scene.tasks.spawn("limit", move |stop| async move {
            let (next, limit) = (group.join("next"), group.join("memory.max"));
            while !stop.is_stopped() {
                let bytes = memory(pid, "RssAnon:") * 100 / wanted.load(Ordering::SeqCst);
                std::fs::write(&next, format!("{bytes}\n")).unwrap();
                std::fs::rename(&next, &limit).unwrap();
                sleep(Duration::from_millis(10)).await;
            }
        });
        Self(percent)
    }

    /// Waits until so many rungs are in force.
    async fn turn(&self, scene: &Scene, rungs: usize) {
        self.0.store(PERCENT[rungs], Ordering::SeqCst);
        let wanted: Vec<u64> = (1..=5).map(|rung| u64::from(rung <= rungs)).collect();
        let until = Instant::now() + PATIENCE;
        loop {
            let mut found = Vec::new();
            for rung in 1..=5 {
                found.push(counted(scene, &format!("ambit_waypoint_overload_rung{{rung=\"{rung}\"}}")).await);
            }
            if found == wanted {
                return;
            }
            assert!(Instant::now() < until, "{found:?} instead of {rungs} rungs");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a metric says; nothing yet is 0.
async fn counted(scene: &Scene, series: &str) -> u64 {
    let metrics = scene.get(15020, "/metrics").await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

/// How often this was done because there was too much to do.
async fn done(scene: &Scene, what: &str) -> u64 {
    counted(scene, &format!("ambit_waypoint_overload_total{{reason=\"{what}\"}}")).await
}

/// Runs a test with a waypoint of one thread.
fn pressed(world: &[Change], test: impl AsyncFnOnce(&mut Scene, Dial) + Send) {
    let group = tempfile::tempdir().unwrap();
    let settings = [("WAYPOINT_THREADS", "1"), (GROUP, group.path().to_str().unwrap())];
    scene_with(&settings, world, async |scene| {
        let dial = Dial::new(scene, group.path().into());
        test(scene, dial).await;
    });
}

/// What may be under way on each request of a new connection of HTTP/2, as its first frame says (RFC 9113, 6.5).
async fn window(scene: &Scene) -> u32 {
    let mut stream = scene.open("cart", WEB).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.unwrap();
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[3], 4, "settings come first");
    let mut settings = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    timeout(PATIENCE, stream.read_exact(&mut settings)).await.unwrap().unwrap();
    let told = settings.chunks(6).find(|it| it[..2] == [0, 4]).expect("a window");
    u32::from_be_bytes(told[2..6].try_into().unwrap())
}

#[test]
fn with_little_memory_left_windows_are_small_and_later_as_usual() {
    pressed(&shop(AppProtocol::Http11), async |scene, dial| {
        assert_eq!(window(scene).await, 256 * 1024);
        assert_eq!(done(scene, "small_window").await, 0);
        dial.turn(scene, 1).await;
        assert_eq!(window(scene).await, 65_535);
        assert_eq!(done(scene, "small_window").await, 1);
        // Another client has a tunnel of its own.
        drop(scene.open("guest", WEB).await.unwrap());
        assert_eq!(done(scene, "small_window").await, 2);
        dial.turn(scene, 0).await;
        assert_eq!(window(scene).await, 256 * 1024);
    });
}

/// Requests to `web` are copied to `other`, traced, and given to a second endpoint where the first takes long.
fn lavish() -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Workload(Arc::new(endpoint("two", "127.0.0.3"))));
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Http11))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "three", "127.0.0.5"))));
    world.extend(collector("zip", Takes::Zipkin { path: "/".into() }, 100.0));
    let mirrors = vec![Mirror { to: to("other", 1).to, share: Share::ALL }];
    let filters = Filters { mirrors, ..Filters::default() };
    world.push(route(vec![Rule { filters: Ok(filters), ..rule(vec![], vec![to("web", 1)]) }]));
    let hedge_after = Some(Duration::from_millis(50));
    world.push(handled(Handling { hedge_after, balance: Balance::RoundRobin, ..Handling::default() }));
    world
}

/// The trace that an endpoint is told of when it is told this one.
async fn passed(client: &mut Client, parent: &str) -> String {
    let request = client.request("/").header("traceparent", parent).body(empty()).unwrap();
    let answer = client.ask(request).await;
    assert_eq!(answer.status, 200);
    header(&answer.body, "traceparent").unwrap().to_owned()
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < until, "never {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn with_less_left_nothing_is_done_that_no_client_waits_for_and_later_it_is_again() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    pressed(&lavish(), async |scene, dial| {
        let _seen = [
            backend(scene, "one", "127.0.0.2", Speaks::Http1).await,
            backend(scene, "two", "127.0.0.3", Speaks::Http1).await,
        ];
        let other = backend(scene, "three", "127.0.0.5", Speaks::Http1).await;
        let copies = || other.requests.load(Ordering::SeqCst);
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_ne!(passed(&mut client, parent).await, parent, "a span of ours");
        until("copied", async || copies() == 1).await;
        dial.turn(scene, 2).await;
        // What the client knows of its trace goes on, though nothing of ours is in it.
        assert_eq!(passed(&mut client, parent).await, parent);
        for what in ["no_mirror", "no_span"] {
            assert_eq!(done(scene, what).await, 1, "{what}");
        }
        // One of two comes to the slow one, and stays there.
        let mut slow = http1(scene.open("cart", WEB).await.unwrap()).await;
        let both = async { tokio::join!(client.get("/slow-at/one"), slow.get("/slow-at/one")) };
        // Cancel-safe: clients that are dropped have left.
        tokio::select! {
            answers = both => panic!("somebody else has answered: {answers:?}"),
            () = until("left out", async || done(scene, "no_hedge").await == 1) => {}
        }
        assert_eq!(copies(), 1);
        dial.turn(scene, 0).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_ne!(passed(&mut client, parent).await, parent);
        until("copied again", async || copies() == 2).await;
    });
}

/// Has a client ask for so much that is not answered yet.
async fn hold(client: &Client, seen: &Seen) -> Vec<Pin<Box<impl Future<Output = Answer> + use<>>>> {
    let Client::Http2(sender) = client else { panic!("one request at a time is not much") };
    let mut held = Vec::new();
    for _ in 0..HELD {
        let mut client = Client::Http2(sender.clone());
        let request = client.request("/held").body(empty()).unwrap();
        let mut answer = Box::pin(async move { client.ask(request).await });
        tokio::select! {
            answer = &mut answer => panic!("{answer:?}"),
            () = seen.held.notified() => {}
        }
        held.push(answer);
    }
    held
}

/// Asks until the client is told to go, and is refused until then.
async fn until_sent_away(client: &mut Client) {
    let until = Instant::now() + PATIENCE;
    loop {
        let request = client.request("/").body(empty()).unwrap();
        match client.send(request).await {
            Ok(answer) => {
                assert_eq!(answer.status(), 503);
                if answer.headers().get("connection").is_some_and(|it| it == "close") {
                    return;
                }
            }
            // Of HTTP/2: what comes after the goodbye may be asked elsewhere.
            Err(error) => {
                assert!(is_unseen(&error), "lost: {error:?}");
                return;
            }
        }
        assert!(Instant::now() < until, "never sent away");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn who_asks_for_most_is_refused_then_sent_away_and_nobody_new_comes_while_who_asks_for_little_is_answered() {
    pressed(&shop(AppProtocol::Http2), async |scene, dial| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let mut greedy = http2(scene.open("greedy", WEB).await.unwrap()).await;
        let mut other = http1(scene.open("greedy", WEB).await.unwrap()).await;
        let mut quiet = http2(scene.open("quiet", WEB).await.unwrap()).await;
        for client in [&mut greedy, &mut other, &mut quiet] {
            assert_eq!(client.get("/").await.status, 200);
        }
        let held = hold(&greedy, &seen).await;
        assert_eq!(greedy.get("/").await.status, 200, "there is room for more");

        dial.turn(scene, 3).await;
        for client in [&mut greedy, &mut other] {
            let answer = client.get("/").await;
            assert_eq!((answer.status, answer.body.as_str()), (503, "too many requests"));
            assert_eq!(answer.headers["retry-after"], "1");
        }
        assert_eq!(quiet.get("/").await.status, 200);
        assert_eq!(done(scene, "request_refused").await, 2);
        scene.logged(&["request complete", "response_flags=\"OM\"", "sa/greedy"]);

        dial.turn(scene, 4).await;
        until_sent_away(&mut greedy).await;
        until_sent_away(&mut other).await;
        assert_eq!(quiet.get("/").await.status, 200);
        assert!(done(scene, "connection_sent_away").await >= 2);

        dial.turn(scene, 5).await;
        // Who has a tunnel is told so, and who has none gets none.
        let refused = scene.open("quiet", WEB).await.err();
        assert!(matches!(&refused, Some(OpenError::Refused { status }) if *status == 503), "{refused:?}");
        let refused = scene.open("guest", WEB).await.err();
        assert!(matches!(refused, Some(OpenError::Dial(_))), "{refused:?}");
        assert_eq!(done(scene, "tunnel_refused").await, 2);
        assert_eq!(quiet.get("/").await.status, 200, "what is open goes on");
        for answer in held {
            seen.go_on.notify_one();
            assert_eq!(answer.await.status, 200, "and what was begun ends as it should");
        }
        scene.logged(&["there is too much to do", "rungs=5"]);

        dial.turn(scene, 0).await;
        let mut again = http1(scene.open("greedy", WEB).await.unwrap()).await;
        assert_eq!(again.get("/").await.status, 200);
        assert_eq!(quiet.get("/").await.status, 200);
    });
}
