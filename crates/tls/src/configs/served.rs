//! A connection that a control-plane server accepted, as tonic wants it. Owns the handshake's deadline.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_process::net::TcpStream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// A client that does not finish its handshake holds a socket no longer than this.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// A client's connection over TLS. Its peer's address is in the request's extensions as [`Caller`].
pub struct Served {
    inner: TlsStream<TcpStream>,
    caller: Caller,
}

/// Where a call comes from.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub Option<SocketAddr>);

impl Served {
    /// Does the server's part of the handshake.
    ///
    /// # Errors
    /// What the handshake gave, or a time-out.
    pub async fn accept(config: Arc<ServerConfig>, tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let caller = Caller(tcp.peer_addr().ok());
        match timeout(HANDSHAKE_WAIT, TlsAcceptor::from(config).accept(tcp)).await {
            Ok(stream) => Ok(Self { inner: stream?, caller }),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Connected for Served {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Served {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Served {
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
