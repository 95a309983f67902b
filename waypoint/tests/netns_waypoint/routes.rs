//! Routes in force: which backend, what is changed on the way there and back, and what is answered instead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{
    Backend, Broken, Cors, Filters, Match, Mirror, Names, Parent, PathChange, PathMatch, Redirect,
    RedirectStatus, Retry, Rewrite, Route, Rule, Share, TimeLimit, Timeouts, Upstream,
};
use ambit_model::request_policy::RequestAction;
use ambit_model::service::AppProtocol;

use crate::asked::web;
use crate::backend::{Seen, Speaks, backend};
use crate::client::{Client, empty, http1};
use crate::policies::{change, policy, to_path};
use crate::scene::{PATIENCE, Scene, endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

pub(crate) fn to(service: &str, weight: u32) -> Backend {
    let service = format!("shop/{service}.shop.svc.cluster.local").parse().unwrap();
    Backend { to: Ok(Upstream { service, port: 80, subset: None }), weight, filters: Ok(Filters::default()) }
}

fn on(path: PathMatch) -> Vec<Match> {
    vec![Match { path, ..Match::default() }]
}

fn exact(path: &str) -> Vec<Match> {
    on(PathMatch::Exact(path.into()))
}

pub(crate) fn prefix(path: &str) -> Vec<Match> {
    on(PathMatch::Prefix(path.into()))
}

pub(crate) fn rule(matches: Vec<Match>, backends: Vec<Backend>) -> Rule {
    Rule {
        name: "".into(),
        matches,
        filters: Ok(Filters::default()),
        backends,
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    }
}

fn setting(name: &'static str) -> ambit_model::http_route::HeaderEdits {
    let mut edits = ambit_model::http_route::HeaderEdits::default();
    edits.set(name.parse().unwrap(), "yes".parse().unwrap()).unwrap();
    edits
}

/// The route `cart` of the service `web`.
pub(crate) fn route(rules: Vec<Rule>) -> Change {
    let service = "shop/web.shop.svc.cluster.local".parse().unwrap();
    Change::Route(Arc::new(Route {
        key: "HTTPRoute/shop/cart".parse().unwrap(),
        created_s: 1,
        parents: vec![Parent { service, port: None }],
        rules: rules.into_iter().map(Arc::new).collect(),
    }))
}

/// `web` with the endpoint `one`, `other` with the endpoint `two`, and a route.
fn world(rules: Vec<Rule>) -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Http11))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))));
    world.push(route(rules));
    world
}

async fn open(scene: &mut Scene) -> (Client, [Arc<Seen>; 2]) {
    let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
    let two = backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
    (http1(scene.open("cart", WEB).await.unwrap()).await, [one, two])
}

