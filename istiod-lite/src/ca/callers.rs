//! Who calls: proven by a local key in directory mode, by the API server's review in a cluster.
//! Owns the choice between the two, and how a proof is handed from the listener to the services behind it.

use std::sync::Arc;
use std::time::SystemTime;

use http::Extensions;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tracing::info;

use super::review::Reviewer;
use super::token::{Bearer, TokenError, Tokens};

/// Proves callers.
pub enum Callers {
    /// By the public half of a local key.
    Key(Tokens),
    /// By the API server.
    Review(Box<Reviewer>),
}

/// What came of proving the caller of one request; put there before the request reaches a service.
#[derive(Clone)]
pub struct Proof(Arc<Result<Bearer, TokenError>>);

impl Callers {
    /// Who a call's headers prove to be the caller.
    ///
    /// # Errors
    /// When they prove nobody.
    pub async fn bearer(&self, headers: &MetadataMap, now: SystemTime) -> Result<Bearer, TokenError> {
        match self {
            Self::Key(tokens) => tokens.bearer(headers, now),
            Self::Review(reviewer) => Box::pin(reviewer.bearer(headers, now)).await,
        }
    }

    /// As `bearer`, to be put with the request.
    pub async fn prove(&self, headers: &MetadataMap, now: SystemTime) -> Proof {
        Proof(Arc::new(self.bearer(headers, now).await))
    }
}

/// Who was proven to be the caller of a request.
///
/// # Errors
/// When nobody was. The caller is told no more than that; the reason is in the log.
pub fn proven(extensions: &Extensions) -> Result<Bearer, Status> {
    match extensions.get::<Proof>().map(|proof| proof.0.as_ref()) {
        Some(Ok(bearer)) => Ok(bearer.clone()),
        Some(Err(error)) => Err(refused(error)),
        // Nobody asked: that is a fault of ours, and nobody is proven by it.
        None => Err(refused(&TokenError::Missing)),
    }
}

/// What a caller is told who was not proven.
pub fn refused(error: &TokenError) -> Status {
    info!(target: "ca", error = %error, "caller not authenticated");
    match error {
        TokenError::Unreviewed(_) | TokenError::Busy => {
            Status::unavailable("callers cannot be authenticated now")
        }
        TokenError::Missing
        | TokenError::Invalid(_)
        | TokenError::Time
        | TokenError::Subject(_)
        | TokenError::Denied(_) => Status::unauthenticated("request authenticate failure"),
    }
}
