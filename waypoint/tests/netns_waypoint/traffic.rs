//! How a service's traffic is handled: parts of its endpoints, which of them a request gets, how much there may be at a
//! time, and who is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{Backend, Broken, Retry, Rule, Upstream};
use ambit_model::service::AppProtocol;
use ambit_model::traffic::{
    Balance, Handling, HashBy, HashTable, Limits, Outlier, Proxied, Subset, Traffic, Version,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::backend::{Seen, Speaks, backend};
use crate::client::{Answer, Client, empty, http1};
use crate::routes::{prefix, route, rule, to};
use crate::scene::{PATIENCE, Scene, endpoint, scene, shop};

const WEB: &str = "10.1.0.1:80";
/// What an endpoint says that fails each request.
const FAILS: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn traffic(handling: Handling) -> Traffic {
    Traffic { handling, ..Traffic::unsaid("shop/web.shop.svc.cluster.local".parse().unwrap()) }
}

/// `web` with the endpoints `one` and `two`.
fn world(traffic: Traffic) -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Workload(Arc::new(endpoint("two", "127.0.0.3"))));
    world.push(Change::Traffic(Arc::new(traffic)));
    world
}

async fn backends(scene: &mut Scene) -> [Arc<Seen>; 2] {
    let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
    [one, backend(scene, "two", "127.0.0.3", Speaks::Http1).await]
}

async fn client(scene: &Scene) -> Client {
    http1(scene.open("cart", WEB).await.unwrap()).await
}

/// Who has answered.
fn by(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body.split(' ').next().unwrap()
}

/// Asks until the answer is as wanted: what was published comes when it comes.
async fn until(client: &mut Client, path: &str, wanted: impl Fn(&Answer) -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = client.get(path).await;
        if wanted(&answer) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn subset(member: &str) -> Subset {
    let members = BTreeSet::from([format!("Kubernetes//Pod/shop/{member}").into()]);
    Subset { members, handling: Handling::default(), ports: BTreeMap::new() }
}

#[test]
fn a_request_gets_an_endpoint_of_its_subset_as_the_algorithm_says_and_none_of_a_subset_that_is_not_there() {
    let of = |subset: &str| {
        let service = "shop/web.shop.svc.cluster.local".parse().unwrap();
        let upstream = Upstream { service, port: 80, subset: Some(subset.into()) };
        Backend { to: Ok(upstream), ..to("web", 1) }
    };
    let mut policy = traffic(Handling { balance: Balance::RoundRobin, ..Handling::default() });
    policy.subsets = BTreeMap::from([("v1".into(), subset("one")), ("v2".into(), subset("two"))]);
    let mut world = world(policy.clone());
    world.push(route(vec![
        rule(prefix("/v1"), vec![of("v1")]),
        rule(prefix("/v2"), vec![of("v2")]),
        rule(prefix("/v3"), vec![of("v3")]),
        rule(prefix("/"), vec![to("web", 1)]),
    ]));
    scene(&world, async |scene| {
        let _seen = backends(scene).await;
        let mut client = client(scene).await;
        for (path, wanted) in [("/v1", "one"), ("/v2", "two")] {
            for _ in 0..5 {
                assert_eq!(by(&client.get(path).await), wanted, "{path}");
            }
        }
        let answer = client.get("/v3").await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "no healthy upstream"));
        scene.logged(&["none of its endpoints is in the subset", "response_flags=\"UH\""]);
        // One after the other.
        let first = by(&client.get("/").await).to_owned();
        for turn in 1..10 {
            assert_eq!(by(&client.get("/").await) == first, turn % 2 == 0, "turn {turn}");
        }
        // A subset is who is in it now.
        policy.subsets.insert("v1".into(), subset("two"));
        scene.plane.publish(&[Change::Traffic(Arc::new(policy.clone()))].into_iter().collect());
        until(&mut client, "/v1", |answer| by(answer) == "two").await;
        // Gone, nobody knows of subsets any more, and everything else goes on.
        scene.plane.publish(&[Change::TrafficGone(policy.service.clone())].into_iter().collect());
        until(&mut client, "/v1", |answer| answer.status == 503).await;
        assert_eq!(client.get("/").await.status, 200);
        // What cannot be honoured is not half honoured.
        let closed = Some(Broken::because("TLS to endpoints is not spoken"));
        let closed = traffic(Handling { closed, ..Handling::default() });
        scene.plane.publish(&[Change::Traffic(Arc::new(closed))].into_iter().collect());
        until(&mut client, "/", |answer| answer.status == 500).await;
        scene.logged(&["TLS to endpoints is not spoken"]);
    });
}

