//! Sessions that stay with one endpoint (`waypoint.md` 2.13): how a client shows which one, and for how long. Owns the
//! token: which endpoint it means is told by a digest of that endpoint's name and of chance, so that it shows nothing to
//! whoever sees it, and can mean nothing but an endpoint that was to be chosen among anyway. Nothing is kept: any
//! replica reads what another wrote. Leaves hashing, clocks and headers to the waypoint.

use std::fmt;
use std::time::Duration;

use http::HeaderName;

use crate::name::Label;

/// How a rule's clients stay with their endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Where clients keep the token.
    pub kept: Kept,
    /// After this a client is given an endpoint anew, whatever it has asked meanwhile.
    pub absolute: Option<Duration>,
    /// After this without a request, too.
    pub idle: Option<Duration>,
}

/// Where clients keep the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In a cookie.
    Cookie {
        /// Its name.
        name: CookieName,
        /// The path that it is for; none: the prefix that matched.
        path: Option<Label>,
        /// Whether it outlives the browser, until `absolute` is over.
        permanent: bool,
    },
    /// In a header of the answer, which the client sends back.
    Header(HeaderName),
}

/// A cookie's name (RFC 6265, 4.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CookieName(Box<str>);

/// A text that is no name of a cookie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no name of a cookie; use up to 128 letters, digits and any of !#$%&'*+-.^_`|~")]
pub struct CookieNameError {
    /// The text.
    pub value: String,
}

/// Longer names help nobody.
const NAME: usize = 128;

impl CookieName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for CookieName {
    type Err = CookieNameError;
    fn from_str(text: &str) -> Result<Self, CookieNameError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > NAME || !text.bytes().all(token) {
            return Err(CookieNameError { value: text.into() });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long a token is, as bytes.
pub const TOKEN: usize = 1 + 4 + 4 + 8 + DIGEST;
/// How much of a digest is shown: two endpoints are the same by chance never.
pub const DIGEST: usize = 16;
/// The form of tokens.
const FORM: u8 = 1;

/// What a client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// When it was given, in seconds since 1970.
    pub begun_s: u32,
    /// When it was last shown to us, the same.
    pub seen_s: u32,
    /// Chance, so that the same endpoint is called otherwise to each client.
    pub chance: [u8; 8],
    /// What the endpoint's name comes to, with all the rest.
    pub digest: [u8; DIGEST],
}

impl Token {
    /// What a client has sent; none, if it is no token.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        let (begun, rest) = rest.split_first_chunk::<4>()?;
        let (seen, rest) = rest.split_first_chunk::<4>()?;
        let (chance, rest) = rest.split_first_chunk::<8>()?;
        let digest: [u8; DIGEST] = rest.try_into().ok()?;
        let (begun_s, seen_s) = (u32::from_be_bytes(*begun), u32::from_be_bytes(*seen));
        (*form == FORM).then_some(Self { begun_s, seen_s, chance: *chance, digest })
    }

    /// What a client is given.
    #[must_use]
    pub fn written(&self) -> [u8; TOKEN] {
        let mut all = [FORM; TOKEN];
        let Self { begun_s, seen_s, chance, digest } = self;
        let bytes =
            begun_s.to_be_bytes().into_iter().chain(seen_s.to_be_bytes()).chain(*chance).chain(*digest);
        all.iter_mut().skip(1).zip(bytes).for_each(|(place, byte)| *place = byte);
        all
    }

    /// What the digest is of: no part of a token goes with another's.
    #[must_use]
    pub fn text(&self, rule: &str, endpoint: &str) -> Vec<u8> {
        let mut text = b"ambit session 1\0".to_vec();
        for part in [rule, endpoint] {
            text.extend_from_slice(part.as_bytes());
            text.push(0);
        }
        text.extend(
            self.begun_s.to_be_bytes().into_iter().chain(self.seen_s.to_be_bytes()).chain(self.chance),
        );
        text
    }
}

impl Session {
    /// Whether a token still counts.
    #[must_use]
    pub fn is_alive(&self, token: &Token, now_s: u32) -> bool {
        let within = |since: u32, limit: Option<Duration>| {
            limit.is_none_or(|limit| u64::from(now_s.saturating_sub(since)) < limit.as_secs().max(1))
        };
        // One from times to come was given by nobody, or by one whose clock is wrong by a lot.
        let is_past = |at: u32| at <= now_s.saturating_add(CLOCKS);
        is_past(token.begun_s)
            && is_past(token.seen_s)
            && within(token.begun_s, self.absolute)
            && within(token.seen_s, self.idle)
    }

    /// For how long from now a client is to keep a token; none: as long as its browser runs.
    #[must_use]
    pub fn left_s(&self, token: &Token, now_s: u32) -> Option<u64> {
        let Kept::Cookie { permanent: true, .. } = self.kept else { return None };
        let limit = self.absolute?.as_secs();
        Some(limit.saturating_sub(u64::from(now_s.saturating_sub(token.begun_s))))
    }
}

/// What clocks of replicas may differ by, in seconds.
const CLOCKS: u32 = 300;

#[cfg(test)]
mod tests;
