//! HTTP inside a stream, both versions: read, handed to the phases, answered. Owns the settings of both and their
//! goodbye; what a request goes through is `phases`'.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_process::stop::Stop;
use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::debug;

use crate::crew::Crew;
use crate::interim::Interims;
use crate::line::Line;
use crate::phases::{self, HEADERS_MOST};
use crate::pressure::{self, Measure, WINDOW_SMALL};
use crate::stream::Inbound;
use crate::strict::Strict;

/// A connection without a request, or with half a head, is kept this long.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// Heads of requests (`waypoint.md` 6.1).
const HEAD_MOST: usize = 64 * 1024;
/// Requests at a time on one connection of HTTP/2.
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

/// Serves HTTP/1.1 until either side ends it. When `accepting` stops, each answer says that it is the last; where the
/// connection is only to be opened anew, the next one does, for a request may be on its way to one that waits.
pub(crate) async fn serve_http1(inbound: Arc<Inbound>, line: Line, accepting: Stop) {
    let (parting, interims) = (AtomicBool::new(false), Interims::default());
    let writer = interims.clone();
    let service = service_fn(|mut request: Request<Incoming>| {
        let inbound = Arc::clone(&inbound);
        let last = phases::is_last(request.headers()) || parting.load(Ordering::Relaxed);
        let upgrade = request.extensions().get::<OnUpgrade>().cloned();
        // Whoever speaks HTTP/1.0 does not know of any.
        let turn = (request.version() == Version::HTTP_11).then(|| interims.begin());
        if let Some(turn) = &turn {
            request.extensions_mut().insert(turn.clone());
        }
        async move {
            let lane = Arc::clone(&inbound.lane);
            let mut response = phases::serve(inbound, request).await;
            if let Some(turn) = turn {
                turn.end();
            }
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                if last {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if let Some(upgrade) = upgrade {
                    lane.crew.add("not upgraded", bow_out(upgrade));
                }
            }
            Ok::<_, Infallible>(response)
        }
    });
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(HEADERS_MOST)
        .max_buf_size(HEAD_MOST)
        .serve_connection(TokioIo::new(Strict::new(line, writer, Arc::clone(&inbound))), service)
        .with_upgrades();
    let mut conn = pin!(conn);
    let mut due = pin!(pressure::parting(&inbound));
    let ended = loop {
        // Cancel-safe: the connection keeps its own state.
        tokio::select! {
            ended = conn.as_mut() => break ended,
            () = accepting.stopped() => {
                conn.as_mut().graceful_shutdown();
                break conn.await;
            }
            () = due.as_mut(), if !parting.load(Ordering::Relaxed) => parting.store(true, Ordering::Relaxed),
        }
    };
    note(&inbound, ended);
}

/// hyper hands out a connection that ends with a request for another protocol, also when that was refused. Dropped, it
/// would be reset, and the refusal lost.
async fn bow_out(upgrade: OnUpgrade) {
    if let Ok(io) = upgrade.await {
        // The client may be gone, and then there is nobody to tell.
        let _ = TokioIo::new(io).shutdown().await;
    }
}

/// Serves HTTP/2 until either side ends it. When `accepting` stops or the connection is to be opened anew, the client is
/// told to open no more requests.
pub(crate) async fn serve_http2(inbound: Arc<Inbound>, line: Line, accepting: Stop) {
    let hasty = Arc::new(Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (inbound, hasty) = (Arc::clone(&inbound), Arc::clone(&hasty));
        async move {
            let share = Arc::clone(&inbound.caller.share);
            let response = phases::serve(inbound, request).await;
            if share.is_kept_off() {
                hasty.notify_one();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let small = pressure::takes(&inbound.lane, Measure::SmallWindow);
    let window = |usual: u32| if small { WINDOW_SMALL } else { usual };
    // Dropped with the connection: a request whose client has gone is given up.
    let crew = Crew::new();
    let conn = http2::Builder::new(crew.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(window(STREAM_WINDOW))
        .initial_connection_window_size(window(CONNECTION_WINDOW))
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(HEAD_MOST).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_UNSEEN)
        .max_local_error_reset_streams(ERRORS_ANSWERED)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(line), service);
    let mut conn = pin!(conn);
    let mut due = pin!(pressure::parting(&inbound));
    let mut parting = false;
    let ended = loop {
        // Cancel-safe: the connection keeps its own state.
        tokio::select! {
            ended = conn.as_mut() => break ended,
            () = accepting.stopped(), if !parting => {
                conn.as_mut().graceful_shutdown();
                parting = true;
            }
            () = due.as_mut(), if !parting => {
                conn.as_mut().graceful_shutdown();
                parting = true;
            }
            // It makes requests to take them back: it is told to stop, and does not have to listen.
            () = hasty.notified() => {
                conn.as_mut().graceful_shutdown();
                break timeout(FAREWELL, conn).await.unwrap_or(Ok(()));
            }
        }
    };
    drop(crew);
    note(&inbound, ended);
}

fn note(inbound: &Inbound, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        let (from, error) = (inbound.client.from, ambit_proxy::fault::chain(&error));
        debug!(src.addr = %from, error, "an HTTP connection ended early");
    }
}
