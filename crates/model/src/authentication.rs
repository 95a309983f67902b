//! Authentication of requests by tokens (`waypoint.md` 4.4): which issuers are believed, where their tokens are looked
//! for, and what of them goes on. Owns the nouns and what can be decided without keys; that a token is its issuer's is
//! shown by `jwt`, and whether its bearer may ask is `request_policy`'s.

mod outcome;
mod place;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::name::PolicyKey;
use crate::request_policy::Target;
pub use outcome::{ClaimPath, header_of, reserved, spread};
pub use place::{Place, Taken, carry_on, found, is_preflight};

/// One object that says whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    /// `<namespace>/<name>`.
    pub key: PolicyKey,
    /// Whose requests it is for.
    pub targets: Vec<Target>,
    /// One for each issuer.
    pub rules: Vec<Arc<TokenRule>>,
}

/// An issuer that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRule {
    /// What its tokens call it.
    pub issuer: Box<str>,
    /// Of which a token must be for one; none: for anybody.
    pub audiences: Vec<Box<str>>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Where tokens are looked for.
    pub places: Vec<Place>,
    /// Whether the token goes on with the request.
    pub forward: bool,
    /// The header that what it claims goes on in, as it was sent.
    pub payload_header: Option<HeaderName>,
    /// Headers that single claims go on in.
    pub claim_headers: Vec<(HeaderName, ClaimPath)>,
    /// Claims that are lists of words, beside those that always are.
    pub words: Vec<Box<str>>,
    /// How long to wait for its keys.
    pub patience: Duration,
}

/// How long keys are waited for, where nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// Here.
    Inline(Box<str>),
    /// At this address.
    At(Box<str>),
    /// Where the issuer of this name says.
    OfIssuer(Box<str>),
    /// Nowhere, and why: none of its tokens is believed.
    Nowhere(Box<str>),
}

impl TokenRule {
    /// Headers that only the mesh may set.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.payload_header.iter().chain(self.claim_headers.iter().map(|(name, _)| name))
    }
}

#[cfg(test)]
mod tests;
