//! A small HTTP/1.1 server for dumps, metrics and probes. Owns limits and connections;
//! what is answered is the handler's.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use crate::stop::Stop;
use crate::tasks::Tasks;

/// The body of an answer: whole, in memory.
pub type Body = Full<Bytes>;

/// Heads are small here; hyper accepts no smaller buffer.
const HEAD_BYTES: usize = 8 * 1024;
/// The answers in flight at a stop may finish within this.
const DRAIN: Duration = Duration::from_secs(2);
/// After a failed accept (mostly: no file descriptors left) wait before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one caller, and all together, may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A request must have sent its head by then; also ends idle kept-alive connections.
    pub head_wait: Duration,
    /// A body must have come within this.
    pub body_wait: Duration,
    /// The largest body.
    pub body_bytes: usize,
    /// The next one waits in the kernel's queue.
    pub connections: usize,
}

impl Default for Limits {
    /// For scrapers, probes and a few people, who post a short text or one pod's description at most.
    fn default() -> Self {
        let wait = Duration::from_secs(2);
        Self { head_wait: wait, body_wait: wait, body_bytes: 256 * 1024, connections: 64 }
    }
}

/// A listener that this server can accept from.
pub trait Accept: Send + 'static {
    /// What a connection is.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection. Cancel-safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;
    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;
    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves until `stop`, then lets answers in flight finish. `handler` is called once per request, its body read.
pub async fn serve<L, H, Fut>(listener: L, handler: H, stop: Stop)
where
    L: Accept,
    H: Fn(Request<Bytes>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    serve_within(Limits::default(), listener, handler, stop).await;
}

/// As `serve`, within other limits.
pub async fn serve_within<L, H, Fut>(limits: Limits, listener: L, handler: H, stop: Stop)
where
    L: Accept,
    H: Fn(Request<Bytes>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut open = Tasks::new(&stop);
    loop {
        // Both arms are cancel-safe: a connection not yet taken stays in the kernel's queue.
        let taken = tokio::select! {
            () = stop.stopped() => break,
            taken = next(&listener, &slots) => taken,
        };
        let Some((stream, slot)) = taken else { continue };
        let handler = handler.clone();
        open.spawn("admin", move |stop| async move {
            serve_one(stream, limits, handler, stop).await;
            drop(slot);
        });
    }
    open.drain(DRAIN).await;
}

/// A short plain-text answer.
#[must_use]
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", body)
}

/// An answer with a content type.
#[must_use]
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn next<L: Accept>(listener: &L, slots: &Arc<Semaphore>) -> Option<(L::Io, Slot)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok(stream) => Some((stream, slot)),
        Err(error) => {
            warn!(%error, "cannot accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn serve_one<I, H, Fut>(stream: I, limits: Limits, handler: H, stop: Stop)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Bytes>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handle(request, limits, handler).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_wait)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "admin connection ended early");
    }
}

async fn handle<H, Fut>(request: Request<Incoming>, limits: Limits, handler: H) -> Response<Body>
where
    H: Fn(Request<Bytes>) -> Fut,
    Fut: Future<Output = Response<Body>>,
{
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(limits.body_wait, Limited::new(body, limits.body_bytes).collect()).await;
    match read {
        Ok(Ok(body)) => handler(Request::from_parts(parts, body.to_bytes())).await,
        Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or ended early\n"),
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::new();
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("server", |stop| {
            serve(listener, |r: Request<Bytes>| async move { text(StatusCode::OK, r.into_body()) }, stop)
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all).await;
        tasks.drain(Duration::from_secs(5)).await;
        all
    }

    #[tokio::test]
    async fn a_request_is_answered_with_its_body_read() {
        let got =
            ask(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi").await;
        assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("hi"), "{got}");
    }

    #[tokio::test]
    async fn a_head_over_the_limit_is_refused() {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nlong: {}\r\n\r\n", "x".repeat(20_000));
        let got = ask(head.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 431"), "{got}");
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_head_is_let_go() {
        let got = ask(b"GET / HTTP/1.1\r\n").await;
        assert!(got.is_empty() || got.starts_with("HTTP/1.1 408"), "{got}");
    }
}
