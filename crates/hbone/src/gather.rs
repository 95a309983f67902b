//! Between HTTP/2 and TLS: many small pieces become one record and one system call.
//! Owns only when bytes move on; it neither frames nor encrypts.
//!
//! HTTP/2 flushes after each frame that carries its payload by reference, so sixteen answers that became ready in
//! the same turn would be sixteen records and sixteen writes. Here a flush after a write is put off by one turn: the
//! task is woken again, and whatever it writes until it flushes twice in a row goes out together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::lent;

/// One full TLS record; more would be split anyway.
const HELD_MOST: usize = lent::ROOM;
/// From here on a copy costs more than the call it saves.
const DIRECT_FROM: usize = 8 * 1024;

/// A stream whose small writes wait for each other.
pub(crate) struct Gathered<S> {
    inner: S,
    held: Vec<u8>,
    /// Bytes at the beginning of `held` that are written already.
    gone: usize,
    /// A flush was put off and the task woken for it; nothing was written since.
    put_off: bool,
}

impl<S> Gathered<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, held: Vec::new(), gone: 0, put_off: false }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Writes what is held. Cancel-safe: what is written is counted before the next wait.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.gone..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.gone += written,
            }
        }
        // Nothing to hold, no memory to hold it in.
        lent::give(std::mem::take(&mut self.held));
        self.gone = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for `bytes` more; true when they shall be held, false when they shall go directly.
    fn holds(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<bool>> {
        self.put_off = false;
        let small = bytes < DIRECT_FROM;
        if !small || self.held.len().saturating_add(bytes) > HELD_MOST {
            ready!(self.drain(cx))?;
        }
        if small && self.held.capacity() == 0 {
            self.held = lent::borrow();
        }
        Poll::Ready(Ok(small))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if !ready!(this.holds(cx, bytes.len()))? {
            return Pin::new(&mut this.inner).poll_write(cx, bytes);
        }
        this.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        if !ready!(this.holds(cx, bytes))? {
            return Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        }
        slices.iter().for_each(|slice| this.held.extend_from_slice(slice));
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.held.is_empty() && !this.put_off && this.gone == 0 {
            this.put_off = true;
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(this.drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Notes each write as the layer below would get it; takes at most `most` bytes a time.
    struct Writes {
        seen: Vec<Vec<u8>>,
        most: usize,
    }

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.most);
            self.seen.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn gathered(most: usize) -> Gathered<Writes> {
        Gathered::new(Writes { seen: Vec::new(), most })
    }

    fn sizes(stream: &Gathered<Writes>) -> Vec<usize> {
        stream.inner.seen.iter().map(Vec::len).collect()
    }

    #[tokio::test]
    async fn pieces_flushed_one_by_one_go_out_together() {
        let mut stream = gathered(usize::MAX);
        for _ in 0..5 {
            stream.write_all(&[7; 1000]).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert_eq!(sizes(&stream), [] as [usize; 0]);
        stream.flush().await.unwrap();
        assert_eq!(sizes(&stream), [5000]);
    }

    #[test]
    fn a_flush_that_is_put_off_wakes_its_task() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        #[derive(Default)]
        struct Woken(AtomicUsize);
        impl std::task::Wake for Woken {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(std::sync::Arc::clone(&woken));
        let mut stream = gathered(usize::MAX);
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut stream).poll_write(&mut cx, b"a").is_ready());
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        assert_eq!((woken.0.load(Ordering::Relaxed), sizes(&stream)), (1, vec![1]));
    }

    #[tokio::test]
    async fn what_is_large_is_not_copied_and_overtakes_nothing() {
        let mut stream = gathered(usize::MAX);
        stream.write_all(b"first").await.unwrap();
        stream.write_all(&[7; DIRECT_FROM]).await.unwrap();
        assert_eq!(sizes(&stream), [5, DIRECT_FROM]);
    }

    #[tokio::test]
    async fn no_more_than_a_record_is_held_and_short_writes_are_gone_on_with() {
        let mut stream = gathered(3000);
        let sent: Vec<u8> = (0..40_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for piece in sent.chunks(1000) {
            stream.write_all(piece).await.unwrap();
            assert!(stream.held.len() <= HELD_MOST && stream.held.capacity() == HELD_MOST);
        }
        poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await.unwrap();
        assert_eq!(stream.held.capacity(), 0, "what holds nothing keeps no memory");
        assert_eq!(stream.inner.seen.concat(), sent);
    }
}
