//! A tunnel's stream as bytes to read and write, for the tunnel that goes through it.
//! Owns flow control on both halves and the order of the end; what the bytes mean is the inner tunnel's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::{Stream, is_over};

/// One stream of an outer tunnel. Dropped while a half is open, it is reset with CANCEL.
pub(crate) struct Nested {
    stream: Stream,
    /// What has arrived and is not yet read. The peer gets room for it as it is read.
    got: Bytes,
    /// Room for the next piece; it comes back once earlier ones are on the wire.
    room: BytesMut,
    said_all: bool,
}

impl Nested {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, got: Bytes::new(), room: BytesMut::new(), said_all: false }
    }

    /// The next bytes; none at the end.
    fn poll_got(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.got.is_empty() {
            match ready!(self.stream.recv.poll_data(cx)) {
                Some(Ok(data)) => self.got = data,
                Some(Err(error)) if !is_over(&error) => return Poll::Ready(Err(broken(error))),
                None | Some(Err(_)) => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes up to `most` bytes, and gives the peer room for as many.
    fn take(&mut self, most: usize) -> Bytes {
        let piece = self.got.split_to(most.min(self.got.len()));
        // Fails only when the stream is gone, which the next read tells better.
        let _ = self.stream.recv.flow_control().release_capacity(piece.len());
        piece
    }
}

impl AsyncRead for Nested {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_got(cx))?;
        buffer.put_slice(&self.take(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Nested {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let send = &mut this.stream.send;
        send.reserve_capacity(bytes.len());
        // Room that was given before is not told again: look first, then wait.
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let (now, _) = bytes.split_at(send.capacity().min(bytes.len()));
        this.room.extend_from_slice(now);
        send.send_data(this.room.split().freeze(), false).map_err(broken)?;
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The outer tunnel's own task brings it onto the wire.
        Poll::Ready(Ok(()))
    }

    /// Ends our half, and then waits for the other's end: a stream that is dropped before is reset, and the reset
    /// could overtake, at the gateway, what it has yet to pass on.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.said_all, true) {
            self.stream.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        loop {
            ready!(self.poll_got(cx))?;
            if self.take(usize::MAX).is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
