//! What can come of a question to the API server, by what it means for the one who asked.

use std::time::Duration;

use http::StatusCode;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection, or it broke.
    #[error("the API server cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Connected, but nothing came.
    #[error("the API server did not answer within {limit:?}")]
    Silent {
        /// The limit.
        limit: Duration,
    },
    /// The credentials are not accepted.
    #[error("the API server does not know this account")]
    Unknown,
    /// The account has no right to ask this.
    #[error("the API server forbids it: {message}")]
    Forbidden {
        /// As the server says it: who may not do what.
        message: String,
    },
    /// There is nothing of this name.
    #[error("it is not there")]
    NotFound {
        /// The object that is not there, when the server says so; none: the path itself is unknown to it.
        name: Option<String>,
    },
    /// The version asked for is not known any more.
    #[error("the version asked for has expired")]
    Expired,
    /// The object changed meanwhile, or is another of the same name.
    #[error("the object is not the one that was meant")]
    Conflict,
    /// The server is too busy, starting, or failing.
    #[error("the API server is not able to answer (HTTP {code}): {message}")]
    Unable {
        /// The status code.
        code: u16,
        /// As the server says it.
        message: String,
    },
    /// The question itself is refused.
    #[error("the API server refuses it (HTTP {code}): {message}")]
    Refused {
        /// The status code.
        code: u16,
        /// As the server says it.
        message: String,
    },
    /// More than is accepted.
    #[error("the answer is larger than {most} bytes")]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// The answer is not what was asked for.
    #[error("the answer does not read")]
    Unreadable(#[source] serde_json::Error),
}

/// What the server says of a refusal.
pub(crate) struct Said {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) name: String,
}

impl ApiError {
    pub(crate) fn unreachable(error: kube::Error) -> Self {
        Self::Unreachable(Box::new(error))
    }

    pub(crate) fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreachable(error.into())
    }

    /// The meaning of a status code, and of what stands in its body.
    pub(crate) fn refused(code: StatusCode, said: Option<Said>) -> Self {
        let is_said = said.is_some();
        let Said { reason, message, name } = said.unwrap_or_else(|| Said {
            reason: String::new(),
            message: code.canonical_reason().unwrap_or("no reason").to_owned(),
            name: String::new(),
        });
        match code.as_u16() {
            401 => Self::Unknown,
            403 => Self::Forbidden { message },
            // Only the API itself says of which object; a proxy, or a server that is starting, does not.
            404 => Self::NotFound { name: (is_said && reason == "NotFound").then_some(name) },
            409 => Self::Conflict,
            410 => Self::Expired,
            code @ (408 | 429 | 500..) => Self::Unable { code, message },
            code => Self::Refused { code, message },
        }
    }

    /// Whether the same question may be answered later without anybody changing anything.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Silent { .. } | Self::Unable { .. } | Self::Expired => true,
            Self::Unknown
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Conflict
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable(_) => false,
        }
    }
}
