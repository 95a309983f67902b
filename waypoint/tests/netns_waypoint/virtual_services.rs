//! Rules of VirtualServices in force: in their order, with all that only they can demand and do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ambit_model::delta::Change;
use ambit_model::http_route::{
    Abort, AbortWith, Backend, Broken, Cors, Delay, Direct, Fault, Filling, Filters, HeaderEdits,
    HeaderMatch, Match, More, Parent, PathChange, PathMatch, Retry, RetryOn, Rewrite, Route, Rule, Share,
    Substitution, Timeouts, Upstream, ValueMatch,
};
use ambit_model::service::AppProtocol;

use crate::backend::{Speaks, backend};
use crate::client::{Client, empty, http1};
use crate::scene::{endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

fn to(service: &str) -> Vec<Backend> {
    let service = format!("shop/{service}.shop.svc.cluster.local").parse().unwrap();
    let to = Ok(Upstream { service, port: 80, subset: None });
    vec![Backend { to, weight: 1, filters: Ok(Filters::default()) }]
}

fn begins(text: &str) -> Match {
    Match { path: PathMatch::Begins { text: text.into(), any_case: false }, ..Match::default() }
}

fn rule(matched: Match, filters: Filters, backends: Vec<Backend>) -> Rule {
    Rule {
        name: "".into(),
        matches: vec![matched],
        filters: Ok(filters),
        backends,
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    }
}

fn virtual_service(name: &str, created_s: u64, rules: Vec<Rule>) -> Change {
    Change::Route(Arc::new(Route {
        key: format!("VirtualService/shop/{name}").parse().unwrap(),
        created_s,
        parents: vec![Parent { service: "shop/web.shop.svc.cluster.local".parse().unwrap(), port: None }],
        rules: rules.into_iter().map(Arc::new).collect(),
    }))
}

fn faulty(delay_ms: u64, abort: Option<AbortWith>) -> Filters {
    let delay = (delay_ms > 0).then(|| Delay { time: Duration::from_millis(delay_ms), share: Share::ALL });
    let abort = abort.map(|with| Abort { with, share: Share::ALL });
    Filters { fault: Some(Box::new(Fault { delay, abort })), ..Filters::default() }
}

fn said(name: &str) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    edits.set(name.parse().unwrap(), "yes".parse().unwrap()).unwrap();
    edits
}

fn rewritten(path: PathChange) -> Filters {
    let rewrite =
        Rewrite { hostname: Some("inside.example".parse().unwrap()), port: Some(81), path: Some(path) };
    Filters { rewrite: Some(Box::new(rewrite)), ..Filters::default() }
}

/// The rules that are asked about, the older object's first.
fn rules() -> Vec<Rule> {
    let stop = HeaderMatch { name: "x-stop".parse().unwrap(), value: ValueMatch::Present };
    let more = More {
        without_headers: vec![stop],
        from: Some("shop".parse().unwrap()),
        authority: Some(ValueMatch::Prefix("we".into())),
        scheme: Some(ValueMatch::Exact("http".into())),
        port: Some(80),
        ..More::default()
    };
    let foo = Match { more: Some(Box::new(more)), ..begins("/foo") };
    let claimed =
        ambit_model::http_route::ClaimMatch { path: vec!["group".into()], value: ValueMatch::Present };
    let claims = More { claims: vec![claimed], ..More::default() };
    let direct = Direct { status: 203, body: b"here".as_slice().into() };
    let direct = Filters { direct: Some(direct), response_headers: said("x-said"), ..Filters::default() };
    let cors = Cors {
        more_origins: vec![ValueMatch::Prefix("https://a.".into())],
        max_age_s: None,
        passes_unknown: true,
        ..Cors::default()
    };
    let cors = Filters { cors: Some(Box::new(cors)), ..Filters::default() };
    let lost = Backend { to: Err(Broken::because("nothing is called so")), ..to("web").remove(0) };
    let parts = Substitution::new("^/parts/([a-z]+)/(.*)$", r"/\2/\1").unwrap();
    vec![
        rule(foo, rewritten(PathChange::Beginning("/".parse().unwrap())), to("other")),
        rule(Match { more: Some(Box::new(claims)), ..begins("/") }, Filters::default(), to("other")),
        rule(begins("/parts"), rewritten(PathChange::Parts(parts)), to("other")),
        rule(begins("/direct"), direct, vec![]),
        rule(begins("/lost"), Filters::default(), vec![lost]),
        rule(begins("/waits"), faulty(300, None), to("web")),
        rule(begins("/end"), faulty(0, Some(AbortWith::Http(418))), to("web")),
        rule(begins("/grpc"), faulty(1, Some(AbortWith::Grpc(14))), to("web")),
        rule(begins("/cors"), cors, to("web")),
        rule(begins("/foo"), Filters::default(), to("web")),
    ]
}