#[test]
fn what_a_request_says_leads_to_the_same_endpoint_and_who_says_nothing_gets_a_cookie() {
    let hashed = |by| {
        let balance = Balance::Hash(by, HashTable::Maglev { size: 1021 });
        traffic(Handling { balance, ..Handling::default() })
    };
    scene(&world(hashed(HashBy::Header("x-user".parse().unwrap()))), async |scene| {
        let _seen = backends(scene).await;
        let mut client = client(scene).await;
        let mut homes = BTreeSet::new();
        for user in 0..20 {
            let mut all = BTreeSet::new();
            for _ in 0..3 {
                let request = client.request("/").header("x-user", format!("user-{user}"));
                all.insert(by(&client.ask(request.body(empty()).unwrap()).await).to_owned());
            }
            assert_eq!(all.len(), 1, "user {user} came to {all:?}");
            homes.extend(all);
        }
        assert_eq!(homes.len(), 2);
        let ttl = Some(Duration::from_secs(600));
        let cookie = hashed(HashBy::Cookie { name: "home".into(), path: "/".into(), ttl });
        scene.plane.publish(&[Change::Traffic(Arc::new(cookie))].into_iter().collect());
        until(&mut client, "/", |answer| answer.headers.contains_key("set-cookie")).await;
        let first = client.get("/").await;
        let told = first.headers["set-cookie"].to_str().unwrap().to_owned();
        let (cookie, rest) = told.split_once(';').unwrap();
        assert!(cookie.starts_with("home=\"") && rest == " Max-Age=600; Path=/; HttpOnly", "{told}");
        for _ in 0..8 {
            let again = client.ask(client.request("/").header("cookie", cookie).body(empty()).unwrap()).await;
            assert_eq!(by(&again), by(&first));
            assert!(!again.headers.contains_key("set-cookie"));
        }
    });
}

fn is_overflow(answer: &Answer) -> bool {
    let told = answer.headers.get("x-envoy-overloaded").is_some_and(|it| it == "true");
    answer.status == 503 && told && answer.body.ends_with("reset reason: overflow")
}

/// Until a request is held.
async fn held(seen: &Seen) {
    tokio::time::timeout(PATIENCE, seen.held.notified()).await.expect("a request under way");
}

#[test]
fn there_is_no_more_under_way_than_there_may_be_and_what_is_over_makes_room() {
    let policy = |limits| Change::Traffic(Arc::new(traffic(Handling { limits, ..Handling::default() })));
    let requests = Limits { requests: Some(1), per_connection: Some(1), ..Limits::default() };
    let world: Vec<_> = shop(AppProtocol::Http11).into_iter().chain([policy(requests)]).collect();
    scene(&world, async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let (mut busy, mut other, mut third) =
            (client(scene).await, client(scene).await, client(scene).await);
        let (answer, refused) = tokio::join!(busy.get("/held"), async {
            held(&seen).await;
            let refused = other.get("/").await;
            seen.go_on.notify_one();
            refused
        });
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(is_overflow(&refused), "{refused:?}");
        scene.logged(&["response_flags=\"UO\"", "upstream_reset_before_response_started{overflow}"]);
        let before = (seen.requests.load(Ordering::SeqCst), seen.streams.load(Ordering::SeqCst));
        for _ in 0..4 {
            assert_eq!(other.get("/").await.status, 200);
        }
        let after = (seen.requests.load(Ordering::SeqCst), seen.streams.load(Ordering::SeqCst));
        assert_eq!((after.0 - before.0, after.1 - before.1), (4, 4), "each request has its own connection");
        // Of those who wait for the one connection, one may; told apart from before by who may be under way.
        let one = Limits { connections: Some(1), pending: Some(1), ..Limits::default() };
        scene.plane.publish(&[policy(one)].into_iter().collect());
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let streams = seen.streams.load(Ordering::SeqCst);
            assert_eq!((other.get("/").await.status, other.get("/").await.status), (200, 200));
            if seen.streams.load(Ordering::SeqCst) == streams {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "connections are not kept");
        }
        let (answer, (refused, let_in)) = tokio::join!(busy.get("/held"), async {
            held(&seen).await;
            let (mut one, mut two) = (Box::pin(other.get("/")), Box::pin(third.get("/")));
            // Whichever comes second is refused at once, and the first waits.
            let (refused, waits) = tokio::select! {
                refused = &mut one => (refused, two),
                refused = &mut two => (refused, one),
            };
            seen.go_on.notify_one();
            (refused, waits.await)
        });
        assert_eq!((answer.status, let_in.status), (200, 200), "{answer:?} {let_in:?}");
        assert!(is_overflow(&refused), "{refused:?}");
        let metrics = scene.get(15020, "/stats/prometheus").await.unwrap();
        for reason in ["requests", "pending"] {
            let wanted = |line: &&str| {
                line.starts_with("ambit_waypoint_overflows_total{")
                    && line.contains(&format!("reason=\"{reason}\""))
                    && line.ends_with(" 1")
            };
            assert!(metrics.lines().any(|line| wanted(&line)), "{reason}: {metrics}");
        }
    });
}

