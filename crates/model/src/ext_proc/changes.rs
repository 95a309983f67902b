//! What a processor may change of headers. Owns which names are never changed, which are not unless somebody says so,
//! and in which order changes are made: what is taken out first, as Envoy has it.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::http_route::changeable;
use crate::provider::{HeaderChange, How, Which};

/// Headers that a message may have when it has been changed.
pub const HEADERS_MOST: usize = 128;

/// What the names and values of a message's headers may come to when it has been changed.
pub const HEAD_MOST: usize = 64 << 10;

/// What proxies tell applications and each other: nobody else does unless that is said.
const OURS: [&str; 2] = ["x-envoy-", "x-forwarded-"];

/// What a processor may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeRules {
    /// Whether it may change where a request goes - method, path and authority - when it has the route chosen again.
    pub routing: bool,
    /// Whether it may change nothing but what `allow` names.
    pub nothing_else: bool,
    /// What it may change, whatever else is said.
    pub allow: Which,
    /// What it may not.
    pub deny: Which,
}

/// Changes to headers, in the order in which they are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mutation {
    /// What is taken out.
    pub gone: Vec<HeaderName>,
    /// What comes to another value.
    pub set: Vec<HeaderChange>,
    /// What is no header but said as one: `:path`, `:method`, `:authority`, `:scheme`, `:status`; of `host`, too.
    pub pseudo: Vec<(Box<str>, Box<str>)>,
}

/// What came of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Changes that were passed over, for they are not allowed.
    pub passed_over: usize,
}

/// There would be more than any message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Of headers.
    #[error("there would be {0} headers, more than {HEADERS_MOST}")]
    Headers(usize),
    /// Of bytes in them.
    #[error("there would be {0} bytes of headers, more than {HEAD_MOST}")]
    Bytes(usize),
}

impl ChangeRules {
    /// Whether a header may be changed. Those set apart are those that are judged, or that only the mesh sets.
    #[must_use]
    pub fn allows(&self, name: &HeaderName, apart: &[HeaderName]) -> bool {
        if changeable(name.clone()).is_err() || self.deny.holds(name) {
            return false;
        }
        let is_ours = OURS.iter().any(|start| name.as_str().starts_with(start)) || apart.contains(name);
        self.allow.holds(name) || !(self.nothing_else || is_ours)
    }
}

impl Mutation {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.set.is_empty() && self.pseudo.is_empty()
    }

    /// Changes headers as far as that is allowed.
    ///
    /// # Errors
    /// When there would be more than any message may have.
    pub fn apply(
        &self,
        headers: &mut HeaderMap,
        rules: &ChangeRules,
        apart: &[HeaderName],
    ) -> Result<Changed, TooMuch> {
        let mut changed = Changed::default();
        for name in &self.gone {
            if rules.allows(name, apart) {
                headers.remove(name);
            } else {
                changed.passed_over += 1;
            }
        }
        for HeaderChange { name, value, how } in &self.set {
            let is_there = headers.contains_key(name);
            match how {
                _ if !rules.allows(name, apart) => changed.passed_over += 1,
                How::IfAbsent if is_there => {}
                How::IfPresent if !is_there => {}
                How::Set | How::IfAbsent | How::IfPresent => {
                    let _ = headers.try_insert(name.clone(), value.clone());
                }
                How::Append => {
                    let _ = headers.try_append(name.clone(), value.clone());
                }
            }
            if headers.len() > HEADERS_MOST {
                return Err(TooMuch::Headers(headers.len()));
            }
        }
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if !self.set.is_empty() && bytes > HEAD_MOST {
            return Err(TooMuch::Bytes(bytes));
        }
        Ok(changed)
    }

    /// What a name that begins with a colon is set to; the last counts.
    #[must_use]
    pub fn pseudo(&self, name: &str) -> Option<&str> {
        self.pseudo.iter().rev().find(|(it, _)| **it == *name).map(|(_, value)| &**value)
    }

    /// The status that an answer is given; none: it keeps its own. One that is none of an answer is passed over.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        let status: StatusCode = self.pseudo(":status")?.parse().ok()?;
        (200..600).contains(&status.as_u16()).then_some(status)
    }
}
