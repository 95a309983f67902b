//! An endpoint: its own end of tunnels, and a small application behind it that tells what it has seen.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_hbone::accept::accept;
use ambit_hbone::head::{Opened, Refusal};
use ambit_hbone::nested::Nested;
use ambit_process::net::TcpListener;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::scene::Scene;

/// How a backend behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// HTTP/2 with all that only it can say.
    Frames,
    /// HTTP/1.1, behind a line that says whose connection it is; that is part of its name.
    Announced,
    /// Sends back what it gets.
    Echo,
    /// Says the same to everybody, and ends.
    Raw(&'static str),
    /// Says this to everybody, and answers when it may go on.
    Early(&'static str),
    /// Its tunnel says that the application is not there.
    Nothing,
}

/// What happened at a backend.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    pub(crate) streams: AtomicUsize,
    /// Bytes of bodies that were counted.
    pub(crate) bodies: AtomicUsize,
    /// The headers that came last.
    pub(crate) last: Mutex<HeaderMap>,
    /// Requests that were given up before they were answered.
    pub(crate) abandoned: AtomicUsize,
    /// Whether it says that it is unwell when it is asked how it is.
    pub(crate) unwell: AtomicBool,
    /// Told when `/held` is being asked for, and lets it go on.
    pub(crate) held: Notify,
    pub(crate) go_on: Notify,
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Starts an endpoint at `ip` that proves to be `account`.
pub(crate) async fn backend(scene: &mut Scene, account: &str, ip: &str, speaks: Speaks) -> Arc<Seen> {
    let listener = TcpListener::bind((ip, 15008)).await.unwrap();
    let tls = scene.accepting(account).await;
    let seen = Arc::new(Seen::default());
    let (name, counted) = (account.to_owned(), Arc::clone(&seen));
    scene.tasks.spawn("backend", move |stop| async move {
        let mut tunnels = Tasks::new(&stop);
        loop {
            let tcp = tokio::select! {
                taken = listener.accept() => taken.unwrap().0,
                () = stop.stopped() => return,
            };
            let (tls, name, seen) = (tls.clone(), name.clone(), Arc::clone(&counted));
            tunnels.spawn("tunnel", |stop| async move {
                let Ok(accepted) = accept(tcp, tls, Scene::windows()).await else { return };
                let mut streams = Tasks::new(&Stop::new());
                let take = |arrival: ambit_hbone::accept::Arrival| {
                    seen.streams.fetch_add(1, Ordering::SeqCst);
                    if speaks == Speaks::Nothing {
                        return arrival.refuse(Refusal::Unavailable);
                    }
                    let target = arrival.head().unwrap().authority.to_string();
                    let stream = Nested::new(arrival.open(&Opened::default()).unwrap());
                    let (name, seen) = (format!("{name} at {target}"), Arc::clone(&seen));
                    streams.spawn("stream", |_| serve(stream, speaks, name, seen));
                };
                accepted.serve(stop, take).await;
                while streams.one_ended().await {}
            });
        }
    });
    seen
}

async fn serve(mut stream: Nested, speaks: Speaks, mut name: String, seen: Arc<Seen>) {
    if speaks == Speaks::Announced {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        name = format!("{name} for {}", String::from_utf8_lossy(&line).trim_end());
    }
    if speaks == Speaks::Echo {
        let mut bytes = vec![0; 4096];
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(count) => stream.write_all(&bytes[..count]).await.unwrap(),
            }
        }
        let _ = stream.shutdown().await;
        return;
    }
    if speaks == Speaks::Frames {
        return crate::frames::application(stream, seen).await;
    }
    if let Speaks::Raw(answer) | Speaks::Early(answer) = speaks {
        let mut bytes = vec![0; 4096];
        let _ = stream.read(&mut bytes).await;
        seen.requests.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(answer.as_bytes()).await;
        if let Speaks::Early(_) = speaks {
            seen.go_on.notified().await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
        }
        let _ = stream.shutdown().await;
        return;
    }
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (name, seen) = (name.clone(), Arc::clone(&seen));
        async move { Ok::<_, Infallible>(answer(request, &name, &seen).await) }
    });
    let io = TokioIo::new(stream);
    // How a client leaves is the test's to look at.
    let _ = match speaks {
        Speaks::Http2 => {
            let mut http2 = hyper::server::conn::http2::Builder::new(Spawn);
            http2.enable_connect_protocol().serve_connection(io, service).await
        }
        _ => hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await,
    };
}