/// Where requests go, and as what.
async fn leads(client: &mut Client) {
    for (path, header, wanted, line) in [
        ("/foobar?q", "x-a", "two", "GET /bar?q HTTP/1.1"),
        ("/foo/bar", "x-a", "two", "GET /bar HTTP/1.1"),
        ("/foo/bar", "x-stop", "one", "GET /foo/bar HTTP/1.1"),
        ("/parts/a/b?q", "x-a", "two", "GET /b/a?q HTTP/1.1"),
        ("/newer", "x-a", "two", "GET /newer HTTP/1.1"),
        ("/cors", "x-a", "one", "GET /cors HTTP/1.1"),
    ] {
        let answer = client.ask(client.request(path).header(header, "1").body(empty()).unwrap()).await;
        let mut lines = answer.body.lines();
        assert!(lines.next().is_some_and(|it| it.starts_with(wanted)), "{path} {header}: {answer:?}");
        assert_eq!(lines.next(), Some(line), "{path} {header}");
        assert_eq!(answer.body.contains("host: inside.example:81"), wanted == "two" && path != "/newer");
    }
}

/// Browsers that ask for pages of other origins.
async fn questions(client: &mut Client) {
    for (origin, leave) in [("https://a.example", true), ("https://b.example", false)] {
        let question = client.request("/cors").method("OPTIONS").header("origin", origin);
        let question = question.header("access-control-request-method", "GET").body(empty()).unwrap();
        let answer = client.ask(question).await;
        assert_eq!(answer.headers.contains_key("access-control-allow-origin"), leave, "{origin}");
        assert_eq!(answer.body.starts_with("one"), !leave, "{origin}: whoever has no leave asks the backend");
    }
}

/// Headers with values that are others for each request.
fn filled(all: &[(&str, &str, bool)]) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for (name, value, adds) in all {
        let (name, value) = (name.parse().unwrap(), value.parse().unwrap());
        edits.fill(Filling { name, value, adds: *adds }).unwrap();
    }
    edits
}

