//! Why the far end reset a stream, by the names that matter to whoever records it (RFC 9113, 7 and 8.5).

use std::fmt;

use h2::Reason;

/// Why the far end reset a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// It has all it wants.
    Enough,
    /// It gave the connection up: its application left, a policy said so, or it had to stop.
    Cancelled,
    /// Its application's connection broke.
    Broken,
    /// It saw a fault, in us or in itself.
    Fault(Reason),
}

impl From<Reason> for Reset {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::NO_ERROR => Self::Enough,
            Reason::CANCEL => Self::Cancelled,
            Reason::CONNECT_ERROR => Self::Broken,
            reason => Self::Fault(reason),
        }
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enough => Reason::NO_ERROR.fmt(f),
            Self::Cancelled => Reason::CANCEL.fmt(f),
            Self::Broken => Reason::CONNECT_ERROR.fmt(f),
            Self::Fault(reason) => reason.fmt(f),
        }
    }
}
