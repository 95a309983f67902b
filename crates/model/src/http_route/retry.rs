//! What is tried again (`waypoint.md` 2.12, 4.2, 7.5). Owns whether, and how long to wait before. Leaves to the waypoint
//! what happened, and to send only what can be sent again whole.

use std::time::Duration;

use crate::balance::Pick;

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
    /// What waits by chance are made of, where none is the shortest; none: a short time.
    pub base: Option<Duration>,
    /// Whether an endpoint that failed may be tried again at once.
    pub same_again: bool,
    /// Whether, after every second attempt, the places where it was tried are left to others, as long as there are any.
    pub moves_on: bool,
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
    /// The same, before anything of the request was sent, or where doing it twice is as good as once.
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

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Answered(Answer),
    /// Without a connection to whom it was to be sent to.
    NoConnection,
    /// The connection was lost before an answer.
    Lost,
    /// HTTP/2: refused before it was looked at.
    Refused,
    /// The time of one attempt was over.
    TimedOut,
}

/// What there is to say of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// The status of gRPC, where it is in its headers.
    pub grpc: Option<u16>,
    /// Whether it says that it was for the rate of requests.
    pub rate_limited: bool,
}

/// What had become of the request by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Whether any of it went out.
    pub begun: bool,
    /// Whether doing it twice is as good as once (RFC 9110, 9.2.2).
    pub idempotent: bool,
}

impl Sent {
    /// Whether nobody can have acted on it, or it does not matter.
    fn is_harmless(self) -> bool {
        !self.begun || self.idempotent
    }
}

/// The shortest wait where nobody gave one.
const WAIT: Duration = Duration::from_millis(25);
/// The longest wait, in shortest ones.
const LONGEST: u32 = 10;

impl Retry {
    /// Whether to try again after so many tries, the first included.
    #[must_use]
    pub fn again(&self, tries: u32, ended: &Ended, sent: Sent) -> bool {
        tries <= self.attempts && (self.code(ended) || self.on.iter().any(|on| on.is(ended, sent)))
    }

    /// How long to wait before trying again, after so many tries: a while by chance, which grows with each, and never
    /// less than what was asked for.
    pub fn wait(&self, tries: u32, pick: &mut impl Pick) -> Duration {
        let base = self.backoff.or(self.base).unwrap_or(WAIT);
        let steps = 2u32.saturating_pow(tries).saturating_sub(1).clamp(1, LONGEST);
        let room = base.saturating_mul(steps);
        let micros = u64::try_from(room.as_micros()).unwrap_or(u64::MAX).max(1);
        let by_chance = Duration::from_micros(pick.below(micros));
        self.backoff.map_or(by_chance, |least| by_chance.max(least).min(least.saturating_mul(LONGEST)))
    }

    fn code(&self, ended: &Ended) -> bool {
        // Only what was really answered: an error of our own has no code.
        matches!(ended, Ended::Answered(answer) if self.codes.contains(&answer.status))
    }
}

impl RetryOn {
    fn is(self, ended: &Ended, sent: Sent) -> bool {
        let Ended::Answered(Answer { status, grpc, rate_limited }) = *ended else {
            return self.is_without_answer(ended, sent);
        };
        match self {
            Self::Any5xx => (500..600).contains(&status),
            Self::GatewayError => matches!(status, 502..=504),
            Self::Conflict => status == 409,
            Self::RateLimited => rate_limited,
            Self::Cancelled => grpc == Some(1),
            Self::DeadlineExceeded => grpc == Some(4),
            Self::ResourceExhausted => grpc == Some(8),
            Self::Internal => grpc == Some(13),
            Self::Unavailable => grpc == Some(14),
            Self::Reset
            | Self::ResetBeforeRequest
            | Self::ConnectFailure
            | Self::RefusedStream
            | Self::AttemptTimeout => false,
        }
    }

    fn is_without_answer(self, ended: &Ended, sent: Sent) -> bool {
        match self {
            Self::Any5xx => true,
            Self::Reset => matches!(ended, Ended::Lost | Ended::Refused),
            Self::ResetBeforeRequest => *ended == Ended::Lost && sent.is_harmless(),
            Self::ConnectFailure => *ended == Ended::NoConnection,
            Self::RefusedStream => *ended == Ended::Refused,
            Self::AttemptTimeout => *ended == Ended::TimedOut,
            Self::GatewayError
            | Self::Conflict
            | Self::RateLimited
            | Self::Cancelled
            | Self::DeadlineExceeded
            | Self::Internal
            | Self::ResourceExhausted
            | Self::Unavailable => false,
        }
    }
}

/// How many requests may be tried again at once: a share of all, and always a few. Without it an outage is answered
/// with a multiple of the requests that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of a hundred requests under way.
    pub percent: u32,
    /// Always as many as this.
    pub floor: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, floor: 3 }
    }
}

impl RetryBudget {
    /// Whether one more may be tried again while so many are, of so many under way.
    #[must_use]
    pub fn allows(self, retrying: u32, under_way: u32) -> bool {
        let share = u64::from(under_way) * u64::from(self.percent) / 100;
        u64::from(retrying) < share.max(self.floor.into())
    }
}

impl Retry {
    /// What is tried again where nobody said anything: nothing that an application may have acted on. (Upstream also
    /// tries after gRPC's `unavailable` and `cancelled`, which may come after it was.)
    #[must_use]
    pub fn unasked() -> Self {
        Self {
            attempts: 2,
            codes: Vec::new(),
            on: vec![RetryOn::ResetBeforeRequest, RetryOn::ConnectFailure, RetryOn::RefusedStream],
            backoff: None,
            base: None,
            same_again: false,
            moves_on: false,
        }
    }
}

#[cfg(test)]
mod tests;
