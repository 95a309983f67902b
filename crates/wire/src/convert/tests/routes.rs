//! Which routes are refused, with which reason; and the bytes that one has, which the next version must still read.

use ambit_model::http_route::{PathMatch, RouteKind, TimeLimit, ValueMatch};
use prost::Message;

use super::super::{ConvertError, ResourceType, decode, route_from_pb, route_to_pb};
use crate::limits;
use crate::pb::discovery::Payload;
use crate::pb::waypoint as pb;

fn a_route() -> pb::Route {
    let upstream = pb::Upstream { service: "shop/cart.shop.svc".into(), port: 80, ..Default::default() };
    let backend = pb::Backend { to: Some(pb::backend::To::Upstream(upstream)), weight: 1, change: None };
    let path = pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/v2".into())) };
    let header = pb::NamedMatch {
        name: "version".into(),
        value: Some(pb::ValueMatch { kind: Some(pb::value_match::Kind::Exact("two".into())) }),
    };
    let one = pb::Match { path: Some(path), headers: vec![header], ..Default::default() };
    pb::Route {
        kind: pb::Kind::Http.into(),
        namespace: "shop".into(),
        name: "cart".into(),
        created_s: 1_700_000_000,
        parents: vec![pb::Parent { service: "shop/cart.shop.svc".into(), port: 0 }],
        rules: vec![pb::Rule {
            matches: vec![one],
            backends: vec![backend],
            request_timeout_ms: Some(0),
            ..Default::default()
        }],
    }
}

fn with_filters(change: impl FnOnce(&mut pb::Filters)) -> pb::Route {
    let mut filters = pb::Filters::default();
    change(&mut filters);
    let mut route = a_route();
    route.rules[0].change = Some(pb::rule::Change::Filters(Box::new(filters)));
    route
}

#[test]
fn a_route_is_read() {
    let route = route_from_pb(a_route()).unwrap();
    assert_eq!(route.key.to_string(), "HTTPRoute/shop/cart");
    assert_eq!(route.key.kind, RouteKind::Http);
    assert_eq!(route.parents[0].port, None);
    let rule = &route.rules[0];
    assert_eq!(rule.matches[0].path, PathMatch::Prefix("/v2".into()));
    assert_eq!(rule.matches[0].headers[0].value, ValueMatch::Exact("two".into()));
    assert_eq!((rule.timeouts.request, rule.timeouts.backend_request), (TimeLimit::Off, TimeLimit::Unset));
    assert_eq!(rule.backends[0].to.as_ref().unwrap().to_string(), "shop/cart.shop.svc:80");
    assert_eq!(route_to_pb(&route), a_route());
}

#[test]
fn a_route_has_the_bytes_that_older_and_newer_versions_read() {
    let written: String = a_route().encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written, GOLDEN);
}

/// Kind, namespace, name, time, parent, rule {match {path, header}, backend, no limit of time}: taken apart by hand.
const GOLDEN: &str = "0802120473686f701a04636172742080e2cfaa062a140a1273686f702f636172742e73686f702e737663\
    323912190a0512032f76321a100a0776657273696f6e12050a0374776f2a1a0a160a1273686f702f636172742e73686f702e737663\
    105018013000";

