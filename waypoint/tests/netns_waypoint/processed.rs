//! Processors that requests and answers go by (`waypoint.md` 9.1): what they are told, what they may change, and what
//! follows from what they say and from what they do not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::ext_proc::{BODY_USUAL, BodyMode, ChangeRules, ExtProc, Modes, Shown};
use ambit_model::provider::Which;
use ambit_model::request_policy::{
    Operation, RequestAction, RequestPolicy, RequestRule, Requirement, Target, TextOf, text_match,
};
use ambit_model::service::AppProtocol;
use ambit_model::workload::{Tunnel, Workload};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::authorizer::{field, number};
use crate::backend::{Speaks, backend};
use crate::client::{Answer, Client, empty, full, http1, http2};
use crate::processor::{
    Does, REQUEST_BODY, REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_BODY, RESPONSE_HEADERS,
    RESPONSE_TRAILERS, Told, body, gone, headers, onward, processor, set,
};
use crate::scene::{PATIENCE, Scene, endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

fn web() -> Target {
    Target::Service("shop/web.shop.svc.cluster.local".parse().unwrap())
}

fn to_path(path: &str) -> RequestRule {
    let mut operation = Operation::default();
    operation.paths.any.push(path.parse().unwrap());
    RequestRule { to: vec![operation], ..RequestRule::default() }
}

/// What may not come in.
fn no(rule: RequestRule) -> Change {
    Change::RequestPolicy(Arc::new(RequestPolicy {
        key: "shop/no".parse().unwrap(),
        targets: vec![web()],
        action: RequestAction::Deny,
        rules: vec![rule],
        dry_run: false,
    }))
}

/// All requests go by the processor.
pub(crate) fn guard() -> ExtProc {
    ExtProc {
        key: "shop/guard".parse().unwrap(),
        targets: vec![web()],
        routes: Vec::new(),
        rule: RequestRule::default(),
        at: Some("shop/guard.shop.svc.cluster.local:80".parse().unwrap()),
        // Long enough for two cores that also compile.
        patience: Duration::from_secs(60),
        fail_open: false,
        watches: false,
        modes: Modes::default(),
        may_choose: false,
        body_most: BODY_USUAL,
        shown: Shown::default(),
        attributes: Vec::new(),
        changes: ChangeRules::default(),
    }
}

pub(crate) fn change(policy: ExtProc) -> Change {
    Change::ExtProc(Arc::new(policy))
}

/// The shop, and a processor at 127.0.0.5.
pub(crate) fn world(policy: ExtProc) -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Service(Arc::new(service("guard", "10.1.0.5", AppProtocol::Grpc))));
    let endpoint = Workload { tunnel: Tunnel::Hbone, ..endpoint_of("guard", "guard", "127.0.0.5") };
    world.push(Change::Workload(Arc::new(endpoint)));
    world.push(change(policy));
    world
}

fn publish(scene: &Scene, changes: impl IntoIterator<Item = Change>) {
    scene.plane.publish(&changes.into_iter().collect());
}

async fn get(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.request(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.ask(request.body(empty()).unwrap()).await
}

async fn post(client: &mut Client, path: &str, body: &str) -> Answer {
    let request = client.request(path).method("POST").body(full(body)).unwrap();
    client.ask(request).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|it| it.to_str().unwrap())
}

/// Says this of one part, and lets the rest go on as it is.
pub(crate) fn of(part: u8, common: &[Vec<u8>]) -> impl Fn(&Told) -> Option<Does> + Send + Sync + use<> {
    let common = common.to_vec();
    move |told| (told.part == part).then(|| onward(part, &common))
}

