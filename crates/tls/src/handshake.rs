//! The two ends of a tunnel's handshake, and who the other end proved to be.
//! Sets no deadline: the caller knows how long the whole may take.

use std::io;
use std::time::Duration;

use ambit_model::name::Identity;
use rustls::pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::configs::revoked::End;
use crate::configs::{Accepting, Dialling, Mismatch, Standing, server_name};
use crate::peer;

/// Why there is no proven peer.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer proved to be somebody else than is accepted.
    #[error(transparent)]
    Peer(Mismatch),
    /// The handshake failed for another reason, on the wire or in TLS.
    #[error("the TLS handshake failed")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match Mismatch::behind(&error) {
            Some(mismatch) => Self::Peer(mismatch.clone()),
            None => Self::Failed(error),
        }
    }
}

/// Who the other end proved to be, and whether it may still be believed.
pub struct Proven {
    /// Who it is.
    pub who: Identity,
    /// Whether its certificate still counts.
    pub standing: Standing,
    /// For how long from now its certificate is valid. A clock that is set later does not change it.
    pub lasts: Duration,
}

/// Accepts: the client's identity is of a trusted domain.
///
/// # Errors
/// [`HandshakeError`] tells a wrong peer from a failed handshake.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    end: Accepting,
    stream: S,
) -> Result<(server::TlsStream<S>, Proven), HandshakeError> {
    let Accepting { config, checks } = end;
    let seen = checks.seen();
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let who = peer::of_chain(chain).map_err(|error| HandshakeError::Peer(Mismatch::Nobody(error)))?;
    let lasts = peer::lasts(chain, UnixTime::now());
    let standing = checks.standing(chain, End::Server, seen);
    Ok((stream, Proven { who, standing, lasts }))
}

/// Dials: the server's identity is one of those that the configuration expects.
///
/// # Errors
/// [`HandshakeError`] tells a wrong peer from a failed handshake.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    end: Dialling,
    stream: S,
) -> Result<(client::TlsStream<S>, Proven), HandshakeError> {
    let Dialling { config, checks } = end;
    let seen = checks.seen();
    let stream = TlsConnector::from(config).connect(server_name(), stream).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let who = peer::of_chain(chain).map_err(|error| HandshakeError::Peer(Mismatch::Nobody(error)))?;
    let lasts = peer::lasts(chain, UnixTime::now());
    let standing = checks.standing(chain, End::Client, seen);
    Ok((stream, Proven { who, standing, lasts }))
}
