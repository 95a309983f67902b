//! Between TLS and TCP: reads ahead, for TLS asks for 4 KiB at a time and a burst of records is better taken from the
//! kernel at once. Owns only how bytes arrive; while none are there, it holds no memory.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use ambit_process::net::TcpStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::lent;

/// TCP as TLS reads it.
pub(crate) struct Ahead<S = TcpStream> {
    tcp: S,
    held: Vec<u8>,
    /// Bytes at the beginning of `held` that are read already.
    gone: usize,
}

impl<S> Ahead<S> {
    pub(crate) fn new(tcp: S) -> Self {
        Self { tcp, held: Vec::new(), gone: 0 }
    }

    /// Hands on what is held, and gives the memory back with the last of it.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = self.held.get(self.gone..).unwrap_or_default();
        let fits = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(fits);
        self.gone += fits.len();
        if self.gone >= self.held.len() {
            self.rest();
        }
    }

    fn rest(&mut self) {
        lent::give(std::mem::take(&mut self.held));
        self.gone = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_empty() {
            // More than is ever held goes where it belongs at once.
            if buffer.remaining() >= lent::ROOM {
                return Pin::new(&mut this.tcp).poll_read(cx, buffer);
            }
            this.held = lent::borrow();
            // Made anew at each poll: it keeps nothing between them.
            let read = pin!(this.tcp.read_buf(&mut this.held)).poll(cx);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                this.rest();
                return read.map_ok(drop);
            }
        }
        this.hand_on(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_whole_however_small_the_reads() {
        let sent: Vec<u8> = (0..60_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for size in [1, 100, 4096, lent::ROOM, 40_000] {
            let (mut far, near) = duplex(50_000);
            let (mut near, sending) = (Ahead::new(near), sent.clone());
            let send = async move { far.write_all(&sending).await };
            let receive = async {
                let (mut got, mut buffer) = (Vec::new(), vec![0; size]);
                loop {
                    match near.read(&mut buffer).await.unwrap() {
                        0 => return got,
                        bytes => got.extend_from_slice(&buffer[..bytes]),
                    }
                }
            };
            let (written, got) = tokio::join!(send, receive);
            written.unwrap();
            assert!(got == sent, "{size}");
        }
    }

    #[tokio::test]
    async fn memory_is_held_only_while_there_are_bytes_to_hand_on() {
        let (mut far, near) = duplex(1024);
        let (mut near, mut buffer) = (Ahead::new(near), [0; 60]);
        let waits = look(&mut near, &mut buffer).await;
        assert!(waits.is_pending() && near.held.capacity() == 0);
        far.write_all(&[7; 100]).await.unwrap();
        assert!(matches!(look(&mut near, &mut buffer).await, Poll::Ready(Ok(60))));
        assert_eq!(near.held.capacity(), lent::ROOM);
        assert!(matches!(look(&mut near, &mut buffer).await, Poll::Ready(Ok(40))));
        assert_eq!(near.held.capacity(), 0);
        drop(far);
        assert!(matches!(look(&mut near, &mut buffer).await, Poll::Ready(Ok(0))));
        assert_eq!(near.held.capacity(), 0);
    }

    /// Reads if there is something to read now.
    async fn look(near: &mut Ahead<tokio::io::DuplexStream>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        std::future::poll_fn(|cx| Poll::Ready(pin!(near.read(into)).poll(cx))).await
    }
}
