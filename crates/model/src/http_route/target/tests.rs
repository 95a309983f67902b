use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::http_path::Normalization;
use crate::http_route::{Match, Redirect, RedirectStatus, Substitution};
use crate::sample::{route, rule};

/// The path in the place of one that was found by a prefix.
fn changed(path: &str, prefix: &str, change: &PathChange) -> Option<String> {
    let matched = Match { path: PathMatch::Prefix(prefix.into()), ..Match::default() };
    let (route, rule) = (Arc::new(route("HTTPRoute/ns/r", "ns/s", vec![])), Arc::new(rule(vec![], "ns/s")));
    change.apply(path, &Found { route: &route, rule: &rule, matched: Some(&matched) })
}

#[test]
fn a_prefix_is_replaced_at_the_edges_of_elements() {
    for (path, prefix, text, wanted) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/bar", "/foo", "/", "/bar"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/strip-prefix", "/strip-prefix", "/", "/"),
        ("/strip-prefix/three", "/strip-prefix", "/", "/three"),
        ("/prefix/one/two", "/prefix/one", "/one", "/one/two"),
        ("/a/b", "/", "/xyz", "/xyz/a/b"),
        ("/a/b", "/a", "xyz", "/xyz/b"),
    ] {
        let change = PathChange::Prefix(text.parse().unwrap());
        assert_eq!(changed(path, prefix, &change).as_deref(), Some(wanted), "{path} {prefix} {text}");
    }
}

#[test]
fn all_of_a_path_is_replaced_whatever_it_was() {
    for (text, wanted) in [("/one", "/one"), ("one", "/one"), ("", "/")] {
        let change = PathChange::Full(text.parse().unwrap());
        assert_eq!(changed("/full/one/two", "/full", &change).as_deref(), Some(wanted));
    }
}

#[test]
fn the_text_that_a_path_begins_with_is_replaced_wherever_it_ends() {
    let (route, rule) =
        (Arc::new(route("VirtualService/ns/r", "ns/s", vec![])), Arc::new(rule(vec![], "ns/s")));
    let begins = |text: &str| PathMatch::Begins { text: text.into(), any_case: false };
    for (path, of, text, wanted) in [
        ("/foobar", begins("/foo"), "/x", "/xbar"),
        ("/foo/bar", begins("/foo"), "/", "/bar"),
        ("/foo/bar", begins("/foo/"), "/", "/bar"),
        ("/foobar", begins("/foo"), "/", "/bar"),
        ("/foo", begins("/foo"), "/", "/"),
        ("/foo/bar", begins("/foo"), "/x/", "/x/bar"),
        ("/a", begins("/"), "/x/", "/x/a"),
        ("/foo/bar", PathMatch::Exact("/foo/bar".into()), "/x", "/x"),
        ("/foo/bar", PathMatch::Regex(".*".parse().unwrap()), "x", "/x"),
    ] {
        let matched = Match { path: of, ..Match::default() };
        let found = Found { route: &route, rule: &rule, matched: Some(&matched) };
        let change = PathChange::Beginning(text.parse().unwrap());
        assert_eq!(change.apply(path, &found).as_deref(), Some(wanted), "{path} {text}");
        let parts = Substitution::new("o+", "0").unwrap();
        let replaced = PathChange::Parts(parts).apply("/foo/boo", &found);
        assert_eq!(replaced.as_deref(), Some("/f0/b0"));
    }
    let all = Found { route: &route, rule: &rule, matched: None };
    let change = PathChange::Beginning("/x/".parse().unwrap());
    assert_eq!(change.apply("/a/b", &all).as_deref(), Some("/x/a/b"));
}

#[test]
fn a_redirect_may_keep_the_port_under_another_scheme() {
    let redirect = Redirect { scheme: Some(Scheme::Https), keeps_port: true, ..Redirect::default() };
    let found = location(&redirect, Scheme::Http, "echo:8080", 8080, "/a");
    assert_eq!(found.as_deref(), Some("https://echo:8080/a"));
}

