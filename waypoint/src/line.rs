//! What HTTP is spoken over: a stream of a tunnel, a plain connection to who has no tunnel, or TLS over either. Owns
//! putting back what was read too early; none knows what is said.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ambit_hbone::nested::Nested;
use ambit_hbone::stream::Stream;
use ambit_process::net::TcpStream;
use ambit_tls::ClientStream;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One connection of bytes.
pub(crate) struct Line {
    /// Read already, and not yet by whom it is for.
    ahead: Bytes,
    io: Io,
    /// Whether one half may end before the other.
    halves: bool,
}

enum Io {
    Tunnel(Box<Nested>),
    Plain(TcpStream),
    /// TLS that we have begun, over one of the others.
    Secured(Box<ClientStream<Line>>),
}

impl From<Stream> for Line {
    fn from(stream: Stream) -> Self {
        Nested::new(stream).into()
    }
}

impl From<Nested> for Line {
    fn from(stream: Nested) -> Self {
        Self { ahead: Bytes::new(), io: Io::Tunnel(Box::new(stream)), halves: false }
    }
}

impl From<TcpStream> for Line {
    fn from(stream: TcpStream) -> Self {
        Self { ahead: Bytes::new(), io: Io::Plain(stream), halves: false }
    }
}

impl From<ClientStream<Self>> for Line {
    fn from(stream: ClientStream<Self>) -> Self {
        Self { ahead: Bytes::new(), io: Io::Secured(Box::new(stream)), halves: false }
    }
}

impl Line {
    /// Puts bytes back, to be read again before all others.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// From now on each half ends by itself: HTTP is no longer, or never was, spoken here.
    pub(crate) fn by_halves(mut self) -> Self {
        self.halve();
        self
    }
}

impl Line {
    fn halve(&mut self) {
        self.halves = true;
        if let Io::Secured(io) = &mut self.io {
            io.get_mut().0.halve();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(self.ahead.get(..count).unwrap_or_default());
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        match &mut self.io {
            Io::Tunnel(io) => Pin::new(io.as_mut()).poll_read(cx, buffer),
            Io::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Io::Secured(io) => Pin::new(io.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tunnel(io) => Pin::new(io.as_mut()).poll_write(cx, bytes),
            Io::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Secured(io) => Pin::new(io.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tunnel(io) => Pin::new(io.as_mut()).poll_flush(cx),
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Secured(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let halves = self.halves;
        match &mut self.io {
            Io::Tunnel(io) if halves => Poll::Ready(io.end()),
            Io::Tunnel(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Secured(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }
}
