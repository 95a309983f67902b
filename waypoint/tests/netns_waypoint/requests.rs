//! Requests and their answers through the waypoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_hbone::pool::OpenError;
use ambit_model::delta::Change;
use ambit_model::service::AppProtocol;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::backend::{Speaks, backend};
use crate::client::{Client, empty, full, http1, http2};
use crate::scene::{PATIENCE, endpoint, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

#[test]
fn a_request_goes_to_an_endpoint_and_both_identities_are_kept() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        for target in [WEB, "web.shop.svc.cluster.local:80"] {
            let mut client = http1(scene.open("cart", target).await.unwrap()).await;
            let request =
                client.request("/a%20b?c=d").header("x-envoy-max-retries", "9").header("x-mine", "1");
            let answer = client.ask(request.body(empty()).unwrap()).await;
            assert_eq!(answer.status, 200);
            let mut lines = answer.body.lines();
            assert_eq!(lines.next(), Some("one at 127.0.0.2:8080"));
            assert_eq!(lines.next(), Some("GET /a%20b?c=d HTTP/1.1"));
            for header in ["host: web", "x-forwarded-proto: http", "x-envoy-attempt-count: 1", "x-mine: 1"] {
                assert!(answer.body.contains(header), "{header}: {}", answer.body);
            }
            assert!(
                answer.body.contains("x-request-id: ") && !answer.body.contains("max-retries"),
                "{}",
                answer.body
            );
            assert!(answer.headers.contains_key("x-envoy-upstream-service-time"), "{:?}", answer.headers);
        }
        let line = scene.logged(&["request complete", "path=\"/a%20b?c=d\""]);
        for part in [
            "source_principal=spiffe://cluster.local/ns/shop/sa/cart",
            "destination_principal=\"spiffe://cluster.local/ns/shop/sa/one\"",
            "upstream_host=\"127.0.0.2:8080\"",
            "response_code=200",
            "destination_workload=\"one\"",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let series = metrics.lines().find(|line| line.starts_with("istio_requests_total{")).unwrap();
        for part in [
            "reporter=\"waypoint\"",
            "source_principal=\"spiffe://cluster.local/ns/shop/sa/cart\"",
            "source_canonical_service=\"cart\"",
            "destination_principal=\"spiffe://cluster.local/ns/shop/sa/one\"",
            "destination_service=\"web.shop.svc.cluster.local\"",
            "response_code=\"200\"",
        ] {
            assert!(series.contains(part), "{part}: {series}");
        }
        assert!(series.ends_with(" 2"), "{series}");
    });
}

#[test]
fn what_does_not_go_through_this_waypoint_is_refused_before_the_stream_opens() {
    let mut world = shop(AppProtocol::Http11);
    let mut other = service("other", "10.1.0.2", AppProtocol::Http11);
    other.waypoint = None;
    world.push(Change::Service(Arc::new(other)));
    scene(&world, async |scene| {
        for (target, status) in [
            ("10.1.0.2:80", 404),
            ("10.1.0.1:81", 404),
            ("10.9.9.9:80", 404),
            ("127.0.0.2:8080", 404),
            ("nobody.example:80", 404),
        ] {
            let Err(OpenError::Refused { status: found }) = scene.open("cart", target).await else {
                panic!("{target} was opened");
            };
            assert_eq!(found, status, "{target}");
            // The reason is in the log, for each.
            scene.logged(&["connection refused", "sa/cart"]);
        }
        scene.logged(&["shop/other.shop.svc.cluster.local does not go through this waypoint"]);
        scene.logged(&["shop/web.shop.svc.cluster.local has no port 81"]);
    });
}

#[test]
fn an_endpoint_that_proves_to_be_somebody_else_is_sent_nothing() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "thief", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let answer = client.get("/").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.starts_with("upstream connect error"), "{}", answer.body);
        assert_eq!(seen.streams.load(Ordering::SeqCst), 0);
        let line = scene.logged(&["request complete", "response_flags=\"UF\""]);
        assert!(line.contains("sa/thief"), "{line}");
    });
}

