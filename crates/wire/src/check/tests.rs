//! Questions and answers against the numbers of their fields, and answers that are none.

use super::*;

fn asked<'a>(headers: &'a HeaderMap, body: Option<Body<'a>>) -> Question<'a> {
    let end = |at: &str, principal| End { at: at.parse().unwrap(), principal, service: "" };
    Question {
        source: end("10.0.0.1:4711", "spiffe://td/ns/a/sa/b"),
        destination: End { service: "cart.shop.svc", ..end("10.1.0.1:80", "spiffe://td/ns/a/sa/way") },
        at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1500),
        method: "POST",
        path: "/a?b=c",
        host: "cart",
        scheme: "http",
        version: "HTTP/1.1",
        headers,
        body,
    }
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    map
}

/// The bytes of a field: its number, its length, what is in it.
fn field(number: u8, of: &[u8]) -> Vec<u8> {
    let mut all = vec![number << 3 | 2, u8::try_from(of.len()).unwrap()];
    all.extend(of);
    all
}

fn holds(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|it| it == part)
}

#[test]
fn a_question_is_written_as_everybody_reads_it() {
    let map = headers(&[("accept", "a"), ("accept", "b"), ("content-length", "4"), ("x-request-id", "i")]);
    let bytes = question(&asked(&map, Some(Body { bytes: b"body", raw: false })));
    let socket = field(1, &[field(2, b"10.0.0.1"), vec![3 << 3, 0xe7, 0x24]].concat());
    let peer = [field(1, &socket), field(4, b"spiffe://td/ns/a/sa/b")].concat();
    assert!(holds(&bytes, &field(1, &peer)), "the source is the first of the attributes");
    for (number, text) in [
        (1, &b"i"[..]),
        (2, b"POST"),
        (4, b"/a?b=c"),
        (5, b"cart"),
        (6, b"http"),
        (10, b"HTTP/1.1"),
        (11, b"body"),
    ] {
        assert!(holds(&bytes, &field(number, text)), "{number}");
    }
    assert!(holds(&bytes, &field(3, &[field(1, b"accept"), field(2, b"a,b")].concat())));
    assert!(holds(&bytes, &field(3, &[field(1, b":path"), field(2, b"/a?b=c")].concat())));
    assert!(holds(&bytes, &[9 << 3, 4]), "its size");
    let raw = question(&asked(&map, Some(Body { bytes: b"\xff\x00", raw: true })));
    assert!(holds(&raw, &field(12, b"\xff\x00")));
    let none = question(&asked(&HeaderMap::new(), None));
    assert!(holds(&none, &[9 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), "-1");
}

fn option(key: &str, value: &str, append: Option<bool>, append_action: i32) -> pb::HeaderValueOption {
    let header = pb::HeaderValue { key: key.into(), value: value.into(), raw_value: Bytes::new() };
    pb::HeaderValueOption { header: Some(header), append, append_action }
}

fn said(code: i32, more: Option<pb::check_response::HttpResponse>) -> Result<Answer, CheckError> {
    let status = Some(pb::Status { code, message: String::new() });
    answer(pb::CheckResponse { status, http_response: more }.encode_to_vec().into())
}

fn after(changes: &HeaderChanges, lines: &[(&str, &str)]) -> Vec<String> {
    let mut map = headers(lines);
    changes.apply(&mut map);
    let mut all: Vec<_> = map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    all.sort();
    all
}

#[test]
fn a_yes_changes_what_it_says() {
    use pb::check_response::HttpResponse;
    let more = pb::OkHttpResponse {
        headers: vec![
            option("X-User", "jane", None, 0),
            option("x-more", "2", Some(true), 0),
            option("x-absent", "2", None, 1),
            option("x-present", "2", Some(false), 3),
            // Nobody is asked where a request goes, or where it ends.
            option("host", "elsewhere", None, 0),
            option("content-length", "0", None, 0),
        ],
        headers_to_remove: vec!["authorization".into(), "Host".into()],
        response_headers_to_add: vec![option("x-by", "them", None, 0), option("x-one", "1", None, 2)],
        query_parameters_to_set: vec![pb::QueryParameter { key: "user".into(), value: "jane".into() }],
        query_parameters_to_remove: vec!["token".into()],
    };
    let Ok(Answer::Allowed(allowed)) = said(0, Some(HttpResponse::OkResponse(more))) else { panic!("a yes") };
    let before =
        [("x-user", "root"), ("x-more", "1"), ("x-absent", "1"), ("authorization", "a"), ("host", "here")];
    assert_eq!(
        after(&allowed.request, &before),
        ["host: here", "x-absent: 1", "x-more: 1", "x-more: 2", "x-user: jane"]
    );
    let back = after(&allowed.back, &[("x-by", "us"), ("x-one", "0")]);
    assert_eq!(back, ["x-by: them", "x-by: us", "x-one: 1"]);
    assert_eq!(allowed.query.apply(Some("a=1&token=x")).as_deref(), Some("a=1&user=jane"));
    assert_eq!(said(0, None).unwrap(), Answer::Allowed(Box::default()));
    assert_eq!(answer(Bytes::new()).unwrap(), Answer::Allowed(Box::default()), "nothing said is code 0");
}

#[test]
fn a_no_says_what_the_client_is_answered() {
    use pb::check_response::HttpResponse;
    let denied = |code: i32| {
        HttpResponse::DeniedResponse(pb::DeniedHttpResponse {
            status: Some(pb::HttpStatus { code }),
            headers: vec![option("set-cookie", "a=1", None, 0), option("set-cookie", "b=2", None, 0)],
            body: "no".into(),
        })
    };
    let Ok(Answer::Refused(refused)) = said(7, Some(denied(401))) else { panic!("a no") };
    assert_eq!((refused.status.as_u16(), &refused.body[..]), (401, &b"no"[..]));
    assert_eq!(after(&refused.headers, &[]), ["set-cookie: a=1", "set-cookie: b=2"]);
    for more in [None, Some(HttpResponse::OkResponse(pb::OkHttpResponse::default()))] {
        let Ok(Answer::Refused(refused)) = said(16, more) else { panic!("a no") };
        assert_eq!((refused.status.as_u16(), refused.body.len()), (403, 0));
    }
    let Ok(Answer::Refused(refused)) = said(7, Some(denied(0))) else { panic!("a no") };
    assert_eq!(refused.status, 403);
    for code in [1, 100, 199, 600, -1, 70_000] {
        assert!(matches!(said(7, Some(denied(code))), Err(CheckError::Status(it)) if it == code), "{code}");
    }
}

#[test]
fn an_answer_of_which_something_cannot_be_done_is_none() {
    use pb::check_response::HttpResponse;
    assert!(matches!(answer(Bytes::from_static(b"\xff\xff")), Err(CheckError::Unread(_))));
    for (key, value) in [("a b", "x"), (":path", "/admin"), ("", "x"), ("x-a", "a\nb")] {
        let headers = vec![option(key, value, None, 0)];
        let more = pb::OkHttpResponse { headers, ..Default::default() };
        let found = said(0, Some(HttpResponse::OkResponse(more)));
        assert!(matches!(found, Err(CheckError::Name(..) | CheckError::Value(..))), "{key}: {found:?}");
    }
}

proptest::proptest! {
    #[test]
    fn answers_are_read_or_refused_whatever_they_are(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        cut in 0..200usize,
    ) {
        let _ = answer(bytes.into());
        let headers = vec![option("x-user", "jane", Some(true), 7); 3];
        let more = pb::OkHttpResponse { headers, ..Default::default() };
        let more = Some(pb::check_response::HttpResponse::OkResponse(more));
        let mut whole = pb::CheckResponse { status: None, http_response: more }.encode_to_vec();
        whole.truncate(cut);
        let _ = answer(whole.into());
    }
}