#[test]
fn a_route_is_refused_with_its_field_and_value() {
    type Change = fn(&mut pb::Route);
    let cases: Vec<(Change, &str)> = vec![
        (|r| r.kind = 0, "kind is 0, which is unknown here"),
        (|r| r.kind = 9, "kind is 9, which is unknown here"),
        (|r| r.name.clear(), "name is refused: route name is empty; give a name"),
        (
            |r| r.parents[0].service = "cart".into(),
            "parents.service is refused: service \"cart\" is not of the form <namespace>/<name>",
        ),
        (|r| r.parents[0].port = 65_536, "parents.port is 65536; a port is at most 65535"),
        (|r| r.parents = vec![r.parents[0].clone(); 8193], "parents: 8193 is more than 8192"),
        (|r| r.rules = vec![r.rules[0].clone(); 17], "rules: 17 is more than 16"),
        (|r| r.rules[0].matches = vec![pb::Match::default(); 129], "matches: 129 is more than 128"),
        (|r| r.rules[0].backends = vec![pb::Backend::default(); 17], "backends: 17 is more than 16"),
        (|r| r.rules[0].backends[0].weight = 1_000_001, "backends.weight: 1000001 is more than 1000000"),
        (|r| r.rules[0].backends[0].to = None, "backends.to holds none of the known alternatives"),
        (|r| r.rules[0].matches[0].method = "a b".into(), "matches.method is \"a b\", wanted a method"),
        (
            |r| r.rules[0].matches[0].headers[0].name = "a b".into(),
            "matches.headers.name is \"a b\", wanted a header's name",
        ),
        (
            |r| r.rules[0].matches[0].headers[0].value = None,
            "matches.headers.value holds none of the known alternatives",
        ),
        (
            |r| r.rules[0].matches[0].path = Some(pb::PathMatch::default()),
            "matches.path holds none of the known alternatives",
        ),
        (
            |r| r.rules[0].retry = Some(pb::Retry { codes: vec![200], ..Default::default() }),
            "retry.codes is \"200\", wanted a status code of at least 400",
        ),
        (
            |r| r.rules[0].retry = Some(pb::Retry { on: vec![99], ..Default::default() }),
            "retry.on is 99, which is unknown here",
        ),
        (|r| r.rules[0].name = "n".repeat(1025), "rules.name has 1025 bytes, more than 1024"),
    ];
    for (change, wanted) in cases {
        let mut route = a_route();
        change(&mut route);
        assert_eq!(route_from_pb(route).unwrap_err().in_full(), wanted);
    }
}

#[test]
fn a_filter_is_refused_with_its_field_and_value() {
    type Change = fn(&mut pb::Filters);
    let cases: Vec<(Change, &str)> = vec![
        (
            |f| f.redirect = Some(pb::Redirect { status: 200, ..Default::default() }),
            "redirect.status is \"200\", wanted a redirect's",
        ),
        (
            |f| f.redirect = Some(pb::Redirect { status: 302, scheme: 7, ..Default::default() }),
            "redirect.scheme is 7, which is unknown here",
        ),
        (
            |f| {
                let path = pb::PathChange { kind: Some(pb::path_change::Kind::Full("/a?b".into())) };
                f.rewrite = Some(pb::Rewrite { path: Some(path), ..Default::default() });
            },
            "a path is refused: the path \"/a?b\" holds '?'; write it as a URL does, without query and fragment",
        ),
        (
            |f| {
                f.mirrors =
                    vec![pb::Mirror { to: Some(pb::mirror::To::Broken("x".into())), parts: 2, whole: 1 }]
            },
            "mirrors.parts is \"2/1\", wanted a share of at most all",
        ),
        (
            |f| {
                let origins = Some(pb::Names { any: false, these: vec!["bar.com".into()] });
                f.cors = Some(pb::Cors { origins, ..Default::default() });
            },
            "cors.origins is refused: \"bar.com\" is no origin; write http(s)://<host>[:<port>], the host with at \
             most a leading `*.`",
        ),
        (
            |f| {
                f.request_headers =
                    Some(pb::HeaderEdits { remove: vec!["Host".into()], ..Default::default() })
            },
            "a header is refused: the header host belongs to the connection or says where a request goes; a \
             filter cannot change it",
        ),
        (
            |f| {
                let header = pb::Header { name: "x".into(), value: b"a\nb".to_vec().into() };
                f.response_headers = Some(pb::HeaderEdits { set: vec![header], ..Default::default() });
            },
            "headers.value is \"a\\nb\", wanted a header's value",
        ),
    ];
    for (change, wanted) in cases {
        assert_eq!(route_from_pb(with_filters(change)).unwrap_err().in_full(), wanted);
    }
}

