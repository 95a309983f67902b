//! The accepting end of a tunnel: TLS, HTTP/2, and the requests that arrive, each handed on as it comes.
//! What a request may do is decided by whoever takes it.

use std::io;
use std::time::Duration;

use ambit_model::address::ClientAddr;
use ambit_model::name::Identity;
use ambit_process::net::TcpStream;
use ambit_process::stop::Stop;
use ambit_tls::ServerStream;
use ambit_tls::configs::{Accepting, Mismatch};
use ambit_tls::handshake::{self, HandshakeError};
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::time::timeout;

use crate::ahead::Ahead;
use crate::gather::Gathered;
use crate::head::{Connect, HeadError, Opened, Refusal};
use crate::liveness::{Liveness, Watched};
use crate::settings::{self, Windows};
use crate::stall::{self, Stalls};
use crate::stream::Stream;

/// How long a client may take for TLS and the HTTP/2 preface.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a farewell to a dead peer may take.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);

/// Why a connection is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The client's address is not to be had: it is gone.
    #[error("the client is gone")]
    Gone(#[source] io::Error),
    /// The client did not finish in time.
    #[error("no handshake within {limit:?}")]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// The client is nobody we accept.
    #[error("the client is not accepted")]
    WrongPeer(#[source] Mismatch),
    /// TLS failed.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// HTTP/2 failed.
    #[error("HTTP/2 failed")]
    Http2(#[source] h2::Error),
}

/// How a tunnel ended.
#[derive(Debug)]
pub enum Ended {
    /// The client closed it, or it was drained after a stop.
    Closed,
    /// The client stopped answering, or its certificate was revoked.
    Dead,
    /// The connection failed, or the client broke the protocol.
    Failed(h2::Error),
}

/// A tunnel whose client is proven.
pub struct Accepted {
    peer: Identity,
    from: ClientAddr,
    /// Boxed: it is several KiB, and moves from task to task.
    conn: Box<Connection<Gathered<Watched<ServerStream<Ahead>>>, Bytes>>,
    liveness: Liveness,
    windows: Windows,
}

/// Does the server's part of TLS and HTTP/2.
///
/// # Errors
/// [`AcceptError`] when the client is not accepted, or not in time.
pub async fn accept(tcp: TcpStream, tls: Accepting, windows: Windows) -> Result<Accepted, AcceptError> {
    let from = ClientAddr::new(tcp.peer_addr().map_err(AcceptError::Gone)?);
    // Boxed: a handshake is large and short, and a tunnel's task should not keep room for it.
    match timeout(HANDSHAKE_WAIT, Box::pin(shake(tcp, (tls, windows), from))).await {
        Ok(accepted) => accepted,
        Err(_) => Err(AcceptError::Silent { limit: HANDSHAKE_WAIT }),
    }
}

async fn shake(
    tcp: TcpStream,
    (tls, windows): (Accepting, Windows),
    from: ClientAddr,
) -> Result<Accepted, AcceptError> {
    // A client that has said nothing costs a socket, no buffers.
    tcp.readable().await.map_err(AcceptError::Gone)?;
    let (stream, proven) = handshake::accept(tls, Ahead::new(tcp)).await.map_err(|error| match error {
        HandshakeError::Peer(mismatch) => AcceptError::WrongPeer(mismatch),
        HandshakeError::Failed(source) => AcceptError::Tls(source),
    })?;
    let (stream, heard) = Watched::new(stream);
    let mut conn = Box::new(
        settings::server(windows).handshake(Gathered::new(stream)).await.map_err(AcceptError::Http2)?,
    );
    let liveness = Liveness::new(conn.ping_pong(), heard, &proven);
    Ok(Accepted { peer: proven.who, from, conn, liveness, windows })
}

impl Accepted {
    /// Who the client proved to be.
    #[must_use]
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// Where the client is.
    #[must_use]
    pub fn from(&self) -> ClientAddr {
        self.from
    }

    /// Serves until the tunnel ends, handing each request to `take`, which must not block.
    /// When `stop` is pulled, the client is told to open no more; streams that are open go on.
    pub async fn serve(self, stop: Stop, mut take: impl FnMut(Arrival)) -> Ended {
        let Self { mut conn, mut liveness, windows, .. } = self;
        let (stalls, mut growth) = stall::pair(windows);
        let mut lapsed = std::pin::pin!(liveness.lapsed());
        let mut dead = std::pin::pin!(liveness.dead());
        let mut stopping = false;
        loop {
            // Cancel-safe: `accept` keeps its state in the connection, the others have none worth keeping.
            tokio::select! {
                request = conn.accept() => match request {
                    None => return Ended::Closed,
                    Some(Ok((request, respond))) => take(Arrival::new(request, respond, &stalls)),
                    Some(Err(error)) if clean(&error) => return Ended::Closed,
                    Some(Err(error)) => return Ended::Failed(error),
                },
                () = stop.stopped(), if !stopping => {
                    stopping = true;
                    conn.graceful_shutdown();
                }
                // The client is no longer proven: it may end what it began, and prove itself anew for more.
                () = &mut lapsed, if !stopping => {
                    stopping = true;
                    conn.graceful_shutdown();
                }
                window = growth.changed() => conn.set_target_window_size(window),
                () = &mut dead => break,
            }
        }
        conn.abrupt_shutdown(Reason::NO_ERROR);
        // The peer is most likely not there to hear it.
        let _ = timeout(FAREWELL_WAIT, std::future::poll_fn(|cx| conn.poll_closed(cx))).await;
        Ended::Dead
    }
}

/// Clients often just close TCP once their last stream has ended.
fn clean(error: &h2::Error) -> bool {
    let left = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    error.reason() == Some(Reason::NO_ERROR) || error.get_io().is_some_and(|io| left.contains(&io.kind()))
}

/// A request that waits for its answer. Dropped, it is reset.
pub struct Arrival {
    head: Result<Connect, HeadError>,
    respond: SendResponse<Bytes>,
    recv: RecvStream,
    stalls: Stalls,
}

impl Arrival {
    fn new(request: Request<RecvStream>, respond: SendResponse<Bytes>, stalls: &Stalls) -> Self {
        let stalls = stalls.clone();
        Self { head: Connect::read(&request), respond, recv: request.into_body(), stalls }
    }

    /// What is asked; an error is to be refused as [`Refusal::Bad`].
    ///
    /// # Errors
    /// [`HeadError`] when it is no CONNECT, or one to nowhere.
    pub fn head(&self) -> Result<&Connect, &HeadError> {
        self.head.as_ref()
    }

    /// Returns once the client has given up on its request. Cancel-safe.
    pub async fn abandoned(&mut self) {
        // A lost tunnel is as final as a reset.
        let _ = std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await;
    }

    /// Answers with a status, and ends the stream.
    pub fn refuse(mut self, refusal: Refusal) {
        // Whoever asked may be gone, which is no worse than being refused.
        let _ = self.respond.send_response(refusal.response(), true);
    }

    /// Answers 200: the stream is open.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn open(mut self, answer: &Opened) -> Result<Stream, h2::Error> {
        let send = self.respond.send_response(answer.response(), false)?;
        Ok(Stream { send, recv: self.recv, seat: None, stalls: self.stalls })
    }
}

#[cfg(test)]
mod lapsed;
#[cfg(test)]
mod tests;
