//! What pages of other origins may do (`waypoint.md` 2.9). Owns the nouns, when two origins are the same, and what
//! browsers are told. What an application says of it counts for nothing where a route does: there is one answer.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::ValueMatch;
use super::filter::Scheme;
use super::table::value_is_of;

/// A rule's permissions for pages of other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages.
    pub origins: Names<OriginMatch>,
    /// And of these, by the origin as browsers send it.
    pub more_origins: Vec<ValueMatch>,
    /// Whether they may use cookies and the like.
    pub credentials: bool,
    /// With which methods, beside those that need no leave.
    pub methods: Names<Method>,
    /// With which headers.
    pub headers: Names<HeaderName>,
    /// Which headers of answers they may read.
    pub expose: Names<HeaderName>,
    /// How long a browser may remember it, in seconds; none: it is not told.
    pub max_age_s: Option<u32>,
    /// Whether it is the backend that answers browsers which ask for pages of other origins than these.
    pub passes_unknown: bool,
}

/// Names, or any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names<T> {
    /// `*`.
    Any,
    /// These.
    These(Vec<T>),
}

/// Origins: `https://shop.example`, or `https://*.shop.example` for those below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginMatch {
    scheme: Scheme,
    /// In lower case; below it, where it is a wildcard.
    host: Box<str>,
    wildcard: bool,
    port: u16,
}

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no origin; write http(s)://<host>[:<port>], the host with at most a leading `*.`")]
pub struct OriginError {
    /// The text.
    pub value: String,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Names::default(),
            more_origins: Vec::new(),
            credentials: false,
            methods: Names::default(),
            headers: Names::default(),
            expose: Names::default(),
            max_age_s: Some(5),
            passes_unknown: false,
        }
    }
}

impl Cors {
    /// The headers of the answer to a browser that asks before it sends a request; nobody else answers that. Empty of
    /// all leave: pages of that origin may not. None: this is no such question.
    #[must_use]
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<HeaderMap> {
        let origin = headers.get(header::ORIGIN)?;
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if *method != Method::OPTIONS {
            return None;
        }
        let mut answer = HeaderMap::new();
        let has_leave = self.leave(origin, &mut answer);
        if !has_leave && self.passes_unknown {
            return None;
        }
        if has_leave {
            let methods = listed(&self.methods, Method::as_str).or_else(|| any(&self.methods, wanted));
            put(&mut answer, header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
            let allowed = listed(&self.headers, HeaderName::as_str)
                .or_else(|| asked.and_then(|asked| any(&self.headers, asked)));
            put(&mut answer, header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            put(&mut answer, header::ACCESS_CONTROL_MAX_AGE, self.max_age_s.map(Into::into));
        }
        answer.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
        Some(answer)
    }

    /// Says in the answer to a request what pages of its origin may do with it.
    pub fn mark(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if let Some(origin) = origin {
            for name in SAID {
                answer.remove(name);
            }
            self.leave(origin, answer);
        }
        // Caches must not give one origin's answer to another, and not that to nobody's, either.
        let _ = answer.try_append(header::VARY, HeaderValue::from_name(header::ORIGIN));
    }

    /// Gives leave to an origin, if it has it.
    fn leave(&self, origin: &HeaderValue, answer: &mut HeaderMap) -> bool {
        let is_allowed = match &self.origins {
            Names::Any => true,
            Names::These(these) => origin.to_str().is_ok_and(|text| these.iter().any(|it| it.is_match(text))),
        };
        let is_allowed = is_allowed || self.more_origins.iter().any(|it| value_is_of(it, origin.as_bytes()));
        if is_allowed {
            put(answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, Some(origin.clone()));
            let credentials = self.credentials.then(|| HeaderValue::from_static("true"));
            put(answer, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
            // With credentials an asterisk would be a header of that name.
            let all = || any(&self.expose, &HeaderValue::from_static("*")).filter(|_| !self.credentials);
            put(
                answer,
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                listed(&self.expose, HeaderName::as_str).or_else(all),
            );
        }
        is_allowed
    }
}

/// What applications may have said themselves.
const SAID: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

fn put(answer: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        let _ = answer.try_insert(name, value); // there are a handful
    }
}

/// A list as one value; of none, none.
fn listed<T>(names: &Names<T>, text: fn(&T) -> &str) -> Option<HeaderValue> {
    match names {
        Names::These(these) if !these.is_empty() => {
            HeaderValue::try_from(these.iter().map(text).collect::<Vec<_>>().join(", ")).ok()
        }
        Names::These(_) | Names::Any => None,
    }
}

/// What stands for any.
fn any<T>(names: &Names<T>, value: &HeaderValue) -> Option<HeaderValue> {
    match names {
        Names::Any => Some(value.clone()),
        Names::These(_) => None,
    }
}

impl OriginMatch {
    /// Whether an origin, as a browser sends it, is one of these.
    #[must_use]
    pub fn is_match(&self, origin: &str) -> bool {
        let Some((scheme, host, port)) = parts(origin) else { return false };
        let same_host = if self.wildcard {
            // One label at least stands for the asterisk.
            let below = host.len().checked_sub(self.host.len()).and_then(|at| host.split_at_checked(at));
            below.is_some_and(|(label, rest)| {
                label.len() > 1 && label.ends_with('.') && rest.eq_ignore_ascii_case(&self.host)
            })
        } else {
            host.eq_ignore_ascii_case(&self.host)
        };
        same_host && scheme == self.scheme && port == self.port
    }
}

impl FromStr for OriginMatch {
    type Err = OriginError;
    fn from_str(text: &str) -> Result<Self, OriginError> {
        let refuse = || OriginError { value: text.into() };
        let (scheme, host, port) = parts(text).ok_or_else(refuse)?;
        let (wildcard, host) = host.strip_prefix("*.").map_or((false, host), |rest| (true, rest));
        if host.is_empty() || host.contains('*') {
            return Err(refuse());
        }
        Ok(Self { scheme, host: host.to_ascii_lowercase().into(), wildcard, port })
    }
}

impl fmt::Display for OriginMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{}://{star}{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Scheme, host and port of an origin, which has nothing else.
fn parts(text: &str) -> Option<(Scheme, &str, u16)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme =
        [Scheme::Http, Scheme::Https].into_iter().find(|s| scheme.eq_ignore_ascii_case(s.as_str()))?;
    // The colons of an IPv6 address are within its brackets.
    let end_of_host = rest.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match rest.get(end_of_host..)?.find(':') {
        None => (rest, scheme.port()),
        Some(at) => (rest.get(..end_of_host + at)?, rest.get(end_of_host + at + 1..)?.parse().ok()?),
    };
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@');
    (!host.is_empty() && host.chars().all(plain)).then_some((scheme, host, port))
}

#[cfg(test)]
mod tests;
