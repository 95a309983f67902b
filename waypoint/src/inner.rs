//! HTTP inside a stream, both versions: read, handed to the phases, answered. Owns the settings of both and their
//! goodbye; what a request goes through is `phases`'.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::stop::Stop;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tracing::debug;

use crate::crew::Crew;
use crate::line::Line;
use crate::phases;
use crate::stream::Inbound;

/// A connection without a request, or with half a head, is kept this long.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// Heads of requests (`waypoint.md` 6.1).
const HEAD_MOST: usize = 64 * 1024;
const HEADERS_MOST: usize = 128;
/// Requests at a time on one connection of HTTP/2.
const STREAMS: u32 = 256;
/// What may be under way to us on one request, and on one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait for room on the wire.
const SEND_BUFFER: usize = 256 * 1024;
/// Requests that a client may open and reset before we even looked at them (CVE-2023-44487).
const RESETS_UNSEEN: usize = 20;
/// Errors of a client's making that we answer before we end the connection.
const ERRORS_ANSWERED: usize = 1024;

/// Serves HTTP/1.1 until either side ends it. When `accepting` stops, each answer says that it is the last.
pub(crate) async fn serve_http1(inbound: Arc<Inbound>, line: Line, accepting: Stop) {
    let service = service_fn(|request: Request<Incoming>| {
        let inbound = Arc::clone(&inbound);
        async move { Ok::<_, Infallible>(phases::serve(inbound, request).await) }
    });
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(HEADERS_MOST)
        .max_buf_size(HEAD_MOST)
        .serve_connection(TokioIo::new(line), service)
        .with_upgrades();
    let mut conn = pin!(conn);
    // Cancel-safe: the connection keeps its own state.
    let ended = tokio::select! {
        ended = conn.as_mut() => ended,
        () = accepting.stopped() => {
            conn.as_mut().graceful_shutdown();
            conn.await
        }
    };
    note(&inbound, ended);
}

/// Serves HTTP/2 until either side ends it. When `accepting` stops, the client is told to open no more requests.
pub(crate) async fn serve_http2(inbound: Arc<Inbound>, line: Line, accepting: Stop) {
    let service = service_fn(|request: Request<Incoming>| {
        let inbound = Arc::clone(&inbound);
        async move { Ok::<_, Infallible>(phases::serve(inbound, request).await) }
    });
    // Dropped with the connection: a request whose client has gone is given up.
    let crew = Crew::new();
    let conn = http2::Builder::new(crew.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(HEAD_MOST).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_UNSEEN)
        .max_local_error_reset_streams(ERRORS_ANSWERED)
        .serve_connection(TokioIo::new(line), service);
    let mut conn = pin!(conn);
    // Cancel-safe: the connection keeps its own state.
    let ended = tokio::select! {
        ended = conn.as_mut() => ended,
        () = accepting.stopped() => {
            conn.as_mut().graceful_shutdown();
            conn.await
        }
    };
    drop(crew);
    note(&inbound, ended);
}

fn note(inbound: &Inbound, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        let (from, error) = (inbound.caller.from, ambit_proxy::fault::chain(&error));
        debug!(src.addr = %from, error, "an HTTP connection ended early");
    }
}