/// A websocket that is open.
async fn chat(client: &mut Client) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let request = client.request("/chat").header("connection", "upgrade").header("upgrade", "websocket");
    let mut response = client.send(request.body(empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut open = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    open.write_all(b"hello").await.unwrap();
    open.read_exact(&mut [0; 5]).await.unwrap();
    open
}

#[test]
fn a_websocket_is_one_of_the_requests_and_its_connection_one_of_those_there_may_be_while_it_is_open() {
    let limits = Limits { requests: Some(1), ..Limits::default() };
    let limited = |limits| {
        let mut world = shop(AppProtocol::Http11);
        world.push(Change::Traffic(Arc::new(traffic(Handling { limits, ..Handling::default() }))));
        world
    };
    scene(&limited(limits), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let (mut talks, mut other) = (client(scene).await, client(scene).await);
        let open = chat(&mut talks).await;
        for _ in 0..3 {
            let refused = other.get("/").await;
            assert!(is_overflow(&refused), "{refused:?}");
        }
        drop((open, talks));
        until(&mut other, "/", |answer| answer.status == 200).await;
    });
    let limits = Limits { connections: Some(1), ..Limits::default() };
    scene(&limited(limits), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let (mut talks, mut other) = (client(scene).await, client(scene).await);
        let open = chat(&mut talks).await;
        let mut waits = Box::pin(other.get("/"));
        let early = tokio::time::timeout(Duration::from_millis(500), &mut waits).await;
        assert!(early.is_err(), "{early:?}");
        assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
        drop((open, talks));
        assert_eq!(tokio::time::timeout(PATIENCE, waits).await.expect("room").status, 200);
    });
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_others_get_its_requests() {
    let outlier = Outlier { errors: 2, most_percent: 100, base: PATIENCE * 10, ..Outlier::default() };
    let limits = Limits { version: Version::Http1, ..Limits::default() };
    let handling =
        Handling { balance: Balance::RoundRobin, outlier: Some(outlier), limits, ..Handling::default() };
    scene(&world(traffic(handling)), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let _two = backend(scene, "two", "127.0.0.3", Speaks::Raw(FAILS)).await;
        let mut client = client(scene).await;
        let mut failed = 0;
        for _ in 0..40 {
            let answer = client.get("/").await;
            failed += usize::from(answer.status == 500);
        }
        assert_eq!(failed, 2);
        scene.logged(&["an endpoint fails and is left out for a while", "Kubernetes//Pod/shop/two"]);
        let metrics = scene.get(15020, "/stats/prometheus").await.unwrap();
        let counted = metrics.lines().find(|line| line.starts_with("ambit_waypoint_ejections_total{"));
        assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
    });
}

