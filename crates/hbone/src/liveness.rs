//! Is the peer still there, and still to be believed? Any byte it sends says the former; only silence is asked about
//! with a PING. The latter is the word of revocation lists, and of its certificate's last day.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_tls::configs::Standing;
use ambit_tls::handshake::Proven;
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Silence of a peer after which it is asked.
const ASK_AFTER: Duration = Duration::from_secs(10);
/// Silence after the question that means it is gone.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// A stream that notes when bytes arrive.
pub(crate) struct Watched<S> {
    inner: S,
    heard: Heard,
}

/// Whether anything arrived since last asked.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<AtomicBool>);

impl Heard {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Asks a silent peer, and hears of a revoked one.
pub(crate) struct Liveness {
    pings: Option<PingPong>,
    heard: Heard,
    standing: Standing,
    /// When its certificate ends; none: not in our time.
    ends: Option<Instant>,
}

impl Liveness {
    pub(crate) fn new(pings: Option<PingPong>, heard: Heard, proven: &Proven) -> Self {
        let ends = Instant::now().checked_add(proven.lasts);
        Self { pings, heard, standing: proven.standing.clone(), ends }
    }

    /// Returns once the certificate that the peer has shown has ended. Cancel-safe.
    pub(crate) fn lapsed(&self) -> impl Future<Output = ()> + use<> {
        let ends = self.ends;
        async move {
            match ends {
                Some(ends) => sleep_until(ends).await,
                None => std::future::pending().await,
            }
        }
    }

    /// One question at once; its answer comes after the peer's settings. False when none came.
    pub(crate) async fn greet(&mut self) -> bool {
        let Some(pings) = &mut self.pings else { return true };
        matches!(timeout(ANSWER_WAIT, pings.ping(Ping::opaque())).await, Ok(Ok(_)))
    }

    /// Returns once the peer is silent for too long, or its certificate was revoked.
    pub(crate) async fn dead(&mut self) {
        let standing = self.standing.clone();
        // Both arms are cancel-safe: silence is measured anew.
        tokio::select! {
            () = standing.revoked() => {}
            () = self.silent() => {}
        }
    }

    async fn silent(&mut self) {
        loop {
            sleep(ASK_AFTER).await;
            if self.heard.take() {
                continue;
            }
            let Some(pings) = &mut self.pings else { return std::future::pending().await };
            match timeout(ANSWER_WAIT, pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                // The connection is ending by itself, which its owner sees.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) if self.heard.take() => {}
                Err(_) => return,
            }
        }
    }
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S) -> (Self, Heard) {
        let heard = Heard::default();
        (Self { inner, heard: heard.clone() }, heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.heard.0.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    /// A client connection to `far`, driven in the background, and its liveness.
    async fn client(
        near: tokio::io::DuplexStream,
    ) -> (JoinSet<()>, h2::client::SendRequest<bytes::Bytes>, Liveness) {
        let (watched, heard) = Watched::new(near);
        let (send, mut conn) = h2::client::Builder::new().handshake(watched).await.unwrap();
        let liveness = Liveness::new(conn.ping_pong(), heard, &proven());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = conn.await;
        });
        (tasks, send, liveness)
    }

    fn proven() -> Proven {
        let who = crate::testing::identity("db");
        Proven { who, standing: Standing::default(), lasts: Duration::from_secs(86_400) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_has_lapsed_when_it_has_ended_and_one_without_an_end_never() {
        for (lasts, lapses) in [(1, true), (86_400, true), (u64::MAX, false)] {
            let proven = Proven { lasts: Duration::from_secs(lasts), ..proven() };
            let (liveness, before) = (Liveness::new(None, Heard::default(), &proven), Instant::now());
            let lapsed = timeout(Duration::from_secs(100_000), liveness.lapsed()).await;
            assert_eq!((lapsed.is_ok(), before.elapsed() >= proven.lasts), (lapses, lapses), "{lasts}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_dead_after_question_and_wait() {
        let (near, _far) = duplex(64 * 1024);
        let (_tasks, _send, mut liveness) = client(near).await;
        let before = Instant::now();
        liveness.dead().await;
        assert_eq!(before.elapsed(), ASK_AFTER + ANSWER_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answering_peer_stays_alive() {
        let (near, far) = duplex(64 * 1024);
        let (mut tasks, _send, mut liveness) = client(near).await;
        tasks.spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            while server.accept().await.is_some() {}
        });
        assert!(liveness.greet().await);
        assert!(timeout(Duration::from_secs(600), liveness.dead()).await.is_err());
    }
}
