//! Which of two matches goes first (`waypoint.md` 2.3). Owns the order, which is total: it never matters in which
//! order routes came.

use std::cmp::Reverse;

use crate::http_route::{HeaderMatch, Match, PathMatch, QueryMatch, Route, RouteKey, RouteKind, ValueMatch};

/// A place in the order; the smaller goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'r> {
    path: Reverse<[(u8, usize); 2]>,
    any_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    created_s: u64,
    name: Name<'r>,
    at: (usize, usize),
}

/// `<namespace>/<name>`, as a text.
#[derive(PartialEq, Eq)]
struct Name<'r>(&'r RouteKey);

/// The rank of a match at a place in its route.
pub(super) fn rank<'r>(route: &'r Route, matched: Option<&Match>, at: (usize, usize)) -> Rank<'r> {
    // A VirtualService says itself what goes first, and that of another one comes after all of it.
    let matched = matched.filter(|_| route.key.kind != RouteKind::VirtualService);
    Rank {
        path: Reverse(matched.map_or([(PREFIX, 0), NOTHING], |it| path_weight(&it.path))),
        any_method: matched.is_none_or(|it| it.method.is_none()),
        headers: Reverse(matched.map_or(0, |it| names_of_headers(&it.headers))),
        query: Reverse(matched.map_or(0, |it| names_of_parameters(&it.query))),
        created_s: route.created_s,
        name: Name(&route.key),
        at,
    }
}

const NOTHING: (u8, usize) = (0, 0);
const REGEX: u8 = 1;
const PREFIX: u8 = 2;
const EXACT: u8 = 3;

/// Equal before the longest prefix before the longest pattern; of gRPC the service's before the method's.
fn path_weight(path: &PathMatch) -> [(u8, usize); 2] {
    match path {
        PathMatch::Exact(path) => [(EXACT, path.len()), NOTHING],
        PathMatch::Prefix(path) => [(PREFIX, path.strip_suffix('/').unwrap_or(path).len()), NOTHING],
        PathMatch::Begins { text, any_case: _ } => [(PREFIX, text.len()), NOTHING],
        PathMatch::Regex(pattern) => [(REGEX, pattern.as_str().len()), NOTHING],
        PathMatch::Grpc { service, method } => {
            [value_weight(service.as_ref()), value_weight(method.as_ref())]
        }
    }
}

fn value_weight(value: Option<&ValueMatch>) -> (u8, usize) {
    match value {
        None | Some(ValueMatch::Present) => NOTHING,
        Some(ValueMatch::Regex(pattern)) => (REGEX, pattern.as_str().len()),
        Some(ValueMatch::Prefix(text)) => (PREFIX, text.len()),
        Some(ValueMatch::Exact(text)) => (EXACT, text.len()),
    }
}

/// Of several of one name only the first counts.
fn names_of_headers(headers: &[HeaderMatch]) -> usize {
    let is_first = |(at, it): &(usize, &HeaderMatch)| !headers.iter().take(*at).any(|o| o.name == it.name);
    headers.iter().enumerate().filter(is_first).count()
}

fn names_of_parameters(query: &[QueryMatch]) -> usize {
    let is_first = |(at, it): &(usize, &QueryMatch)| !query.iter().take(*at).any(|o| o.name == it.name);
    query.iter().enumerate().filter(is_first).count()
}

impl PartialOrd for Name<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        fn text(Name(key): &Name<'_>) -> impl Iterator<Item = u8> {
            key.namespace.as_str().bytes().chain(*b"/").chain(key.name.as_str().bytes())
        }
        // A table holds one kind; were it two, one would have to go first.
        text(self).cmp(text(other)).then_with(|| self.0.kind.cmp(&other.0.kind))
    }
}
