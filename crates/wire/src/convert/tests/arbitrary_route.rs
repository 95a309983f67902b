//! Arbitrary routes read back as they were written; damaged ones are read or refused, never a panic.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{
    Abort, AbortWith, Backend, Broken, ClaimMatch, ConnectionMatch, Cors, Delay, Direct, Fault, Filling,
    Filters, HeaderEdits, HeaderMatch, Kept, Match, Mirror, More, Names, Parent, PathChange, PathMatch,
    QueryMatch, Redirect, RedirectStatus, Retry, RetryOn, Rewrite, Route, RouteKey, RouteKind, Rule, Scheme,
    Session, Share, Substitution, TimeLimit, Timeouts, Upstream, ValueMatch,
};
use http::{HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::{ResourceType, decode, encode};
use super::arbitrary::{PART, one_of, reads_back, service_key};
use super::providers::authorizer;
use crate::pb::discovery::Payload;

const TEXT: &str = ".{0,12}";
const PATH: &str = "(/[a-z0-9%.]{0,4}){0,3}";

fn value_match() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        TEXT.prop_map(|text| ValueMatch::Exact(text.into())),
        "[a-z.*+|]{0,4}".prop_filter_map("an expression", |text| Some(ValueMatch::Regex(text.parse().ok()?))),
        TEXT.prop_map(|text| ValueMatch::Prefix(text.into())),
        Just(ValueMatch::Present),
    ]
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        TEXT.prop_map(|text| PathMatch::Exact(text.into())),
        TEXT.prop_map(|text| PathMatch::Prefix(text.into())),
        (TEXT, any::<bool>()).prop_map(|(text, any_case)| PathMatch::Begins { text: text.into(), any_case }),
        "[a-z.*/]{0,4}".prop_filter_map("an expression", |text| Some(PathMatch::Regex(text.parse().ok()?))),
        (option::of(value_match()), option::of(value_match()))
            .prop_map(|(service, method)| PathMatch::Grpc { service, method }),
    ]
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z0-9-]{0,8}".prop_map(|name| name.parse().unwrap())
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    vec(any::<u8>(), 0..8).prop_filter_map("a header's value", |value| HeaderValue::from_bytes(&value).ok())
}

fn method() -> impl Strategy<Value = Method> {
    one_of(&[Method::GET, Method::POST, Method::from_bytes(b"BREW").unwrap()])
}

fn one_match() -> impl Strategy<Value = Match> {
    let header = (header_name(), value_match()).prop_map(|(name, value)| HeaderMatch { name, value });
    let query = (TEXT, value_match()).prop_map(|(name, value)| QueryMatch { name: name.into(), value });
    (path_match(), option::of(method()), vec(header, 0..3), vec(query, 0..3), option::of(more())).prop_map(
        |(path, method, headers, query, more)| Match {
            path,
            method,
            headers,
            query,
            more: more.map(Box::new),
        },
    )
}