#[test]
fn what_was_found_by_no_prefix_has_none_to_replace() {
    let (route, rule) = (Arc::new(route("HTTPRoute/ns/r", "ns/s", vec![])), Arc::new(rule(vec![], "ns/s")));
    let matched = Match { path: PathMatch::Exact("/a".into()), ..Match::default() };
    let change = PathChange::Prefix("/b".parse().unwrap());
    let found = Found { route: &route, rule: &rule, matched: Some(&matched) };
    assert_eq!(change.apply("/a", &found), None);
    let all = Found { matched: None, ..found };
    assert_eq!(
        change.apply("/a", &all).as_deref(),
        Some("/b/a"),
        "a rule without matches is of the prefix /"
    );
}

fn location(redirect: &Redirect, scheme: Scheme, authority: &str, port: u16, target: &str) -> Option<String> {
    let matched = Match { path: PathMatch::Prefix("/old".into()), ..Match::default() };
    let (route, rule) = (Arc::new(route("HTTPRoute/ns/r", "ns/s", vec![])), Arc::new(rule(vec![], "ns/s")));
    let found = Found { route: &route, rule: &rule, matched: Some(&matched) };
    let target = RequestTarget::read(target, Normalization::Base).unwrap();
    redirect.location(&Redirected { scheme, host: authority, port, target: &target }, &found)
}

#[test]
fn a_port_is_said_where_the_scheme_does_not_say_it() {
    use Scheme::{Http, Https};
    for (dialled, scheme, port, wanted) in [
        (80, None, None, "http://example.org"),
        (80, None, Some(8080), "http://example.org:8080"),
        (80, Some(Https), None, "https://example.org"),
        (80, Some(Https), Some(443), "https://example.org"),
        (80, Some(Https), Some(8443), "https://example.org:8443"),
        (8080, None, None, "http://example.org:8080"),
        (8080, None, Some(80), "http://example.org"),
        (8080, Some(Https), None, "https://example.org"),
        (443, None, None, "https://example.org"),
        (443, Some(Http), None, "http://example.org"),
        (443, Some(Http), Some(80), "http://example.org"),
        (443, Some(Http), Some(8080), "http://example.org:8080"),
    ] {
        let hostname = Some("example.org".parse().unwrap());
        let redirect = Redirect { scheme, port, hostname, ..Redirect::default() };
        let asked = if dialled == 443 { Https } else { Http };
        let found = location(&redirect, asked, "echo", dialled, "/");
        assert_eq!(found, Some(format!("{wanted}/")), "{dialled} {scheme:?} {port:?}");
    }
}

#[test]
fn what_a_redirect_does_not_change_stays_and_so_does_the_query() {
    let nothing = Redirect::default();
    assert_eq!(nothing.status, RedirectStatus::Found);
    for (authority, target, wanted) in [
        ("echo", "/a?b=c&d", "http://echo/a?b=c&d"),
        ("echo:8080", "/a", "http://echo/a"),
        ("[::1]:8080", "/a", "http://[::1]/a"),
        ("[::1]", "/a", "http://[::1]/a"),
    ] {
        assert_eq!(location(&nothing, Scheme::Http, authority, 80, target).as_deref(), Some(wanted));
    }
    let path = Some(PathChange::Prefix("/new".parse().unwrap()));
    let moved = Redirect { path, ..Redirect::default() };
    let found = location(&moved, Scheme::Http, "echo", 80, "/old/x?y");
    assert_eq!(found.as_deref(), Some("http://echo/new/x?y"));
    let path = Some(PathChange::Full("/there".parse().unwrap()));
    let moved = Redirect { path, ..Redirect::default() };
    assert_eq!(
        location(&moved, Scheme::Http, "echo", 80, "/old/x?y").as_deref(),
        Some("http://echo/there?y")
    );
}

proptest! {
    #[test]
    fn a_replaced_prefix_is_replaced_back(a in "(/[a-z]{1,3}){1,3}", b in "(/[a-z]{1,3}){1,3}", rest in "(/[a-z]{0,3}){0,3}") {
        let there = PathChange::Prefix(b.parse().unwrap());
        let back = PathChange::Prefix(a.parse().unwrap());
        let path = format!("{a}{rest}");
        let moved = changed(&path, &a, &there).unwrap();
        prop_assert_eq!(&moved, &format!("{b}{rest}"));
        prop_assert_eq!(changed(&moved, &b, &back), Some(path));
    }
}
