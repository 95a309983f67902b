//! gRPC as browsers ask for it (`waypoint.md` 6.3): translated for endpoints that speak gRPC and nothing else, and for
//! clients that see no trailers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{Cors, Filters, Names, Rule};
use ambit_model::provider::{Authorizer, BodyShown, Speaks as Asks};
use ambit_model::request_policy::RequestAction;
use ambit_model::service::AppProtocol;
use ambit_model::workload::Tunnel;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::asked::{ask, provider, them, web, world as asked_world};
use crate::authorizer::{Says, authorizer, field, no, yes};
use crate::backend::{Speaks, backend};
use crate::client::{Body, Client, empty, full, http1, http2};
use crate::grpc::{app, world};
use crate::policies::{change, policy, to_path, with_header};
use crate::routes::{route, rule, to};
use crate::scene::{PATIENCE, Scene, endpoint, scene, shop};

const WEB: &str = "10.1.0.1:80";
const CALL: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
const STREAM: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

/// A message with what comes before it.
fn framed(message: impl AsRef<[u8]>) -> Vec<u8> {
    let message = message.as_ref();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// A body in pieces.
fn pieces(pieces: impl IntoIterator<Item = Vec<u8>>) -> Body {
    let frames: Vec<_> = pieces.into_iter().map(|it| Ok(Frame::data(Bytes::from(it)))).collect();
    StreamBody::new(tokio_stream::iter(frames)).boxed()
}

/// A body as its media type has it, each of these encoded by itself.
fn written(media: &str, parts: &[Vec<u8>]) -> Body {
    match media {
        TEXT => pieces(parts.iter().map(|it| STANDARD.encode(it).into_bytes())),
        _ => pieces(parts.iter().cloned()),
    }
}

/// An answer of gRPC-web.
struct Answer {
    headers: HeaderMap,
    messages: Vec<Vec<u8>>,
    /// What follows the messages.
    last: String,
}

/// What a body says, or some of it.
fn meant(media: &str, body: &[u8]) -> Vec<u8> {
    if !media.starts_with(TEXT) {
        return body.to_vec();
    }
    assert_eq!(body.len() % 4, 0, "a group is cut");
    body.chunks(4).flat_map(|group| STANDARD.decode(group).unwrap()).collect()
}

async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("a body").unwrap();
    assert_eq!(parts.status, 200, "{parts:?}");
    assert!(body.trailers().is_none(), "no browser sees any");
    for name in ["grpc-status", "grpc-message", "trailer"] {
        assert!(!parts.headers.contains_key(name), "{name} in {parts:?}");
    }
    let meant = meant(parts.headers["content-type"].to_str().unwrap(), &body.to_bytes());
    let mut answer = Answer { headers: parts.headers, messages: Vec::new(), last: String::new() };
    let mut rest = &meant[..];
    while let [flag, a, b, c, d, more @ ..] = rest {
        assert!(answer.last.is_empty(), "more follows what is last");
        let (piece, more) = more.split_at(u32::from_be_bytes([*a, *b, *c, *d]).try_into().unwrap());
        match flag {
            0 => answer.messages.push(piece.to_vec()),
            0x80 => answer.last = String::from_utf8(piece.to_vec()).unwrap(),
            other => panic!("a piece of kind {other}"),
        }
        rest = more;
    }
    assert!(rest.is_empty(), "half a piece");
    answer
}

/// Calls, and hears in the same form.
async fn call(client: &mut Client, path: &str, media: &str, body: Body) -> Answer {
    let request = client.request(path).method("POST").header("content-type", media).header("x-grpc-web", "1");
    let answer = read(client.send(request.body(body).unwrap()).await.unwrap()).await;
    assert_eq!(answer.headers["content-type"].to_str().unwrap().split('+').next(), media.split('+').next());
    answer
}

async fn clients(scene: &Scene) -> [Client; 2] {
    let [one, two] = [scene.open("cart", WEB).await.unwrap(), scene.open("cart", WEB).await.unwrap()];
    [http1(one).await, http2(two).await]
}

