//! The edge cases that implementations differ in (`waypoint.md` 9.4), as far as requests and routes decide them: each
//! with what must come of it. Which test holds each of the others is in the README beside this target.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{
    Backend, Broken, Filters, Match, Mirror, Parent, PathChange, PathMatch, Redirect, Retry, Rewrite, Route,
    Rule, Share, TimeLimit, Timeouts, Upstream,
};
use ambit_model::service::{AppProtocol, ServicePort};

use crate::backend::{Speaks, backend};
use crate::client::{empty, http1};
use crate::scene::{Scene, endpoint, endpoint_of, scene, service, shop};

fn to(service: &str, weight: u32) -> Backend {
    let service = format!("shop/{service}.shop.svc.cluster.local").parse().unwrap();
    Backend { to: Ok(Upstream { service, port: 80, subset: None }), weight, filters: Ok(Filters::default()) }
}

fn missing(weight: u32) -> Backend {
    Backend { to: Err(Broken::because("no such service")), ..to("web", weight) }
}

fn on(path: PathMatch) -> Match {
    Match { path, ..Match::default() }
}

fn prefix(path: &str) -> Match {
    on(PathMatch::Prefix(path.into()))
}

fn rule(matched: Match, backends: Vec<Backend>) -> Rule {
    let filters = Ok(Filters::default());
    let timeouts = Timeouts::default();
    Rule { name: "".into(), matches: vec![matched], filters, backends, timeouts, retry: None, session: None }
}

fn changing(matched: Match, filters: Filters) -> Rule {
    Rule { filters: Ok(filters), ..rule(matched, vec![to("web", 1)]) }
}

fn route(key: &str, created_s: u64, port: Option<u16>, rules: Vec<Rule>) -> Change {
    let service = "shop/web.shop.svc.cluster.local".parse().unwrap();
    Change::Route(Arc::new(Route {
        key: key.parse().unwrap(),
        created_s,
        parents: vec![Parent { service, port }],
        rules: rules.into_iter().map(Arc::new).collect(),
    }))
}

/// `web` with ports 80 and 8080 and the endpoint `one`, `other` with `two`, `nobody` with none.
fn world() -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    let mut web = service("web", "10.1.0.1", AppProtocol::Http11);
    web.ports.insert(8080, ServicePort { target: 8080, protocol: AppProtocol::Http11 });
    let mut one = endpoint("one", "127.0.0.2");
    for ports in one.services.values_mut() {
        ports.insert(8080, 8080);
    }
    world.push(Change::Service(Arc::new(web)));
    world.push(Change::Workload(Arc::new(one)));
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Http11))));
    world.push(Change::Service(Arc::new(service("nobody", "10.1.0.3", AppProtocol::Http11))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))));
    world
}

/// How many of 400 requests are answered like this.
async fn share(scene: &Scene, path: &str, wanted: u16) -> usize {
    let mut client = http1(scene.open("cart", "10.1.0.1:80").await.unwrap()).await;
    let mut found = 0;
    for _ in 0..400 {
        found += usize::from(client.get(path).await.status == wanted);
    }
    found
}

#[test]
fn the_more_special_goes_first_and_a_port_without_a_route_has_none() {
    let exact = on(PathMatch::Exact("/a".into()));
    let by_method = Match { method: Some(http::Method::GET), ..prefix("/b") };
    let mut by_headers = prefix("/b");
    by_headers.headers = ["x-a", "x-b", "x-c"]
        .map(|name| ambit_model::http_route::HeaderMatch {
            name: name.parse().unwrap(),
            value: ambit_model::http_route::ValueMatch::Exact("1".into()),
        })
        .into();
    let mut world = world();
    world.push(route(
        "HTTPRoute/shop/older",
        1,
        Some(80),
        vec![rule(prefix("/a"), vec![to("web", 1)]), rule(by_headers, vec![to("web", 1)])],
    ));
    world.push(route(
        "HTTPRoute/shop/newer",
        2,
        Some(80),
        vec![rule(exact, vec![to("other", 1)]), rule(by_method, vec![to("other", 1)])],
    ));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
        // 2, 3, and 9: whose service it is, the address says, and Host plays no part.
        for (number, path, host, wanted) in
            [(2, "/a", "web", "two"), (3, "/b", "web", "two"), (9, "/a/b", "other.shop", "one")]
        {
            let mut client = http1(scene.open("cart", "10.1.0.1:80").await.unwrap()).await;
            let request = http::Request::builder().uri(path).header("host", host);
            let request = request.header("x-a", "1").header("x-b", "1").header("x-c", "1");
            let answer = client.ask(request.body(empty()).unwrap()).await;
            assert!(answer.body.starts_with(wanted), "{number}: {answer:?}");
        }
        // 1: the routes of port 80 say nothing of 8080.
        let mut client = http1(scene.open("cart", "10.1.0.1:8080").await.unwrap()).await;
        let answer = client.get("/nothing-matches-this").await;
        assert!(answer.status == 200 && answer.body.starts_with("one"), "{answer:?}");
    });
}

