//! Where tokens are looked for, and what of a request is taken for one.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::request_policy::{Claim, Token};

fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    all.iter().map(pair).collect()
}

fn header(name: &'static str, prefix: &str) -> Place {
    Place::Header { name: HeaderName::from_static(name), prefix: prefix.into() }
}

#[test]
fn tokens_are_found_where_they_may_be_and_nowhere_else() {
    let usual = Place::usual();
    let cookie = Place::Cookie("session".into());
    for (place, sent, query, wanted) in [
        (&usual[0], vec![("authorization", "Bearer a.b.c")], None, vec!["a.b.c"]),
        (&usual[0], vec![("authorization", "bearer  a.b.c ")], None, vec!["a.b.c"]),
        (&usual[0], vec![("authorization", "Basic a.b.c")], None, vec![]),
        (&usual[0], vec![("authorization", "Bearer")], None, vec![]),
        (&usual[0], vec![("authorization", "Bearer ")], None, vec![""]),
        (&usual[0], vec![("authorization", "Bearer \u{e9}")], None, vec!["\u{e9}"]),
        (
            &usual[0],
            vec![("authorization", "Basic x"), ("authorization", "Bearer y"), ("authorization", "Bearer z")],
            None,
            vec!["y", "z"],
        ),
        (&usual[1], vec![], Some("a=b&access_token=x&access_token=y&access_token="), vec!["x", "y"]),
        (&usual[1], vec![], Some("xaccess_token=x"), vec![]),
        (&usual[1], vec![], None, vec![]),
        (&header("x-token", ""), vec![("x-token", "t")], None, vec!["t"]),
        (&header("x-token", ""), vec![("x-token", "")], None, vec![]),
        (&header("x-token", "JWT "), vec![("x-token", "t")], None, vec![]),
        (
            &cookie,
            vec![("cookie", "a=b; session=t"), ("cookie", "session=\"u\"; session")],
            None,
            vec!["t", "u"],
        ),
        (&cookie, vec![("cookie", "asession=t; session=")], None, vec![]),
    ] {
        assert_eq!(found(place, &headers(&sent), query), wanted, "{place:?} {sent:?} {query:?}");
    }
}

#[test]
fn what_does_not_go_on_is_taken_out_and_the_rest_is_left() {
    let mut all = headers(&[
        ("authorization", "Basic x"),
        ("authorization", "bearer y"),
        ("x-other", "1"),
        ("cookie", "a=b; session=t;c=d"),
        ("cookie", "session=u"),
        ("cookie", "e=f"),
    ]);
    let mut query = Some("a=b&access_token=x&c".to_owned());
    let usual = Place::usual();
    assert_eq!(carry_on(&usual[0], &mut all, &mut query), Taken::Nothing);
    assert_eq!(carry_on(&usual[1], &mut all, &mut query), Taken::Query);
    assert_eq!(carry_on(&usual[1], &mut all, &mut query), Taken::Nothing);
    carry_on(&Place::Cookie("session".into()), &mut all, &mut query);
    assert_eq!(query.as_deref(), Some("a=b&c"));
    assert_eq!(
        all,
        headers(
            &[("authorization", "Basic x"), ("x-other", "1"), ("cookie", "a=b; c=d"), ("cookie", "e=f"),]
        )
    );
    let mut only = Some("access_token=x".to_owned());
    carry_on(&usual[1], &mut all, &mut only);
    assert_eq!(only, None);
}

#[test]
fn what_is_taken_out_is_not_found_again() {
    let sent = [
        ("authorization", "BEARER a"),
        ("authorization", "Bearer  \u{e9}"),
        ("cookie", "session=a; session=b ;session = c"),
        ("cookie", "\u{e9}; session=d"),
    ];
    let query = Some("access_token=1&access_token=&x=access_token=2");
    let places: Vec<Place> = Place::usual().into_iter().chain([Place::Cookie("session".into())]).collect();
    let (mut all, mut left) = (headers(&sent), query.map(str::to_owned));
    for place in &places {
        carry_on(place, &mut all, &mut left);
        assert_eq!(found(place, &all, left.as_deref()), Vec::<&str>::new(), "{place:?}");
    }
}

#[test]
fn a_browsers_question_shows_no_token() {
    let both = [("origin", "https://a"), ("access-control-request-method", "PUT")];
    for (method, sent, wanted) in [
        (Method::OPTIONS, &both[..], true),
        (Method::GET, &both[..], false),
        (Method::OPTIONS, &both[..1], false),
        (Method::OPTIONS, &both[1..], false),
    ] {
        assert_eq!(is_preflight(&method, &headers(sent)), wanted, "{method} {sent:?}");
    }
}

fn token() -> Token {
    let text = |text: &str| Claim::Text(text.into());
    let realm = [("roles".into(), Claim::List(vec![text("a"), Claim::Whole(7)]))];
    let claims = [
        ("name", text("jane")),
        ("age", Claim::Whole(-3)),
        ("admin", Claim::Truth(true)),
        ("half", Claim::Other),
        ("bad", text("a\nb")),
        ("realm", Claim::Object(realm.into())),
        ("example.com/id", text("x1")),
        ("groups", text("staff  all")),
        ("empty", Claim::List(vec![])),
        ("deep", Claim::List(vec![Claim::List(vec![])])),
    ];
    Token {
        issuer: "i".into(),
        subject: "s".into(),
        claims: claims.into_iter().map(|(name, claim)| (name.into(), claim)).collect(),
    }
}

#[test]
fn claims_are_written_in_headers_if_a_header_can_hold_them() {
    for (path, wanted) in [
        ("name", Some("jane")),
        ("age", Some("-3")),
        ("admin", Some("true")),
        ("realm.roles", Some("a,7")),
        ("example.com/id", Some("x1")),
        ("half", None),
        ("bad", None),
        ("realm", None),
        ("empty", None),
        ("deep", None),
        ("name.first", None),
        ("nobody", None),
    ] {
        let value = header_of(&token(), &path.into());
        assert_eq!(value.as_ref().map(|it| it.to_str().unwrap()), wanted, "{path}");
    }
}

#[test]
fn claims_that_are_words_in_a_row_are_lists_where_a_rule_says_so() {
    let mut token = token();
    assert_eq!(token.texts(&["groups".into()]), ["staff  all"]);
    spread(&mut token, &["groups".into(), "age".into(), "nobody".into()]);
    assert_eq!(token.texts(&["groups".into()]), ["staff", "all"]);
    assert_eq!(token.claims["age"], Claim::Whole(-3));
}

#[test]
fn no_claim_changes_what_a_request_is() {
    for (name, wanted) in [("host", true), ("content-length", true), ("x-user", false)] {
        assert_eq!(reserved(&HeaderName::from_static(name)), wanted, "{name}");
    }
}