#[test]
fn headers_go_by_a_processor_both_ways_and_it_changes_only_what_it_may() {
    let mut policy = ExtProc { rule: to_path("/p*"), ..guard() };
    policy.attributes = vec!["source.principal".parse().unwrap()];
    policy.shown.deny = Which::These(vec![text_match("cookie")]);
    let mut world = world(policy);
    let of = TextOf::Header("x-judged".parse().unwrap());
    let mut requirement = Requirement::Text { of, values: Default::default() };
    if let Requirement::Text { values, .. } = &mut requirement {
        values.any.push(text_match("bad"));
    }
    world.push(no(RequestRule { when: vec![requirement], ..RequestRule::default() }));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // What no policy is about goes by nobody, nor does what may not come in.
        assert_eq!(client.get("/other").await.status, 200);
        assert_eq!(get(&mut client, "/p", &[("x-judged", "bad")]).await.status, 403);
        assert_eq!(them.parts(), Vec::<u8>::new());
        let to_request = headers(&[
            set("x-new", "n"),
            set("x-judged", "bad"),
            set("host", "elsewhere"),
            set(":path", "/elsewhere"),
            set("x-forwarded-client-cert", "forged"),
            set("content-length", "5"),
            gone("x-old"),
        ]);
        let to_answer = headers(&[set("x-back", "b"), set(":status", "202")]);
        them.does(move |told| match told.part {
            REQUEST_HEADERS => Some(onward(told.part, &[to_request.clone(), number(5, 1)])),
            RESPONSE_HEADERS => Some(onward(told.part, std::slice::from_ref(&to_answer))),
            _ => None,
        });
        let sent = [("x-old", "o"), ("x-judged", "good"), ("cookie", "secret"), ("x-envoy-max-retries", "9")];
        let answer = get(&mut client, "/p?q=1", &sent).await;
        assert_eq!((answer.status, header(&answer, "x-back")), (202, Some("b")), "{answer:?}");
        assert_eq!(answer.body.lines().nth(1), Some("GET /p?q=1 HTTP/1.1"));
        let seen = one.last.lock().unwrap().clone();
        assert_eq!(
            (&seen["x-new"], &seen["x-judged"], &seen["host"]),
            (&"n".parse().unwrap(), &"good".parse().unwrap(), &"web".parse().unwrap())
        );
        for name in ["x-old", "content-length"] {
            assert_eq!(seen.get(name), None, "{name}");
        }
        assert!(seen.get("x-forwarded-client-cert").is_none_or(|it| it != "forged"), "{seen:?}");
        is_told_what_may_be_shown(&them.told());
        scene.logged(&["ext_proc=\"shop/guard: processed\""]);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let line = "ambit_waypoint_ext_proc_total{policy=\"shop/guard\",outcome=\"processed\"} 1";
        assert!(metrics.lines().any(|it| it == line), "{metrics}");
        let dump = scene.get(15000, "/config_dump").await.unwrap();
        assert!(dump.contains("extProcs") && dump.contains("\"responseHeaders\""), "{dump}");
    });
}

fn is_told_what_may_be_shown(told: &[Told]) {
    let [request, response] = told else { panic!("{told:?}") };
    assert_eq!((request.part, response.part), (REQUEST_HEADERS, RESPONSE_HEADERS));
    for (name, value) in
        [(":method", "GET"), (":path", "/p?q=1"), (":authority", "web"), (":scheme", "http"), ("x-old", "o")]
    {
        assert!(request.shows(name, value), "{name}: {request:?}");
    }
    for hidden in ["secret", "x-envoy-max-retries"] {
        assert!(!request.holds(hidden), "{hidden}: {request:?}");
    }
    assert!(request.holds(field(1, "envoy.filters.http.ext_proc")), "{request:?}");
    assert!(request.holds("/ns/shop/sa/cart"), "{request:?}");
    assert!(response.shows(":status", "200") && !response.holds("source.principal"), "{response:?}");
}