#[test]
fn what_a_backend_cannot_do_is_its_share_and_nobody_elses() {
    let mut world = world();
    world.push(route(
        "HTTPRoute/shop/cart",
        1,
        None,
        vec![
            rule(prefix("/weightless"), vec![to("web", 1), missing(0)]),
            rule(prefix("/half"), vec![to("web", 50), missing(50)]),
            rule(prefix("/empty"), vec![to("web", 50), to("nobody", 50)]),
            Rule {
                filters: Ok(Filters { redirect: Some(Box::new(Redirect::default())), ..Filters::default() }),
                ..rule(prefix("/redirected"), vec![])
            },
        ],
    ));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        // 200 are expected of a half, give or take 10; ten times that never happens.
        let half = 100..=300;
        assert_eq!(share(scene, "/weightless", 200).await, 400, "4");
        let (good, bad) = (share(scene, "/half", 200).await, share(scene, "/half", 500).await);
        assert!(half.contains(&good) && half.contains(&bad), "5: {good} {bad}");
        let (good, bad) = (share(scene, "/empty", 200).await, share(scene, "/empty", 503).await);
        assert!(half.contains(&good) && half.contains(&bad), "6: {good} {bad}");
        assert_eq!(share(scene, "/redirected", 302).await, 400, "7");
    });
}

/// Rules that each change or forbid something, in the words of the cases below.
fn changed() -> Vec<Change> {
    let edits = |name: &'static str, value: &'static str| {
        let mut edits = ambit_model::http_route::HeaderEdits::default();
        edits.add(name.parse().unwrap(), value.parse().unwrap()).unwrap();
        edits
    };
    let path = Some(PathChange::Prefix("/".parse().unwrap()));
    let rewrite = Some(Box::new(Rewrite { hostname: None, port: None, path }));
    let lost = Mirror { to: to("nobody", 1).to, share: Share::ALL };
    let limit = Timeouts { request: TimeLimit::from(Duration::from_secs(1)), ..Timeouts::default() };
    let mut again = rule(prefix("/again"), vec![to("other", 1)]);
    again.retry = Some(Retry { backoff: Some(Duration::from_millis(1)), ..Retry::unasked() });
    let mut world = world();
    // `three` has a tunnel to nowhere.
    world.push(Change::Workload(Arc::new(endpoint_of("other", "three", "127.0.0.4"))));
    world.push(route(
        "HTTPRoute/shop/cart",
        1,
        None,
        vec![
            changing(prefix("/strip-prefix"), Filters { rewrite, ..Filters::default() }),
            changing(prefix("/add"), Filters { request_headers: edits("x-a", "new"), ..Filters::default() }),
            changing(prefix("/copied"), Filters { mirrors: vec![lost], ..Filters::default() }),
            rule(prefix("/public"), vec![to("web", 1)]),
            Rule { timeouts: limit, ..rule(prefix("/held"), vec![to("web", 1)]) },
            again,
        ],
    ));
    world
}

#[test]
fn what_rules_change_and_forbid_is_what_they_say() {
    scene(&changed(), async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
        let nowhere = backend(scene, "three", "127.0.0.4", Speaks::Nothing).await;
        let mut client = http1(scene.open("cart", "10.1.0.1:80").await.unwrap()).await;
        let second = |body: &str| body.lines().nth(1).unwrap_or_default().to_owned();
        // 10, 19
        for (number, path, seen) in [
            (10, "/strip-prefix", "GET / HTTP/1.1"),
            (10, "/strip-prefix/", "GET / HTTP/1.1"),
            (10, "/strip-prefix/a?b", "GET /a?b HTTP/1.1"),
            (19, "/admin/../public", "GET /public HTTP/1.1"),
            (19, "/%61dmin/./%2e%2E/public/a", "GET /public/a HTTP/1.1"),
        ] {
            let answer = client.get(path).await;
            assert_eq!((answer.status, second(&answer.body)), (200, seen.to_owned()), "{number}: {path}");
        }
        // 11
        let request = client.request("/add").header("x-a", "old").body(empty()).unwrap();
        assert_eq!(client.ask(request).await.status, 200, "11");
        let last = one.last.lock().unwrap().clone();
        let values: Vec<_> = last.get_all("x-a").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values.join(","), "old,new", "11");
        // 12
        let answer = client.get("/held").await;
        assert_eq!((answer.status, answer.body.as_str()), (504, "upstream request timeout"), "12");
        assert_eq!(answer.headers["content-type"], "text/plain", "12");
        // 13
        let request = client.request("/no/rule").header("content-type", "application/grpc+proto");
        let answer = client.ask(request.body(empty()).unwrap()).await;
        assert_eq!((answer.status, answer.headers["grpc-status"].as_bytes()), (200, &b"12"[..]), "13");
        // 23
        for _ in 0..30 {
            let answer = client.get("/again").await;
            assert!(answer.status == 200 && answer.body.starts_with("two"), "23: {answer:?}");
        }
        assert!(nowhere.streams.load(Ordering::SeqCst) > 0, "23: it was never asked");
        // 24
        for _ in 0..30 {
            assert_eq!(client.get("/copied").await.status, 200, "24");
        }
    });
}