/// Tasks of one connection, which end with the test's runtime.
#[derive(Clone)]
pub(crate) struct Spawn;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, task: F) {
        let mut one = Tasks::new(&Stop::new());
        one.spawn("http", |_| task);
        std::mem::forget(one);
    }
}

/// Counts a request as given up, unless it is answered.
struct Watch<'a>(&'a Seen, bool);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn answer(mut request: Request<Incoming>, name: &str, seen: &Seen) -> Answer {
    let mut watch = Watch(seen, false);
    *seen.last.lock().unwrap() = request.headers().clone();
    let answer = match request.uri().path() {
        "/held" => {
            seen.held.notify_one();
            seen.go_on.notified().await;
            say(StatusCode::OK, "let go")
        }
        "/healthz" | "/grpc.health.v1.Health/Check" => how_it_is(request.uri().path(), seen),
        path if path.strip_prefix("/slow-at/").is_some_and(|slow| name.starts_with(slow)) => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            say(StatusCode::OK, "late")
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            say(StatusCode::OK, "late")
        }
        "/count" => {
            let (mut bytes, mut trailers) = (0, HeaderMap::new());
            while let Some(frame) = request.body_mut().frame().await {
                let frame = frame.unwrap();
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if let Ok(more) = frame.into_trailers() {
                    trailers.extend(more);
                }
            }
            seen.bodies.fetch_add(bytes, Ordering::SeqCst);
            say(StatusCode::OK, &format!("{bytes} {trailers:?}"))
        }
        "/echo" => echo(&mut request).await,
        path @ ("/trailers" | "/large" | "/stalled") => streamed(path),
        "/chat" => chat(&mut request),
        path if path.starts_with("/status/") => {
            say(path["/status/".len()..].parse::<u16>().unwrap().try_into().unwrap(), "as asked")
        }
        _ => {
            let mut text =
                format!("{name}\n{} {} {:?}\n", request.method(), request.uri(), request.version());
            for (header, value) in request.headers() {
                text += &format!("{header}: {}\n", String::from_utf8_lossy(value.as_bytes()));
            }
            say(StatusCode::OK, &text)
        }
    };
    seen.requests.fetch_add(1, Ordering::SeqCst);
    watch.1 = true;
    answer
}

async fn echo(request: &mut Request<Incoming>) -> Answer {
    let body = request.body_mut().collect().await.unwrap().to_bytes();
    say(StatusCode::OK, &String::from_utf8_lossy(&body))
}

/// What it says when it is asked how it is.
fn how_it_is(path: &str, seen: &Seen) -> Answer {
    let is_unwell = seen.unwell.load(Ordering::SeqCst);
    if path == "/healthz" {
        let status = if is_unwell { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        return say(status, "how I am");
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, if is_unwell { 2 } else { 1 }]);
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    Response::new(StreamBody::new(futures(frames)).boxed())
}

/// A body that comes in pieces.
fn streamed(path: &str) -> Answer {
    match path {
        "/trailers" => {
            let frames = [Ok(Frame::data("body".into())), Ok(Frame::trailers(sum()))];
            let body = StreamBody::new(futures(frames)).boxed();
            let mut answer = Response::new(body);
            answer.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            answer
        }
        "/large" => {
            let piece = Bytes::from(vec![7; 64 * 1024]);
            let frames: Vec<_> = (0..1024).map(|_| Ok(Frame::data(piece.clone()))).collect();
            Response::new(StreamBody::new(futures(frames)).boxed())
        }
        _ => {
            let frames = tokio_stream::once(Ok(Frame::data("half".into())));
            Response::new(
                StreamBody::new(tokio_stream::StreamExt::chain(frames, tokio_stream::pending())).boxed(),
            )
        }
    }
}

fn futures<T, I: IntoIterator<Item = T>>(items: I) -> impl tokio_stream::Stream<Item = T>
where
    I::IntoIter: Unpin,
{
    tokio_stream::iter(items)
}

fn sum() -> HeaderMap {
    [("x-sum".parse().unwrap(), "42".parse().unwrap())].into_iter().collect()
}

fn say(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

/// Switches to a protocol that sends everything back.
fn chat(request: &mut Request<Incoming>) -> Answer {
    let is_http2 = request.version() == http::Version::HTTP_2;
    let upgrade = hyper::upgrade::on(request);
    Spawn.execute(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = io.read(&mut bytes).await {
            io.write_all(&bytes[..count]).await.unwrap();
        }
    });
    if is_http2 {
        return say(StatusCode::OK, "");
    }
    let mut answer = say(StatusCode::SWITCHING_PROTOCOLS, "");
    answer.headers_mut().insert("connection", "upgrade".parse().unwrap());
    answer.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    answer
}
