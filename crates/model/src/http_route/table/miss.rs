//! Why a request is not of a match: for explanations, of what `find` passes over. Owns the order in which a match is
//! looked at - path, method, headers, parameters - and nothing that decides otherwise than `find` does.

use std::fmt;

use http::HeaderName;

use super::asked::Asked;
use super::{Found, Table, path_matches};
use crate::http_route::connection::is_of_connections;
use crate::http_route::{Match, PathMatch};

/// The first demand of a match that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss<'m> {
    /// The path is another.
    Path,
    /// The method is another.
    Method,
    /// A header is missing or another.
    Header(&'m HeaderName),
    /// A parameter is missing or another.
    Query(&'m str),
    /// What else a VirtualService demands: a header that is not to be there, a claim, who asks, and the like.
    More,
}

impl<'t> Found<'t> {
    /// Why a request is not of this match; none: it is.
    #[must_use]
    pub fn miss(&self, asked: &Asked<'_>) -> Option<Miss<'t>> {
        let matched = self.matched?;
        if path_is_of(&matched.path, asked.path.as_str()) { asked.miss(matched) } else { Some(Miss::Path) }
    }
}

impl Table {
    /// The matches that a request is not of and that come before the first that it is of, in order: where it is of
    /// none, all.
    pub fn passed_over<'t>(&'t self, asked: &'t Asked<'t>) -> impl Iterator<Item = (Found<'t>, Miss<'t>)> {
        let of_requests = self.all().filter(|found| !is_of_connections(found.matched));
        of_requests.map_while(|found| found.miss(asked).map(|miss| (found, miss)))
    }
}

/// Whether a path is of any match, without an index.
fn path_is_of(of: &PathMatch, path: &str) -> bool {
    match of {
        PathMatch::Exact(wanted) => **wanted == *path,
        PathMatch::Prefix(wanted) => {
            let wanted = wanted.strip_suffix('/').unwrap_or(wanted);
            path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Begins { text, any_case: false } => path.starts_with(&**text),
        PathMatch::Regex(_) | PathMatch::Grpc { .. } | PathMatch::Begins { .. } => path_matches(of, path),
    }
}

impl Asked<'_> {
    /// The first demand of a match, but that on the path, that does not hold.
    pub(super) fn miss<'m>(&self, one: &'m Match) -> Option<Miss<'m>> {
        if one.method.as_ref().is_some_and(|method| method != self.method) {
            return Some(Miss::Method);
        }
        let mut headers = one.headers.iter().enumerate();
        if let Some((_, it)) = headers.find(|(at, it)| !self.has_header(&one.headers, *at, it)) {
            return Some(Miss::Header(&it.name));
        }
        let mut query = one.query.iter().enumerate();
        if let Some((_, it)) = query.find(|(at, it)| !self.has_parameter(&one.query, *at, it)) {
            return Some(Miss::Query(&it.name));
        }
        one.more.as_ref().filter(|more| !more.is_met(self)).map(|_| Miss::More)
    }
}

impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path is another"),
            Self::Method => f.write_str("the method is another"),
            Self::Header(name) => write!(f, "the header {name} is missing or another"),
            Self::More => {
                f.write_str("its scheme, authority, port, source, token or an unwanted header is another")
            }
            Self::Query(name) => write!(f, "the parameter {name} is missing or another"),
        }
    }
}
