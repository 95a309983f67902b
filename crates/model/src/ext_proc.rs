//! Processors: services that see requests and their answers on the way, and change or end them, as they speak Envoy's
//! `ext_proc` (`waypoint.md` 9.1). Owns the nouns, which parts of an exchange one is told of, and whether what it says is
//! an answer to what it was told. What may be changed is `changes`'; the conversation itself is a waypoint's.
//!
//! Policies have judged what the client has sent. So nothing of what they judge is changed by others but where that is
//! said, and what says where a request goes is changed only together with its route.

mod changes;

use std::time::Duration;

use http::StatusCode;

use crate::http_route::RouteTarget;
use crate::name::PolicyKey;
use crate::provider::{Reach, Which};
use crate::rate_limit::Attribute;
use crate::request_policy::{RequestRule, Target};
pub use changes::{ChangeRules, Changed, HEAD_MOST, HEADERS_MOST, Mutation, TooMuch};

/// How long each answer is waited for, where nothing else is said.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// How much of a body is kept for a processor, where nothing else is said.
pub const BODY_USUAL: usize = 1 << 20;

/// What is kept of one body at most: a request should not hold more in memory.
pub const BODY_MOST: usize = 4 << 20;

/// A policy that has requests and answers go by a processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtProc {
    /// `<namespace>/<name>`.
    pub key: PolicyKey,
    /// Whose requests they are.
    pub targets: Vec<Target>,
    /// Of which routes they are as well.
    pub routes: Vec<RouteTarget>,
    /// Which of them.
    pub rule: RequestRule,
    /// Where the processor is; none: that could not be read, and nobody answers there.
    pub at: Option<Reach>,
    /// How long each of its answers is waited for.
    pub patience: Duration,
    /// Whether requests go on unprocessed when there is no answer.
    pub fail_open: bool,
    /// Whether it only watches: nobody waits for its answers.
    pub watches: bool,
    /// What it is told of.
    pub modes: Modes,
    /// Whether it may choose for a request what else it is told of.
    pub may_choose: bool,
    /// How much of a body is kept for it.
    pub body_most: usize,
    /// Headers that it is shown.
    pub shown: Shown,
    /// What else it is told of a request.
    pub attributes: Vec<Attribute>,
    /// What it may change.
    pub changes: ChangeRules,
}

/// Which headers are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// These.
    pub allow: Which,
    /// But not these.
    pub deny: Which,
}

impl Default for Shown {
    fn default() -> Self {
        Self { allow: Which::All, deny: Which::default() }
    }
}

impl Shown {
    /// Whether a header is shown.
    #[must_use]
    pub fn holds(&self, name: &http::HeaderName) -> bool {
        self.allow.holds(name) && !self.deny.holds(name)
    }
}

/// What a processor is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// The headers of a request.
    pub request_headers: bool,
    /// The headers of an answer.
    pub response_headers: bool,
    /// The body of a request.
    pub request_body: BodyMode,
    /// The body of an answer.
    pub response_body: BodyMode,
    /// The trailers of a request.
    pub request_trailers: bool,
    /// The trailers of an answer.
    pub response_trailers: bool,
}

impl Default for Modes {
    /// As Envoy has it: headers both ways.
    fn default() -> Self {
        Self {
            request_headers: true,
            response_headers: true,
            request_body: BodyMode::None,
            response_body: BodyMode::None,
            request_trailers: false,
            response_trailers: false,
        }
    }
}

/// How a processor is told of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// Not at all.
    #[default]
    None,
    /// Piece by piece, as they come.
    Streamed,
    /// Whole; one that is too long is refused.
    Buffered,
    /// As much of it as is kept.
    BufferedPartial,
    /// As it comes, without waiting for answers; what the processor sends is what goes on.
    Duplex,
}

impl BodyMode {
    /// Whether it is kept until all of it, or enough, is there.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::Buffered | Self::BufferedPartial)
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the endpoint.
    Request,
    /// To the client.
    Response,
}

/// What is told of a body and of what follows it, one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// The body.
    pub body: BodyMode,
    /// The trailers.
    pub trailers: bool,
}

impl Modes {
    /// Whether the headers of a way are told.
    #[must_use]
    pub const fn headers(&self, way: Way) -> bool {
        match way {
            Way::Request => self.request_headers,
            Way::Response => self.response_headers,
        }
    }