#[test]
fn a_processor_answers_in_the_endpoints_place() {
    scene(&world(guard()), async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let answer = |code: u8| {
            let changes = [set("x-why", "so"), set("content-type", "text/html"), set("connection", "close")];
            let parts =
                [field(1, number(1, code)), field(2, changes.concat()), field(3, "no"), field(5, "mood")];
            Does::Say(field(7, parts.concat()))
        };
        let no = answer(101);
        them.does(move |told| (told.part == REQUEST_HEADERS).then(|| no.clone()));
        // 101 is no status of an answer, and what it is of is none.
        assert_eq!(client.get("/").await.status, 500);
        let no = answer(127);
        them.does(move |told| (told.part == REQUEST_HEADERS).then(|| no.clone()));
        assert_eq!(client.get("/").await.status, 500);
        assert_eq!(one.requests.load(Ordering::Relaxed), 0);
        let parts = [
            field(1, [8, 0x91, 0x03]),
            field(2, [set("x-why", "so"), set("content-type", "text/html"), set("connection", "x")].concat()),
            field(3, "no"),
            field(4, number(1, 16)),
            field(5, "mood"),
        ];
        let says = Does::Say(field(7, parts.concat()));
        let no = says.clone();
        them.does(move |told| (told.part == REQUEST_HEADERS).then(|| no.clone()));
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.body.as_str(), header(&answer, "x-why")), (401, "no", Some("so")));
        assert_eq!(
            (header(&answer, "content-type"), header(&answer, "connection")),
            (Some("text/html"), None)
        );
        assert_eq!(one.requests.load(Ordering::Relaxed), 0);
        scene.logged(&[
            "response_flags=\"UPEX\"",
            "ext_proc_immediate_response",
            "mood",
            "shop/guard: answered",
        ]);
        // gRPC is told in its own words.
        let call = client.request("/shop.Cart/Get").method("POST").header("content-type", "application/grpc");
        let answer = client.ask(call.body(full("")).unwrap()).await;
        assert_eq!((answer.status, header(&answer, "grpc-status")), (200, Some("16")), "{answer:?}");
        // Of an answer that has come, it is not too late.
        them.does(move |told| (told.part == RESPONSE_HEADERS).then(|| says.clone()));
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.body.as_str()), (401, "no"));
        assert_eq!(one.requests.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn without_a_word_of_a_processor_requests_go_on_or_are_refused_as_it_was_said() {
    scene(&world(ExtProc { fail_open: true, ..guard() }), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // Nobody is there.
        assert_eq!(client.get("/").await.status, 200);
        let them = processor(scene, "guard", "127.0.0.5").await;
        let wrong: Vec<Does> = vec![
            Does::Fail,
            Does::Say(Vec::new()),
            Does::Say(vec![0xff]),
            // Of something else.
            onward(RESPONSE_HEADERS, &[]),
            onward(REQUEST_BODY, &[]),
            // Of which one thing cannot be done.
            onward(REQUEST_HEADERS, &[headers(&[set("x-a", "1"), set("x b", "2")])]),
        ];
        for does in &wrong {
            let says = does.clone();
            them.does(move |told| (told.part == REQUEST_HEADERS).then(|| says.clone()));
            assert_eq!(client.get("/").await.status, 200);
        }
        // Who is not answered is not told more.
        assert!(them.parts().iter().all(|it| *it == REQUEST_HEADERS));
        publish(scene, [change(ExtProc { patience: Duration::from_millis(50), fail_open: true, ..guard() })]);
        them.does(|_| Some(Does::Nothing));
        assert_eq!(client.get("/").await.status, 200);
        publish(scene, [change(guard())]);
        them.does(|_| Some(Does::Fail));
        while client.get("/").await.status != 500 {}
        for does in &wrong {
            let says = does.clone();
            them.does(move |told| (told.part == REQUEST_HEADERS).then(|| says.clone()));
            assert_eq!(client.get("/").await.status, 500);
        }
        them.does(|told| (told.part == RESPONSE_HEADERS).then_some(Does::Fail));
        assert_eq!(client.get("/").await.status, 500);
        scene.logged(&["response_flags=\"UPEX\"", "ext_proc_error", "shop/guard: failed\""]);
        // Ending the conversation well is a word: it wants to be told nothing more.
        them.does(|_| Some(Does::End));
        them.told();
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(them.parts(), [REQUEST_HEADERS]);
        // A processor that nobody knows never answers.
        publish(scene, [change(ExtProc { at: None, ..guard() })]);
        while client.get("/").await.status != 500 {}
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        for outcome in ["failed", "failed_open", "processed"] {
            let part =
                format!("ambit_waypoint_ext_proc_total{{policy=\"shop/guard\",outcome=\"{outcome}\"}}");
            assert!(metrics.contains(&part), "{part} in {metrics}");
        }
    });
}

