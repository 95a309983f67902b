//! What clients send to do harm, or by mistake: it is refused, it ends the connection that it came on, and nothing
//! else; and what only looks like it passes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ambit_hbone::nested::Nested;
use ambit_model::http_route::{Direct, Filters, Rule};
use ambit_model::service::AppProtocol;
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::backend::{Speaks, backend};
use crate::client::{empty, http1, http2, raw, read, until};
use crate::routes::{prefix, route, rule, to};
use crate::scene::{PATIENCE, Scene, scene, scene_with, shop};

const WEB: &str = "10.1.0.1:80";

/// What waypoints wait for a head that has begun.
const HEAD_WAIT: Duration = Duration::from_secs(10);

async fn open(scene: &Scene) -> Nested {
    scene.open("cart", WEB).await.unwrap()
}

#[test]
fn messages_that_could_be_read_in_two_ways_are_refused_and_the_tunnel_lives_on() {
    let many = "x-a: 1\r\n".repeat(128);
    let long = "x".repeat(20 * 1024);
    let endless = "x".repeat(80 * 1024);
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        for (bytes, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
            ("GET shop HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET /shop#top HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\nhost: a\n\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\nx-a: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\n\n", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc", 400),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                 0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n\
                 0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
            ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nx-a : b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n c\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nx-a: b\0c\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n", 400),
            ("GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("what is this\r\n\r\n", 400),
            ("PRI / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            (&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
            (&format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {endless}\r\n\r\n"), 431),
            (&format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), 414),
        ] {
            let shown: String = bytes.chars().take(120).collect();
            let answer = raw(open(scene).await, bytes.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown:?}: {answer:?}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {answer:?}");
        }
        let mut stream = open(scene).await;
        stream.write_all(b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 403"));
        assert_eq!(seen.requests.load(Ordering::SeqCst), 0, "none of them went anywhere");
        scene.logged(&["request refused", "a line ends without a carriage return", "sa/cart"]);
        let mut client = http1(open(scene).await).await;
        assert_eq!(client.get("/").await.status, 200);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        assert!(metrics.contains("reason=\"malformed_request\""), "{metrics}");
    });
}

#[test]
fn a_body_whose_pieces_are_not_where_they_should_be_is_refused_with_all_that_follows() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        for body in ["1 1\r\na\r\n", "x\r\n", "1\r\nab\r\n", "1\na\r\n0\r\n\r\n", "0\r\nx-a: b\n\r\n"] {
            let bytes = format!(
                "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}\
                 GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
            );
            let answer = raw(open(scene).await, bytes.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{body:?}: {answer:?}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?}: {answer:?}");
        }
        assert_eq!(seen.requests.load(Ordering::SeqCst), 0, "none of them was one");
    });
}

#[test]
fn requests_that_follow_each_other_at_once_are_answered_in_order() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let answer = raw(
            open(scene).await,
            b"\r\nPOST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /\
              POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
              2;x=y\r\n\r\n\r\n1\r\n#\r\n0\r\nx-sum: 1\r\n\r\n\
              GET /status/201 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
        let found: Vec<_> = ["5 {}", "3 {", "HTTP/1.1 201"].map(|part| answer.find(part)).into();
        assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{answer}");
        // What follows a request for a websocket that was not opened is taken for no request.
        let answer = raw(
            open(scene).await,
            b"GET /status/404 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\
              GET / HTTP/1.1\nhost: a\n\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    });
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_asked_for() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut stream = open(scene).await;
        let head = "POST /count HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"12345").await.unwrap();
        let answer = until(&mut stream, "5 {}").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    });
}

#[test]
fn half_a_head_is_waited_for_a_while_and_nothing_at_all_for_longer() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut idle = http1(open(scene).await).await;
        assert_eq!(idle.get("/").await.status, 200);
        let mut stream = open(scene).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        until(&mut stream, "\n").await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(began.elapsed() > HEAD_WAIT / 2, "after {:?}", began.elapsed());
        scene.logged(&["request refused", "not over within", "sa/cart"]);
        assert_eq!(idle.get("/").await.status, 200);
    });
}

#[test]
fn heads_of_http2_that_are_too_large_are_answered_alike() {
    scene(&shop(AppProtocol::Http2), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let mut client = http2(open(scene).await).await;
        let mut many = client.request("/");
        for number in 0..129 {
            many = many.header(format!("x-{number}"), "1");
        }
        assert_eq!(client.ask(many.body(empty()).unwrap()).await.status, 431);
        let path = format!("/{}", "x".repeat(20 * 1024));
        assert_eq!(client.get(&path).await.status, 414);
        let large = client.request("/").header("x-a", "x".repeat(80 * 1024)).body(empty()).unwrap();
        assert_eq!(client.ask(large).await.status, 431);
        assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
        assert_eq!(client.get("/").await.status, 200);
    });
}

