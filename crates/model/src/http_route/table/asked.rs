//! What is asked, and whether it is of a match (`waypoint.md` 2.2). Owns how headers and parameters are read.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method, header};

use crate::http_path::NormalPath;
use crate::http_route::{Around, HeaderMatch, Match, QueryMatch, ValueMatch};

/// A request, as far as routes look at it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its path.
    pub path: &'a NormalPath<'a>,
    /// Its query, without the question mark.
    pub query: Option<&'a str>,
    /// Its method.
    pub method: &'a Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What is known of it beside.
    pub around: Around<'a>,
}

impl<'a> Asked<'a> {
    /// Whether it is of a match, but for the path.
    pub(super) fn is_of(&self, one: &Match) -> bool {
        self.miss(one).is_none()
    }

    /// Whether a demand on a header holds, or one before it speaks of the same.
    pub(super) fn has_header(
        &self,
        all: &[HeaderMatch],
        at: usize,
        HeaderMatch { name, value }: &HeaderMatch,
    ) -> bool {
        all.iter().take(at).any(|former| former.name == *name)
            || self.header(name).is_some_and(|found| value_is_of(value, &found))
    }

    /// Whether a demand on a parameter holds, or one before it speaks of the same.
    pub(super) fn has_parameter(
        &self,
        all: &[QueryMatch],
        at: usize,
        QueryMatch { name, value }: &QueryMatch,
    ) -> bool {
        all.iter().take(at).any(|former| former.name == *name)
            || self.parameter(name).is_some_and(|found| {
                value_is_of(value, found.as_bytes()) || value_is_of(value, &decoded(found))
            })
    }

    /// Whether a header is there, and as demanded.
    pub(in crate::http_route) fn has(&self, it: &HeaderMatch) -> bool {
        self.header(&it.name).is_some_and(|found| value_is_of(&it.value, &found))
    }

    /// A header's value; of several, all of them joined.
    pub(super) fn header(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.as_bytes();
        let mut joined = Cow::Borrowed(first);
        for value in values {
            let joined = joined.to_mut();
            // Parts of one cookie header are told apart by what parts them within one (RFC 9113, 8.2.3).
            joined.extend_from_slice(if *name == header::COOKIE { b"; " } else { b"," });
            joined.extend_from_slice(value.as_bytes());
        }
        Some(joined)
    }

    /// The first value of a parameter, as it came.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut of_name = pairs.filter(|(key, _)| *key == name || *decoded(key) == *name.as_bytes());
        of_name.next().map(|(_, value)| value)
    }
}

/// Whether a value is as demanded.
pub(in crate::http_route) fn value_is_of(of: &ValueMatch, value: &[u8]) -> bool {
    match of {
        ValueMatch::Exact(text) => text.as_bytes() == value,
        ValueMatch::Regex(pattern) => pattern.is_match(value),
        ValueMatch::Prefix(text) => value.starts_with(text.as_bytes()),
        ValueMatch::Present => true,
    }
}

/// Without escapes. What is none stays as it is; `+` is no escape.
pub(super) fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                plain.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(plain)
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => (hex | 0x20).wrapping_sub(b'a' - 10),
    }
}
