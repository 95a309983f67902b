//! Questions and answers byte by byte, and what is no answer.

use http::HeaderMap;

use super::*;

fn header(key: &str, value: &str) -> pb::HeaderValue {
    pb::HeaderValue { key: key.into(), value: value.into(), raw_value: Bytes::new() }
}

#[test]
fn a_question_has_the_domain_every_descriptor_and_what_it_counts() {
    let described = vec![vec![("a".to_owned(), "b".to_owned())]];
    // domain (1) "d"; descriptors (2) { entries (1) { key (1) "a", value (2) "b" } }; hits_addend (3) 2.
    let wanted = b"\x0a\x01d\x12\x08\x0a\x06\x0a\x01a\x12\x01b\x18\x02";
    assert_eq!(question("d", described, 2).as_ref(), wanted);
}

#[test]
fn an_answer_says_whether_there_are_too_many_what_is_left_and_which_headers_to_add() {
    let status = |most, left, seconds| DescriptorStatus {
        code: 1,
        current_limit: Some(pb::rate_limit_response::RateLimit { requests_per_unit: most }),
        limit_remaining: left,
        duration_until_reset: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let bare = DescriptorStatus { current_limit: None, ..status(0, 0, 0) };
    let message = pb::RateLimitResponse {
        overall_code: 2,
        statuses: vec![status(10, 4, 30), bare, status(100, 2, 60)],
        response_headers_to_add: vec![header("x-back", "1"), header("transfer-encoding", "chunked")],
        request_headers_to_add: vec![header("x-on", "2")],
        raw_body: Bytes::from_static(b"later"),
    };
    let ruling = answer(message.encode_to_vec().into()).unwrap();
    assert!(ruling.is_over);
    assert_eq!(ruling.body, b"later");
    assert_eq!(ruling.left, Some(Left { most: 100, left: 2, reset: Duration::from_secs(60) }));
    let applied = |changes: &HeaderChanges| {
        let mut headers = HeaderMap::new();
        changes.apply(&mut headers);
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(applied(&ruling.back), ["x-back=1"]);
    assert_eq!(applied(&ruling.request), ["x-on=2"]);
    assert!(!answer(Bytes::from_static(b"\x08\x01")).unwrap().is_over);
}

#[test]
fn what_decides_nothing_or_cannot_be_done_is_no_answer() {
    assert!(matches!(answer(Bytes::new()), Err(QuotaError::Undecided(0))));
    assert!(matches!(answer(Bytes::from_static(b"\x08\x07")), Err(QuotaError::Undecided(7))));
    assert!(matches!(answer(Bytes::from_static(b"\xff")), Err(QuotaError::Unread(_))));
    let with = |one| pb::RateLimitResponse {
        overall_code: 1,
        response_headers_to_add: vec![one],
        ..pb::RateLimitResponse::default()
    };
    let read = |one| answer(with(one).encode_to_vec().into());
    assert!(matches!(read(header("a b", "1")), Err(QuotaError::Name(name, _)) if name == "a b"));
    assert!(matches!(read(header("x-a", "1\n2")), Err(QuotaError::Value(name, _)) if name == "x-a"));
}