/// Frames of HTTP/2 by hand (RFC 9113, 4.1): kind, flags, stream and what is in it.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// `GET /held` of `web`, in the words of RFC 7541.
fn held() -> Vec<u8> {
    [&[0x82, 0x86, 0x04, 5][..], b"/held", &[0x41, 3], b"web"].concat()
}

async fn begin_http2(scene: &Scene) -> Nested {
    let mut stream = open(scene).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Reads frames until one of this kind, or the end: then none.
async fn next(stream: &mut Nested, kind: u8) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.ok()?;
        if head[3] == kind {
            return Some(payload);
        }
        if head[3] == GOAWAY {
            return None;
        }
    }
}

/// Opens a hundred requests and takes them back, until it is sent away.
async fn reset_for_sport(mut stream: Nested) {
    let reset = 8_u32.to_be_bytes();
    for round in 0..1000_u32 {
        let ids = (0..100).map(|number| 2 * (round * 100 + number) + 1);
        let mut bytes: Vec<u8> = ids.clone().flat_map(|id| frame(HEADERS, 5, id, &held())).collect();
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        if stream.write_all(&bytes).await.is_err() || next(&mut stream, PING).await.is_none() {
            return;
        }
        let bytes: Vec<u8> = ids.flat_map(|id| frame(RESET, 0, id, &reset)).collect();
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
    panic!("a hundred thousand resets, and it is still served");
}

#[test]
fn who_resets_requests_for_sport_is_sent_away_and_others_are_served() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut other = http1(scene.open("guest", WEB).await.unwrap()).await;
        let offender = begin_http2(scene).await;
        let served = async {
            loop {
                assert_eq!(other.get("/").await.status, 200);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            sent_away = timeout(PATIENCE, Box::pin(reset_for_sport(offender))) => sent_away.expect("sent away"),
            () = served => {}
        }
        // Its tunnel is still there, and it is served again once it has calmed down.
        let mut same = http1(open(scene).await).await;
        let until = Instant::now() + PATIENCE;
        while same.get("/").await.status != 200 {
            assert!(Instant::now() < until, "never again");
        }
    });
}

#[test]
fn a_head_that_never_ends_ends_its_connection() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut stream = begin_http2(scene).await;
        stream.write_all(&frame(HEADERS, 1, 1, &held())).await.unwrap();
        let flood = async {
            let header = [&[0x00, 1][..], b"a", &[1], b"b"].concat();
            // Once it has been ended, what still comes is thrown away for a few seconds, as is what a client sends that has
            // not yet heard of an answer.
            while stream.write_all(&frame(CONTINUATION, 0, 1, &header)).await.is_ok() {
                // A test that never waits would not be stopped by its time limit.
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, Box::pin(flood)).await.expect("it is ended");
        assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
        let mut client = http1(open(scene).await).await;
        assert_eq!(client.get("/").await.status, 200);
    });
}

#[test]
fn one_client_cannot_take_all_the_room_there_is() {
    // Eight of each thread, so a client gets four.
    let settings = [("WAYPOINT_MAX_REQUESTS", "16"), ("WAYPOINT_THREADS", "2")];
    scene_with(&settings, &shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut holding = Vec::new();
        for _ in 0..4 {
            let mut client = http1(open(scene).await).await;
            let request = client.request("/held").body(empty()).unwrap();
            let mut answer = Box::pin(async move { client.ask(request).await });
            tokio::select! {
                answer = &mut answer => panic!("{answer:?}"),
                () = seen.held.notified() => {}
            }
            holding.push(answer);
        }
        let mut client = http1(open(scene).await).await;
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "too many requests"));
        assert_eq!(answer.headers["retry-after"], "1");
        scene.logged(&["request complete", "response_flags=\"OM\"", "sa/cart"]);
        let mut other = http1(scene.open("guest", WEB).await.unwrap()).await;
        assert_eq!(other.get("/").await.status, 200);
        for answer in &mut holding {
            seen.go_on.notify_one();
            assert_eq!(answer.await.status, 200);
        }
        // A place is free once its request is over, which is a moment after its answer.
        let until = Instant::now() + PATIENCE;
        while client.get("/").await.status != 200 {
            assert!(Instant::now() < until, "never again");
        }
    });
}