#[test]
fn headers_say_what_is_known_of_a_request_and_of_its_answer_and_a_client_cannot_forge_one() {
    let request = filled(&[
        ("x-client", "%REQ(x-user)%@%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", false),
        ("x-who", "%DOWNSTREAM_PEER_URI_SAN% %REQ(:METHOD)% %REQ(:PATH)% %DOWNSTREAM_LOCAL_ADDRESS%", false),
        ("x-added", "%PROTOCOL%", true),
        ("x-none", "%REQ(x-nothing)%", false),
        ("x-code", "%RESPONSE_CODE%", false),
    ]);
    let answer = filled(&[
        ("x-answer", "%RESPONSE_CODE% by %UPSTREAM_HOST% for %REQ(x-user)% of %RESP(content-type)%", false),
        ("content-type", "text/mine", false),
    ]);
    let mut edits = answer;
    edits.remove("x-gone".parse().unwrap()).unwrap();
    let all = Filters { request_headers: request, response_headers: edits, ..Filters::default() };
    let direct = Direct { status: 200, body: b"here".as_slice().into() };
    let said = filled(&[("x-said", "%REQ(x-user)% 100%%", false), ("x-code", "%RESPONSE_CODE%", false)]);
    let direct = Filters { direct: Some(direct), response_headers: said, ..Filters::default() };
    let own = Filters { request_headers: filled(&[("x-own", "%ROUTE_NAME%", false)]), ..Filters::default() };
    let mut backends = to("web");
    backends[0].filters = Ok(own);
    let mut world = shop(AppProtocol::Http11);
    let rules = vec![rule(begins("/direct"), direct, vec![]), rule(begins("/"), all, backends)];
    world.push(virtual_service("filled", 1, rules));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let user = http::HeaderValue::from_bytes(b"a\"d\ta").unwrap();
        let request = client.request("/a?b").header("x-user", &user).header("x-added", "mine");
        let request = request.header("x-none", "stays").body(empty()).unwrap();
        let answer = client.ask(request).await;
        let has = |line: &str| answer.body.lines().any(|it| it == line);
        let from = answer.body.lines().find_map(|it| it.strip_prefix("x-client: a\"d\ta@")).unwrap_or("none");
        assert!(from.parse::<std::net::IpAddr>().is_ok(), "{answer:?}");
        for line in [
            "x-who: spiffe://cluster.local/ns/shop/sa/cart GET /a?b 10.1.0.1:80",
            "x-added: mine",
            "x-added: HTTP/1.1",
            "x-none: stays",
            "x-own: VirtualService/shop/filled",
        ] {
            assert!(has(line), "{line} in {answer:?}");
        }
        assert!(!answer.body.contains("x-code"), "of an answer nothing is known yet: {answer:?}");
        let said = answer.headers["x-answer"].to_str().unwrap();
        assert!(said.starts_with("200 by 127.0.0.2:8080 for a\"d\ta of"), "{said}");
        assert_eq!(answer.headers["content-type"], "text/mine");
        let direct =
            client.ask(client.request("/direct").header("x-user", &user).body(empty()).unwrap()).await;
        assert_eq!(
            (direct.body.as_str(), &direct.headers["x-said"]),
            ("here", &"a\"d\ta 100%".parse().unwrap())
        );
        assert!(!direct.headers.contains_key("x-code"), "{direct:?}");
    });
}

#[test]
fn rules_of_virtual_services_are_in_force_in_their_order_with_all_that_only_they_can_do() {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Http11))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))));
    world.push(virtual_service("newer", 2, vec![rule(begins("/newer"), Filters::default(), to("other"))]));
    world.push(virtual_service("older", 1, rules()));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let two = backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        leads(&mut client).await;
        let before = one.requests.load(Ordering::SeqCst) + two.requests.load(Ordering::SeqCst);
        let direct = client.get("/direct").await;
        assert_eq!((direct.status, direct.body.as_str()), (203, "here"));
        assert_eq!(
            (&direct.headers["x-said"], &direct.headers["content-type"]),
            (&"yes".parse().unwrap(), &"text/plain".parse().unwrap())
        );
        for (path, status, body) in
            [("/lost", 503, ""), ("/none", 404, ""), ("/end", 418, "fault filter abort")]
        {
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
        }
        let grpc = client.get("/grpc").await;
        assert_eq!((grpc.status, grpc.headers["grpc-status"].as_bytes()), (200, &b"14"[..]));
        assert_eq!(one.requests.load(Ordering::SeqCst) + two.requests.load(Ordering::SeqCst), before);
        let begun = Instant::now();
        assert_eq!(client.get("/waits").await.status, 200);
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        questions(&mut client).await;
        scene.logged(&["request complete", "/lost", "response_flags=\"NC\"", "cluster_not_found"]);
        scene.logged(&["request complete", "/end", "response_flags=\"FI\"", "fault_filter_abort"]);
        scene.logged(&["request complete", "/waits", "response_flags=\"DI\""]);
        scene.logged(&["request complete", "/direct", "direct_response", "bytes_sent=4"]);
        // A route of the Gateway API takes the place of all of them.
        let mut route = rule(Match::default(), Filters::default(), to("other"));
        route.retry = Some(Retry { on: vec![RetryOn::Any5xx], same_again: true, ..Retry::unasked() });
        let http = Route {
            key: "HTTPRoute/shop/r".parse().unwrap(),
            created_s: 3,
            parents: vec![Parent {
                service: "shop/web.shop.svc.cluster.local".parse().unwrap(),
                port: Some(80),
            }],
            rules: vec![Arc::new(route)],
        };
        scene.plane.publish(&[Change::Route(Arc::new(http))].into_iter().collect());
        assert!(client.get("/direct").await.body.starts_with("two"));
    });
}
