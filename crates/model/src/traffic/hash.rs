//! What of a request says which endpoint it belongs to (`waypoint.md` 4.5, 7.1). Owns the hash of it, and the cookie that
//! is given to who has none.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::HashBy;
use super::table::hash;
use crate::balance::Pick;

/// What a request says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query.
    pub query: Option<&'a str>,
    /// Where the client is.
    pub client: IpAddr,
}

/// Which endpoint a request belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    /// The hash; none: any endpoint.
    pub hash: Option<u64>,
    /// The cookie that the client gets, so that it comes back to the same.
    pub cookie: Option<Baked>,
}

/// A cookie for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baked(HeaderValue);

impl Baked {
    /// As a `Set-Cookie` header says it.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Reads it off a request.
pub fn affinity(by: &HashBy, given: Given<'_>, pick: &mut impl Pick) -> Affinity {
    let of = |bytes: &[u8]| Affinity { hash: Some(hash(bytes, 0)), cookie: None };
    match by {
        HashBy::Header(name) => {
            // All of one name count, in whatever order they came.
            let mut all: Vec<&[u8]> = given.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            all.sort_unstable();
            if all.is_empty() { Affinity::default() } else { of(&all.join(&b","[..])) }
        }
        HashBy::Query(name) => parameter(given.query.unwrap_or_default(), name).map(of).unwrap_or_default(),
        HashBy::SourceIp => of(given.client.to_string().as_bytes()),
        HashBy::Cookie { name, path, ttl } => match (cookie(given.headers, name), ttl) {
            (Some(value), _) => of(value),
            (None, None) => Affinity::default(),
            (None, Some(ttl)) => {
                let value = format!("{:016x}", pick.below(u64::MAX));
                Affinity { cookie: bake((name, &value), path, *ttl), ..of(value.as_bytes()) }
            }
        },
    }
}

fn bake((name, value): (&str, &str), path: &str, ttl: Duration) -> Option<Baked> {
    let mut text = format!("{name}=\"{value}\"");
    if !ttl.is_zero() {
        text += &format!("; Max-Age={}", ttl.as_secs().max(1));
    }
    if !path.is_empty() {
        text += &format!("; Path={path}");
    }
    text += "; HttpOnly";
    HeaderValue::try_from(text).ok().map(Baked)
}

/// The value of a cookie, without the quotes that it may come in.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|it| it.as_bytes().split(|byte| *byte == b';'));
    let named = |pair: &'a [u8]| {
        let (own, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
        (own.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    };
    let value = pairs.filter_map(named).next()?;
    Some(value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| value.as_bytes()).next()
}
