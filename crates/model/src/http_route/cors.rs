//! What pages of other origins may do (`waypoint.md` 2.9). Owns the nouns, and when two origins are the same.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, Method};

use super::filter::Scheme;

/// A rule's permissions for pages of other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages.
    pub origins: Names<OriginMatch>,
    /// Whether they may use cookies and the like.
    pub credentials: bool,
    /// With which methods, beside those that need no leave.
    pub methods: Names<Method>,
    /// With which headers.
    pub headers: Names<HeaderName>,
    /// Which headers of answers they may read.
    pub expose: Names<HeaderName>,
    /// How long a browser may remember it, in seconds.
    pub max_age_s: u32,
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
            credentials: false,
            methods: Names::default(),
            headers: Names::default(),
            expose: Names::default(),
            max_age_s: 5,
        }
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
mod tests {
    use super::*;

    #[test]
    fn origins_are_the_same_by_scheme_host_and_port() {
        for (rule, origin, wanted) in [
            ("https://www.bar.com", "https://www.bar.com", true),
            ("https://www.bar.com", "https://WWW.bar.com", true),
            ("https://www.bar.com", "https://www.bar.com:443", true),
            ("https://www.bar.com:443", "https://www.bar.com", true),
            ("https://www.bar.com", "http://www.bar.com", false),
            ("https://www.bar.com", "https://www.bar.com:8443", false),
            ("https://www.bar.com", "https://www.bar.com/", false),
            ("http://bar.com:8080", "http://bar.com:8080", true),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://xpto.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://.bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("http://[::1]:80", "http://[::1]", true),
            ("https://bar.com", "null", false),
        ] {
            assert_eq!(rule.parse::<OriginMatch>().unwrap().is_match(origin), wanted, "{rule} {origin}");
        }
    }

    #[test]
    fn texts_that_are_no_origin_are_refused() {
        for text in
            ["", "*", "bar.com", "ftp://bar.com", "https://", "https://a.*.com", "https://*.", "https://a b"]
        {
            assert_eq!(text.parse::<OriginMatch>(), Err(OriginError { value: text.into() }), "{text}");
        }
    }

    #[test]
    fn an_origin_reads_back_as_it_was_written() {
        for text in ["https://www.bar.com", "http://*.bar.com:8080", "http://[::1]:8000"] {
            assert_eq!(text.parse::<OriginMatch>().unwrap().to_string(), text);
        }
    }
}
