//! What only HTTP/2 can say, frame by frame, from clients and from endpoints (RFC 9113).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use ambit_hbone::nested::Nested;
use ambit_model::delta::Change;
use ambit_model::service::AppProtocol;
use ambit_model::traffic::{Handling, Limits, Version};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::rt::Executor;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::backend::{Seen, Spawn, Speaks, backend};
use crate::client::{empty, full, http1, http2, raw, read, until};
use crate::resilience::handled;
use crate::scene::{PATIENCE, Scene, scene, shop};

const WEB: &str = "10.1.0.1:80";
const LINK: &str = "</a.css>; rel=preload";
const EARLY: &str =
    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n";

/// An application that says things its path asks for.
pub(crate) async fn application(stream: Nested, seen: Arc<Seen>) {
    let mut conn = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = conn.accept().await {
        let seen = Arc::clone(&seen);
        Spawn.execute(async move { say(request, respond, &seen).await });
    }
}

async fn say(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, seen: &Seen) {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let hints = || Response::builder().status(103).header("link", LINK).body(()).unwrap();
    match request.uri().path() {
        "/hints" => {
            respond.send_informational(hints()).unwrap();
            seen.go_on.notified().await;
        }
        "/flood" => (0..17).for_each(|_| respond.send_informational(hints()).unwrap()),
        // It says half of its answer, and takes it back.
        "/cut" => {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data("half".into(), false).unwrap();
            seen.go_on.notified().await;
            return body.send_reset(Reason::CANCEL);
        }
        // It says that nobody has looked at it.
        "/refused" => return respond.send_reset(Reason::REFUSED_STREAM),
        _ => {}
    }
    let head = Response::builder().header("content-length", "4").body(()).unwrap();
    let mut body = respond.send_response(head, false).unwrap();
    body.send_data("done".into(), true).unwrap();
    // What is left of the request, it does not read.
}

/// An endpoint that is spoken to in HTTP/1.1, whatever clients speak.
fn shop_of_http1() -> Vec<Change> {
    let limits = Limits { version: Version::Http1, ..Limits::default() };
    let mut world = shop(AppProtocol::Http11);
    world.push(handled(Handling { limits, ..Handling::default() }));
    world
}

/// A client that hears everything.
async fn client(scene: &Scene) -> SendRequest<Bytes> {
    let (client, conn) = h2::client::handshake(scene.open("cart", WEB).await.unwrap()).await.unwrap();
    Spawn.execute(async move { drop(conn.await) });
    client
}

fn ask(client: &mut SendRequest<Bytes>, path: &str) -> ResponseFuture {
    let request = Request::builder().uri(format!("http://web{path}")).body(()).unwrap();
    client.send_request(request, true).unwrap().0
}

/// The next that is said: in advance, or the answer.
async fn hear(answer: &mut ResponseFuture) -> Result<Response<()>, Box<Response<RecvStream>>> {
    let heard = poll_fn(|cx| {
        if let Poll::Ready(Some(said)) = answer.poll_informational(cx) {
            return Poll::Ready(Ok(said.unwrap()));
        }
        pin!(&mut *answer).poll(cx).map(|answer| Err(Box::new(answer.unwrap())))
    });
    timeout(PATIENCE, heard).await.expect("something is said")
}

async fn whole(answer: Box<Response<RecvStream>>) -> Result<String, h2::Error> {
    let (mut body, mut text) = (answer.into_body(), String::new());
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("a body") {
        text += std::str::from_utf8(&data?).unwrap();
    }
    Ok(text)
}

