//! What services ask for beyond Istio's fields (`waypoint.md` 7.5, 9.2): endpoints that are asked how they are, second
//! endpoints where the first takes long, and as many requests at a time as are answered quickly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{Rule, TimeLimit, Timeouts};
use ambit_model::service::AppProtocol;
use ambit_model::traffic::{Adaptive, Ask, Balance, Handling, Probe, Traffic};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Seen, Speaks, backend};
use crate::client::{Client, empty, full, http1, http2};
use crate::routes::{prefix, route, rule, to};
use crate::scene::{PATIENCE, Scene, endpoint, scene, shop};

const WEB: &str = "10.1.0.1:80";
/// Longer than a request needs here, and far shorter than those take that are slow on purpose.
const SOON: Duration = Duration::from_secs(10);

pub(crate) fn handled(handling: Handling) -> Change {
    let traffic = Traffic::unsaid("shop/web.shop.svc.cluster.local".parse().unwrap());
    Change::Traffic(Arc::new(Traffic { handling, ..traffic }))
}

fn probe(ask: Ask) -> Handling {
    let (interval, timeout) = (Duration::from_millis(50), Duration::from_secs(5));
    let probe = Probe { ask, interval, timeout, unhealthy: 2, healthy: 2 };
    Handling { probe: Some(probe), balance: Balance::RoundRobin, ..Handling::default() }
}

/// `web` with the endpoints `one` and `two`.
fn world(protocol: AppProtocol, handling: Handling) -> Vec<Change> {
    let mut world = shop(protocol);
    world.push(Change::Workload(Arc::new(endpoint("two", "127.0.0.3"))));
    world.push(handled(handling));
    world
}

async fn backends(scene: &mut Scene, speaks: Speaks) -> [Arc<Seen>; 2] {
    let one = backend(scene, "one", "127.0.0.2", speaks).await;
    [one, backend(scene, "two", "127.0.0.3", speaks).await]
}

async fn open(scene: &Scene) -> Client {
    http1(scene.open("cart", WEB).await.unwrap()).await
}