#[test]
fn pages_call_what_speaks_grpc_in_any_http_and_in_either_form() {
    scene(&world(AppProtocol::GrpcWeb), async |scene| {
        app(scene).await;
        for media in [BINARY, TEXT] {
            for mut client in clients(scene).await {
                calls_are_answered(&mut client, media).await;
                messages_stream(client, media).await;
            }
        }
    });
}

async fn calls_are_answered(client: &mut Client, media: &str) {
    let message = field(1, "csr");
    let answer = call(client, CALL, media, written(media, &[framed(&message)])).await;
    assert_eq!(answer.messages, [[field(1, "csr"), field(1, "")].concat()], "{media}");
    assert_eq!(
        (&answer.headers["x-app"], answer.last.as_str()),
        (&"app".parse().unwrap(), "grpc-status: 0\r\n")
    );
    // What comes before a message, and the message itself, each written for itself; and a long one.
    let apart = framed(&message);
    let long = [&[0x0a, 0xa0, 0x8d, 0x06], &[b'x'; 100_000][..]].concat();
    for (parts, length) in
        [(vec![apart[..5].to_vec(), apart[5..].to_vec()], 7), (vec![framed(&long)], 100_006)]
    {
        let answer = call(client, CALL, media, written(media, &parts)).await;
        assert_eq!(answer.messages.concat().len(), length, "{media}");
    }
    let failed = call(client, CALL, media, written(media, &[framed(field(1, "wrong"))])).await;
    assert!(failed.messages.is_empty());
    assert_eq!(
        failed.last, "grpc-status: 5\r\ngrpc-message: there%20is%20none:%20%C3%BCberall\r\n",
        "{media}"
    );
}

/// Each message is answered before the next one is sent, and half a group of text is waited for.
async fn messages_stream(mut client: Client, media: &str) {
    let (say, said) = mpsc::channel(1);
    let body = StreamBody::new(ReceiverStream::new(said)).boxed();
    let request = client.request(STREAM).method("POST").header("content-type", media);
    let text = |name: &str| match media {
        TEXT => STANDARD.encode(framed(field(2, name))).into_bytes(),
        _ => framed(field(2, name)),
    };
    let piece = |bytes: &[u8]| Ok(Frame::data(Bytes::copy_from_slice(bytes)));
    let first = text("first");
    say.send(piece(&first[..6])).await.unwrap();
    let sent = client.send(request.body(body).unwrap());
    let rest = async {
        say.send(piece(&first[6..7])).await.unwrap();
        say.send(piece(&first[7..])).await.unwrap();
    };
    let mut answer = tokio::join!(sent, rest).0.unwrap();
    for name in ["first", "second", "third"] {
        if name != "first" {
            say.send(piece(&text(name))).await.unwrap();
        }
        let came = timeout(PATIENCE, answer.frame()).await.expect("an answer").unwrap().unwrap();
        assert_eq!(meant(media, came.data_ref().unwrap()), framed(field(4, name)), "{media}");
    }
    say.send(piece(&text("fail"))).await.unwrap();
    let answer = read(answer).await;
    assert_eq!(answer.last, "grpc-status: 8\r\ngrpc-message: enough\r\n", "{media}");
}