#[test]
fn early_hints_reach_clients_in_whatever_version_each_side_speaks() {
    for (world, speaks) in
        [(shop(AppProtocol::Http2), Speaks::Frames), (shop_of_http1(), Speaks::Early(EARLY))]
    {
        scene(&world, async |scene| {
            let seen = backend(scene, "one", "127.0.0.2", speaks).await;
            let mut client = client(scene).await;
            let mut answer = ask(&mut client, "/hints");
            let hints = hear(&mut answer).await.unwrap();
            assert_eq!(hints.status(), 103);
            assert_eq!(hints.headers()["link"], LINK);
            assert!(!hints.headers().contains_key("x-hop"), "{hints:?}");
            seen.go_on.notify_one();
            let answer = hear(&mut answer).await.unwrap_err();
            assert_eq!((answer.status().as_u16(), whole(answer).await.unwrap().as_str()), (200, "done"));
            let mut stream = scene.open("cart", WEB).await.unwrap();
            stream.write_all(b"GET /hints HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
            let hints = until(&mut stream, "\r\n\r\n").await;
            assert!(hints.starts_with("HTTP/1.1 103 Early Hints\r\n") && hints.contains(LINK), "{hints}");
            seen.go_on.notify_one();
            let answer = until(&mut stream, "done").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        });
    }
}

#[test]
fn an_endpoint_of_http2_that_says_too_much_early_is_not_listened_to() {
    scene(&shop(AppProtocol::Http2), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Frames).await;
        let mut client = client(scene).await;
        let (mut answer, mut count) = (ask(&mut client, "/flood"), 0);
        let answer = loop {
            match hear(&mut answer).await {
                Ok(_) => count += 1,
                Err(answer) => break answer,
            }
        };
        assert_eq!((answer.status().as_u16(), count), (502, 16));
        // The connection is as good as it was.
        let answer = hear(&mut ask(&mut client, "/")).await.unwrap_err();
        assert_eq!(whole(answer).await.unwrap(), "done");
    });
}

#[test]
fn what_breaks_off_is_never_whole() {
    scene(&shop(AppProtocol::Http2), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Frames).await;
        let mut client = client(scene).await;
        let answer = hear(&mut ask(&mut client, "/cut")).await.unwrap_err();
        seen.go_on.notify_one();
        let error = whole(answer).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL), "{error}");
        // In HTTP/1.1 the end is missing, and the connection ends.
        let mut stream = scene.open("cart", WEB).await.unwrap();
        stream.write_all(b"GET /cut HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        let answer = until(&mut stream, "half\r\n").await;
        assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
        seen.go_on.notify_one();
        assert_eq!(raw(stream, b"").await, "");
        // Nobody has looked at it: it is tried again, as often as may be.
        let before = seen.requests.load(Ordering::SeqCst);
        let answer = hear(&mut ask(&mut client, "/refused")).await.unwrap_err();
        assert_eq!(answer.status(), 503);
        assert!(seen.requests.load(Ordering::SeqCst) > before + 1, "it was not tried again");
    });
    // A request that its client takes back half way.
    scene(&shop_of_http1(), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = client(scene).await;
        let request = Request::builder().method("POST").uri("http://web/count").body(()).unwrap();
        let (_answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data("half".into(), false).unwrap();
        let begun = async {
            while seen.last.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, begun).await.unwrap();
        body.send_reset(Reason::CANCEL);
        let ended = async {
            while seen.abandoned.load(Ordering::SeqCst) == 0 && seen.requests.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, ended).await.unwrap();
        assert_eq!(seen.requests.load(Ordering::SeqCst), 0, "what is not whole is no request");
    });
}

#[test]
fn an_answer_that_does_not_wait_for_the_request_is_whole() {
    scene(&shop(AppProtocol::Http2), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Frames).await;
        for mut client in [
            http1(scene.open("cart", WEB).await.unwrap()).await,
            http2(scene.open("cart", WEB).await.unwrap()).await,
        ] {
            let (more, pieces) = tokio::sync::mpsc::channel(1);
            more.send(Ok(Frame::data(Bytes::from("half")))).await.unwrap();
            let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(pieces)).boxed();
            let request = client.request("/early").method("POST").body(body).unwrap();
            let answer = read(client.send(request).await.unwrap()).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
            drop(more);
        }
        // And one that was sent whole, on the same connections.
        let mut client = http2(scene.open("cart", WEB).await.unwrap()).await;
        let request = client.request("/").method("POST").body(full("all")).unwrap();
        assert_eq!(client.ask(request).await.body, "done");
        assert_eq!(client.ask(client.request("/").body(empty()).unwrap()).await.body, "done");
    });
}
