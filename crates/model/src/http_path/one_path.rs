//! One path for all who decide by it (`waypoint.md` 2.4, 9.4: 19 and 20): whatever is written, a route, a policy and the
//! endpoint that gets the request read the same.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri};

use crate::http_path::Normalization::{self, Base, DecodeAndMergeSlashes, MergeSlashes};
use crate::http_path::RequestTarget;
use crate::http_route::{Around, Asked, Match, PathMatch, RouteKind, Table};
use crate::policy::Condition;
use crate::request_policy::{Facts, Http, Operation, RequestAction, RequestPolicy, RequestRule, judge};
use crate::sample::{identity, route, rule};

/// What paths are made of, each of which others read in a way of their own.
const PIECES: [&str; 15] = [
    "/", "/.", "/..", "/a", "/%61", "/%2e%2E", "/.%2e", "%2Fa", "/%5c", "\\b", "/%25", "/b;c", "//", "/%7E~",
    "/A",
];

/// Every path of up to three pieces.
fn corpus() -> Vec<String> {
    let more = |begin: &String| PIECES.map(|piece| format!("{begin}{piece}"));
    let one: Vec<String> = PIECES.map(str::to_owned).into();
    let two: Vec<String> = one.iter().flat_map(more).collect();
    let three: Vec<String> = two.iter().flat_map(more).collect();
    [one, two, three].concat()
}

/// What a server does with the path that it gets: it takes out dots, and undoes what needs no escape (RFC 3986, 6.2.2).
/// Written without a look at how we do it.
fn as_served(path: &str) -> String {
    let mut plain = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        let code = u8::from_str_radix(&after[..2], 16).unwrap();
        let byte = char::from(code);
        plain.push_str(before);
        if byte.is_ascii_alphanumeric() || "-._~".contains(byte) {
            plain.push(byte);
        } else {
            plain.push_str(&format!("%{}", &after[..2]));
        }
        rest = &after[2..];
    }
    plain.push_str(rest);
    let mut kept: Vec<&str> = Vec::new();
    let elements: Vec<&str> = plain.split('/').skip(1).collect();
    for (number, element) in elements.iter().enumerate() {
        let is_last = number + 1 == elements.len();
        match *element {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            element => kept.push(element),
        }
    }
    format!("/{}", kept.join("/"))
}

fn is_routed(target: &RequestTarget<'_>, to: &str) -> bool {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let exact = Match { path: PathMatch::Exact(to.into()), ..Match::default() };
    let route = Arc::new(route("HTTPRoute/ns/r", "ns/s", vec![rule(vec![exact], "ns/x")]));
    let table = Table::new(RouteKind::Http, [&route]);
    let asked = Asked {
        path: &target.path,
        query: target.query,
        method: &method,
        headers: &headers,
        around: Around::default(),
    };
    table.find(&asked).is_some()
}

fn is_denied(target: &RequestTarget<'_>, path: &str) -> bool {
    let paths = Condition { any: vec![path.parse().unwrap()], none: vec![] };
    let rule =
        RequestRule { to: vec![Operation { paths, ..Operation::default() }], ..RequestRule::default() };
    let key = "ns/p".parse().unwrap();
    let policy = RequestPolicy {
        key,
        targets: vec![],
        action: RequestAction::Deny,
        rules: vec![rule],
        dry_run: false,
    };
    let (peer, method, headers) = (identity("ns/web"), Method::GET, HeaderMap::new());
    let mut facts = Facts::new(Some(&peer), "10.0.0.7".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    facts.http =
        Some(Http { host: "a", method: &method, path: &target.path, headers: &headers, token: None });
    !judge(&[Arc::new(policy)], &facts).verdict.is_allowed()
}

fn check(written: &str, mode: Normalization) -> bool {
    let Ok(target) = RequestTarget::read(written, mode) else { return false };
    let path = target.path.as_str();
    let shown = format!("{written} is {path} ({mode:?})");
    let sent: Uri = path.parse().unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(sent.path(), path, "{shown}, and another to the endpoint");
    assert_eq!(as_served(sent.path()), path, "{shown}, and another to the application");
    assert!(is_routed(&target, path), "{shown}, and another to a route");
    assert!(is_denied(&target, path), "{shown}, and another to a policy");
    let other = format!("{path}x");
    assert!(!is_routed(&target, &other) && !is_denied(&target, &other), "{shown}, and {other} as well");
    true
}

#[test]
fn routes_policies_and_endpoints_see_one_path_however_it_was_written() {
    for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
        let corpus = corpus();
        let taken = corpus.iter().filter(|written| check(written, mode)).count();
        // What is refused is refused to all; it must not be nearly everything.
        assert!(taken > corpus.len() / 2, "{taken} of {} ({mode:?})", corpus.len());
    }
}