#[test]
fn what_a_request_meets_in_a_backends_place_is_refused_with_its_field_and_value() {
    type Change = fn(&mut pb::Filters);
    let cases: Vec<(Change, &str)> = vec![
        (
            |f| f.direct = Some(pb::Direct { status: 100, ..Default::default() }),
            "direct.status is \"100\", wanted a status from 200 to 599",
        ),
        (
            |f| f.direct = Some(pb::Direct { status: 200, body: vec![0; (1 << 20) + 1].into() }),
            "direct.body has 1048577 bytes, more than 1048576",
        ),
        (
            |f| f.fault = Some(pb::Fault { delay: Some(delay(600_001, 1, 1)), abort: None }),
            "fault.delay is \"600001 ms\", wanted at most ten minutes",
        ),
        (
            |f| f.fault = Some(pb::Fault { delay: Some(delay(1, 2, 1)), abort: None }),
            "fault.delay.parts is \"2/1\", wanted a share of at most all",
        ),
        (
            |f| f.fault = Some(pb::Fault { delay: None, abort: Some(abort(None)) }),
            "fault.abort holds none of the known alternatives",
        ),
        (
            |f| {
                f.fault = Some(pb::Fault { delay: None, abort: Some(abort(Some(pb::abort::With::Grpc(17)))) })
            },
            "fault.abort is \"17\", wanted a status of gRPC",
        ),
    ];
    for (change, wanted) in cases {
        assert_eq!(route_from_pb(with_filters(change)).unwrap_err().in_full(), wanted);
    }
}

fn delay(time_ms: u64, parts: u32, whole: u32) -> pb::Delay {
    pb::Delay { time_ms, parts, whole }
}

fn abort(with: Option<pb::abort::With>) -> pb::Abort {
    pb::Abort { with, parts: 1, whole: 1 }
}

#[test]
fn a_virtual_service_may_have_more_rules_than_a_route_and_not_any_number() {
    let of = |rules: usize| {
        let mut route = a_route();
        route.kind = pb::Kind::VirtualService.into();
        route.rules = vec![pb::Rule::default(); rules];
        route_from_pb(route)
    };
    assert_eq!(of(limits::VIRTUAL_RULES).unwrap().key.to_string(), "VirtualService/shop/cart");
    assert_eq!(of(limits::VIRTUAL_RULES + 1).unwrap_err().in_full(), "rules: 4097 is more than 4096");
}

#[test]
fn a_prefix_is_replaced_only_where_every_match_is_of_one() {
    let prefixed = || {
        let path = pb::PathChange { kind: Some(pb::path_change::Kind::Prefix("/x".into())) };
        with_filters(|f| f.rewrite = Some(pb::Rewrite { path: Some(path), ..Default::default() }))
    };
    assert!(route_from_pb(prefixed()).is_ok());
    let mut exact = prefixed();
    exact.rules[0].matches[0].path =
        Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Exact("/v2".into())) });
    assert_eq!(route_from_pb(exact), Err(ConvertError::NoPrefix));
}

#[test]
fn an_expression_that_does_not_compile_is_refused_by_its_field() {
    let mut route = a_route();
    route.rules[0].matches[0].path =
        Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Regex("(".into())) });
    let found = route_from_pb(route).unwrap_err();
    assert!(matches!(found, ConvertError::Pattern { field: "matches.path", .. }), "{found:?}");
}

#[test]
fn a_route_under_another_name_is_refused() {
    let value = a_route().encode_to_vec().into();
    let payload = Payload { type_url: ResourceType::Route.url().into(), value };
    let found = decode(ResourceType::Route, "HTTPRoute/shop/card", Some(payload));
    assert!(matches!(found, Err(ConvertError::Misnamed { .. })), "{found:?}");
}

#[test]
fn a_limit_of_time_is_never_made_none_by_being_short() {
    let mut route = route_from_pb(a_route()).unwrap();
    let mut rule = (*route.rules[0]).clone();
    rule.timeouts.request = TimeLimit::After(std::time::Duration::from_micros(10));
    route.rules[0] = rule.into();
    assert_eq!(route_to_pb(&route).rules[0].request_timeout_ms, Some(1));
}

#[test]
fn what_the_gateway_api_allows_is_within_the_limits() {
    assert_eq!((limits::ROUTE_PARENTS, limits::ROUTE_RULES, limits::ROUTE_MATCHES), (8192, 16, 128));
    assert_eq!((limits::ROUTE_BACKENDS, limits::ROUTE_LIST), (16, 16));
}
