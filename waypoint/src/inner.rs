//! HTTP/1.1 inside a stream: read, handed to the phases, answered. Owns its settings and its goodbye; what a request goes
//! through is `phases`', and the other version is `http2`'s.

pub(crate) mod http2;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_process::stop::Stop;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tracing::debug;

use crate::body::{Arriving, HttpError};
use crate::interim::Interims;
use crate::line::Line;
use crate::phases::{self, HEADERS_MOST};
use crate::pressure;
use crate::stream::Inbound;
use crate::strict::Strict;
use crate::upgrade::Upgrade;

/// A connection without a request, or with half a head, is kept this long.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// Heads of requests (`waypoint.md` 6.1).
const HEAD_MOST: usize = 64 * 1024;
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
        let leads_on = request.headers().contains_key(UPGRADE).then(|| {
            let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
            Upgrade::Http1(hyper::upgrade::on(&mut request), key)
        });
        async move {
            let lane = Arc::clone(&inbound.lane);
            let mut response = phases::serve(inbound, request.map(Arriving::Http1), leads_on).await;
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
    note(&inbound, ended.map_err(HttpError::Http1));
}

/// hyper hands out a connection that ends with a request for another protocol, also when that was refused. Dropped, it
/// would be reset, and the refusal lost.
async fn bow_out(upgrade: OnUpgrade) {
    if let Ok(io) = upgrade.await {
        // The client may be gone, and then there is nobody to tell.
        let _ = TokioIo::new(io).shutdown().await;
    }
}

fn note(inbound: &Inbound, ended: Result<(), HttpError>) {
    if let Err(error) = ended {
        let (from, error) = (inbound.client.from, ambit_proxy::fault::chain(&error));
        debug!(src.addr = %from, error, "an HTTP connection ended early");
    }
}
