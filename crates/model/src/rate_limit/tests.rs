//! Buckets never let more through than was said, whatever happens to them; and requests are told apart by what is known.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;
use crate::http_path::{NormalPath, Normalization};
use crate::name::Identity;
use crate::request_policy::{Claim, Http, Operation, Token};

const SECOND: u64 = 1_000_000_000;

fn rate(requests: u32, seconds: u64, burst: u32) -> Rate {
    Rate::new(requests, Duration::from_secs(seconds), burst).unwrap()
}

#[test]
fn a_bucket_gives_what_it_holds_and_then_one_by_one() {
    let rate = rate(2, 1, 3);
    let mut buckets = Buckets::new(8);
    let mut take = |now: u64| buckets.take(1, &rate, now);
    let start = 10 * SECOND;
    for left in [2, 1, 0] {
        assert!(matches!(take(start), Taken::Yes { left: found, .. } if found == left), "{left}");
    }
    assert_eq!(take(start), Taken::No { wait: Duration::from_millis(500) });
    assert_eq!(take(start + SECOND / 4), Taken::No { wait: Duration::from_millis(250) });
    assert!(matches!(take(start + SECOND / 2), Taken::Yes { left: 0, .. }));
    assert!(matches!(take(start + SECOND / 2), Taken::No { .. }));
    // After a long time it is full, and never fuller.
    assert!(matches!(take(start + 1000 * SECOND), Taken::Yes { left: 2, .. }));
}

#[test]
fn numbers_that_are_no_rate_are_refused_by_name() {
    let second = Duration::from_secs(1);
    for (given, wanted) in [
        ((0, second, 1), RateError::Requests(0)),
        ((REQUESTS_MOST + 1, second, 1), RateError::Requests(REQUESTS_MOST + 1)),
        ((1, Duration::from_millis(49), 1), RateError::Per(Duration::from_millis(49))),
        ((1, PER_MOST + second, 1), RateError::Per(PER_MOST + second)),
        ((1, second, 0), RateError::Burst(0)),
        ((1, second, BURST_MOST + 1), RateError::Burst(BURST_MOST + 1)),
        ((1, PER_MOST, 367), RateError::Fill(367)),
    ] {
        let (requests, per, burst) = given;
        assert_eq!(Rate::new(requests, per, burst), Err(wanted), "{given:?}");
    }
    assert!(Rate::new(1, PER_MOST, 366).is_ok());
}

#[test]
fn who_makes_many_buckets_neither_takes_more_room_nor_gets_rid_of_an_empty_one() {
    let rate = rate(1, 3600, 4);
    let mut buckets = Buckets::new(64);
    for _ in 0..4 {
        assert!(matches!(buckets.take(0, &rate, SECOND), Taken::Yes { .. }));
    }
    for name in 1..100_000 {
        let taken = buckets.take(name, &rate, SECOND);
        assert!(matches!(taken, Taken::Yes { .. }), "{name}");
        assert!(buckets.len() <= 64, "{name}");
    }
    assert!(matches!(buckets.take(0, &rate, SECOND), Taken::No { .. }));
    // Once all are full there is nothing to know of them.
    buckets.forget(SECOND + 4 * 3600 * SECOND);
    assert!(buckets.is_empty());
}

proptest! {
    /// In any stretch of time no more comes through than all at once and what came back meanwhile.
    #[test]
    fn never_more_are_let_through_than_was_said(
        requests in 1_u32..1000,
        per in 50_u64..100_000,
        burst in 1_u32..50,
        steps in prop::collection::vec(0_u64..200_000_000, 1..300),
    ) {
        let rate = Rate::new(requests, Duration::from_millis(per), burst).unwrap();
        let mut buckets = Buckets::new(4);
        let mut now = SECOND;
        let mut passed: Vec<u64> = Vec::new();
        for step in steps {
            now += step;
            if matches!(buckets.take(7, &rate, now), Taken::Yes { .. }) {
                passed.push(now);
            }
        }
        for (at, begin) in passed.iter().enumerate() {
            for (beyond, end) in passed.iter().enumerate().skip(at) {
                let back = u128::from(end - begin) * u128::from(requests) / (u128::from(per) * 1_000_000);
                prop_assert!((beyond - at + 1) as u128 <= u128::from(burst) + back);
            }
        }
    }

    #[test]
    fn whoever_is_told_to_wait_gets_one_then_and_not_before(
        requests in 1_u32..1000,
        per in 50_u64..100_000,
        burst in 1_u32..20,
    ) {
        let rate = Rate::new(requests, Duration::from_millis(per), burst).unwrap();
        let mut buckets = Buckets::new(4);
        let wait = loop {
            if let Taken::No { wait } = buckets.take(7, &rate, SECOND) {
                break u64::try_from(wait.as_nanos()).unwrap();
            }
        };
        let early = matches!(buckets.take(7, &rate, SECOND + wait - 1), Taken::No { .. });
        prop_assert!(early);
        let there = matches!(buckets.take(7, &rate, SECOND + wait), Taken::Yes { .. });
        prop_assert!(there);
    }
}