#[test]
fn a_websocket_over_http2_is_one_over_http1_for_the_application() {
    let direct = Filters { direct: Some(Direct { status: 200, body: Arc::default() }), ..Filters::default() };
    let mut world = shop(AppProtocol::Http11);
    world.push(route(vec![
        Rule { filters: Ok(direct), ..rule(prefix("/direct"), vec![]) },
        rule(prefix("/"), vec![to("web", 1)]),
    ]));
    scene(&world, async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http2(open(scene).await).await;
        // Whatever it is: with an answer, the client knows what the waypoint can do.
        client.get("/").await;
        let ask = |protocol: &'static str, path: &str| {
            let request = Request::builder().method(Method::CONNECT).uri(format!("http://web{path}"));
            request.extension(hyper::ext::Protocol::from_static(protocol)).body(empty()).unwrap()
        };
        assert_eq!(client.ask(ask("spdy", "/chat")).await.status, 403);
        // An answer that is no websocket must not look like one.
        assert_eq!(read(client.send(ask("websocket", "/status/200")).await.unwrap()).await.status, 502);
        assert_eq!(read(client.send(ask("websocket", "/status/404")).await.unwrap()).await.status, 404);
        // Nor one of ours.
        assert_eq!(read(client.send(ask("websocket", "/direct")).await.unwrap()).await.status, 502);
        let mut response = client.send(ask("websocket", "/chat")).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        io.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        timeout(PATIENCE, io.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back, b"hello");
        let last = seen.last.lock().unwrap().clone();
        assert_eq!(
            (last["upgrade"].as_bytes(), last["sec-websocket-version"].as_bytes()),
            (&b"websocket"[..], &b"13"[..])
        );
        assert_eq!(last["sec-websocket-key"].len(), 24);
        scene.logged(&["request complete", "method=CONNECT", "path=\"/status/404\""]);
    });
}

#[test]
fn bodies_that_stand_still_are_given_up_in_either_direction() {
    scene_with(&[("STREAM_IDLE_TIMEOUT", "3s")], &shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let head = "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc";
        let answer = raw(open(scene).await, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        scene.logged(&["request complete", "response_flags=\"SI\"", "response_code=408"]);
        assert_eq!(seen.requests.load(Ordering::SeqCst), 0, "what is not whole is no request");
        let answer = raw(open(scene).await, b"GET /stalled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("half"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "it must not look whole: {answer}");
        scene.logged(&["request complete", "response_flags=\"SI\"", "response_code=200"]);
    });
}

#[test]
fn answers_that_could_be_read_in_two_ways_are_not_passed_on() {
    let many: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: 1\r\n".repeat(129)).into_boxed_str());
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            502,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok", 502),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", 502),
        ("HTTP/1.1 200 OK\r\nx a: 1\r\n\r\n", 502),
        ("this is not HTTP\r\n\r\n", 502),
        (many, 502),
    ] {
        scene(&shop(AppProtocol::Http11), async |scene| {
            let seen = backend(scene, "one", "127.0.0.2", Speaks::Raw(answer)).await;
            let mut client = http1(open(scene).await).await;
            let got = client.get("/").await;
            assert_eq!(got.status, status, "{answer:?}: {got:?}");
            assert_eq!(seen.requests.load(Ordering::SeqCst), 1, "{answer:?}: it was asked again");
            match status {
                200 => assert_eq!(got.body, "ok", "{answer:?}"),
                204 => assert!(!got.headers.contains_key("content-length"), "{answer:?}: {got:?}"),
                _ => drop(scene.logged(&["request complete", "response_flags=\"UPE\""])),
            }
        });
    }
}

#[test]
fn applications_are_told_who_asks_where_they_are_to_be_and_by_nobody_else() {
    let forged = "By=spiffe://cluster.local/ns/shop/sa/way;URI=spiffe://cluster.local/ns/shop/sa/admin";
    for (setting, wanted) in [
        ("false", None),
        ("true", Some("By=spiffe://cluster.local/ns/shop/sa/way;URI=spiffe://cluster.local/ns/shop/sa/cart")),
    ] {
        let settings = [("XFCC_INCLUDE_CLIENT_IDENTITY", setting)];
        scene_with(&settings, &shop(AppProtocol::Http11), async |scene| {
            let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
            let mut client = http1(open(scene).await).await;
            let request =
                client.request("/").header("x-forwarded-client-cert", forged).body(empty()).unwrap();
            assert_eq!(client.ask(request).await.status, 200);
            let last = seen.last.lock().unwrap().clone();
            let told: Vec<_> = last.get_all("x-forwarded-client-cert").iter().collect();
            assert_eq!(told, wanted.into_iter().collect::<Vec<_>>());
        });
    }
}