#[test]
fn a_body_that_is_kept_is_seen_whole_and_may_be_replaced() {
    let modes =
        Modes { request_body: BodyMode::Buffered, response_body: BodyMode::Buffered, ..Modes::default() };
    scene(&world(ExtProc { modes, body_most: 1000, ..guard() }), async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let answer = post(&mut client, "/echo", "hello").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        let told = them.told();
        let parts: Vec<u8> = told.iter().map(|it| it.part).collect();
        assert_eq!(parts, [REQUEST_HEADERS, REQUEST_BODY, RESPONSE_HEADERS, RESPONSE_BODY]);
        for body in [&told[1], &told[3]] {
            assert!(body.bytes.ends_with(&[field(1, "hello"), number(2, 1)].concat()), "{body:?}");
        }
        // Without a body, nothing is said of one.
        assert_eq!(client.get("/status/204").await.status, 204);
        assert_eq!(them.parts(), [REQUEST_HEADERS, RESPONSE_HEADERS]);
        them.does(|told| match told.part {
            REQUEST_BODY => Some(onward(told.part, &[headers(&[set("x-late", "1")]), body("another one")])),
            RESPONSE_BODY => Some(onward(told.part, &[headers(&[set("x-late", "2")]), body("!")])),
            _ => None,
        });
        let answer = post(&mut client, "/echo", "hello").await;
        assert_eq!((answer.body.as_str(), header(&answer, "content-length")), ("!", Some("1")));
        assert_eq!(header(&answer, "x-late"), Some("2"));
        let seen = one.last.lock().unwrap().clone();
        assert_eq!(
            (&seen["content-length"], &seen["x-late"]),
            (&"11".parse().unwrap(), &"1".parse().unwrap())
        );
        them.does(of(RESPONSE_BODY, &[]));
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
        them.does(of(REQUEST_BODY, &[field(3, number(2, 1))]));
        assert_eq!(post(&mut client, "/count", "hello").await.body, "0 {}");
        // What is longer than is kept is refused, either way.
        let passed = one.requests.load(Ordering::Relaxed);
        assert_eq!(post(&mut client, "/count", &"x".repeat(1001)).await.status, 413);
        assert_eq!(one.requests.load(Ordering::Relaxed), passed);
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(client.get("/large").await.status, 500);
        scene.logged(&["response_payload_too_large"]);
    });
}

#[test]
fn of_a_long_body_as_much_is_seen_as_is_kept_and_the_rest_follows() {
    let modes = Modes {
        request_body: BodyMode::BufferedPartial,
        response_body: BodyMode::BufferedPartial,
        ..Modes::default()
    };
    scene(&world(ExtProc { modes, body_most: 1000, ..guard() }), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        them.does(of(REQUEST_BODY, &[body("y")]));
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(post(&mut client, "/count", &"x".repeat(3000)).await.body, "2001 {}");
        let told = them.told();
        let last = told.iter().rev().find(|it| it.part == REQUEST_BODY).unwrap();
        assert!(last.bytes.ends_with(b"x"), "it does not say that this is all: {last:?}");
        assert_eq!(client.get("/large").await.body.len(), 64 << 20);
    });
}

