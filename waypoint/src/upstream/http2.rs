//! A connection of HTTP/2 to an endpoint: requests sent on it, answers with what is said ahead of them. Owns that a
//! request's body goes on as long as its answer is waited for, and no longer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use ambit_hbone::nested::Nested;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason};
use http::header::{CONTENT_LENGTH, TE};
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use super::{Failure, Malformed};
use crate::body::{Arriving, Flow, HttpError, Upload, pour};
use crate::crew::Crew;
use crate::interim::Heard;
use crate::line::Line;
use crate::phases::take_out;

/// What may be under way to us on one request, and on one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of a request that wait for room on the wire.
const SEND_BUFFER: usize = 256 * 1024;
/// How long an endpoint may take to say what it takes.
const PING_WAIT: Duration = Duration::from_secs(1);

/// Requests for one connection. Clones are for the same one; it ends when none is left and its requests are over.
#[derive(Clone)]
pub(super) struct Sender {
    requests: SendRequest<Bytes>,
    over: Arc<AtomicBool>,
    pings: Arc<Mutex<Option<PingPong>>>,
}

/// A request that was not sent.
pub(super) struct Unsent {
    pub(super) error: HttpError,
    /// Whole, as it was.
    pub(super) request: Request<Upload>,
}

/// The head of an answer, its body, and the stream of another protocol that begins with it.
pub(super) type Answered = (Response<Arriving>, Option<Box<Nested>>);

impl Sender {
    /// Begins to speak HTTP/2. `lasting` is kept as long as the connection is.
    pub(super) async fn begin(
        line: Line,
        crew: &Crew,
        head_most: usize,
        lasting: impl Send + 'static,
    ) -> Result<Self, Failure> {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(head_most).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(line);
        let (requests, mut conn) = handshake.await.map_err(|error| Failure::Handshake(error.into()))?;
        let pings = Arc::new(Mutex::new(conn.ping_pong()));
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        crew.add("line", async move {
            // How it ends is told to whoever has a request on it.
            let _ = conn.await;
            ended.store(true, Ordering::Relaxed);
            drop(lasting);
        });
        Ok(Self { requests, over, pings })
    }

    /// Whether no request can be sent on it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Requests that the endpoint takes at a time.
    pub(super) fn streams(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    /// Whether the endpoint takes other protocols in a request's place. What it takes it says first of all, so it has
    /// said so once it has answered anything.
    pub(super) async fn takes_protocols(&self) -> bool {
        if !self.requests.is_extended_connect_protocol_enabled()
            && let Some(pings) = &mut *self.pings.lock().await
        {
            // Who does not answer has no word for it either.
            let _ = timeout(PING_WAIT, pings.ping(Ping::opaque())).await;
        }
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Sends a request and waits for the head of its answer, with the stream of another protocol that begins with it.
    ///
    /// # Errors
    /// `Ok(Err(..))` when it was not sent, so that it may be sent on another connection.
    pub(super) async fn send(
        mut self,
        request: Request<Upload>,
        crew: &Crew,
    ) -> Result<Result<Answered, Unsent>, Failure> {
        if let Err(error) = poll_fn(|cx| self.requests.poll_ready(cx)).await {
            // It may still be there for the requests that are on it.
            self.over.store(true, Ordering::Relaxed);
            return Ok(Err(Unsent { error: error.into(), request }));
        }
        let heard = Heard::of(&request);
        let (parts, body) = request.into_parts();
        let mut head = Request::from_parts(parts, ());
        fit(&mut head, &body);
        let is_other = head.method() == Method::CONNECT;
        let is_end = body.is_end_stream() && !is_other;
        let (response, to) = self.requests.send_request(head, is_end).map_err(lost)?;
        let (mut upload, to): (Option<Sending>, _) = match to {
            to if is_other => (None, Some(to)),
            _ if is_end => (None, None),
            to => (Some(Box::pin(pour(body, to, Reason::CANCEL))), None),
        };
        let (parts, stream) = answer(response, &mut upload, &heard).await?.into_parts();
        if let Some(to) = to.filter(|_| parts.status.is_success()) {
            let through = Box::new(Nested::of(to, stream));
            return Ok(Ok((Response::from_parts(parts, Arriving::Nothing), Some(through))));
        }
        // What the endpoint does not wait for goes on beside its answer.
        let other_way = upload.map(|upload| {
            let (keep, kept) = oneshot::channel();
            crew.add("upload", async move {
                tokio::select! {
                    () = upload => {}
                    _ = kept => {}
                }
            });
            keep
        });
        let body = Flow::new(stream, &parts.headers, other_way);
        Ok(Ok((Response::from_parts(parts, Arriving::Http2(body)), None)))
    }
}

/// A request's body that is being sent.
type Sending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The head of the answer, while the request's body is sent.
async fn answer(
    mut response: ResponseFuture,
    upload: &mut Option<Sending>,
    heard: &Heard,
) -> Result<Response<h2::RecvStream>, Failure> {
    poll_fn(|cx| {
        if upload.as_mut().is_some_and(|it| it.as_mut().poll(cx).is_ready()) {
            *upload = None;
        }
        while let Poll::Ready(Some(Ok(said))) = response.poll_informational(cx) {
            if !heard.hear(said.status(), said.headers()) {
                return Poll::Ready(Err(Failure::Malformed(Malformed::Flood)));
            }
        }
        Pin::new(&mut response).poll(cx).map_err(lost)
    })
    .await
}

fn lost(error: h2::Error) -> Failure {
    HttpError::from(error).into()
}

/// What HTTP/2 asks of the head of a request, whatever a route has made of it.
fn fit(head: &mut Request<()>, body: &Upload) {
    // Nothing is told of a body that is none, unless the method leads to expect one.
    let expects = matches!(*head.method(), Method::POST | Method::PUT | Method::PATCH);
    let headers = head.headers_mut();
    take_out(headers);
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0 || expects) {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}
