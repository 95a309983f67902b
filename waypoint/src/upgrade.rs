//! What follows once another protocol begins in a request's place, in either version of HTTP: a connection of HTTP/1.1
//! that is no longer one (RFC 9110, 7.8), or a stream of HTTP/2 (RFC 8441). Owns opening both sides and carrying bytes
//! between them; whether another protocol may begin is `phases`'.

use ambit_hbone::nested::Nested;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::sync::oneshot;

use crate::line::Line;
use crate::phases::record::Record;

/// What a server of websockets adds to a key, to show that it is one (RFC 6455, 1.3).
const PROOF: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// One side of what follows.
pub(crate) enum Upgrade {
    /// The rest of a connection of HTTP/1.1, and the key that its client has sent, if it is a client.
    Http1(OnUpgrade, Option<HeaderValue>),
    /// A client's stream of HTTP/2, once it is answered.
    Http2(oneshot::Receiver<Nested>),
    /// An endpoint's stream of HTTP/2.
    Open(Box<Nested>),
}

/// Bytes both ways.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Upgrade {
    /// What proves to a client of HTTP/1.1 that its websocket is open (RFC 6455, 4.2.2). In HTTP/2 nobody asks for it.
    pub(crate) fn proof(&self) -> Option<HeaderValue> {
        match self {
            Self::Http1(_, key) => proof(key.as_ref()?),
            Self::Http2(_) | Self::Open(_) => None,
        }
    }

    /// Its bytes; none: the connection is gone.
    async fn open(self) -> Option<Box<dyn Io>> {
        Some(match self {
            Self::Http1(rest, _) => Box::new(TokioIo::new(rest.await.ok()?)),
            Self::Http2(stream) => Box::new(Line::from(stream.await.ok()?).by_halves()),
            Self::Open(stream) => Box::new(Line::from(*stream).by_halves()),
        })
    }
}

/// Carries what is no longer HTTP.
pub(crate) async fn between(near: Upgrade, far: Upgrade, mut record: Box<Record>) {
    let (Some(mut near), Some(mut far)) = tokio::join!(near.open(), far.open()) else { return };
    if let Ok((_, to_client)) = copy_bidirectional(&mut near, &mut far).await {
        record.passed(to_client);
    }
    record.complete();
}

fn proof(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), PROOF.as_bytes()].concat());
    HeaderValue::try_from(STANDARD.encode(digest)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_proven_as_clients_expect() {
        // RFC 6455, 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(proof(&key).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
