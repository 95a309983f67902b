//! Wildcards, globs, principals of tokens and templates of paths.

use super::*;

#[test]
fn a_wildcard_at_an_end_is_of_that_end() {
    for (wanted, found, yes) in [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("abc*", "abcd", true),
        ("abc*", "abc", true),
        ("*abc", "xabc", true),
        ("*abc", "abcx", false),
        ("*", "x", true),
        ("*", "", false),
        ("", "", true),
        ("A", "a", false),
    ] {
        assert_eq!(is_of(&text_match(wanted), found), yes, "{wanted} {found}");
    }
    for (wanted, found, yes) in [
        ("Svc", "sVC", true),
        ("svc:*", "SVC:80", true),
        ("svc", "svc:80", false),
        ("*.Shop", "cart.shop", true),
        ("*.shop", "p", false),
        ("é*", "e", false),
        ("*é", "xé", true),
    ] {
        assert_eq!(is_of_any_case(&text_match(wanted), found), yes, "{wanted} {found}");
    }
}

#[test]
fn an_asterisk_in_a_namespace_stands_anywhere() {
    for (glob, text, yes) in [
        ("shop", "shop", true),
        ("shop", "shop2", false),
        ("shop-*", "shop-a", true),
        ("*-prod", "a-prod", true),
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*a", "a", false),
        ("*", "", true),
        ("a*b*c*d", "aXbXbXcXd", true),
        ("a*b*c*d", "aXcXbXd", false),
        ("*ab*ab*", "abab", true),
        ("*ab*ab*", "aba", false),
        ("**", "x", true),
    ] {
        assert_eq!(Glob::from(glob).is_match(text), yes, "{glob} {text}");
    }
}

#[test]
fn a_token_names_its_issuer_and_its_subject() {
    for (wanted, issuer, subject, yes) in [
        ("https://a.b/c/alice", "https://a.b/c", "alice", true),
        ("https://a.b/c/alice", "https://a.b", "c/alice", false),
        ("*", "i", "s", true),
        ("*", "i", "", false),
        ("i/*", "i", "anybody", true),
        ("i/*", "j", "anybody", false),
        ("*/s", "i", "s", true),
        ("i/al*", "i", "alice", true),
        ("*.com/s", "a.com", "s", true),
        ("i*", "issuer", "s", true),
        ("*s", "issuer", "its", true),
        ("alone", "alone", "", false),
    ] {
        assert_eq!(
            RequestPrincipal::from(wanted).is_match(issuer, subject),
            yes,
            "{wanted} {issuer} {subject}"
        );
    }
}

#[test]
fn a_template_is_of_whole_elements() {
    for (pattern, path, yes) in [
        ("/foo/{*}", "/foo/bar", true),
        ("/foo/{*}", "/foo/", false),
        ("/foo/{*}", "/foo/bar/baz", false),
        ("/foo/{*}", "/foo", false),
        ("/{*}/x", "/a/x", true),
        ("/{*}/x", "/a/b/x", false),
        ("/foo/{**}", "/foo/", true),
        ("/foo/{**}", "/foo/a/b", true),
        ("/foo/{**}", "/foo", false),
        ("/foo/{**}", "/foobar/a", false),
        ("/foo/{*}/bar/{**}", "/foo/x/bar/y/z", true),
        ("/foo/{*}/bar/{**}", "/foo/x/y/bar/z", false),
        ("/foo/{**}/end", "/foo/a/b/end", true),
        ("/foo/{**}/end", "/foo//end", true),
        ("/foo/{**}/end", "/foo/end", false),
        ("/{**}", "/", true),
        ("/a", "/a", true),
    ] {
        assert_eq!(pattern.parse::<PathPattern>().unwrap().is_match(path), yes, "{pattern} {path}");
    }
    for text in ["{*}", "/a{*}", "/{*}b", "/{**}/{*}", "/{**}/{**}", "/{x}", "/{*}/a*", "/{"] {
        assert_eq!(text.parse::<PathPattern>(), Err(TemplateError { value: text.into() }), "{text}");
    }
    for text in ["/foo/{*}/bar/{**}", "/{**}/end", "/a/{*}"] {
        assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
    }
}

#[test]
fn what_is_demanded_is_written_so_that_it_reads_back() {
    for text in ["", "a", "a*", "*a", "*", "a*b", "*a*", "a*b*"] {
        assert_eq!(written(&text_match(text)), text);
        let path: PathPattern = text.parse().unwrap();
        assert_eq!(path.to_string(), text);
    }
    for text in ["https://a.b/c/alice", "*", "i*", "*s", "alone", "i/al*", "*.com/s", "/", "a/"] {
        let principal = RequestPrincipal::from(text);
        assert_eq!(RequestPrincipal::from(&*principal.to_string()), principal, "{text}");
    }
}
