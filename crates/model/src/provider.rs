//! Services that waypoints ask or tell about requests, beside those that answer them (`waypoint.md` 4.8, 4.9): who they
//! are and how they are spoken to. Owns the nouns, and what an authorizer's answer means for a request. Calls nobody.

mod answer;
mod changes;
mod collector;
mod reach;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::name::Label;
use crate::operator::LineFormat;
use crate::policy::TextMatch;
pub use answer::{Allowed, Answer, Failed, Refusing, from_http};
pub use changes::{HeaderChange, HeaderChanges, How, QueryChanges};
pub use collector::{COLLECT_PATIENCE, Collector, Tag, Takes, Traced};
pub use reach::{Reach, ReachError};

/// Who can be asked or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name, by which policies refer to it.
    pub name: Label,
    /// What it is for.
    pub kind: ProviderKind,
}

/// What a provider is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderKind {
    /// It is asked whether requests may come in.
    Authorizer(Arc<Authorizer>),
    /// It is told of requests when they are over.
    Collector(Arc<Collector>),
    /// It is the log of the program, whose lines of requests are written so.
    Log(Arc<LineFormat>),
}

impl Provider {
    /// The authorizer that it is.
    #[must_use]
    pub fn authorizer(&self) -> Option<&Arc<Authorizer>> {
        match &self.kind {
            ProviderKind::Authorizer(it) => Some(it),
            ProviderKind::Collector(_) | ProviderKind::Log(_) => None,
        }
    }

    /// The collector that it is.
    #[must_use]
    pub fn collector(&self) -> Option<&Arc<Collector>> {
        match &self.kind {
            ProviderKind::Collector(it) => Some(it),
            ProviderKind::Authorizer(_) | ProviderKind::Log(_) => None,
        }
    }

    /// How lines are written, if it is a log.
    #[must_use]
    pub fn log(&self) -> Option<&Arc<LineFormat>> {
        match &self.kind {
            ProviderKind::Log(it) => Some(it),
            ProviderKind::Authorizer(_) | ProviderKind::Collector(_) => None,
        }
    }
}

/// Somebody who is asked whether requests may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorizer {
    /// Where it is.
    pub at: Reach,
    /// How it is asked.
    pub speaks: Speaks,
    /// Which headers of a request it is shown.
    pub shown: Which,
    /// How long its answer is waited for.
    pub patience: Duration,
    /// Whether a request goes on when there is no answer.
    pub fail_open: bool,
    /// What a request is answered when there is none, and it does not go on.
    pub error_status: u16,
    /// Whether routes are chosen by what it changes.
    pub reroute: bool,
    /// How much of a request's body it is shown; none: nothing.
    pub body: Option<BodyShown>,
}

/// How an authorizer is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaks {
    /// By a call of gRPC.
    Grpc,
    /// By a request like the one that is asked about.
    Http(Box<OverHttp>),
}

/// How a request that asks about another one differs from it, and what of its answer counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverHttp {
    /// Put before the path.
    pub prefix: Box<str>,
    /// Headers beside those of the request.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Headers of a yes that the request goes on with.
    pub onward: Which,
    /// Headers of a yes that the client is answered with, too.
    pub back: Which,
    /// Headers of a no that the client is answered with.
    pub back_refused: Which,
}

/// Which headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those with such a name, which is in lower case.
    These(Vec<TextMatch>),
}

impl Default for Which {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Which {
    /// Whether a header is among them.
    #[must_use]
    pub fn holds(&self, name: &HeaderName) -> bool {
        let is_it = |wanted: &TextMatch| match wanted {
            TextMatch::Exact(text) => **text == *name.as_str(),
            TextMatch::Prefix(start) => name.as_str().starts_with(&**start),
            TextMatch::Suffix(end) => name.as_str().ends_with(&**end),
            TextMatch::Presence => true,
        };
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(is_it),
        }
    }
}

/// How much of a body is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyShown {
    /// At most this many bytes.
    pub most: usize,
    /// Whether of a longer one the beginning is shown; else it is refused.
    pub partial: bool,
    /// Whether it is shown as bytes, not as a text.
    pub raw: bool,
}

/// What is answered when nobody says otherwise.
pub const ERROR_STATUS: u16 = 403;

/// How long an answer is waited for when nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Bodies of which more is to be shown are more than one request may hold in memory.
pub const BODY_MOST: usize = 4 << 20;

#[cfg(test)]
mod tests;
