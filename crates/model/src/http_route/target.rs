//! Where a request goes instead: what it is rewritten to, or where its client is sent (`waypoint.md` 2.6, 2.7). Owns
//! how paths, hosts and ports are put together.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::table::Found;
use super::{PathChange, PathMatch, Redirect, Scheme};
use crate::http_path::RequestTarget;

/// A request that a redirect answers, as far as it has to know.
#[derive(Debug, Clone, Copy)]
pub struct Redirected<'a> {
    /// Its scheme.
    pub scheme: Scheme,
    /// Its host; a port after it does not count.
    pub host: &'a str,
    /// The port that was dialled.
    pub port: u16,
    /// What it asked for.
    pub target: &'a RequestTarget<'a>,
}

impl PathChange {
    /// The path in the place of `path`, which was found by what is given. None: it was found by something else than
    /// a prefix, of which nothing can be replaced.
    #[must_use]
    pub fn apply(&self, path: &str, found: &Found<'_>) -> Option<String> {
        match self {
            Self::Full(text) => Some(rooted(text.as_str())),
            Self::Prefix(text) => {
                let prefix = match found.matched.map(|it| &it.path) {
                    None => "/",
                    Some(PathMatch::Prefix(prefix)) => prefix,
                    Some(
                        PathMatch::Exact(_)
                        | PathMatch::Begins { .. }
                        | PathMatch::Regex(_)
                        | PathMatch::Grpc { .. },
                    ) => return None,
                };
                let rest = path.strip_prefix(trimmed(prefix))?;
                Some(rooted(&format!("{}{rest}", trimmed(text.as_str()))))
            }
            Self::Beginning(text) => Some(rooted(&begun(text.as_str(), path, found))),
            Self::Parts(substitution) => substitution.apply(path).map(|path| rooted(&path)),
        }
    }
}

impl Redirect {
    /// The value of `location`. None: the path cannot be changed as it says.
    #[must_use]
    pub fn location(&self, asked: &Redirected<'_>, found: &Found<'_>) -> Option<String> {
        let path = asked.target.path.as_str();
        let path = match &self.path {
            None => Cow::Borrowed(path),
            Some(change) => change.apply(path, found)?.into(),
        };
        let scheme = self.scheme.unwrap_or(asked.scheme);
        let host = self.hostname.as_ref().map_or_else(|| without_port(asked.host), |host| host.as_str());
        let of_scheme = || self.scheme.filter(|_| !self.keeps_port).map(Scheme::port);
        let port = self.port.or_else(of_scheme).unwrap_or(asked.port);
        let mut location = format!("{}://{host}", scheme.as_str());
        // Writing to a text does not fail.
        if port != scheme.port() {
            let _ = write!(location, ":{port}");
        }
        location.push_str(&path);
        if let Some(query) = asked.target.query {
            let _ = write!(location, "?{query}");
        }
        Some(location)
    }
}

/// The path that begins with `text` where it was to begin with another.
fn begun(text: &str, path: &str, found: &Found<'_>) -> String {
    let rest = match found.matched.map(|it| &it.path) {
        // Without a word on the path there is nothing to replace, and more comes before it.
        None => Some(path),
        Some(PathMatch::Begins { text, any_case: _ }) => path.get(text.len()..),
        Some(PathMatch::Prefix(prefix)) => path.strip_prefix(trimmed(prefix)),
        Some(PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Grpc { .. }) => Some(""),
    };
    let rest = rest.unwrap_or_default();
    // One slash where both have one.
    let rest = if text.ends_with('/') { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
    format!("{text}{rest}")
}

/// The host of an authority.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are within its brackets.
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// A slash at the end of a prefix says nothing.
fn trimmed(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.into() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests;
