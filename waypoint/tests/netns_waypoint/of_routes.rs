//! Limits and processors of a route, or of its rules: of which requests they are, and what holds where a processor has the
//! route chosen again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::ext_proc::{ChangeRules, ExtProc};
use ambit_model::http_route::{Filters, Redirect, RouteTarget, Rule};
use ambit_model::rate_limit::{LocalLimit, Rate, RateLimit};
use ambit_model::request_policy::RequestRule;
use ambit_model::service::AppProtocol;

use crate::authorizer::number;
use crate::backend::{Speaks, backend};
use crate::client::{Answer, http1};
use crate::limits::{get, limits, local, publish, told};
use crate::processed::{guard, of};
use crate::processor::{REQUEST_HEADERS, RESPONSE_HEADERS, headers, processor, set};
use crate::routes::{prefix, route, rule, to};
use crate::scene::{endpoint_of, scene, service};
use crate::{limits as limited, processed};

const WEB: &str = "10.1.0.1:80";

/// Limits of the route `cart`: of all its rules, or of those of a name.
fn of_route(key: &str, rule: Option<&str>, requests: u32) -> Change {
    let target = RouteTarget { route: "HTTPRoute/shop/cart".parse().unwrap(), rule: rule.map(Into::into) };
    limited::change(RateLimit {
        key: key.parse().unwrap(),
        targets: Vec::new(),
        routes: vec![target],
        ..limits(vec![local("/*", &[], requests)], None)
    })
}

#[test]
fn limits_of_a_route_are_of_the_requests_of_its_rules_and_of_no_others() {
    let mut world = limited::world();
    let elsewhere = Filters { redirect: Some(Box::new(Redirect::default())), ..Filters::default() };
    world.push(route(vec![
        Rule { name: "pay".into(), ..rule(prefix("/pay"), vec![to("web", 1)]) },
        Rule { name: "old".into(), filters: Ok(elsewhere), ..rule(prefix("/old"), vec![]) },
        rule(prefix("/free"), vec![to("web", 1)]),
    ]));
    world.push(of_route("shop/pay", Some("pay"), 1));
    world.push(of_route("shop/other", Some("nobody"), 1));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // Of other rules, and of none, nothing is counted.
        for (path, status) in [("/free", 200), ("/free", 200), ("/old", 302), ("/none", 404), ("/none", 404)]
        {
            let answer = get(&mut client, path, &[]).await;
            assert_eq!((answer.status, told(&answer, "x-ratelimit-limit")), (status, None), "{path}");
        }
        let first = get(&mut client, "/pay", &[]).await;
        assert_eq!((first.status, told(&first, "x-ratelimit-remaining")), (200, Some("0")));
        let passed = one.requests.load(Ordering::Relaxed);
        assert_eq!(get(&mut client, "/pay/x", &[]).await.status, 429);
        assert_eq!(one.requests.load(Ordering::Relaxed), passed);
        scene.logged(&["response_flags=\"RL\"", "shop/pay"]);
        // One of the whole route counts what its rules answer themselves as well, and beside those of its rules.
        publish(scene, of_route("shop/whole", None, 3));
        while told(&get(&mut client, "/free", &[]).await, "x-ratelimit-remaining") != Some("2") {}
        assert_eq!(get(&mut client, "/old", &[]).await.status, 302);
        assert_eq!(get(&mut client, "/pay", &[]).await.status, 429);
        assert_eq!(get(&mut client, "/none", &[]).await.status, 404);
        for path in ["/free", "/old", "/pay"] {
            let answer = get(&mut client, path, &[]).await;
            assert_eq!(answer.status, if path == "/free" { 200 } else { 429 }, "{path}");
        }
        publish(scene, Change::RateLimitGone("shop/whole".parse().unwrap()));
        while get(&mut client, "/old", &[]).await.status != 302 {}
    });
}

/// Of the route `cart`, the rules of a name.
fn of_rule(name: &str) -> Vec<RouteTarget> {
    vec![RouteTarget { route: "HTTPRoute/shop/cart".parse().unwrap(), rule: Some(name.into()) }]
}

/// The rules `a` and `b`, each with a processor that may choose another route, and of `b` so many requests; and `c`.
fn routed(requests: u32) -> Vec<Change> {
    let routing = || ChangeRules { routing: true, ..ChangeRules::default() };
    let first = ExtProc { targets: Vec::new(), routes: of_rule("a"), changes: routing(), ..guard() };
    let second = ExtProc {
        key: "shop/second".parse().unwrap(),
        at: Some("shop/second.shop.svc.cluster.local:80".parse().unwrap()),
        routes: of_rule("b"),
        ..first.clone()
    };
    let mut world = processed::world(first);
    world.push(Change::Service(Arc::new(service("second", "10.1.0.6", AppProtocol::Grpc))));
    world.push(Change::Workload(Arc::new(endpoint_of("second", "second", "127.0.0.6"))));
    world.push(processed::change(second));
    let of = |name: &str| Rule { name: name.into(), ..rule(prefix(&format!("/{name}")), vec![to("web", 1)]) };
    world.push(route(vec![of("a"), of("b"), of("c")]));
    let rate = Rate::new(requests, Duration::from_secs(3600), requests).unwrap();
    world.push(Change::RateLimit(Arc::new(RateLimit {
        key: "shop/limits".parse().unwrap(),
        targets: Vec::new(),
        routes: of_rule("b"),
        local: vec![LocalLimit { rule: RequestRule::default(), key: Vec::new(), rate }],
        global: None,
        tell: false,
        exhausted: false,
    })));
    world
}

#[test]
fn a_processor_of_a_route_sees_its_requests_alone_and_a_route_chosen_anew_has_its_own_say_once() {
    let both = [REQUEST_HEADERS, RESPONSE_HEADERS];
    scene(&routed(2), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let first = processor(scene, "guard", "127.0.0.5").await;
        let second = processor(scene, "second", "127.0.0.6").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let line = |answer: &Answer| answer.body.lines().nth(1).map(str::to_owned);
        assert_eq!(client.get("/c").await.status, 200);
        assert_eq!((first.parts(), second.parts()), (vec![], vec![]));
        assert_eq!(client.get("/a").await.status, 200);
        assert_eq!((first.parts(), second.parts()), (both.to_vec(), vec![]));
        // Whoever is sent to another rule comes under what is attached to that as well.
        let to_path = |path: &str| of(REQUEST_HEADERS, &[headers(&[set(":path", path)]), number(5, 1)]);
        first.does(to_path("/b"));
        let answer = client.get("/a").await;
        assert_eq!(line(&answer).as_deref(), Some("GET /b HTTP/1.1"), "{answer:?}");
        assert_eq!((first.parts(), second.parts()), (both.to_vec(), both.to_vec()));
        scene.logged(&["ext_proc=\"shop/guard: processed, shop/second: processed\""]);
        // Who has had a say is not asked again, so that nobody is sent in circles.
        second.does(to_path("/a"));
        let answer = client.get("/a").await;
        assert_eq!(line(&answer).as_deref(), Some("GET /a HTTP/1.1"), "{answer:?}");
        assert_eq!((first.parts(), second.parts()), (both.to_vec(), both.to_vec()));
        // The limit of where it is sent holds there.
        assert_eq!(client.get("/a").await.status, 429);
        assert_eq!(second.parts(), Vec::<u8>::new());
        scene.logged(&["response_flags=\"RL\"", "shop/limits"]);
        assert_eq!(client.get("/c").await.status, 200);
    });
}