#[test]
fn endpoints_get_grpc_and_all_else_as_it_came() {
    let mut world = shop(AppProtocol::GrpcWeb);
    world.push(change(policy("none", web(), RequestAction::Deny, &[to_path("/denied")])));
    // Policies judge what was asked, before it becomes something else.
    let as_text = with_header("content-type", "application/grpc-web-text+thrift");
    world.push(change(policy("no-text", web(), RequestAction::Deny, &[as_text])));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        for mut client in clients(scene).await {
            // It answers with something that is no gRPC.
            let answer = call(&mut client, "/a.B/C", BINARY, full("\0\0\0\0\x02ab")).await;
            assert_eq!(
                answer.last,
                "grpc-status: 2\r\ngrpc-message: the endpoint answered with status 200 OK\r\n"
            );
            let seen = one.last.lock().unwrap().clone();
            for (name, value) in
                [("content-type", "application/grpc+proto"), ("te", "trailers"), ("x-grpc-web", "1")]
            {
                assert_eq!(seen[name], value, "{name}");
            }
            assert!(!seen.contains_key("content-length"));
            let answer = call(&mut client, "/status/503", TEXT, empty()).await;
            assert!(answer.last.starts_with("grpc-status: 14\r\n"), "{}", answer.last);
            let answer = call(&mut client, "/denied", TEXT, written(TEXT, &[framed("ab")])).await;
            assert_eq!(answer.last, "grpc-status: 7\r\ngrpc-message: RBAC: access denied\r\n");
            let thrift = "application/grpc-web-text+thrift";
            let answer = call(&mut client, "/a.B/C", thrift, written(TEXT, &[framed("ab")])).await;
            assert_eq!(answer.last, "grpc-status: 7\r\ngrpc-message: RBAC: access denied\r\n");
            let plain = client.get("/plain").await;
            assert!(plain.body.contains("/plain HTTP/2.0\n"), "{}", plain.body);
            assert_eq!(client.get("/denied").await.status, 403);
            let request = client.request("/").method("POST").header("content-type", "application/grpc");
            let grpc = client.ask(request.body(empty()).unwrap()).await;
            assert!(grpc.body.contains("content-type: application/grpc\n"), "{}", grpc.body);
        }
        scene.logged(&["request complete", "path=\"/status/503\"", "response_code=200", "grpc_status=14"]);
    });
}

#[test]
fn what_is_to_be_base64_and_is_not_ends_its_request_alone() {
    scene(&shop(AppProtocol::GrpcWeb), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let good = STANDARD.encode(framed("abcd")).into_bytes();
        for bad in [b"AA!=".to_vec(), b"AAA".to_vec()] {
            let mut clients = clients(scene).await;
            for client in &mut clients {
                let answer = call(client, "/count", TEXT, pieces([good.clone(), bad.clone()])).await;
                assert_eq!(answer.last, "grpc-status: 13\r\ngrpc-message: the body is no base64\r\n");
            }
            assert_eq!(clients[1].get("/").await.status, 200, "its connection goes on");
        }
    });
}

#[test]
fn a_call_of_a_page_is_tried_again_where_nobody_has_seen_it() {
    let mut world = shop(AppProtocol::GrpcWeb);
    world.push(Change::Workload(Arc::new(endpoint("two", "127.0.0.3"))));
    scene(&world, async |scene| {
        let nobody = backend(scene, "one", "127.0.0.2", Speaks::Nothing).await;
        let two = authorizer(scene, Some("two"), ("127.0.0.3", true)).await;
        two.say(Says::Message(b"hello".to_vec()));
        let [mut client, _] = clients(scene).await;
        for _ in 0..30 {
            let answer = call(&mut client, "/a.B/C", TEXT, written(TEXT, &[framed("ab"), framed("c")])).await;
            assert_eq!(
                (answer.messages, answer.last.as_str()),
                (vec![b"hello".to_vec()], "grpc-status: 0\r\n")
            );
        }
        assert!(nobody.streams.load(Ordering::SeqCst) > 0, "it was never asked");
        let seen = two.asked();
        assert!(seen.len() == 30 && seen.iter().all(|it| it.body == [framed("ab"), framed("c")].concat()));
        counted(scene).await;
    });
}

