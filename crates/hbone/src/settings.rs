//! HTTP/2 settings of both ends (`ztunnel.md` 2.3), and what guards them against floods.

use std::time::Duration;

/// What may be under way to us, in bytes, and in pieces of which size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Of one stream.
    pub stream: u32,
    /// Of one tunnel.
    pub tunnel: u32,
    /// The largest frame.
    pub frame: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self { stream: 4 * 1024 * 1024, tunnel: 16 * 1024 * 1024, frame: 1024 * 1024 }
    }
}

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

pub(crate) fn client(windows: Windows) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.tunnel)
        .max_frame_size(windows.frame)
        .max_header_list_size(ANSWER_HEADERS_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(STREAMS_USED)
        .max_concurrent_reset_streams(RESETS_KEPT)
        .reset_stream_duration(RESETS_KEPT_FOR)
        .max_local_error_reset_streams(Some(ERRORS_ANSWERED));
    builder
}

pub(crate) fn server(windows: Windows) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.tunnel)
        .max_frame_size(windows.frame)
        .max_header_list_size(REQUEST_HEADERS_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS_KEPT)
        .reset_stream_duration(RESETS_KEPT_FOR)
        .max_pending_accept_reset_streams(RESETS_UNSEEN)
        .max_local_error_reset_streams(Some(ERRORS_ANSWERED));
    builder
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    /// RFC 9113, 6.5.2 and 3.4.
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MAX_FRAME_SIZE: u16 = 5;
    const PREFACE: usize = 24;

    /// The settings in a client's first bytes.
    fn told(bytes: &[u8]) -> Vec<(u16, u32)> {
        let frame = &bytes[PREFACE..];
        let length = usize::from(frame[1]) << 8 | usize::from(frame[2]);
        let pair =
            |p: &[u8]| (u16::from_be_bytes([p[0], p[1]]), u32::from_be_bytes([p[2], p[3], p[4], p[5]]));
        frame[9..9 + length].chunks(6).map(pair).collect()
    }

    #[tokio::test]
    async fn the_windows_given_are_those_the_peer_is_told() {
        let (near, mut far) = duplex(64 * 1024);
        let windows = Windows { stream: 100_000, tunnel: 200_000, frame: 20_000 };
        let (_send, mut conn) = client(windows).handshake::<_, Bytes>(near).await.unwrap();
        let mut bytes = vec![0; 1024];
        let got = tokio::select! {
            biased; // the settings leave with the first poll, after the preface
            _ = &mut conn => panic!("the connection goes on"),
            got = far.read(&mut bytes) => got.unwrap(),
        };
        let told = told(&bytes[..got]);
        for pair in [(INITIAL_WINDOW_SIZE, 100_000), (MAX_FRAME_SIZE, 20_000)] {
            assert!(told.contains(&pair), "{pair:?} in {told:?}");
        }
    }
}
