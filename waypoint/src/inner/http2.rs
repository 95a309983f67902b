//! HTTP/2 inside a stream: each request answered in a task of its own, interim answers ahead of its answer. Owns the
//! settings, the goodbye, and what only HTTP/2 asks of an answer; what a request goes through is `phases`'.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ambit_hbone::nested::Nested;
use ambit_process::clock::now_system;
use ambit_process::stop::Stop;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::{HEAD_MOST, IDLE, note};
use crate::body::{Arriving, Flow, HttpError, pour};
use crate::crew::Crew;
use crate::interim::Turn;
use crate::line::Line;
use crate::phases;
use crate::pressure::{self, Measure, WINDOW_SMALL};
use crate::stream::Inbound;
use crate::upgrade::Upgrade;

/// Requests at a time on one connection.
const STREAMS: u32 = 256;
/// What may be under way to us on one request, and on one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait for room on the wire.
const SEND_BUFFER: usize = 256 * 1024;
/// Requests that a client may open and reset before we even looked at them (CVE-2023-44487).
const RESETS_UNSEEN: usize = 20;
/// How long a client that is sent away may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Errors of a client's making that we answer before we end the connection.
const ERRORS_ANSWERED: usize = 1024;

/// Serves HTTP/2 until either side ends it. When `accepting` stops or the connection is to be opened anew, the client is
/// told to open no more requests.
pub(crate) async fn serve(inbound: Arc<Inbound>, line: Line, accepting: Stop) {
    let small = pressure::takes(&inbound.lane, Measure::SmallWindow);
    let window = |usual: u32| if small { WINDOW_SMALL } else { usual };
    let handshake = Builder::new()
        .initial_window_size(window(STREAM_WINDOW))
        .initial_connection_window_size(window(CONNECTION_WINDOW))
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_MOST).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_UNSEEN)
        .max_local_error_reset_streams(Some(ERRORS_ANSWERED))
        .enable_connect_protocol()
        .handshake(line);
    match timeout(IDLE, handshake).await {
        Ok(Ok(conn)) => {
            let ended = Box::pin(requests(&inbound, conn, accepting)).await;
            note(&inbound, ended.map_err(HttpError::Http2));
        }
        Ok(Err(error)) => note(&inbound, Err(error.into())),
        Err(_) => {}
    }
}

async fn requests(
    inbound: &Arc<Inbound>,
    mut conn: Connection<Line, Bytes>,
    accepting: Stop,
) -> Result<(), h2::Error> {
    let hasty = Arc::new(Notify::new());
    // Dropped with the connection: a request whose client has gone is given up.
    let crew = Crew::new();
    let mut due = pin!(pressure::parting(inbound));
    let mut parting = false;
    loop {
        // Cancel-safe: the connection keeps its own state.
        tokio::select! {
            came = conn.accept() => match came {
                Some(Ok((request, respond))) => {
                    crew.add("request", one(Arc::clone(inbound), request, respond, Arc::clone(&hasty)));
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            () = accepting.stopped(), if !parting => {
                conn.graceful_shutdown();
                parting = true;
            }
            () = due.as_mut(), if !parting => {
                conn.graceful_shutdown();
                parting = true;
            }
            // It makes requests to take them back: it is told to stop, and does not have to listen.
            () = hasty.notified() => {
                conn.graceful_shutdown();
                let rest = async {
                    while let Some(Ok((_, mut respond))) = conn.accept().await {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    }
                };
                // Whether it has listened, nobody asks.
                let _ = timeout(FAREWELL, rest).await;
                return Ok(());
            }
        }
    }
}

/// One request, until its answer has gone or its client.
async fn one(
    inbound: Arc<Inbound>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    hasty: Arc<Notify>,
) {
    let share = Arc::clone(&inbound.caller.share);
    let reply = Reply(Arc::new(Mutex::new(respond)));
    let (mut parts, stream) = request.into_parts();
    let method = parts.method.clone();
    parts.extensions.insert(Turn::from(reply.clone()));
    let (tell, told) = oneshot::channel();
    let (body, through) = if method == Method::CONNECT {
        (Arriving::Nothing, Some((stream, tell)))
    } else {
        (Arriving::Http2(Flow::new(stream, &parts.headers, None)), None)
    };
    let upgrade = through.is_some().then_some(Upgrade::Http2(told));
    let answered = phases::serve(inbound, Request::from_parts(parts, body), upgrade);
    let answer = tokio::select! {
        biased;
        // First of all it begins: what is taken back right then counts as what it is.
        answer = answered => Some(answer),
        () = reply.taken_back() => None,
    };
    if share.is_kept_off() {
        hasty.notify_one();
    }
    let Some(answer) = answer else { return };
    let (head, body) = answer.into_parts();
    let mut head = Response::from_parts(head, ());
    fit(&mut head);
    if let Some((stream, tell)) = through
        && head.status().is_success()
    {
        head.headers_mut().remove(CONTENT_LENGTH);
        if let Ok(to) = reply.lock().send_response(head, false) {
            // Whoever waits for it may be gone.
            let _ = tell.send(Nested::of(to, stream));
        }
        return;
    }
    let is_end = body.is_end_stream() || method == Method::HEAD;
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        head.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    let sent = reply.lock().send_response(head, is_end);
    match sent {
        Ok(to) if !is_end => pour(body, to, Reason::INTERNAL_ERROR).await,
        Ok(_) => {}
        Err(_) => reply.lock().send_reset(Reason::INTERNAL_ERROR),
    }
}

/// What HTTP/2 asks of the head of an answer, whatever a route has made of it.
fn fit(head: &mut Response<()>) {
    let headers = head.headers_mut();
    phases::take_out(headers);
    headers.remove(http::header::TE);
    headers.entry(DATE).or_insert_with(date);
}

/// The time, as a head tells it (RFC 9110, 5.6.7): written once a second.
fn date() -> HeaderValue {
    thread_local! {
        static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let now = now_system();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|last| match last {
        Some((at, told)) if *at == second => told.clone(),
        last => {
            let told = HeaderValue::try_from(httpdate::fmt_http_date(now));
            let told = told.unwrap_or_else(|_| HeaderValue::from_static(""));
            last.insert((second, told)).1.clone()
        }
    })
}

/// Where one request is answered. Clones are of the same request.
#[derive(Clone)]
pub(crate) struct Reply(Arc<Mutex<SendResponse<Bytes>>>);

impl Reply {
    fn lock(&self) -> MutexGuard<'_, SendResponse<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something ahead of the answer. After it, nothing is said.
    pub(crate) fn say(&self, interim: Response<()>) {
        // Fails when the answer has begun or the client is gone: then nobody needs it.
        let _ = self.lock().send_informational(interim);
    }

    /// The client wants no answer any more.
    async fn taken_back(&self) {
        let _ = poll_fn(|cx| self.lock().poll_reset(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_told_as_http_does() {
        let told = date();
        let read = httpdate::parse_http_date(told.to_str().unwrap()).unwrap();
        let apart = now_system().duration_since(read).unwrap();
        assert!(apart < Duration::from_secs(2), "{told:?}");
    }

    #[test]
    fn what_is_of_a_connection_of_http1_leaves_the_head_of_an_answer() {
        let mut head = Response::new(());
        for (name, value) in
            [("connection", "x-hop"), ("x-hop", "1"), ("te", "gzip"), ("upgrade", "h2c"), ("x", "1")]
        {
            head.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        head.headers_mut().insert(DATE, HeaderValue::from_static("then"));
        fit(&mut head);
        let mut left: Vec<_> = head.headers().keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["date", "x"]);
        assert_eq!(head.headers()[DATE], "then");
    }
}