/// Messages are counted as those of gRPC are.
async fn counted(scene: &Scene) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let is_there = |name: &str, count: &str| {
            let of_grpc = ["request_protocol=\"grpc\"", "grpc_response_status=\"0\""];
            let is_it = |line: &&str| line.starts_with(name) && line.ends_with(count);
            metrics.lines().filter(is_it).any(|line| of_grpc.iter().all(|part| line.contains(part)))
        };
        if is_there("istio_request_messages_total{", " 60")
            && is_there("istio_response_messages_total{", " 30")
        {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn who_is_asked_about_a_call_of_a_page_sees_it_as_the_page_has_sent_it() {
    let whom =
        Authorizer { body: Some(BodyShown { most: 64, partial: false, raw: true }), ..them(Asks::Grpc) };
    let mut world = asked_world(AppProtocol::Grpc, Tunnel::Hbone);
    world.extend(shop(AppProtocol::GrpcWeb));
    world.extend([ask("/c*"), provider(whom)]);
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let them = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        for (says, last) in [(yes(&[]), "grpc-status: 2\r\n"), (no(&[]), "grpc-status: 7\r\n")] {
            them.say(says);
            let answer = call(&mut client, "/count", TEXT, written(TEXT, &[framed("ab")])).await;
            assert!(answer.last.starts_with(last), "{}", answer.last);
            let question = them.asked().remove(0);
            assert!(question.holds(STANDARD.encode(framed("ab"))) && question.holds(TEXT));
        }
        // The endpoint gets what that says.
        assert_eq!(one.requests.load(Ordering::SeqCst), 1);
        assert_eq!(one.bodies.load(Ordering::SeqCst), framed("ab").len());
        them.say(yes(&[]));
        let answer = call(&mut client, "/count", TEXT, pieces([b"AA!=".to_vec()])).await;
        assert_eq!(answer.last, "grpc-status: 13\r\ngrpc-message: the body is no base64\r\n");
    });
}

#[test]
fn a_page_of_another_origin_may_call_where_a_route_lets_it() {
    let origins = Names::These(vec!["https://a.b".parse().unwrap()]);
    let (headers, expose) = (Names::Any, Names::These(vec!["x-shown".parse().unwrap()]));
    let cors = Cors { origins, headers, expose, ..Cors::default() };
    let filters = Ok(Filters { cors: Some(Box::new(cors)), ..Filters::default() });
    let mut world = shop(AppProtocol::GrpcWeb);
    world.push(route(vec![Rule { filters, ..rule(vec![], vec![to("web", 1)]) }]));
    world.push(change(policy("none", web(), RequestAction::Deny, &[to_path("/denied")])));
    // Policies judge what was asked, before it becomes something else.
    let as_text = with_header("content-type", "application/grpc-web-text+thrift");
    world.push(change(policy("no-text", web(), RequestAction::Deny, &[as_text])));
    scene(&world, async |scene| {
        let one = authorizer(scene, Some("one"), ("127.0.0.2", true)).await;
        one.say(Says::Message(b"hello".to_vec()));
        for mut client in clients(scene).await {
            let asks = client.request("/a.B/C").method("OPTIONS").header("origin", "https://a.b");
            let asks = asks.header("access-control-request-method", "POST");
            let asks = asks.header("access-control-request-headers", "content-type,x-grpc-web");
            let told = client.ask(asks.body(empty()).unwrap()).await;
            assert_eq!(
                (told.status, &told.headers["access-control-allow-origin"]),
                (204, &"https://a.b".parse().unwrap())
            );
            for (path, last) in [("/a.B/C", "grpc-status: 0"), ("/denied", "grpc-status: 7")] {
                let request = client.request(path).method("POST").header("origin", "https://a.b");
                let request = request.header("content-type", BINARY).header("accept", TEXT);
                let answer =
                    client.send(request.body(written(BINARY, &[framed("ab")])).unwrap()).await.unwrap();
                let answer = read(answer).await;
                assert!(answer.last.starts_with(last), "{}", answer.last);
                for (name, value) in [
                    ("access-control-allow-origin", "https://a.b"),
                    ("access-control-expose-headers", "x-shown"),
                    ("content-type", TEXT),
                ] {
                    assert_eq!(answer.headers[name], value, "{name} {path}");
                }
            }
        }
        assert_eq!(one.asked().len(), 2);
    });
}
