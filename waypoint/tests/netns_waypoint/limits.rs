//! How many requests may come (`waypoint.md` 4.10): by what they are told apart, what clients are told, and what follows
//! from what a service says that counts elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::rate_limit::{Descriptor, Entry, EntryValue, GlobalLimit, LocalLimit, Rate, RateLimit};
use ambit_model::request_policy::{Operation, RequestAction, RequestPolicy, RequestRule, Target};
use ambit_model::service::AppProtocol;
use ambit_model::workload::{Tunnel, Workload};

use crate::authorizer::{Says, authorizer, field, number};
use crate::backend::{Speaks, backend};
use crate::client::{Answer, Client, empty, full, http1, http2};
use crate::scene::{Scene, endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

fn web() -> Target {
    Target::Service("shop/web.shop.svc.cluster.local".parse().unwrap())
}

fn to_path(path: &str) -> RequestRule {
    let mut operation = Operation::default();
    operation.paths.any.push(path.parse().unwrap());
    RequestRule { to: vec![operation], ..RequestRule::default() }
}

/// So many requests to a path in an hour, of each that is told apart by these.
pub(crate) fn local(path: &str, key: &[&str], requests: u32) -> LocalLimit {
    LocalLimit {
        rule: to_path(path),
        key: key.iter().map(|it| it.parse().unwrap()).collect(),
        rate: Rate::new(requests, Duration::from_secs(3600), requests).unwrap(),
    }
}

pub(crate) fn limits(local: Vec<LocalLimit>, global: Option<GlobalLimit>) -> RateLimit {
    let key = "shop/limits".parse().unwrap();
    RateLimit { key, targets: vec![web()], routes: Vec::new(), local, global, tell: true, exhausted: false }
}

pub(crate) fn change(limit: RateLimit) -> Change {
    Change::RateLimit(Arc::new(limit))
}

fn global(fail_closed: bool) -> GlobalLimit {
    let entry = |key: &str, value| Entry { key: key.into(), value };
    let entries = vec![
        entry("who", EntryValue::Of("source.namespace".parse().unwrap())),
        entry("user", EntryValue::Of("request.headers[x-user]".parse().unwrap())),
        entry("what", EntryValue::Fixed("cart".into())),
    ];
    GlobalLimit {
        at: Some("shop/limits.shop.svc.cluster.local:80".parse().unwrap()),
        domain: "shop".into(),
        descriptors: vec![Descriptor { rule: to_path("/g*"), entries }],
        hits: 1,
        // Long enough for two cores that also compile.
        patience: Duration::from_secs(60),
        fail_closed,
    }
}

/// The shop, and who counts at 127.0.0.5.
pub(crate) fn world() -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Service(Arc::new(service("limits", "10.1.0.5", AppProtocol::Grpc))));
    let endpoint = Workload { tunnel: Tunnel::Hbone, ..endpoint_of("limits", "limits", "127.0.0.5") };
    world.push(Change::Workload(Arc::new(endpoint)));
    world
}

pub(crate) fn publish(scene: &Scene, change: Change) {
    scene.plane.publish(&[change].into_iter().collect());
}

pub(crate) async fn get(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.request(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.ask(request.body(empty()).unwrap()).await
}

pub(crate) fn told<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|it| it.to_str().unwrap())
}