#[test]
fn a_body_that_streams_goes_by_a_processor_piece_by_piece() {
    let modes = Modes {
        request_body: BodyMode::Streamed,
        response_body: BodyMode::Streamed,
        request_trailers: true,
        response_trailers: true,
        ..Modes::default()
    };
    let mut world = world(ExtProc { modes, ..guard() });
    world.extend(shop(AppProtocol::Http2));
    scene(&world, async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http2(scene.open("cart", WEB).await.unwrap()).await;
        them.does(|told| match told.part {
            REQUEST_BODY if told.holds("hello") => Some(onward(told.part, &[body("a longer one")])),
            RESPONSE_BODY if told.holds("a longer one") => Some(onward(told.part, &[body("short")])),
            _ => None,
        });
        let answer = post(&mut client, "/echo", "hello").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "short"));
        assert_eq!(header(&answer, "content-length"), None);
        let parts = them.parts();
        assert!(parts.starts_with(&[REQUEST_HEADERS, REQUEST_BODY]), "{parts:?}");
        assert!(parts.contains(&RESPONSE_HEADERS) && parts.contains(&RESPONSE_BODY), "{parts:?}");
        // Trailers, too.
        let sum = |value: &str| [("x-sum".parse().unwrap(), value.parse().unwrap())].into_iter().collect();
        let frames = [Ok(Frame::data("hello".into())), Ok(Frame::trailers(sum("1")))];
        let sent = StreamBody::new(tokio_stream::iter(frames)).boxed();
        them.does(of(REQUEST_TRAILERS, &[field(1, set("x-sum", "2"))]));
        let request = client.request("/count").method("POST").body(sent).unwrap();
        assert_eq!(client.ask(request).await.body, "5 {\"x-sum\": \"2\"}");
        assert_eq!(them.parts()[..3], [REQUEST_HEADERS, REQUEST_BODY, REQUEST_TRAILERS]);
        them.does(of(RESPONSE_TRAILERS, &[field(1, set("x-sum", "43"))]));
        let answer = client.get("/trailers").await;
        assert_eq!((answer.body.as_str(), answer.trailers["x-sum"].to_str().unwrap()), ("body", "43"));
        assert_eq!(them.parts(), [REQUEST_HEADERS, RESPONSE_HEADERS, RESPONSE_BODY, RESPONSE_TRAILERS]);
        them.does(|_| None);
        let many = "x".repeat(1 << 20);
        assert!(post(&mut client, "/echo", &many).await.body == many);
        assert!(them.parts().len() > 20);
        // A processor that fails while a request's body goes by it stops the request.
        them.does(|told| (told.part == REQUEST_BODY).then_some(Does::Fail));
        assert_eq!(post(&mut client, "/echo", "hello").await.status, 500);
        // One that answers then does, in the endpoint's place.
        let parts = [field(1, [8, 0x93, 0x03]), field(3, "no")].concat();
        let says = Does::Say(field(7, parts));
        them.does(move |told| (told.part == REQUEST_BODY).then(|| says.clone()));
        let answer = post(&mut client, "/echo", "hello").await;
        assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
        // One that fails while an answer goes by it breaks that off.
        them.does(|told| (told.part == RESPONSE_BODY).then_some(Does::Fail));
        let request = client.request("/echo").method("POST").body(full("hello")).unwrap();
        let answer = client.send(request).await.unwrap();
        let whole = answer.into_body().collect().await;
        assert!(whole.is_err(), "{whole:?}");
        scene.logged(&["response_flags=\"UPEX\"", "ext_proc_error"]);
    });
}

#[test]
fn a_processor_that_wants_nothing_more_replaces_bodies_with_the_headers_and_may_choose_what_else_it_sees() {
    let modes =
        Modes { request_body: BodyMode::Buffered, response_body: BodyMode::Buffered, ..Modes::default() };
    scene(&world(ExtProc { modes, ..guard() }), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        them.does(|told| match told.part {
            REQUEST_HEADERS => Some(onward(told.part, &[number(1, 1), body("instead")])),
            RESPONSE_HEADERS => Some(onward(told.part, &[number(1, 1), body("answer")])),
            _ => None,
        });
        let answer = post(&mut client, "/echo", "hello").await;
        assert_eq!((answer.body.as_str(), header(&answer, "content-length")), ("answer", Some("6")));
        assert_eq!(them.parts(), [REQUEST_HEADERS, RESPONSE_HEADERS]);
        them.does(of(REQUEST_HEADERS, &[number(1, 1), body("instead")]));
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "instead");
        // Its choice counts only where it may choose.
        let choice = || {
            let mode = [number(2, 2), number(3, 0), number(4, 0)].concat();
            Does::Say([field(1, []), field(9, mode)].concat())
        };
        them.told();
        them.does(move |told| (told.part == REQUEST_HEADERS).then(choice));
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
        assert_eq!(them.parts(), [REQUEST_HEADERS, REQUEST_BODY, RESPONSE_HEADERS, RESPONSE_BODY]);
        publish(scene, [change(ExtProc { modes, may_choose: true, ..guard() })]);
        loop {
            assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
            if them.parts() == [REQUEST_HEADERS] {
                break;
            }
        }
    });
}