#[test]
fn a_route_changes_paths_and_headers_on_the_way_there_and_back() {
    let path = Some(PathChange::Prefix("/v1".parse().unwrap()));
    let changed = Filters {
        request_headers: setting("x-route"),
        response_headers: setting("x-answered"),
        rewrite: Some(Box::new(Rewrite {
            hostname: Some("inside.example".parse().unwrap()),
            port: None,
            path,
        })),
        ..Filters::default()
    };
    let own = Filters { request_headers: setting("x-backend"), ..Filters::default() };
    let backends = vec![Backend { filters: Ok(own), ..to("other", 1) }];
    let world = world(vec![Rule { filters: Ok(changed), ..rule(prefix("/api"), backends) }]);
    scene(&world, async |scene| {
        let (mut client, _) = open(scene).await;
        // A path is put into one form before it is looked up, and goes on in it.
        for path in ["/api/x?a=b", "/api/y/../x?a=b", "/%61pi/x?a=b"] {
            let answer = client.get(path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let mut lines = answer.body.lines();
            assert_eq!(lines.next(), Some("two at 127.0.0.3:8080"), "{path}");
            assert_eq!(lines.next(), Some("GET /v1/x?a=b HTTP/1.1"), "{path}");
            for header in [
                "host: inside.example",
                "x-route: yes",
                "x-backend: yes",
                "x-envoy-original-path: /api/x",
                "x-envoy-original-host: web",
            ] {
                assert!(answer.body.contains(header), "{header}: {}", answer.body);
            }
            assert_eq!(answer.headers["x-answered"], "yes");
        }
        scene.logged(&["request complete", "route_name=\"HTTPRoute/shop/cart\""]);
    });
}

#[test]
fn what_a_route_cannot_do_is_answered_and_what_none_matches_is_not_found() {
    let redirect = Redirect {
        path: Some(PathChange::Full("/new".parse().unwrap())),
        status: RedirectStatus::MovedPermanently,
        ..Redirect::default()
    };
    let elsewhere = Filters {
        redirect: Some(Box::new(redirect)),
        response_headers: setting("x-answered"),
        ..Filters::default()
    };
    let broken = Backend { to: Err(Broken::because("no such service")), ..to("other", 1) };
    let world = world(vec![
        Rule { filters: Ok(elsewhere), ..rule(prefix("/old"), vec![]) },
        rule(exact("/nobody"), vec![]),
        rule(exact("/weightless"), vec![to("other", 0)]),
        rule(exact("/broken"), vec![broken]),
        rule(exact("/unknown"), vec![to("missing", 1)]),
        Rule { filters: Err(Broken::because("what is this")), ..rule(exact("/odd"), vec![to("other", 1)]) },
    ]);
    scene(&world, async |scene| {
        let (mut client, [one, two]) = open(scene).await;
        for (path, status) in [
            ("/nobody", 500),
            ("/weightless", 500),
            ("/broken", 500),
            ("/unknown", 500),
            ("/odd", 500),
            ("/", 404),
            ("/nobody/", 404),
        ] {
            assert_eq!(client.get(path).await.status, status, "{path}");
        }
        for path in ["/%zz", "/../x", "/a%00"] {
            let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
            assert_eq!(client.get(path).await.status, 400, "{path}");
        }
        let answer = client.get("/old/a?b=c").await;
        assert_eq!((answer.status, answer.body.as_str()), (301, ""));
        assert_eq!(answer.headers["location"], "http://web/new?b=c");
        assert_eq!(answer.headers["x-answered"], "yes");
        let request = client.request("/shop.Cart/Add").header("content-type", "application/grpc");
        let answer = client.ask(request.body(empty()).unwrap()).await;
        assert_eq!((answer.status, answer.headers["grpc-status"].as_bytes()), (200, &b"12"[..]));
        assert_eq!(one.requests.load(Ordering::SeqCst) + two.requests.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn shares_are_as_routes_say_and_a_change_is_in_force_when_it_is_acknowledged() {
    scene(&world(vec![rule(vec![], vec![to("web", 90), to("other", 10)])]), async |scene| {
        let (mut client, [one, two]) = open(scene).await;
        for _ in 0..500 {
            assert_eq!(client.get("/").await.status, 200);
        }
        let (web, other) = (one.requests.load(Ordering::SeqCst), two.requests.load(Ordering::SeqCst));
        // 50 are expected, give or take 7; six times that never happens.
        assert!(web + other == 500 && (10..=90).contains(&other), "{web} {other}");
        for (change, wanted) in [
            (route(vec![rule(vec![], vec![to("other", 1)])]), "two"),
            (route(vec![rule(vec![], vec![to("web", 1)])]), "one"),
            (Change::RouteGone("HTTPRoute/shop/cart".parse().unwrap()), "one"),
        ] {
            scene.plane.publish(&[change].into_iter().collect());
            let answer = client.get("/").await;
            assert!(answer.body.starts_with(wanted), "{wanted}: {}", answer.body);
        }
    });
}

#[test]
fn copies_are_sent_beside_requests_and_nobody_waits_for_them() {
    let mirror = |service: &str| Mirror { to: to(service, 1).to, share: Share::ALL };
    let filters = Filters {
        request_headers: setting("x-route"),
        mirrors: vec![mirror("other"), mirror("missing")],
        ..Filters::default()
    };
    let own = Filters { request_headers: setting("x-backend"), ..Filters::default() };
    let backends = vec![Backend { filters: Ok(own), ..to("web", 1) }];
    let world = world(vec![Rule { filters: Ok(filters), ..rule(vec![], backends) }]);
    scene(&world, async |scene| {
        let (mut client, [one, two]) = open(scene).await;
        for number in 1..=20 {
            let text = "x".repeat(100 * number);
            let request = client.request("/count").method("POST").body(crate::client::full(&text)).unwrap();
            let answer = client.ask(request).await;
            assert_eq!(answer.body, format!("{} {{}}", text.len()), "the endpoint's own answer");
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        while two.requests.load(Ordering::SeqCst) < 20 {
            assert!(tokio::time::Instant::now() < until, "copies are missing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(one.requests.load(Ordering::SeqCst), 20);
        let bodies = two.bodies.load(Ordering::SeqCst);
        assert_eq!(bodies, (1..=20).map(|number| 100 * number).sum::<usize>(), "copies are whole");
        assert_eq!(two.last.lock().unwrap().get("x-route").unwrap(), "yes");
        assert!(!two.last.lock().unwrap().contains_key("x-backend"), "what is the backend's alone");
    });
}

#[test]
fn browsers_are_told_what_pages_of_other_origins_may_do() {
    let cors = Cors { origins: Names::These(vec!["https://a.b".parse().unwrap()]), ..Cors::default() };
    let filters = Filters { cors: Some(Box::new(cors)), ..Filters::default() };
    let mut world = world(vec![Rule { filters: Ok(filters), ..rule(vec![], vec![to("web", 1)]) }]);
    world.push(change(policy("none", web(), RequestAction::Deny, &[to_path("/denied")])));
    scene(&world, async |scene| {
        let (mut client, [one, _]) = open(scene).await;
        for (origin, allowed) in [("https://a.b", true), ("https://c.d", false)] {
            let asks = client.request("/").method("OPTIONS").header("origin", origin);
            let asks = asks.header("access-control-request-method", "GET").body(empty()).unwrap();
            let answer = client.ask(asks).await;
            assert_eq!(answer.status, 204);
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
            let request = client.request("/").header("origin", origin).body(empty()).unwrap();
            let answer = client.ask(request).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
            // Pages may see why they are refused, too.
            let request = client.request("/denied").header("origin", origin).body(empty()).unwrap();
            let answer = client.ask(request).await;
            assert_eq!((answer.status, &answer.headers["vary"]), (403, &"origin".parse().unwrap()));
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
        }
        assert_eq!(one.requests.load(Ordering::SeqCst), 2, "questions are not sent on");
    });
}

#[test]
fn time_limits_and_tries_are_a_routes_to_set() {
    let timeouts = |request: u64, attempt: u64| Timeouts {
        request: TimeLimit::from(Duration::from_millis(request)),
        backend_request: TimeLimit::from(Duration::from_millis(attempt)),
    };
    let retry = Retry { codes: vec![503], backoff: Some(Duration::from_millis(1)), ..Retry::unasked() };
    let slow = |path, timeouts| Rule { timeouts, ..rule(exact(path), vec![to("web", 1)]) };
    let again = Rule { retry: Some(retry), ..rule(prefix("/status"), vec![to("web", 1)]) };
    scene(
        &world(vec![slow("/slow", timeouts(0, 200)), slow("/held", timeouts(200, 0)), again]),
        async |scene| {
            let (mut client, [one, _]) = open(scene).await;
            for path in ["/slow", "/held"] {
                let answer = client.get(path).await;
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (504, "upstream request timeout"),
                    "{path}"
                );
                scene.logged(&[&format!("path=\"{path}\""), "response_flags=\"UT\""]);
            }
            let before = one.requests.load(Ordering::SeqCst);
            let answer = client.get("/status/503").await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (503, "as asked"),
                "the last answer is given as it is"
            );
            assert_eq!(one.requests.load(Ordering::SeqCst), before + 3);
            assert_eq!(client.get("/status/500").await.status, 500);
            assert_eq!(one.requests.load(Ordering::SeqCst), before + 4, "500 is no code of the route's");
        },
    );
}
