//! The dialling end of a tunnel: TCP as the caller makes it (or a stream of another tunnel), TLS, HTTP/2; every
//! wait is bounded. Who keeps tunnels, and for whom, is `pool`'s.

use std::io;
use std::time::Duration;

use ambit_model::address::HopAddr;
use ambit_model::name::Identity;
use ambit_process::net::TcpStream;
use ambit_tls::ClientStream;
use ambit_tls::configs::{Dialling, Mismatch};
use ambit_tls::handshake::{self, HandshakeError};
use ambit_tls::vault::FetchError;
use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::ahead::Ahead;
use crate::gather::Gathered;
use crate::liveness::{Liveness, Watched};
use crate::settings::{self, Windows};
use crate::stall::Growth;

/// How long the peer's kernel may take to accept.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long TLS and the HTTP/2 preface may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// We have no certificate to show.
    #[error("no certificate to show to {hop}")]
    Certificate {
        /// Whom we would have dialled.
        hop: HopAddr,
        /// Why.
        source: FetchError,
    },
    /// Nobody accepts, or the network says no.
    #[error("{hop} does not accept")]
    Connect {
        /// Who was dialled.
        hop: HopAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No answer: often a network policy that drops what goes to the tunnel port.
    #[error("no answer from {hop} to {stage} within {limit:?}")]
    Silent {
        /// Who was dialled.
        hop: HopAddr,
        /// At which stage.
        stage: Stage,
        /// How long was waited.
        limit: Duration,
    },
    /// The peer is somebody else.
    #[error("{hop} is not the peer that was expected")]
    WrongPeer {
        /// Who was dialled.
        hop: HopAddr,
        /// Who it is.
        source: Mismatch,
    },
    /// TLS failed.
    #[error("TLS with {hop} failed")]
    Tls {
        /// Who was dialled.
        hop: HopAddr,
        /// Why.
        source: io::Error,
    },
    /// HTTP/2 failed.
    #[error("HTTP/2 with {hop} failed")]
    Http2 {
        /// Who was dialled.
        hop: HopAddr,
        /// Why.
        source: h2::Error,
    },
    /// The pool holds as many tunnels as it may, all in use.
    #[error("no room for another tunnel to {hop}")]
    Full {
        /// Who would have been dialled.
        hop: HopAddr,
    },
    /// The peer lets nobody open a stream.
    #[error("{hop} accepts no streams")]
    NoStreams {
        /// Who was dialled.
        hop: HopAddr,
    },
    /// The pool is being closed.
    #[error("tunnels are no longer dialled")]
    Closed,
}

impl DialError {
    /// See [`crate::pool::OpenError::is_of_absence`].
    pub(crate) fn is_of_absence(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Tls { source, .. } => is_gone(source),
            Self::Http2 { source, .. } => is_lost(source),
            _ => false,
        }
    }
}

/// The connection beneath was lost.
pub(crate) fn is_lost(error: &h2::Error) -> bool {
    error.get_io().is_some_and(is_gone)
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | UnexpectedEof)
}

/// Where a dial is waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// TCP.
    Connect,
    /// TLS and HTTP/2.
    Handshake,
    /// A free stream on a tunnel that others are dialling.
    Turn,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Handshake => "the handshake",
            Self::Turn => "a turn",
        })
    }
}

/// What keeps a tunnel over `S` going. Boxed: it is several KiB, and moves from task to task.
pub(crate) type Driven<S> = Box<Connection<Gathered<Watched<ClientStream<S>>>, Bytes>>;

/// A tunnel, and what keeps it going.
pub(crate) struct Dialled<S> {
    pub(crate) send: SendRequest<Bytes>,
    pub(crate) conn: Driven<S>,
    pub(crate) liveness: Liveness,
    pub(crate) peer: Identity,
    pub(crate) windows: Windows,
}

pub(crate) async fn dial(
    hop: HopAddr,
    (tls, windows): (Dialling, Windows),
    connect: impl Future<Output = io::Result<TcpStream>>,
) -> Result<Dialled<Ahead>, DialError> {
    let silent = |stage, limit| DialError::Silent { hop, stage, limit };
    let tcp = match timeout(CONNECT_WAIT, connect).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(silent(Stage::Connect, CONNECT_WAIT));
        }
        Ok(Err(source)) => return Err(DialError::Connect { hop, source }),
        Err(_) => return Err(silent(Stage::Connect, CONNECT_WAIT)),
    };
    over(hop, (tls, windows), Ahead::new(tcp)).await
}

/// Does the client's part of TLS and HTTP/2 over a stream that is open already; `hop` is where it leads.
pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin>(
    hop: HopAddr,
    (tls, windows): (Dialling, Windows),
    stream: S,
) -> Result<Dialled<S>, DialError> {
    match timeout(HANDSHAKE_WAIT, shake(hop, (tls, windows), stream)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(DialError::Silent { hop, stage: Stage::Handshake, limit: HANDSHAKE_WAIT }),
    }
}

async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    hop: HopAddr,
    (tls, windows): (Dialling, Windows),
    stream: S,
) -> Result<Dialled<S>, DialError> {
    let (stream, proven) = handshake::connect(tls, stream).await.map_err(|error| match error {
        HandshakeError::Peer(source) => DialError::WrongPeer { hop, source },
        HandshakeError::Failed(source) => DialError::Tls { hop, source },
    })?;
    let (stream, heard) = Watched::new(stream);
    let http2 = settings::client(windows).handshake(Gathered::new(stream)).await;
    let (send, mut conn) = http2.map_err(|source| DialError::Http2 { hop, source })?;
    let liveness = Liveness::new(conn.ping_pong(), heard, &proven);
    Ok(Dialled { send, conn: Box::new(conn), liveness, peer: proven.who, windows })
}

/// Keeps a tunnel going, and its window as large as its streams need. Cancel-safe.
pub(crate) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    conn: &mut Driven<S>,
    growth: &mut Growth,
) -> Result<(), h2::Error> {
    loop {
        tokio::select! {
            ended = &mut *conn => return ended,
            window = growth.changed() => conn.set_target_window_size(window),
        }
    }
}