#[test]
fn who_only_watches_is_told_and_nobody_waits_for_it() {
    let modes =
        Modes { request_body: BodyMode::Streamed, response_body: BodyMode::Streamed, ..Modes::default() };
    scene(&world(ExtProc { modes, watches: true, ..guard() }), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // Nobody is there, and nobody waits.
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
        let them = processor(scene, "guard", "127.0.0.5").await;
        them.does(|_| Some(Does::Nothing));
        let answer = post(&mut client, "/echo", "hello").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        // What could not be reached a moment ago may take a while to be reached again.
        let until = tokio::time::Instant::now() + PATIENCE;
        let told = loop {
            // What is told of requests before may still come.
            tokio::time::sleep(Duration::from_millis(500)).await;
            them.told();
            assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
            tokio::time::sleep(Duration::from_millis(500)).await;
            let told = them.told();
            if told.len() == 4 {
                break told;
            }
            assert!(tokio::time::Instant::now() < until, "{told:?}");
        };
        let parts: Vec<u8> = told.iter().map(|it| it.part).collect();
        assert_eq!(parts, [REQUEST_HEADERS, REQUEST_BODY, RESPONSE_HEADERS, RESPONSE_BODY]);
        assert!(told.iter().all(|it| it.bytes.ends_with(&number(10, 1))), "{told:?}");
        // What it says changes nothing.
        let says = Does::Say(field(7, [field(1, [8, 0x93, 0x03]), field(3, "no")].concat()));
        them.does(move |_| Some(says.clone()));
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
        them.does(|_| Some(Does::Fail));
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
        assert_eq!(client.get("/large").await.body.len(), 64 << 20);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        assert!(!metrics.contains("shop/guard\",outcome=\"failed\""), "{metrics}");
        assert!(metrics.contains("shop/guard\",outcome=\"failed_open\""), "{metrics}");
    });
}

#[test]
fn where_a_request_goes_is_changed_only_where_that_is_allowed_and_then_judged_again() {
    let routing = ChangeRules { routing: true, ..ChangeRules::default() };
    let mut world = world(ExtProc { changes: routing, ..guard() });
    world.push(no(to_path("/secret*")));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let to = |path: &str, again: bool| {
            let changes = headers(&[set(":path", path), set(":method", "PUT"), set(":authority", "other")]);
            of(REQUEST_HEADERS, &[changes, number(5, again.into())])
        };
        them.does(to("/new?q=1", true));
        let answer = client.get("/old").await;
        assert_eq!(answer.body.lines().nth(1), Some("PUT /new?q=1 HTTP/1.1"));
        assert_eq!(one.last.lock().unwrap()["host"], "other");
        // Without a new route, nothing of it.
        them.does(to("/new", false));
        assert_eq!(client.get("/old").await.body.lines().nth(1), Some("GET /old HTTP/1.1"));
        // Nobody gets by a processor where it may not go by itself.
        them.does(to("/x/../secret", true));
        assert_eq!(client.get("/old").await.status, 403);
        them.does(to("no path", true));
        assert_eq!(client.get("/old").await.status, 500);
    });
}

#[test]
fn a_request_goes_by_several_in_their_order_and_its_answer_the_other_way_round() {
    let mut world = world(guard());
    let second = ExtProc { key: "shop/second".parse().unwrap(), ..guard() };
    let second = ExtProc { at: Some("shop/second.shop.svc.cluster.local:80".parse().unwrap()), ..second };
    world.push(Change::Service(Arc::new(service("second", "10.1.0.6", AppProtocol::Grpc))));
    world.push(Change::Workload(Arc::new(endpoint_of("second", "second", "127.0.0.6"))));
    world.push(change(second));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let first = processor(scene, "guard", "127.0.0.5").await;
        let second = processor(scene, "second", "127.0.0.6").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let adds = |value: &'static str| {
            move |told: &Told| {
                let value = [field(1, [field(1, "x-by"), field(3, value)].concat()), field(2, number(1, 1))];
                Some(onward(told.part, &[headers(&[field(1, value.concat())])]))
            }
        };
        first.does(adds("first"));
        second.does(adds("second"));
        let answer = client.get("/").await;
        let by = |map: &http::HeaderMap| -> Vec<String> {
            map.get_all("x-by").iter().map(|it| it.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(by(&one.last.lock().unwrap()), ["first", "second"]);
        assert_eq!(by(&answer.headers), ["second", "first"]);
        assert_eq!((first.talks.load(Ordering::Relaxed), second.talks.load(Ordering::Relaxed)), (1, 1));
        scene.logged(&["ext_proc=\"shop/guard: processed, shop/second: processed\""]);
    });
}
