//! A tunnel's stream as bytes to read and write, for the tunnel or the protocol that goes through it.
//! Owns flow control on both halves and the order of the end; what the bytes mean is for who reads them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::pool::Seat;
use crate::stream::{Stream, is_over, poll_room};

/// How long the other half may stay open once ours has ended. By then a peer that lives has said the rest.
const LINGER: Duration = Duration::from_secs(5);

/// One open stream. Dropped while a half is open, it is reset with CANCEL.
pub struct Nested {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Where the stream's tunnel counts it.
    _seat: Option<Seat>,
    /// What has arrived and is not yet read. The peer gets room for it as it is read.
    got: Bytes,
    /// Room for the next piece; it comes back once earlier ones are on the wire.
    room: BytesMut,
    /// Set when our half has ended: until when the other's end is waited for.
    said_all: Option<Pin<Box<Sleep>>>,
}

impl Nested {
    /// Takes a stream that has just been opened.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        let Stream { send, recv, seat, .. } = stream;
        Self { _seat: seat, ..Self::of(send, recv) }
    }

    /// Takes a stream of HTTP/2 that is no tunnel's: what follows an extended CONNECT (RFC 8441).
    #[must_use]
    pub fn of(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv, _seat: None, got: Bytes::new(), room: BytesMut::new(), said_all: None }
    }

    /// Ends our half and goes on reading the other: what half-closing a connection is. Shutting down waits for the
    /// other's end, and takes what still comes for nobody's.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn end(&mut self) -> io::Result<()> {
        if self.said_all.is_none() {
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
            self.said_all = Some(Box::pin(sleep(LINGER)));
        }
        Ok(())
    }

    /// The next bytes; none at the end.
    fn poll_got(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.got.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
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
        let _ = self.recv.flow_control().release_capacity(piece.len());
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
        let send = &mut this.send;
        send.reserve_capacity(bytes.len());
        let room = match ready!(poll_room(send, cx)) {
            Some(room) => room.map_err(broken)?,
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let (now, _) = bytes.split_at(room.min(bytes.len()));
        this.room.extend_from_slice(now);
        send.send_data(this.room.split().freeze(), false).map_err(broken)?;
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The outer tunnel's own task brings it onto the wire.
        Poll::Ready(Ok(()))
    }

    /// Ends our half, and then waits a while for the other's end: a stream that is dropped before is reset, and the
    /// reset could overtake, at the gateway, what it has yet to pass on.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end()?;
        loop {
            match self.poll_got(cx) {
                Poll::Ready(got) => got?,
                Poll::Pending => {
                    let linger = self.said_all.as_mut().map(|linger| linger.as_mut().poll(cx));
                    return if linger == Some(Poll::Ready(())) { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
            }
            if self.take(usize::MAX).is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::testing::{Bench, opened};

    #[tokio::test]
    async fn a_peer_that_never_ends_its_half_is_not_waited_for_for_ever() {
        let mut bench = Bench::new();
        let (keep, mut kept) = mpsc::channel(1);
        let hop = bench
            .listen(move |accepted, stop| {
                let keep = keep.clone();
                async move {
                    accepted.serve(stop, |arrival| drop(keep.try_send(opened(arrival)))).await;
                }
            })
            .await;
        let mut near = Nested::new(bench.open(hop).await.unwrap().stream);
        let _far = kept.recv().await.unwrap().unwrap();
        near.write_all(b"all").await.unwrap();
        let began = tokio::time::Instant::now();
        // From here on time passes only while nothing else can happen.
        tokio::time::pause();
        near.shutdown().await.unwrap();
        assert!(began.elapsed() >= LINGER, "{:?}", began.elapsed());
    }
}
