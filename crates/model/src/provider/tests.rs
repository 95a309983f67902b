//! Providers: where they are, which headers they see, and what their answers mean.

use http::{HeaderMap, StatusCode};

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    map
}

fn shown(map: &HeaderMap) -> Vec<String> {
    let mut all: Vec<_> = map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    all.sort();
    all
}

#[test]
fn a_provider_is_at_a_host_and_port_and_perhaps_in_a_namespace() {
    for (text, wanted) in [
        ("authz.shop.svc:9000", Ok("authz.shop.svc:9000")),
        ("shop/authz.example:443", Ok("shop/authz.example:443")),
        ("authz.shop.svc", Err(ReachError::Port("authz.shop.svc".into()))),
        ("authz.shop.svc:0", Err(ReachError::Port("authz.shop.svc:0".into()))),
        ("authz.shop.svc:70000", Err(ReachError::Port("authz.shop.svc:70000".into()))),
    ] {
        assert_eq!(text.parse::<Reach>().map(|it| it.to_string()), wanted.map(str::to_owned), "{text}");
    }
    assert!(matches!(":80".parse::<Reach>(), Err(ReachError::Name(_))));
}

#[test]
fn headers_are_named_wholly_or_by_their_beginning_or_end() {
    let these = Which::These(vec![
        TextMatch::Exact("x-user".into()),
        TextMatch::Prefix("x-team-".into()),
        TextMatch::Suffix("-id".into()),
    ]);
    for (name, wanted) in
        [("X-User", true), ("x-users", false), ("x-team-a", true), ("trace-id", true), ("accept", false)]
    {
        assert_eq!(these.holds(&name.parse().unwrap()), wanted, "{name}");
        assert!(Which::All.holds(&name.parse().unwrap()));
        assert!(!Which::default().holds(&name.parse().unwrap()));
    }
}

#[test]
fn headers_are_changed_in_order_and_never_those_of_the_connection() {
    let change =
        |name: &str, how| HeaderChange { name: name.parse().unwrap(), value: "new".parse().unwrap(), how };
    let mut changes = HeaderChanges::default();
    for (name, how) in [
        ("a", How::Set),
        ("b", How::Append),
        ("c", How::IfAbsent),
        ("d", How::IfAbsent),
        ("e", How::IfPresent),
        ("f", How::IfPresent),
    ] {
        changes.push(change(name, how)).unwrap();
    }
    changes.remove("gone".parse().unwrap()).unwrap();
    for name in ["host", "content-length", "transfer-encoding", "connection"] {
        assert!(changes.push(change(name, How::Set)).is_err(), "{name}");
        assert!(changes.remove(name.parse().unwrap()).is_err(), "{name}");
    }
    let mut map = headers(&[("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("e", "1"), ("gone", "1")]);
    changes.apply(&mut map);
    assert_eq!(shown(&map), ["a: new", "b: 1", "b: new", "c: 1", "d: new", "e: new"]);
}

#[test]
fn parameters_are_set_and_taken_out_and_the_others_stay_as_they_are() {
    let set = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for (query, set, gone, wanted) in [
        (None, vec![], vec![], None),
        (Some("a=1&b"), vec![], vec!["a".to_owned()], Some("b")),
        (Some("a=1"), vec![], vec!["a".to_owned()], None),
        (Some("a=1&b=%20&a=2"), set("a", "x y&z"), vec![], Some("b=%20&a=x%20y%26z")),
        (None, set("a", "1"), vec![], Some("a=1")),
    ] {
        let changes = QueryChanges { set, gone };
        assert_eq!(changes.apply(query).as_deref(), wanted, "{query:?} {changes:?}");
    }
}

#[test]
fn only_200_is_a_yes_and_errors_of_the_authorizers_own_are_no_answer() {
    let these =
        |names: &[&str]| Which::These(names.iter().map(|it| TextMatch::Exact((*it).into())).collect());
    let how = OverHttp {
        onward: these(&["x-user", "host"]),
        back: these(&["set-cookie"]),
        back_refused: these(&["x-why"]),
        ..OverHttp::default()
    };
    let said = headers(&[
        ("x-user", "jane"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-why", "late"),
        ("x-other", "1"),
        ("location", "/login"),
        ("content-length", "4"),
        ("host", "authz"),
    ]);
    let read = |status: u16, how: &OverHttp| {
        from_http(how, StatusCode::from_u16(status).unwrap(), (&said, b"body".to_vec()))
    };
    let applied = |changes: &HeaderChanges| {
        let mut map = headers(&[("x-user", "forged"), ("x-user", "twice")]);
        changes.apply(&mut map);
        shown(&map)
    };
    let Ok(Answer::Allowed(allowed)) = read(200, &how) else { panic!("a yes") };
    assert_eq!(applied(&allowed.request), ["x-user: jane"]);
    assert_eq!(
        applied(&allowed.back),
        ["set-cookie: a=1", "set-cookie: b=2", "x-user: forged", "x-user: twice"]
    );
    for status in [201, 204, 302, 401, 403, 404] {
        let Ok(Answer::Refused(refused)) = read(status, &how) else { panic!("{status} is a no") };
        assert_eq!((refused.status.as_u16(), &refused.body[..]), (status, &b"body"[..]));
        let mut map = HeaderMap::new();
        refused.headers.apply(&mut map);
        assert_eq!(shown(&map), ["location: /login", "x-why: late"], "{status}");
    }
    let all = OverHttp { back_refused: Which::All, ..how.clone() };
    let Ok(Answer::Refused(refused)) = read(403, &all) else { panic!("a no") };
    let mut map = HeaderMap::new();
    refused.headers.apply(&mut map);
    assert_eq!(map.len(), 6, "all but what is of the answer itself: {map:?}");
    for status in [500, 503] {
        assert_eq!(read(status, &how), Err(Failed(StatusCode::from_u16(status).unwrap())));
    }
}
