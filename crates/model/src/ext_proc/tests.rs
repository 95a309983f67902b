//! What a processor's words come to, and what it may change.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::provider::{HeaderChange, How};
use crate::request_policy::text_match;

fn policy() -> ExtProc {
    ExtProc {
        key: "shop/guard".parse().unwrap(),
        targets: Vec::new(),
        routes: Vec::new(),
        rule: RequestRule::default(),
        at: None,
        patience: PATIENCE,
        fail_open: false,
        watches: false,
        modes: Modes::default(),
        may_choose: true,
        body_most: BODY_USUAL,
        shown: Shown::default(),
        attributes: Vec::new(),
        changes: ChangeRules::default(),
    }
}

fn step(way: Way, part: Part) -> Step {
    Step { way, part }
}

fn name(text: &str) -> HeaderName {
    text.parse().unwrap()
}

#[test]
fn a_reply_is_to_what_was_told_or_none_at_all() {
    let policy = policy();
    let told = step(Way::Request, Part::Headers);
    for (found, wanted) in [
        (told, true),
        (step(Way::Response, Part::Headers), false),
        (step(Way::Request, Part::Body), false),
        (step(Way::Request, Part::Trailers), false),
    ] {
        let reply = Reply { said: Said::Onward(found, Box::default()), choice: None };
        assert_eq!(policy.hear(told, reply).is_ok(), wanted, "{found:?}");
    }
    let waits = Reply { said: Said::Nothing, choice: None };
    assert_eq!(policy.hear(told, waits), Ok(Heard::Wait));
}

#[test]
fn only_who_wants_nothing_more_replaces_a_body_with_the_headers() {
    let headers = step(Way::Request, Part::Headers);
    for (told, last, wanted) in [
        (headers, false, None),
        (headers, true, Some(b"new".to_vec())),
        (step(Way::Response, Part::Body), false, Some(b"new".to_vec())),
    ] {
        let onward = Onward { body: Some(b"new".to_vec()), last, ..Onward::default() };
        let reply = Reply { said: Said::Onward(told, Box::new(onward)), choice: None };
        let Heard::Onward(heard, _) = policy().hear(told, reply).unwrap() else { panic!("{told:?}") };
        assert_eq!(heard.body, wanted, "{told:?} {last}");
    }
}

#[test]
fn what_else_is_told_is_chosen_with_headers_and_only_where_it_may_be() {
    let choice =
        Choice { request_body: BodyMode::Buffered, response_headers: Some(false), ..Choice::default() };
    for (part, may_choose, wanted) in
        [(Part::Headers, true, Some(choice)), (Part::Headers, false, None), (Part::Body, true, None)]
    {
        let told = step(Way::Request, part);
        let reply = Reply { said: Said::Onward(told, Box::default()), choice: Some(choice) };
        let policy = ExtProc { may_choose, ..policy() };
        let Heard::Onward(_, chosen) = policy.hear(told, reply).unwrap() else { panic!("{part:?}") };
        assert_eq!(chosen, wanted, "{part:?} {may_choose}");
    }
    let before = Modes { response_body: BodyMode::Streamed, response_trailers: true, ..Modes::default() };
    let after = before.chosen(choice);
    assert!(after.headers(Way::Request) && !after.headers(Way::Response));
    assert_eq!(after.rest(Way::Request), Rest { body: BodyMode::Buffered, trailers: false });
    assert_eq!(after.rest(Way::Response), Rest { body: BodyMode::None, trailers: true });
}

#[test]
fn what_is_framing_is_never_changed_and_what_is_the_meshs_only_where_that_is_said() {
    let these = |names: &[&str]| Which::These(names.iter().map(|it| text_match(it)).collect());
    let plain = ChangeRules::default();
    let freed = ChangeRules { allow: these(&["*"]), ..plain.clone() };
    let few = ChangeRules { nothing_else: true, allow: these(&["x-mine-*"]), ..plain.clone() };
    let denied = ChangeRules { deny: these(&["x-mine-no"]), ..few.clone() };
    let apart = [name("x-user")];
    for (header, wanted) in [
        ("x-mine-a", [true, true, true, true]),
        ("x-mine-no", [true, true, true, false]),
        ("x-other", [true, true, false, false]),
        ("authorization", [true, true, false, false]),
        ("x-user", [false, true, false, false]),
        ("x-forwarded-client-cert", [false, true, false, false]),
        ("x-envoy-max-retries", [false, true, false, false]),
        ("host", [false; 4]),
        ("content-length", [false; 4]),
        ("transfer-encoding", [false; 4]),
        ("connection", [false; 4]),
        ("te", [false; 4]),
    ] {
        let found = [&plain, &freed, &few, &denied].map(|it| it.allows(&name(header), &apart));
        assert_eq!(found, wanted, "{header}");
    }
}

#[test]
fn changes_are_made_in_their_order_and_those_that_may_not_be_are_passed_over() {
    let change = |header: &str, value: &'static str, how| HeaderChange {
        name: name(header),
        value: HeaderValue::from_static(value),
        how,
    };
    let mutation = Mutation {
        gone: vec![name("x-a"), name("host")],
        set: vec![
            change("x-a", "new", How::Append),
            change("x-b", "2", How::Append),
            change("x-c", "new", How::IfAbsent),
            change("x-d", "new", How::IfPresent),
            change("x-e", "new", How::Set),
            change("content-length", "7", How::Set),
        ],
        pseudo: vec![(":status".into(), "418".into())],
    };
    let mut headers: HeaderMap =
        [("host", "web"), ("x-a", "old"), ("x-b", "1"), ("x-c", "old"), ("x-e", "old")]
            .into_iter()
            .map(|(header, value)| (name(header), HeaderValue::from_static(value)))
            .collect();
    let changed = mutation.apply(&mut headers, &ChangeRules::default(), &[]).unwrap();
    assert_eq!(changed, Changed { passed_over: 2 });
    let mut found: Vec<_> =
        headers.iter().map(|(it, value)| (it.as_str(), value.to_str().unwrap())).collect();
    found.sort_unstable();
    let wanted =
        [("host", "web"), ("x-a", "new"), ("x-b", "1"), ("x-b", "2"), ("x-c", "old"), ("x-e", "new")];
    assert_eq!(found, wanted);
    assert_eq!(mutation.status(), Some(StatusCode::IM_A_TEAPOT));
    let many = Mutation {
        set: (0..=HEADERS_MOST).map(|_| change("x-many", "1", How::Append)).collect(),
        ..Mutation::default()
    };
    let found = many.apply(&mut HeaderMap::new(), &ChangeRules::default(), &[]);
    assert_eq!(found, Err(TooMuch::Headers(HEADERS_MOST + 1)));
    let long = HeaderValue::try_from("x".repeat(HEAD_MOST)).unwrap();
    let long = HeaderChange { name: name("x-long"), value: long, how: How::Set };
    let long = Mutation { set: vec![long], ..Mutation::default() };
    let found = long.apply(&mut HeaderMap::new(), &ChangeRules::default(), &[]);
    assert_eq!(found, Err(TooMuch::Bytes(HEAD_MOST + 6)));
}

#[test]
fn a_status_is_one_that_answers_have_or_stays() {
    for (text, wanted) in [("204", true), ("101", false), ("600", false), ("x", false), ("", false)] {
        let mutation = Mutation { pseudo: vec![(":status".into(), text.into())], ..Mutation::default() };
        assert_eq!(mutation.status().is_some(), wanted, "{text}");
    }
}