/// Asks until just these answer: `no` stands for nobody.
async fn until_by(client: &mut Client, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|it| (*it).to_owned()).collect();
    let end = Instant::now() + PATIENCE;
    loop {
        let mut found = BTreeSet::new();
        for _ in 0..8 {
            let answer = client.get("/").await;
            assert!(answer.status == 200 || answer.body == "no healthy upstream", "{answer:?}");
            found.insert(answer.body.split(' ').next().unwrap().to_owned());
        }
        if found == wanted {
            return;
        }
        assert!(Instant::now() < end, "{found:?} instead of {wanted:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn an_endpoint_that_says_that_it_is_unwell_is_left_out_until_it_says_otherwise() {
    let ask = Ask::Http { path: "/healthz".into(), host: None, good: 200..=299 };
    scene(&world(AppProtocol::Http11, probe(ask)), async |scene| {
        let [one, two] = backends(scene, Speaks::Http1).await;
        let mut client = open(scene).await;
        until_by(&mut client, &["one", "two"]).await;
        two.unwell.store(true, Ordering::SeqCst);
        until_by(&mut client, &["one"]).await;
        scene.logged(&["does not answer its health check", "Kubernetes//Pod/shop/two"]);
        let counters = scene.get(15020, "/metrics").await.unwrap();
        let counted =
            |line: &str| line.starts_with("ambit_waypoint_ejections_total") && line.contains("health_check");
        assert!(counters.lines().any(counted), "{counters}");
        // Nobody is well: nobody is asked, though all of them would answer.
        one.unwell.store(true, Ordering::SeqCst);
        until_by(&mut client, &["no"]).await;
        two.unwell.store(false, Ordering::SeqCst);
        until_by(&mut client, &["two"]).await;
        // Whoever is not asked any more is well.
        scene.plane.publish(&[handled(Handling::default())].into_iter().collect());
        until_by(&mut client, &["one", "two"]).await;
    });
}

#[test]
fn grpc_is_asked_by_its_own_protocol_and_whoever_does_not_accept_is_unwell() {
    let ask = Ask::Grpc { service: "shop.Cart".into() };
    scene(&world(AppProtocol::Grpc, probe(ask)), async |scene| {
        let [one, _two] = backends(scene, Speaks::Http2).await;
        let mut client = http2(scene.open("cart", WEB).await.unwrap()).await;
        until_by(&mut client, &["one", "two"]).await;
        one.unwell.store(true, Ordering::SeqCst);
        until_by(&mut client, &["two"]).await;
        one.unwell.store(false, Ordering::SeqCst);
        until_by(&mut client, &["one", "two"]).await;
        // Nobody is at this one.
        let three = Change::Workload(Arc::new(endpoint("three", "127.0.0.4")));
        scene.plane.publish(&[three, handled(probe(Ask::Tcp))].into_iter().collect());
        let end = Instant::now() + PATIENCE;
        let out =
            |line: &str| line.contains("does not answer its health check") && line.contains("shop/three");
        while !scene.log().lines().any(out) {
            assert!(Instant::now() < end, "{}", scene.log());
            sleep(Duration::from_millis(20)).await;
        }
        until_by(&mut client, &["one", "two"]).await;
    });
}

#[test]
fn a_second_endpoint_answers_where_the_first_takes_long_and_only_what_may_be_done_twice_is_asked_twice() {
    let hedge_after = Some(Duration::from_millis(50));
    let handling = Handling { hedge_after, balance: Balance::RoundRobin, ..Handling::default() };
    scene(&world(AppProtocol::Http11, handling), async |scene| {
        let _seen = backends(scene, Speaks::Http1).await;
        let mut client = open(scene).await;
        for _ in 0..6 {
            let answer = timeout(SOON, client.get("/slow-at/one")).await.expect("two answers");
            assert!(answer.status == 200 && answer.body.starts_with("two"), "{answer:?}");
        }
        scene.logged(&["upstream_attempts=2", "upstream_host=\"127.0.0.3:8080\""]);
        let counters = scene.get(15020, "/metrics").await.unwrap();
        let counted = |reason: &str| {
            let line =
                counters.lines().find(|it| it.starts_with("ambit_waypoint_hedges") && it.contains(reason));
            line.and_then(|it| it.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or_default()
        };
        // On a busy machine also those are asked twice that came to the quick one.
        assert!(counted("answered") >= 3 && counted("sent") >= counted("answered"), "{counters}");
        // Nothing takes long: nobody is asked twice.
        assert_eq!(client.get("/").await.status, 200);
        // Of what may not be done twice, nobody knows whether it was begun.
        let mut waits = 0;
        for _ in 0..2 {
            let mut client = open(scene).await;
            let request = client.request("/slow-at/one").method("POST").body(full("buy")).unwrap();
            waits += u32::from(timeout(Duration::from_secs(1), client.ask(request)).await.is_err());
        }
        assert_eq!(waits, 1, "one of two comes to the slow one, and stays there");
    });
}

#[test]
fn where_neither_of_two_answers_both_have_the_time_of_one_attempt() {
    let hedge_after = Some(Duration::from_millis(50));
    let handling = Handling { hedge_after, balance: Balance::RoundRobin, ..Handling::default() };
    let timeouts =
        Timeouts { backend_request: TimeLimit::After(Duration::from_secs(1)), ..Timeouts::default() };
    let mut world = world(AppProtocol::Http11, handling);
    world.push(route(vec![Rule { timeouts, ..rule(prefix("/"), vec![to("web", 1)]) }]));
    scene(&world, async |scene| {
        let _seen = backends(scene, Speaks::Http1).await;
        let mut client = open(scene).await;
        let answer = timeout(SOON, client.get("/held")).await.expect("an end");
        assert_eq!(answer.status, 504, "{answer:?}");
        scene.logged(&["response_flags=\"UT\""]);
    });
}

#[test]
fn there_are_as_many_requests_at_a_time_as_were_found_to_be_answered_quickly() {
    let adaptive = Some(Adaptive { least: 2, most: 2 });
    scene(&world(AppProtocol::Http11, Handling { adaptive, ..Handling::default() }), async |scene| {
        let [one, two] = backends(scene, Speaks::Http1).await;
        let mut first = open(scene).await;
        let mut second = open(scene).await;
        let mut third = open(scene).await;
        let ask = |client: &mut Client| client.request("/held").body(empty()).unwrap();
        let (asked, other) = (ask(&mut first), ask(&mut second));
        let mut held = Box::pin(async { tokio::join!(first.ask(asked), second.ask(other)) });
        let both = async {
            for _ in 0..2 {
                tokio::select! {
                    () = one.held.notified() => {}
                    () = two.held.notified() => {}
                }
            }
        };
        tokio::select! {
            _ = &mut held => panic!("answered"),
            () = both => {}
        }
        let answer = third.get("/").await;
        assert_eq!((answer.status, answer.headers["x-envoy-overloaded"].as_bytes()), (503, &b"true"[..]));
        scene.logged(&["response_flags=\"UO\"", "there are as many requests as are answered quickly"]);
        for seen in [&one, &two] {
            seen.go_on.notify_one();
            seen.go_on.notify_one();
        }
        // A permit is kept for one alone, so whoever came to the same endpoint is let go once more.
        let let_go = async {
            loop {
                one.go_on.notify_waiters();
                two.go_on.notify_waiters();
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            (one, other) = &mut held => assert_eq!((one.status, other.status), (200, 200)),
            () = let_go => {}
        }
        assert_eq!(third.get("/").await.status, 200);
    });
}
