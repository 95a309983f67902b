//! HTTP/2 settings of both ends (`ztunnel.md` 2.3), and what guards them against floods.

use std::time::Duration;

/// Bytes of one stream that may be under way to us.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of one tunnel that may be under way to us.
const TUNNEL_WINDOW: u32 = 16 * 1024 * 1024;
const FRAME_MAX: u32 = 1024 * 1024;
/// Headers of an answer: a status and baggage.
const ANSWER_HEADERS_MAX: u32 = 16 * 1024;
/// Headers of a request; beyond it the answer is 431.
const REQUEST_HEADERS_MAX: u32 = 64 * 1024;
/// Bytes of one stream that wait for room on the wire. Bounds memory when the network is slow.
const SEND_BUFFER: usize = 400 * 1024;
/// Streams a peer may have open on one tunnel.
const STREAMS_MAX: u32 = 200;
/// Streams that we use of a tunnel, and assume before the peer has told us its limit.
pub(crate) const STREAMS_USED: usize = 100;
/// Resets that are remembered; more mean a peer that resets for sport (CVE-2023-44487).
const RESETS_KEPT: usize = 50;
const RESETS_KEPT_FOR: Duration = Duration::from_secs(1);
/// Streams a peer may open and reset before we even looked at them.
const RESETS_UNSEEN: usize = 20;
/// Errors of a peer's making that we answer with a reset before we end the tunnel.
const ERRORS_ANSWERED: usize = 1024;

pub(crate) fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(ANSWER_HEADERS_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(STREAMS_USED)
        .max_concurrent_reset_streams(RESETS_KEPT)
        .reset_stream_duration(RESETS_KEPT_FOR)
        .max_local_error_reset_streams(Some(ERRORS_ANSWERED));
    builder
}

pub(crate) fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(REQUEST_HEADERS_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS_KEPT)
        .reset_stream_duration(RESETS_KEPT_FOR)
        .max_pending_accept_reset_streams(RESETS_UNSEEN)
        .max_local_error_reset_streams(Some(ERRORS_ANSWERED));
    builder
}