/// What is known of a request with these headers and this token.
fn with(headers: &[(&'static str, &str)], token: Option<&Token>, test: impl FnOnce(&Facts<'_>)) {
    let peer: Identity = "spiffe://mesh/ns/shop/sa/web".parse().unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let path: NormalPath<'_> = NormalPath::read("/cart/7", Normalization::Base).unwrap();
    let to: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let mut facts = Facts::new(Some(&peer), "10.0.0.9".parse().unwrap(), to);
    facts.http = Some(Http { host: "Shop:80", method: &Method::GET, path: &path, headers: &map, token });
    test(&facts);
}

#[test]
fn every_attribute_is_what_is_known_of_a_request_and_is_read_as_it_is_written() {
    let claims = BTreeMap::from([(
        "team".into(),
        Claim::List(vec![Claim::Text("a".into()), Claim::Text("b".into())]),
    )]);
    let token = Token { issuer: "them".into(), subject: "me".into(), claims };
    with(&[("x-user", "ann"), ("x-user", "bob")], Some(&token), |facts| {
        for (name, wanted) in [
            ("source.principal", Some("mesh/ns/shop/sa/web")),
            ("source.namespace", Some("shop")),
            ("source.serviceAccount", Some("shop/web")),
            ("source.ip", Some("10.0.0.9")),
            ("remote.ip", Some("10.0.0.9")),
            ("request.auth.principal", Some("them/me")),
            ("request.auth.claims[team]", Some("a,b")),
            ("request.auth.claims[team][deep]", None),
            ("request.headers[x-user]", Some("ann,bob")),
            ("request.headers[x-other]", None),
            ("request.method", Some("GET")),
            ("request.host", Some("shop:80")),
            ("request.path", Some("/cart/7")),
        ] {
            let attribute: Attribute = name.parse().unwrap();
            assert_eq!(attribute.to_string(), name);
            assert_eq!(attribute.of(facts).as_deref(), wanted, "{name}");
        }
    });
    for bad in
        ["", "request.headers[]", "request.headers[a b]", "request.auth.claims[]", "request.query", "a[b]"]
    {
        assert_eq!(bad.parse::<Attribute>(), Err(AttributeError(bad.into())));
    }
}

#[test]
fn requests_are_of_one_bucket_when_all_that_tells_them_apart_is_alike() {
    let policy: PolicyKey = "shop/limits".parse().unwrap();
    let limit = |key: &[&str]| LocalLimit {
        rule: RequestRule::default(),
        key: key.iter().map(|it| it.parse().unwrap()).collect(),
        rate: rate(1, 1, 1),
    };
    let name = |limit: &LocalLimit, at: usize, headers: &[(&'static str, &str)]| {
        let mut hasher = DefaultHasher::new();
        with(headers, None, |facts| limit.name((&policy, at), facts, &mut hasher));
        hasher.finish()
    };
    let (ann, bob) = ([("x-user", "ann")], [("x-user", "bob")]);
    let (shared, apart) = (limit(&[]), limit(&["request.headers[x-user]"]));
    assert_eq!(name(&shared, 0, &ann), name(&shared, 0, &bob));
    assert_ne!(name(&shared, 0, &ann), name(&shared, 1, &ann));
    assert_eq!(name(&apart, 0, &ann), name(&apart, 0, &ann));
    assert_ne!(name(&apart, 0, &ann), name(&apart, 0, &bob));
    // Those who say nothing share one.
    assert_eq!(name(&apart, 0, &[]), name(&apart, 0, &[("x-other", "1")]));
    assert_ne!(name(&apart, 0, &[]), name(&apart, 0, &[("x-user", "")]));
}

#[test]
fn a_service_is_told_of_requests_that_a_descriptor_is_of_and_of_which_all_parts_are_known() {
    let of_path = |path: &str| {
        let mut operation = Operation::default();
        operation.paths.any.push(path.parse().unwrap());
        RequestRule { to: vec![operation], ..RequestRule::default() }
    };
    let entry = |key: &str, value| Entry { key: key.into(), value };
    let of = |name: &str| EntryValue::Of(name.parse().unwrap());
    let descriptor = |path: &str, entries| Descriptor { rule: of_path(path), entries };
    let limit = GlobalLimit {
        at: Some("limits.shop:8081".parse().unwrap()),
        domain: "shop".into(),
        descriptors: vec![
            descriptor(
                "/cart/*",
                vec![entry("who", of("source.namespace")), entry("what", EntryValue::Fixed("cart".into()))],
            ),
            descriptor("/bank/*", vec![entry("who", of("source.namespace"))]),
            descriptor("/cart/*", vec![entry("user", of("request.headers[x-user]"))]),
        ],
        hits: 1,
        patience: PATIENCE,
        fail_closed: false,
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    with(&[], None, |facts| {
        assert_eq!(limit.describe(facts), [vec![pair("who", "shop"), pair("what", "cart")]]);
    });
    with(&[("x-user", "ann")], None, |facts| assert_eq!(limit.describe(facts).len(), 2));
}