#[test]
fn both_versions_of_http_pass_in_both_directions_with_trailers() {
    for (protocol, speaks, seen) in
        [(AppProtocol::Http11, Speaks::Http1, "HTTP/1.1"), (AppProtocol::Http2, Speaks::Http2, "HTTP/2.0")]
    {
        scene(&shop(protocol), async |scene| {
            backend(scene, "one", "127.0.0.2", speaks).await;
            let mut clients = vec![http1(scene.open("cart", WEB).await.unwrap()).await];
            // To an application of HTTP/1.1, who speaks HTTP/2 would be nobody's friend: it is passed as it is.
            if speaks == Speaks::Http2 {
                clients.push(http2(scene.open("cart", WEB).await.unwrap()).await);
            }
            for mut client in clients {
                let answer = client.get("/").await;
                assert!(answer.body.contains(seen), "{}", answer.body);
                let request = client.request("/trailers").header("te", "trailers");
                let answer = client.ask(request.body(empty()).unwrap()).await;
                assert_eq!((answer.body.as_str(), answer.trailers["x-sum"].as_bytes()), ("body", &b"42"[..]));
                let request = client.request("/count").method("POST").body(full("12345")).unwrap();
                assert_eq!(client.ask(request).await.body, "5 {}");
            }
        });
    }
}

#[test]
fn a_thousand_requests_follow_each_other_on_one_connection() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        for number in 0..1000 {
            assert_eq!(client.get("/").await.status, 200, "{number}");
        }
        assert_eq!(seen.requests.load(Ordering::SeqCst), 1000);
        // One after the other needs no second connection to the endpoint.
        assert_eq!(seen.streams.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn an_upload_of_64_mib_passes_through_and_stays_nowhere() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(client.get("/").await.status, 200);
        let before = scene.resident();
        let piece = Bytes::from(vec![1; 64 * 1024]);
        let pieces = tokio_stream::iter((0..1024).map(move |_| Ok(Frame::data(piece.clone()))));
        let request = client.request("/count").method("POST").body(StreamBody::new(pieces).boxed()).unwrap();
        assert_eq!(client.ask(request).await.body, format!("{} {{}}", 64 << 20));
        let answer = client.get("/large").await;
        assert_eq!(answer.body.len(), 64 << 20);
        let grown = scene.resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{} KiB more", grown >> 10);
    });
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    for protocol in [AppProtocol::Http11, AppProtocol::Http2] {
        let speaks = if protocol == AppProtocol::Http2 { Speaks::Http2 } else { Speaks::Http1 };
        scene(&shop(protocol), async |scene| {
            let seen = backend(scene, "one", "127.0.0.2", speaks).await;
            let stream = scene.open("cart", WEB).await.unwrap();
            let mut client = if speaks == Speaks::Http2 { http2(stream).await } else { http1(stream).await };
            let request = client.request("/held").body(empty()).unwrap();
            tokio::select! {
                _ = client.send(request) => panic!("answered"),
                () = seen.held.notified() => {}
            }
            drop(client);
            let until = tokio::time::Instant::now() + PATIENCE;
            while seen.abandoned.load(Ordering::SeqCst) == 0 {
                assert!(
                    tokio::time::Instant::now() < until,
                    "{protocol:?}: the endpoint still works for nobody"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            scene.logged(&["request complete", "path=\"/held\"", "response_flags=\"DC\""]);
        });
    }
}

#[test]
fn another_endpoint_answers_when_one_cannot_and_what_only_one_can_is_told() {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Workload(Arc::new(endpoint("two", "127.0.0.3"))));
    world.push(Change::Workload(Arc::new(endpoint("three", "127.0.0.4"))));
    scene(&world, async |scene| {
        // One listens not at all, one has a tunnel and no application.
        let ended = backend(scene, "two", "127.0.0.3", Speaks::Nothing).await;
        let seen = backend(scene, "three", "127.0.0.4", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        for number in 0..30 {
            let request = client.request("/count").method("POST").body(full("body")).unwrap();
            let answer = client.ask(request).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "4 {}"), "{number}");
        }
        assert_eq!(seen.requests.load(Ordering::SeqCst), 30);
        assert!(ended.streams.load(Ordering::SeqCst) > 0, "it was never asked");
        // An application's own 503 is its own.
        assert_eq!(client.get("/status/503").await.body, "as asked");
        assert_eq!(seen.requests.load(Ordering::SeqCst), 31);
    });
}

