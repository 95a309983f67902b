//! Bytes of HTTP/1.1 on their way to whoever parses them (`waypoint.md` 6.1, 6.2): only such that every parser reads
//! alike, and a head within its time. Owns what becomes of others; which they are is `model::http_head`'s.
//!
//! A library that parses may mend what is unclear, and then nobody knows any more that it was. So what is unclear is
//! made plainly wrong before it gets there: its last byte is replaced by one that no head and no body may have at that
//! place, and nothing follows it. The library answers 400 and ends the connection, as it does with all that is wrong.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ambit_model::http_head::Heads;
use ambit_proxy::side::Reason;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tracing::warn;

use crate::interim::Interims;
use crate::line::Line;
use crate::stream::Inbound;

/// A head that has begun is to be over within this.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// No line, no size of a chunk and no end of one may hold it.
const WRONG: u8 = 0;

/// A connection whose requests are read by their bytes first, and where something may be said before an answer.
pub(crate) struct Strict {
    line: Line,
    interims: Interims,
    /// What is being said before anything else is written.
    saying: Bytes,
    inbound: Arc<Inbound>,
    heads: Heads,
    /// Runs while a head is open.
    head_wait: Option<Pin<Box<Sleep>>>,
    /// Whether nothing is read any more.
    over: bool,
}

impl Strict {
    pub(crate) fn new(line: Line, interims: Interims, inbound: Arc<Inbound>) -> Self {
        let (saying, heads) = (Bytes::new(), Heads::default());
        Self { line, interims, saying, inbound, heads, head_wait: None, over: false }
    }

    /// Says what is to be said before anything else is written; whether there was anything.
    fn say(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.saying.is_empty() {
            let Some(said) = self.interims.take() else { return Poll::Ready(Ok(false)) };
            self.saying = said;
        }
        while !self.saying.is_empty() {
            let written = ready!(Pin::new(&mut self.line).poll_write(cx, &self.saying))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.saying.advance(written);
        }
        Poll::Ready(Ok(true))
    }

    /// Looks at what has come, and cuts off what is not to be read.
    fn check(&mut self, came: &mut [u8]) -> usize {
        match self.heads.feed(came) {
            Ok(()) => {
                if !self.heads.is_within_head() {
                    self.head_wait = None;
                } else if self.head_wait.is_none() {
                    self.head_wait = Some(Box::pin(sleep(HEAD_WAIT)));
                }
                came.len()
            }
            Err((at, error)) => {
                self.over = true;
                self.head_wait = None;
                self.tell("malformed_request", &error);
                if let Some(byte) = came.get_mut(at) {
                    *byte = WRONG;
                }
                at + 1
            }
        }
    }

    fn tell(&self, label: &'static str, error: &dyn std::error::Error) {
        self.inbound.lane.shared.metrics.refused.get_or_create(&Reason(label)).inc();
        let error = ambit_proxy::fault::chain(error);
        let (from, peer) = (self.inbound.client.from, self.inbound.principal());
        warn!(target: "access", { src.addr = %from, src.identity = peer, error = error }, "request refused");
    }
}

/// A head took too long.
#[derive(Debug, thiserror::Error)]
#[error("the head of a request was not over within {HEAD_WAIT:?}")]
struct Slow;

impl AsyncRead for Strict {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.line).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                read?;
                let came = buffer.filled_mut().get_mut(before..).unwrap_or_default();
                let good = this.check(came);
                buffer.set_filled(before + good);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                let Some(wait) = &mut this.head_wait else { return Poll::Pending };
                ready!(wait.as_mut().poll(cx));
                this.tell("slow_request", &Slow);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Slow)))
            }
        }
    }
}

impl AsyncWrite for Strict {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.say(cx))?;
        self.interims.writes();
        Pin::new(&mut self.line).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.interims.watch(cx.waker());
        ready!(Pin::new(&mut self.line).poll_flush(cx))?;
        // The library flushes when it has nothing left to write itself.
        self.interims.flushed();
        while ready!(self.say(cx))? {
            ready!(Pin::new(&mut self.line).poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line).poll_shutdown(cx)
    }
}