#[test]
fn requests_beyond_a_limit_are_refused_by_who_asks_and_by_what_they_say() {
    let mut world = world();
    let rules =
        vec![local("/one", &[], 2), local("/each", &["source.principal", "request.headers[x-user]"], 1)];
    world.push(change(limits(rules, None)));
    let denied = RequestPolicy {
        key: "shop/no".parse().unwrap(),
        targets: vec![web()],
        action: RequestAction::Deny,
        rules: vec![RequestRule { to: vec![denied_method()], ..RequestRule::default() }],
        dry_run: false,
    };
    world.push(Change::RequestPolicy(Arc::new(denied)));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut cart = http1(scene.open("cart", WEB).await.unwrap()).await;
        // What no limit is about says nothing of any.
        let free = get(&mut cart, "/free", &[]).await;
        assert_eq!((free.status, told(&free, "x-ratelimit-limit")), (200, None));
        // Whoever may not ask takes nothing from those who may.
        let denied = cart.request("/one").method("DELETE").body(empty()).unwrap();
        assert_eq!(cart.ask(denied).await.status, 403);
        for left in ["1", "0"] {
            let answer = get(&mut cart, "/one", &[]).await;
            assert_eq!((answer.status, told(&answer, "x-ratelimit-remaining")), (200, Some(left)));
            assert_eq!(told(&answer, "x-ratelimit-limit"), Some("2"));
        }
        let passed = one.requests.load(Ordering::Relaxed);
        let over = get(&mut cart, "/one", &[]).await;
        assert_eq!((over.status, over.body.as_str()), (429, "local_rate_limited"));
        assert_eq!(told(&over, "x-envoy-ratelimited"), Some("true"));
        assert_eq!(told(&over, "x-ratelimit-remaining"), Some("0"));
        let wait: u64 = told(&over, "retry-after").unwrap().parse().unwrap();
        assert!((1700..=1800).contains(&wait), "{wait}");
        assert_eq!(one.requests.load(Ordering::Relaxed), passed);
        // Another connection, and another client, meet the same limit.
        let mut other = http1(scene.open("web", WEB).await.unwrap()).await;
        assert_eq!(get(&mut other, "/one", &[]).await.status, 429);
        for (client, user, status) in
            [(0, "ann", 200), (0, "ann", 429), (0, "bob", 200), (1, "ann", 200), (1, "ann", 429)]
        {
            let client = if client == 0 { &mut cart } else { &mut other };
            assert_eq!(get(client, "/each", &[("x-user", user)]).await.status, status, "{user}");
        }
        // Saying nothing is no way around.
        assert_eq!(get(&mut cart, "/each", &[]).await.status, 200);
        assert_eq!(get(&mut cart, "/each", &[]).await.status, 429);
        scene.logged(&[
            "response_flags=\"RL\"",
            "response_code_details=\"local_rate_limited\"",
            "shop/limits",
        ]);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let line = |outcome: &str, count: u32| {
            format!(
                "ambit_waypoint_rate_limits_total{{policy=\"shop/limits\",counted=\"local\",outcome=\"{outcome}\"}} {count}"
            )
        };
        for wanted in [line("allowed", 6), line("denied", 5)] {
            assert!(metrics.lines().any(|it| it == wanted), "{wanted} in {metrics}");
        }
        // Without the policy nothing is counted any more.
        publish(scene, Change::RateLimitGone("shop/limits".parse().unwrap()));
        while get(&mut cart, "/one", &[]).await.status != 200 {}
    });
}

fn denied_method() -> Operation {
    let mut operation = Operation::default();
    operation.methods.any.push(ambit_model::request_policy::text_match("DELETE"));
    operation
}

#[test]
fn grpc_is_told_of_limits_in_its_own_words() {
    for (exhausted, wanted) in [(false, "14"), (true, "8")] {
        let mut world = shop(AppProtocol::Grpc);
        world.push(change(RateLimit { exhausted, ..limits(vec![local("/*", &[], 1)], None) }));
        scene(&world, async |scene| {
            let _one = backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
            let mut client = http2(scene.open("cart", WEB).await.unwrap()).await;
            let call = |client: &Client| {
                let request = client.request("/shop.Cart/Get").method("POST");
                request.header("content-type", "application/grpc").body(full("")).unwrap()
            };
            let first = call(&client);
            assert_eq!(told(&client.ask(first).await, "grpc-message"), None);
            let second = call(&client);
            let over = client.ask(second).await;
            assert_eq!((over.status, told(&over, "grpc-status")), (200, Some(wanted)), "{over:?}");
            assert_eq!(told(&over, "grpc-message"), Some("local_rate_limited"));
            assert_eq!(told(&over, "x-envoy-ratelimited"), Some("true"));
        });
    }
}

/// A header among those of an answer.
fn plain(name: &str, value: &str) -> Vec<u8> {
    [field(1, name), field(2, value)].concat()
}