    /// Whether on some way nobody waits for the other.
    #[must_use]
    pub fn is_duplex(&self) -> bool {
        [self.request_body, self.response_body].contains(&BodyMode::Duplex)
    }

    /// What else of a way is told.
    #[must_use]
    pub const fn rest(&self, way: Way) -> Rest {
        match way {
            Way::Request => Rest { body: self.request_body, trailers: self.request_trailers },
            Way::Response => Rest { body: self.response_body, trailers: self.response_trailers },
        }
    }

    /// As a processor chooses. The headers of the request, it has seen.
    #[must_use]
    pub fn chosen(self, choice: Choice) -> Self {
        Self {
            request_headers: self.request_headers,
            response_headers: choice.response_headers.unwrap_or(self.response_headers),
            request_body: choice.request_body,
            response_body: choice.response_body,
            request_trailers: choice.request_trailers.unwrap_or(self.request_trailers),
            response_trailers: choice.response_trailers.unwrap_or(self.response_trailers),
        }
    }
}

/// What a processor chooses to be told of; none: as it was said before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// The headers of the answer.
    pub response_headers: Option<bool>,
    /// The body of the request.
    pub request_body: BodyMode,
    /// The body of the answer.
    pub response_body: BodyMode,
    /// The trailers of the request.
    pub request_trailers: Option<bool>,
    /// The trailers of the answer.
    pub response_trailers: Option<bool>,
}

/// A part of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Headers.
    Headers,
    /// A body, or a piece of it.
    Body,
    /// Trailers.
    Trailers,
}

/// What a processor is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which way it goes.
    pub way: Way,
    /// What it is.
    pub part: Part,
}

/// What a processor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub said: Said,
    /// What it wants to be told of from now on.
    pub choice: Option<Choice>,
}

/// What a processor says of what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// How it goes on.
    Onward(Step, Box<Onward>),
    /// What the client is answered instead.
    Answer(Box<Immediate>),
    /// Nothing yet.
    Nothing,
}

/// How something goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Onward {
    /// Changes to headers, or to trailers.
    pub headers: Mutation,
    /// What the body, or its piece, is replaced by; none: it stays.
    pub body: Option<Vec<u8>>,
    /// A piece of what goes on, where nobody waits for the other.
    pub streamed: Option<Streamed>,
    /// Whether it wants to be told nothing more of this way.
    pub last: bool,
    /// Whether the route is to be chosen again.
    pub reroute: bool,
}

/// A piece of a body that a processor sends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Its bytes.
    pub body: Vec<u8>,
    /// Whether nothing follows.
    pub is_end: bool,
}

/// What a client is answered by a processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Immediate {
    /// The status.
    pub status: StatusCode,
    /// Changes to the answer's headers.
    pub headers: Mutation,
    /// The body.
    pub body: Vec<u8>,
    /// What gRPC is told; none: what the status means.
    pub grpc: Option<u16>,
    /// What records say of it.
    pub details: Box<str>,
}

/// What follows from a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// How it goes on, and what else is told from now on.
    Onward(Box<Onward>, Option<Choice>),
    /// What the client is answered instead.
    Answer(Box<Immediate>),
    /// There may still be an answer.
    Wait,
}

/// A reply to something else than what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the processor speaks of {found:?} where it was told of {told:?}")]
pub struct OutOfOrder {
    /// What it was told of.
    pub told: Step,
    /// What it speaks of.
    pub found: Step,
}

impl ExtProc {
    /// What follows from a reply to what was told.
    ///
    /// # Errors
    /// When it is of something else.
    pub fn hear(&self, told: Step, reply: Reply) -> Result<Heard, OutOfOrder> {
        let Reply { said, choice } = reply;
        Ok(match said {
            Said::Onward(found, _) if found != told => return Err(OutOfOrder { told, found }),
            Said::Onward(_, mut onward) => {
                // Nobody is asked again who wants nothing more; a body is nothing that headers carry else.
                if told.part == Part::Headers && !onward.last {
                    onward.body = None;
                }
                let may_choose = self.may_choose && told.part == Part::Headers;
                Heard::Onward(onward, choice.filter(|_| may_choose))
            }
            Said::Answer(answer) => Heard::Answer(answer),
            Said::Nothing => Heard::Wait,
        })
    }
}

#[cfg(test)]
mod tests;
