//! What is tried again (`waypoint.md` 2.12, 4.2). Owns the nouns.

use std::time::Duration;

/// When a request is sent once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often after the first time; 0: never.
    pub attempts: u32,
    /// After answers with these status codes.
    pub codes: Vec<u16>,
    /// After these events.
    pub on: Vec<RetryOn>,
    /// The shortest wait before each; none: a short one.
    pub backoff: Option<Duration>,
}

/// An event after which a request may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetryOn {
    /// An answer with any 5xx, or no answer.
    Any5xx,
    /// An answer with 502, 503 or 504.
    GatewayError,
    /// An answer with 409.
    Conflict,
    /// An answer that says that it was for the rate of requests.
    RateLimited,
    /// No answer: the connection was lost.
    Reset,
    /// The same, before anything of the request was sent.
    ResetBeforeRequest,
    /// No connection.
    ConnectFailure,
    /// HTTP/2: the request was refused before it was looked at.
    RefusedStream,
    /// No answer within the time of one attempt.
    AttemptTimeout,
    /// gRPC status 1.
    Cancelled,
    /// gRPC status 4.
    DeadlineExceeded,
    /// gRPC status 13.
    Internal,
    /// gRPC status 8.
    ResourceExhausted,
    /// gRPC status 14.
    Unavailable,
}

impl Retry {
    /// What is tried again where nobody said anything: nothing that an application may have acted on.
    #[must_use]
    pub fn unasked() -> Self {
        Self {
            attempts: 2,
            codes: Vec::new(),
            on: vec![
                RetryOn::ResetBeforeRequest,
                RetryOn::ConnectFailure,
                RetryOn::RefusedStream,
                RetryOn::Cancelled,
                RetryOn::Unavailable,
            ],
            backoff: None,
        }
    }
}
