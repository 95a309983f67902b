//! Where in a request tokens are. Owns reading them and, where they do not go on, taking them out; what is in them
//! is not looked at.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, COOKIE, HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Method};

/// Where a token is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a header, after a prefix.
    Header {
        /// Which.
        name: HeaderName,
        /// What comes before; empty: nothing.
        prefix: Box<str>,
    },
    /// In the query.
    Query(Box<str>),
    /// In a cookie.
    Cookie(Box<str>),
}

impl Place {
    /// Where tokens are looked for unless somebody says otherwise.
    #[must_use]
    pub fn usual() -> Vec<Self> {
        vec![
            Self::Header { name: AUTHORIZATION, prefix: "Bearer ".into() },
            Self::Query("access_token".into()),
        ]
    }
}

/// What goes on of a request: headers are changed where they are, this is its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Nothing was taken out of the query.
    Nothing,
    /// Something was.
    Query,
}

/// Whether a browser asks what pages of another origin may do. It never shows a token with that.
#[must_use]
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The tokens at a place. What is no text is a token, too: an empty one, that nobody believes.
#[must_use]
pub fn found<'a>(place: &Place, headers: &'a HeaderMap, query: Option<&'a str>) -> Vec<&'a str> {
    match place {
        Place::Header { name, prefix } => {
            headers.get_all(name).iter().filter_map(|value| after(prefix, value)).collect()
        }
        Place::Query(name) => {
            let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(key, value)| *key == &**name && !value.is_empty())
                .map(|(_, value)| value)
                .collect()
        }
        Place::Cookie(name) => {
            let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
            let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
            let named = pairs.map(|(key, value)| (key.trim(), value.trim().trim_matches('"')));
            named
                .filter(|(key, value)| *key == &**name && !value.is_empty())
                .map(|(_, value)| value)
                .collect()
        }
    }
}

/// What is in a header after a prefix, in whichever case that is written. None: it is for something else.
fn after<'a>(prefix: &str, value: &'a HeaderValue) -> Option<&'a str> {
    let bytes = value.as_bytes();
    let start = bytes.get(..prefix.len())?;
    if !start.eq_ignore_ascii_case(prefix.as_bytes()) {
        return None;
    }
    let rest = std::str::from_utf8(bytes.get(prefix.len()..)?).unwrap_or_default().trim();
    // An empty header says nothing; an empty one with a prefix says that here is a token.
    if rest.is_empty() && prefix.is_empty() { None } else { Some(rest) }
}

/// Takes the tokens at a place out of the headers, and out of the query.
pub fn carry_on(place: &Place, headers: &mut HeaderMap, query: &mut Option<String>) -> Taken {
    match place {
        Place::Header { name, prefix } => {
            let kept: Vec<HeaderValue> = headers
                .get_all(name)
                .iter()
                .filter(|value| after(prefix, value).is_none())
                .cloned()
                .collect();
            headers.remove(name);
            for value in kept {
                headers.append(name, value);
            }
            Taken::Nothing
        }
        Place::Query(name) => {
            let named = |pair: &&str| pair.split_once('=').is_some_and(|(key, _)| key == &**name);
            let Some(before) = query.as_deref().filter(|all| all.split('&').any(|pair| named(&pair))) else {
                return Taken::Nothing;
            };
            let kept: Vec<&str> = before.split('&').filter(|pair| !named(pair)).collect();
            *query = (!kept.is_empty()).then(|| kept.join("&"));
            Taken::Query
        }
        Place::Cookie(name) => {
            cookie(name, headers);
            Taken::Nothing
        }
    }
}

/// What is no text is no cookie either, and goes.
fn cookie(name: &str, headers: &mut HeaderMap) {
    let named = |pair: &str| pair.split_once('=').is_some_and(|(key, _)| key.trim() == name);
    let mut kept = Vec::new();
    for value in headers.get_all(COOKIE) {
        let text = value.to_str().unwrap_or_default();
        if !text.is_empty() && !text.split(';').any(named) {
            kept.push(value.clone());
            continue;
        }
        let rest: Vec<&str> = text
            .split(';')
            .filter(|pair| !named(pair))
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
            .collect();
        kept.extend(HeaderValue::try_from(rest.join("; ")).ok().filter(|value| !value.is_empty()));
    }
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}
