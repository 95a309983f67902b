//! A stream whose bytes are counted as they pass, not when it ends: connections may live for weeks. Owns counting, and
//! that whatever passes shows that the connection is in use.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::idle::Idle;

/// Bytes of one connection.
#[derive(Default)]
pub(crate) struct Passed {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Passed {
    /// To the server, and to the client.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.to_server.load(Ordering::Relaxed), self.to_client.load(Ordering::Relaxed))
    }
}

/// The client's side of a connection.
pub(crate) struct Metered<S> {
    pub(crate) io: S,
    pub(crate) passed: Arc<Passed>,
    /// All that servers got, and clients, in connections of this kind.
    pub(crate) counters: (Counter, Counter),
    pub(crate) idle: Idle,
}

impl<S> Metered<S> {
    fn count(&self, (own, all): (&AtomicU64, &Counter), bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        own.fetch_add(bytes, Ordering::Relaxed);
        all.inc_by(bytes);
        self.idle.moved();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, to))?;
        self.count((&self.passed.to_server, &self.counters.0), to.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.io).poll_write(cx, from))?;
        self.count((&self.passed.to_client, &self.counters.1), taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