#[test]
fn endpoints_that_come_and_go_cost_no_request() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let two = Change::Workload(Arc::new(endpoint("two", "127.0.0.3")));
        let one_gone = Change::WorkloadGone("Kubernetes//Pod/shop/one".into());
        for (change, wanted) in [(None, "one"), (Some(vec![two, one_gone]), "two")] {
            if let Some(change) = change {
                scene.plane.publish(&change.into_iter().collect());
            }
            for _ in 0..20 {
                let answer = client.get("/").await;
                assert!(answer.body.starts_with(wanted), "{wanted}: {}", answer.body);
            }
        }
        let gone = Change::WorkloadGone("Kubernetes//Pod/shop/two".into());
        scene.plane.publish(&[gone].into_iter().collect());
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "no healthy upstream"));
        let request = client.request("/").header("content-type", "application/grpc").body(empty()).unwrap();
        let answer = client.ask(request).await;
        assert_eq!((answer.status, answer.headers["grpc-status"].as_bytes()), (200, &b"14"[..]));
    });
}

#[test]
fn a_websocket_is_opened_through_the_waypoint_and_other_protocols_are_not() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let ask = |to: &str, client: &Client| {
            let request = client.request("/chat").header("connection", "upgrade").header("upgrade", to);
            request.body(empty()).unwrap()
        };
        let mut other = http1(scene.open("cart", WEB).await.unwrap()).await;
        let request = ask("spdy/3", &other);
        assert_eq!(other.ask(request).await.status, 403);
        let (mut client, request) = {
            let request = ask("websocket", &client);
            (client, request)
        };
        let mut response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["upgrade"], "websocket");
        talk(&mut response).await;
    });
}

#[test]
fn a_websocket_goes_on_as_the_endpoint_understands_it() {
    // The last one says that it speaks HTTP/2 and does not.
    for (port, speaks) in [
        (AppProtocol::Http2, Speaks::Http2),
        (AppProtocol::Http11, Speaks::Http1),
        (AppProtocol::Http2, Speaks::Http1),
    ] {
        scene(&shop(port), async |scene| {
            let seen = backend(scene, "one", "127.0.0.2", speaks).await;
            let mut of_http1 = http1(scene.open("cart", WEB).await.unwrap()).await;
            let request =
                of_http1.request("/chat").header("connection", "upgrade").header("upgrade", "websocket");
            let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            let mut response = of_http1.send(request.body(empty()).unwrap()).await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()["upgrade"]),
                (101, &"websocket".parse().unwrap())
            );
            let last = seen.last.lock().unwrap().clone();
            assert_eq!(last["sec-websocket-version"], "13");
            if speaks == Speaks::Http2 {
                assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                assert!(!last.contains_key("sec-websocket-key") && !last.contains_key("upgrade"), "{last:?}");
            }
            talk(&mut response).await;
            let mut of_http2 = http2(scene.open("cart", WEB).await.unwrap()).await;
            // With an answer, the client knows what the waypoint can do.
            let first = of_http2.request("/status/204").body(empty()).unwrap();
            drop(of_http2.send(first).await);
            let request = Request::builder().method("CONNECT").uri("http://web/chat");
            let request = request.extension(hyper::ext::Protocol::from_static("websocket"));
            let mut response = of_http2.send(request.body(empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            talk(&mut response).await;
        });
    }
}

/// Says something on a websocket, and hears it.
async fn talk(response: &mut Response<Incoming>) {
    let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    timeout(PATIENCE, io.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"hello");
}

#[test]
fn a_waypoint_that_stops_says_so_first_and_finishes_what_is_open() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut held = http1(scene.open("cart", WEB).await.unwrap()).await;
        let mut kept = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(kept.get("/").await.status, 200);
        let request = held.request("/held").body(empty()).unwrap();
        let mut open = Box::pin(held.ask(request));
        tokio::select! {
            _ = &mut open => panic!("answered"),
            () = seen.held.notified() => {}
        }
        scene.terminate();
        let until = tokio::time::Instant::now() + PATIENCE;
        while scene.is_ready().await {
            assert!(tokio::time::Instant::now() < until, "still ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Who has not heard of it is still served.
        assert_eq!(kept.get("/").await.status, 200);
        let refused = async {
            loop {
                if scene.open("cart", WEB).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("new streams are refused in the end");
        assert!(scene.ended().is_none(), "it must wait for what is open");
        seen.go_on.notify_one();
        let answer = timeout(PATIENCE, &mut open).await.expect("the open request is answered");
        assert_eq!((answer.status, answer.body.as_str()), (200, "let go"));
        drop(open);
        drop((held, kept));
        let until = tokio::time::Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = scene.ended() {
                break status;
            }
            assert!(tokio::time::Instant::now() < until, "still running");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(status.success(), "{status}");
    });
}