#[test]
fn what_fails_twice_nearby_is_tried_farther_away_where_that_is_asked_for() {
    // Places matter where those that fail are left out, which comes later than this test ends.
    let outlier = Outlier { errors: 1_000, ..Outlier::default() };
    let limits = Limits { version: Version::Http1, ..Limits::default() };
    let handling = Handling { outlier: Some(outlier), limits, ..Handling::default() };
    let mut far = endpoint("two", "127.0.0.3");
    far.locality.region = "far".into();
    let rule = |path: &str, moves_on| Rule {
        retry: Some(Retry { codes: vec![500], same_again: true, moves_on, ..Retry::unasked() }),
        ..rule(prefix(path), vec![to("web", 1)])
    };
    let mut world = shop(AppProtocol::Http11);
    let routes = route(vec![rule("/far", true), rule("/near", false)]);
    world.extend([Change::Workload(Arc::new(far)), Change::Traffic(Arc::new(traffic(handling))), routes]);
    scene(&world, async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Raw(FAILS)).await;
        let _two = backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
        let mut client = client(scene).await;
        assert_eq!(client.get("/near").await.status, 500);
        scene.logged(&["/near", "upstream_attempts=3", "upstream_host=\"127.0.0.2:8080\""]);
        assert_eq!(by(&client.get("/far").await), "two");
        scene.logged(&["/far", "upstream_attempts=3", "upstream_host=\"127.0.0.3:8080\""]);
    });
}

#[test]
fn where_nothing_was_said_of_a_service_the_less_busy_of_two_endpoints_is_asked() {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Workload(Arc::new(endpoint("two", "127.0.0.3"))));
    scene(&world, async |scene| {
        let [one, two] = backends(scene).await;
        let (mut busy, mut client) = (client(scene).await, client(scene).await);
        let (_, (name, count)) = tokio::join!(busy.get("/held"), async {
            let (name, seen) = tokio::select! {
                () = held(&one) => ("one", &one),
                () = held(&two) => ("two", &two),
            };
            let mut count = 0;
            for _ in 0..400 {
                count += usize::from(by(&client.get("/").await) == name);
            }
            seen.go_on.notify_one();
            (name, count)
        });
        // By chance alone it would be half of them; of two that come by chance it is a quarter.
        assert!((50..150).contains(&count), "{name}, which holds one, got {count} of 400");
    });
}

#[test]
fn an_endpoint_is_told_of_each_connection_whose_it_is_and_clients_share_none() {
    let mut world = shop(AppProtocol::Http11);
    let told = traffic(Handling { proxied: Some(Proxied::V1), ..Handling::default() });
    world.push(Change::Traffic(Arc::new(told)));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Announced).await;
        let name = |answer: &str| answer.lines().next().unwrap_or_default().to_owned();
        let mut first = http1(scene.open("cart", WEB).await.unwrap()).await;
        let told = name(&first.get("/a").await.body);
        let (_, line) = told.split_once(" for PROXY TCP4 ").unwrap_or_else(|| panic!("{told}"));
        let parts: Vec<_> = line.split(' ').collect();
        assert_eq!((parts.len(), parts[1], parts[3]), (4, "10.1.0.1", "80"), "{line}");
        assert_eq!(name(&first.get("/b").await.body), told, "a client's connection is kept for it");
        assert_eq!(one.streams.load(Ordering::SeqCst), 1);
        let (stream, _) = scene.lead(("cart", "127.0.0.77"), None, WEB).await.unwrap();
        let mut second = http1(stream).await;
        let other = name(&second.get("/c").await.body);
        assert!(other.contains(" for PROXY TCP4 127.0.0.77 10.1.0.1 "), "{other}");
        assert_eq!(one.streams.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_connection_that_is_no_http_begins_with_who_its_client_is() {
    let mut world = shop(AppProtocol::Tcp);
    let told = traffic(Handling { proxied: Some(Proxied::V2), ..Handling::default() });
    world.push(Change::Traffic(Arc::new(told)));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Echo).await;
        let mut stream = scene.open("cart", WEB).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut told = vec![0; 28 + 5];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(
            (&told[20..24], &told[26..28], &told[28..]),
            (&[10, 1, 0, 1][..], &[0, 80][..], &b"hello"[..])
        );
    });
}