fn more() -> impl Strategy<Value = More> {
    let claims = || {
        let claim = (vec("[a-z.]{1,4}", 1..3), value_match())
            .prop_map(|(path, value)| ClaimMatch { path: path.into_iter().map(Into::into).collect(), value });
        vec(claim, 0..2)
    };
    let header = (header_name(), value_match()).prop_map(|(name, value)| HeaderMatch { name, value });
    let one = || option::of(value_match());
    let servers = || vec("[a-z]{1,8}".prop_map(|name| format!("*.{name}").parse().unwrap()), 0..2);
    let range = || one_of(&["10.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()]);
    let connection =
        (vec(range(), 0..3), option::of(range())).prop_map(|(to, from)| ConnectionMatch { to, from });
    let labels = option::of(PART)
        .prop_map(|it| it.into_iter().map(|key| (key.as_str().into(), "v1".into())).collect());
    let asked = (claims(), claims(), servers(), option::of(connection));
    let who = (option::of(PART), labels);
    ((one(), one(), one()), option::of(1u16..), who, vec(header, 0..2), asked).prop_map(
        |((method, scheme, authority), port, (from, from_labels), without_headers, asked)| {
            let (claims, without_claims, servers, connection) = asked;
            More {
                method,
                scheme,
                authority,
                port,
                from: from.map(|from| from.parse().unwrap()),
                without_headers,
                claims,
                without_claims,
                servers,
                from_labels,
                connection,
            }
        },
    )
}

fn direct() -> impl Strategy<Value = Direct> {
    (200..600u16, vec(any::<u8>(), 0..9)).prop_map(|(status, body)| Direct { status, body: body.into() })
}

fn fault() -> impl Strategy<Value = Fault> {
    let share = || (0..5u32).prop_map(|parts| Share::new(parts, parts + 1).unwrap());
    let delay =
        (0..100_000u64, share()).prop_map(|(ms, share)| Delay { time: Duration::from_millis(ms), share });
    let with = prop_oneof![(200..600u16).prop_map(AbortWith::Http), (0..=16u16).prop_map(AbortWith::Grpc)];
    let abort = (with, share()).prop_map(|(with, share)| Abort { with, share });
    (option::of(delay), option::of(abort)).prop_map(|(delay, abort)| Fault { delay, abort })
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let header = || (header_name(), header_value());
    let filling = (header_name(), "(%PROTOCOL%|%REQ\\(x-[a-z]\\)%|[a-z]{1,3}|%%){1,3}", any::<bool>());
    let filling =
        filling.prop_map(|(name, value, adds)| Filling { name, value: value.parse().unwrap(), adds });
    let all = (vec(header(), 0..2), vec(header(), 0..2), vec(header_name(), 0..2), vec(filling, 0..2));
    all.prop_map(|(set, add, remove, fill)| {
        let mut edits = HeaderEdits::default();
        fill.into_iter().for_each(|it| edits.fill(it).unwrap());
        set.into_iter().for_each(|(name, value)| edits.set(name, value).unwrap());
        add.into_iter().for_each(|(name, value)| edits.add(name, value).unwrap());
        remove.into_iter().for_each(|name| edits.remove(name).unwrap());
        edits
    })
}

fn path_change() -> impl Strategy<Value = PathChange> {
    prop_oneof![
        PATH.prop_map(|path| PathChange::Full(path.parse().unwrap())),
        PATH.prop_map(|path| PathChange::Beginning(path.parse().unwrap())),
        ("[a-z]{1,3}", PATH).prop_map(|(of, with)| PathChange::Parts(Substitution::new(&of, &with).unwrap())),
    ]
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let places = (option::of(PART), option::of(1u16..), option::of(path_change()), any::<bool>());
    (option::of(one_of(&[Scheme::Http, Scheme::Https])), places, one_of(&RedirectStatus::ALL)).prop_map(
        |(scheme, (hostname, port, path, keeps_port), status)| Redirect {
            scheme,
            hostname: hostname.map(|host| host.parse().unwrap()),
            port,
            keeps_port,
            path,
            status,
        },
    )
}

fn upstream() -> impl Strategy<Value = Result<Upstream, Broken>> {
    prop_oneof![
        3 => (service_key(), any::<u16>(), option::of("[a-z]{1,9}")).prop_map(|(service, port, subset)| {
            Ok(Upstream { service, port, subset: subset.map(Into::into) })
        }),
        1 => TEXT.prop_map(|why| Err(Broken::because(&why))),
    ]
}

fn names<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = Names<T>> + use<T> {
    prop_oneof![Just(Names::Any), vec(one_of(values), 0..3).prop_map(Names::These)]
}

fn cors() -> impl Strategy<Value = Cors> {
    let origins = ["https://a.b", "http://*.c:8080"].map(|text| text.parse().unwrap());
    let headers = ["x-a", "x-b"].map(HeaderName::from_static);
    let lists = (names(&origins), names(&[Method::GET, Method::PUT]), names(&headers), names(&headers));
    (lists, any::<[bool; 2]>(), option::of(any::<u32>()), vec(value_match(), 0..2)).prop_map(
        |((origins, methods, headers, expose), [credentials, passes_unknown], max_age_s, more_origins)| {
            Cors { origins, more_origins, credentials, methods, headers, expose, max_age_s, passes_unknown }
        },
    )
}

fn filters() -> impl Strategy<Value = Filters> {
    let rewrite = (option::of(PART), option::of(1u16..), option::of(path_change())).prop_map(
        |(hostname, port, path)| Rewrite { hostname: hostname.map(|host| host.parse().unwrap()), port, path },
    );
    let instead = (option::of(direct()), option::of(fault()), option::of(authorizer()));
    let mirror = (upstream(), 0..5u32)
        .prop_map(|(to, parts)| Mirror { to, share: Share::new(parts, parts + 1).unwrap() });
    let edits = (edits(), edits());
    (edits, option::of(redirect()), option::of(rewrite), vec(mirror, 0..2), option::of(cors()), instead)
        .prop_map(
            |(
                (request_headers, response_headers),
                redirect,
                rewrite,
                mirrors,
                cors,
                (direct, fault, ask),
            )| {
                Filters {
                    request_headers,
                    response_headers,
                    redirect: redirect.map(Box::new),
                    rewrite: rewrite.map(Box::new),
                    mirrors,
                    cors: cors.map(Box::new),
                    direct,
                    fault: fault.map(Box::new),
                    ask: ask.map(Arc::new),
                }
            },
        )
}

fn change() -> impl Strategy<Value = Result<Filters, Broken>> {
    prop_oneof![3 => filters().prop_map(Ok), 1 => TEXT.prop_map(|why| Err(Broken::because(&why)))]
}

fn time_limit() -> impl Strategy<Value = TimeLimit> {
    prop_oneof![
        Just(TimeLimit::Unset),
        Just(TimeLimit::Off),
        (1..100_000u64).prop_map(|ms| TimeLimit::After(Duration::from_millis(ms))),
    ]
}

fn retry() -> impl Strategy<Value = Retry> {
    let events = [RetryOn::Any5xx, RetryOn::Reset, RetryOn::AttemptTimeout, RetryOn::Unavailable];
    let ms = || option::of((0..1000u64).prop_map(Duration::from_millis));
    (0..10u32, vec(400..600u16, 0..3), vec(one_of(&events), 0..3), (ms(), ms()), any::<[bool; 2]>()).prop_map(
        |(attempts, codes, on, (backoff, base), [same_again, moves_on])| Retry {
            attempts,
            codes,
            on,
            backoff,
            base,
            same_again,
            moves_on,
        },
    )
}

fn rule() -> impl Strategy<Value = Arc<Rule>> {
    let backend = (upstream(), 0..=1_000_000u32, change()).prop_map(|(to, weight, filters)| Backend {
        to,
        weight,
        filters,
    });
    let times = (time_limit(), time_limit())
        .prop_map(|(request, backend_request)| Timeouts { request, backend_request });
    let more = (option::of(retry()), option::of(session()));
    (TEXT, vec(one_match(), 0..3), change(), vec(backend, 0..3), times, more).prop_map(
        |(name, matches, filters, backends, timeouts, (retry, session))| {
            Arc::new(Rule { name: name.into(), matches, filters, backends, timeouts, retry, session })
        },
    )
}

fn session() -> impl Strategy<Value = Session> {
    let time = || option::of((1..100_000u64).prop_map(Duration::from_millis));
    let cookie =
        ("[a-z]{1,8}", option::of("/[a-z]{0,4}"), any::<bool>()).prop_map(|(name, path, permanent)| {
            Kept::Cookie { name: name.parse().unwrap(), path: path.map(Into::into), permanent }
        });
    let kept = prop_oneof![cookie, header_name().prop_map(Kept::Header)];
    (kept, time(), time()).prop_map(|(kept, absolute, idle)| Session { kept, absolute, idle })
}

fn route() -> impl Strategy<Value = Route> {
    let parent = (service_key(), option::of(1u16..)).prop_map(|(service, port)| Parent { service, port });
    let key = (one_of(&RouteKind::ALL), PART, PART).prop_map(|(kind, namespace, name)| RouteKey {
        kind,
        namespace: namespace.parse().unwrap(),
        name: name.parse().unwrap(),
    });
    (key, any::<u64>(), vec(parent, 0..3), vec(rule(), 0..3))
        .prop_map(|(key, created_s, parents, rules)| Route { key, created_s, parents, rules })
}

proptest! {
    #[test]
    fn a_route_reads_back_as_it_was_written(noun in route()) {
        reads_back(&Change::Route(Arc::new(noun)))?;
    }

    #[test]
    fn damaged_routes_are_read_or_refused(noun in route(), at: proptest::sample::Index, with: u8) {
        let (key, encoded) = encode(&Change::Route(Arc::new(noun)));
        let mut value = encoded.unwrap().body.to_vec();
        let at = at.index(value.len());
        value[at] = with;
        let payload = Payload { type_url: ResourceType::Route.url().into(), value: value.into() };
        let _ = decode(ResourceType::Route, &key.to_string(), Some(payload));
    }

    /// A dump shows any route.
    #[test]
    fn every_route_can_be_shown(noun in route()) {
        let shown = crate::local::route(&noun);
        prop_assert_eq!(shown["name"].as_str(), Some(noun.key.name.as_str()));
        prop_assert_eq!(shown["rules"].as_array().map_or(0, Vec::len), noun.rules.len());
    }
}