#[test]
fn a_service_is_asked_about_what_a_descriptor_is_of_and_what_it_says_is_done() {
    let mut world = world();
    world.push(change(limits(vec![local("/g/mine", &[], 1)], Some(global(true)))));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = authorizer(scene, Some("limits"), ("127.0.0.5", true)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // Nobody is asked about other paths, nor where a part of the descriptor is not known.
        for (path, headers) in [("/other", &[("x-user", "ann")][..]), ("/g", &[])] {
            assert_eq!(get(&mut client, path, headers).await.status, 200);
            assert!(them.asked().is_empty(), "{path}");
        }
        let status = [number(1, 1), field(2, number(1, 10)), number(3, 7)].concat();
        let room =
            [number(1, 1), field(2, status), field(3, plain("x-back", "b")), field(4, plain("x-on", "o"))];
        them.say(Says::Message(room.concat()));
        let answer = get(&mut client, "/g", &[("x-user", "ann")]).await;
        assert_eq!((answer.status, told(&answer, "x-back")), (200, Some("b")));
        assert_eq!(told(&answer, "x-ratelimit-remaining"), Some("7"));
        assert_eq!(told(&answer, "x-ratelimit-limit"), Some("10"));
        assert_eq!(one.last.lock().unwrap()["x-on"], "o");
        let asked = them.asked();
        let [question] = asked.as_slice() else { panic!("{asked:?}") };
        assert!(
            question.line.ends_with("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"),
            "{question:?}"
        );
        let entry = |key: &str, value: &str| field(1, plain(key, value));
        let entries = [entry("who", "shop"), entry("user", "ann"), entry("what", "cart")].concat();
        let wanted = [field(1, "shop"), field(2, entries), number(3, 1)].concat();
        assert_eq!(question.body.get(5..), Some(wanted.as_slice()));
        // There are too many.
        let passed = one.requests.load(Ordering::Relaxed);
        them.say(Says::Message(
            [number(1, 2), field(3, plain("retry-after", "9")), field(5, "later")].concat(),
        ));
        let over = get(&mut client, "/g", &[("x-user", "ann")]).await;
        assert_eq!((over.status, over.body.as_str()), (429, "later"));
        assert_eq!(
            (told(&over, "retry-after"), told(&over, "x-envoy-ratelimited")),
            (Some("9"), Some("true"))
        );
        assert_eq!(one.requests.load(Ordering::Relaxed), passed);
        scene.logged(&["response_flags=\"RL\"", "response_code_details=\"request_rate_limited\""]);
        // What is refused here is not asked about there.
        them.say(Says::Message(number(1, 1)));
        them.asked();
        assert_eq!(get(&mut client, "/g/mine", &[("x-user", "ann")]).await.status, 200);
        assert_eq!(get(&mut client, "/g/mine", &[("x-user", "ann")]).await.status, 429);
        assert_eq!(them.asked().len(), 1);
    });
}

#[test]
fn without_a_word_of_who_counts_requests_go_on_or_are_refused_as_it_was_said() {
    let mut world = world();
    world.push(change(limits(Vec::new(), Some(global(false)))));
    scene(&world, async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let user = [("x-user", "ann")];
        // Nobody is there.
        assert_eq!(get(&mut client, "/g", &user).await.status, 200);
        let them = authorizer(scene, Some("limits"), ("127.0.0.5", true)).await;
        let nothing = [Says::Failed, Says::Bytes(b"xx"), Says::Message(Vec::new()), Says::Http(503, &[], "")];
        for says in &nothing {
            them.say(says.clone());
            assert_eq!(get(&mut client, "/g", &user).await.status, 200);
        }
        let hasty = GlobalLimit { patience: Duration::from_millis(50), ..global(false) };
        them.say(Says::Nothing);
        publish(scene, change(limits(Vec::new(), Some(hasty))));
        assert_eq!(get(&mut client, "/g", &user).await.status, 200);
        publish(scene, change(limits(Vec::new(), Some(global(true)))));
        them.say(Says::Failed);
        while get(&mut client, "/g", &user).await.status != 500 {}
        for says in &nothing {
            them.say(says.clone());
            assert_eq!(get(&mut client, "/g", &user).await.status, 500);
        }
        // A service that could not be read counts nothing, whoever is there.
        them.say(Says::Message(number(1, 1)));
        assert_eq!(get(&mut client, "/g", &user).await.status, 200);
        publish(scene, change(limits(Vec::new(), Some(GlobalLimit { at: None, ..global(true) }))));
        while get(&mut client, "/g", &user).await.status != 500 {}
        publish(scene, change(limits(Vec::new(), Some(GlobalLimit { at: None, ..global(false) }))));
        while get(&mut client, "/g", &user).await.status != 200 {}
        scene.logged(&["response_flags=\"RLSE\"", "response_code_details=\"rate_limiter_error\""]);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        for outcome in ["failed", "failed_open"] {
            let part = format!("counted=\"global\",outcome=\"{outcome}\"");
            assert!(metrics.contains(&part), "{part} in {metrics}");
        }
    });
}
