//! Getting a credential for an identity: from the certificate authority, or from files.
//! Owns one attempt. When to try, and how often, is `vault`'s.

mod ca;
mod directory;
mod token;

pub use ca::{Ca, CaSettings};
pub use directory::Directory;
pub use token::{Token, TokenError};

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ambit_model::name::Identity;

use crate::configs::control_plane::ConnectError;
use crate::credential::{Credential, CredentialError};

/// Who makes credentials.
pub trait Issuer: Send + Sync + 'static {
    /// One attempt to get a credential for `identity`. Bounded in time by the caller.
    fn issue(&self, identity: &Identity) -> impl Future<Output = Result<Credential, IssueError>> + Send;

    /// Returns when what was issued before may be outdated, ahead of its time. May never return.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No answer in time.
    #[error("the certificate authority did not answer within {limit:?}")]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// The channel cannot be made.
    #[error("the certificate authority cannot be reached")]
    Unreachable(#[from] ConnectError),
    /// The call failed.
    #[error("the certificate authority refused")]
    Refused(#[source] Box<tonic::Status>),
    /// The caller's own token is not to be had.
    #[error("no token to show to the certificate authority")]
    Token(#[from] TokenError),
    /// A header that cannot be sent.
    #[error("header {name:?} cannot be sent to the certificate authority")]
    Header {
        /// Its name.
        name: String,
    },
    /// Key or request could not be made.
    #[error("no key or signing request could be made")]
    Request(#[source] rcgen::Error),
    /// A file does not read.
    #[error("{path} does not read")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What came back is no credential.
    #[error("what was issued cannot be used")]
    Unusable(#[from] CredentialError),
    /// It has ended by our clock: the authority's clock or ours is wrong, or the file is old.
    #[error("the certificate ended at {not_after:?} by this machine's clock; is the clock right?")]
    Ended {
        /// When.
        not_after: SystemTime,
    },
    /// Somebody else's credential came back.
    #[error("asked for {asked}, was given {found}")]
    WrongIdentity {
        /// For whom was asked.
        asked: Identity,
        /// For whom it is.
        found: Identity,
    },
}

/// Refuses a credential of somebody else.
fn of_the_asked(credential: Credential, asked: &Identity) -> Result<Credential, IssueError> {
    if credential.identity() == asked {
        return Ok(credential);
    }
    Err(IssueError::WrongIdentity { asked: asked.clone(), found: credential.identity().clone() })
}
