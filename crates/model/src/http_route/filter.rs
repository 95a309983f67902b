//! What a rule, or one of its backends, changes about requests and answers (`waypoint.md` 2.5-2.8). Owns the nouns.
//! What cannot be honoured is no filter: it makes the whole of them `Broken`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use super::{Broken, Cors, Direct, Fault, HeaderEdits, Substitution, Upstream};
use crate::name::Hostname;
use crate::provider::Authorizer;

/// Everything that is changed; most of it is nothing, and what is nothing takes little room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Headers of requests.
    pub request_headers: HeaderEdits,
    /// Headers of answers.
    pub response_headers: HeaderEdits,
    /// Requests are sent elsewhere by their client.
    pub redirect: Option<Box<Redirect>>,
    /// Requests are sent on under another name or path.
    pub rewrite: Option<Box<Rewrite>>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// What pages of other origins may do.
    pub cors: Option<Box<Cors>>,
    /// Requests are answered with this.
    pub direct: Option<Direct>,
    /// What is put in the way of requests.
    pub fault: Option<Box<Fault>>,
    /// Who is asked whether requests may go on.
    pub ask: Option<Arc<Authorizer>>,
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; none: the request's.
    pub scheme: Option<Scheme>,
    /// Another host; none: the request's.
    pub hostname: Option<Hostname>,
    /// Another port.
    pub port: Option<u16>,
    /// Without another port it is the request's, also where the scheme is another.
    pub keeps_port: bool,
    /// Another path; none: the request's.
    pub path: Option<PathChange>,
    /// How it is said.
    pub status: RedirectStatus,
}

/// A scheme of URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// The status of a redirect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RedirectStatus {
    /// 301.
    MovedPermanently,
    /// 302.
    #[default]
    Found,
    /// 303.
    SeeOther,
    /// 307.
    Temporary,
    /// 308.
    Permanent,
}

/// What requests are sent on as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Another host.
    pub hostname: Option<Hostname>,
    /// The port that is said after that host.
    pub port: Option<u16>,
    /// Another path.
    pub path: Option<PathChange>,
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathChange {
    /// In the place of all of it.
    Full(PathText),
    /// In the place of the prefix that matched; only where every match is of a prefix.
    Prefix(PathText),
    /// In the place of the text that the path was to begin with; of all of it, where that was not demanded.
    Beginning(PathText),
    /// In the place of each part of it that is of a pattern.
    Parts(Substitution),
}

/// A path, or the beginning of one, that may be put into a URL as it is. It has no query and no fragment; the
/// slash it begins with may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathText(Box<str>);

/// A character that no path holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {value:?} holds {found:?}; write it as a URL does, without query and fragment")]
pub struct PathTextError {
    /// The path.
    pub value: String,
    /// The first such character.
    pub found: char,
}

/// Copies of requests, whose answers nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Who gets them; broken, nobody does, and the requests themselves are carried all the same.
    pub to: Result<Upstream, Broken>,
    /// How many of the requests.
    pub share: Share,
}

/// A share of requests, each decided by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    of: NonZeroU32,
    parts: u32,
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self { of: NonZeroU32::MIN, parts: 1 };

    /// This many of so many. None: of nothing, or more than all.
    #[must_use]
    pub fn new(parts: u32, of: u32) -> Option<Self> {
        let of = NonZeroU32::new(of)?;
        (parts <= of.get()).then_some(Self { of, parts })
    }

    /// The parts of the whole.
    #[must_use]
    pub fn parts(self) -> u32 {
        self.parts
    }

    /// The whole.
    #[must_use]
    pub fn whole(self) -> u32 {
        self.of.get()
    }
}

impl Scheme {
    /// As URLs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is left out.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl RedirectStatus {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::MovedPermanently, Self::Found, Self::SeeOther, Self::Temporary, Self::Permanent];

    /// The status code.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::Temporary => 307,
            Self::Permanent => 308,
        }
    }

    /// The status of a code, if it is one of a redirect.
    #[must_use]
    pub fn of(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.code() == code)
    }
}

impl PathText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathText {
    type Err = PathTextError;
    fn from_str(text: &str) -> Result<Self, PathTextError> {
        let bad = |c: &char| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '"' | '<' | '>' | '\\');
        match text.chars().find(bad) {
            None => Ok(Self(text.into())),
            Some(found) => Err(PathTextError { value: text.into(), found }),
        }
    }
}

impl fmt::Display for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
