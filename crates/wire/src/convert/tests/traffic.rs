//! How traffic is handled, there and back, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{Broken, RetryBudget};
use ambit_model::service::Scope;
use ambit_model::traffic::{
    Adaptive, Ask, Balance, Handling, HashBy, HashTable, Limits, Near, Origination, Outlier, Place, Probe,
    Proxied, Roots, Shares, SubjectName, Subset, Traffic, Version, Wanted, Warmup,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::{ConvertError, traffic_from_pb, traffic_to_pb};
use super::arbitrary::{PART, one_of, reads_back, service_key};
use crate::limits;
use crate::pb::waypoint as pb;

fn time() -> impl Strategy<Value = Duration> {
    (0u64..1 << 40).prop_map(Duration::from_millis)
}

fn balance() -> impl Strategy<Value = Balance> {
    let by = prop_oneof![
        Just(HashBy::Header("x-user".parse().unwrap())),
        (PART, PART, option::of(time())).prop_map(|(name, path, ttl)| HashBy::Cookie {
            name: name.into(),
            path: path.into(),
            ttl
        }),
        PART.prop_map(|name| HashBy::Query(name.into())),
        Just(HashBy::SourceIp),
    ];
    let table = prop_oneof![
        (0u32..1 << 23).prop_map(|least| HashTable::Ring { least }),
        (0u32..1 << 23).prop_map(|size| HashTable::Maglev { size }),
    ];
    prop_oneof![
        Just(Balance::LeastRequest),
        Just(Balance::Random),
        Just(Balance::RoundRobin),
        (by, table).prop_map(|(by, table)| Balance::Hash(by, table)),
    ]
}

fn near() -> impl Strategy<Value = Near> {
    let place = || PART.prop_map(|text| Place::read(&format!("{text}/{text}")));
    let wanted = (one_of(&[Scope::Region, Scope::Node, Scope::Network, Scope::Cluster]), option::of(PART));
    let wanted = wanted.prop_map(|(scope, value)| Wanted { scope, value: value.map(Into::into) });
    let shares = (place(), vec((place(), any::<u32>()), 0..3)).prop_map(|(from, to)| Shares { from, to });
    prop_oneof![
        Just(Near::Unsaid),
        Just(Near::Ignored),
        vec((PART, PART), 0..3)
            .prop_map(|all| Near::Failover(all.into_iter().map(|(a, b)| (a.into(), b.into())).collect())),
        vec(wanted, 0..3).prop_map(Near::Priority),
        vec(shares, 0..3).prop_map(Near::Shares),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let count = || option::of(any::<u32>());
    let versions = one_of(&[Version::OfPort, Version::Http1, Version::Http2]);
    let counts = (count(), count(), count(), count(), count(), count());
    let times = (option::of(time()), option::of(time()), option::of(time()), option::of(time()));
    (counts, times, versions).prop_map(|(counts, times, version)| {
        let (connections, pending, requests, retries, per_connection, streams) = counts;
        let (connect, idle, still, age) = times;
        Limits {
            connections,
            pending,
            requests,
            retries,
            per_connection,
            connect,
            idle,
            still,
            age,
            streams,
            version,
        }
    })
}

fn outlier() -> impl Strategy<Value = Outlier> {
    let counts = (any::<u32>(), any::<u32>(), option::of(any::<u32>()), 0u32..101, 0u32..101);
    (counts, time(), time()).prop_map(|((errors, gateway_errors, split, most, panic), interval, base)| {
        Outlier { errors, gateway_errors, split, interval, base, most_percent: most, panic_percent: panic }
    })
}

fn tls() -> impl Strategy<Value = Origination> {
    let name = prop_oneof![
        PART.prop_map(|it| SubjectName::Host(it.into())),
        PART.prop_map(|it| SubjectName::Uri(it.into())),
        PART.prop_map(|it| SubjectName::Any(it.into())),
    ];
    let roots = prop_oneof![
        Just(Roots::System),
        Just(Roots::Unchecked),
        PART.prop_map(|it| Roots::Given(it.into())),
        PART.prop_map(|it| Roots::Credential(it.into())),
    ];
    (
        option::of("[a-z]{1,9}".prop_map(Into::into)),
        vec(name, 0..3),
        roots,
        option::of("[a-z]{1,9}".prop_map(Into::into)),
    )
        .prop_map(|(server, names, roots, shown)| Origination { server, names, roots, shown })
}

fn probe() -> impl Strategy<Value = Probe> {
    let host = option::of("[a-z]{1,9}".prop_map(Into::into));
    let http = ("/[a-z]{0,9}", host, 100u16..600, 100u16..600).prop_map(|(path, host, from, to)| Ask::Http {
        path: path.into(),
        host,
        good: from..=to,
    });
    let grpc = "[a-z.]{0,9}".prop_map(|service| Ask::Grpc { service: service.into() });
    let ask = prop_oneof![Just(Ask::Tcp), http, grpc];
    (ask, time(), time(), any::<u32>(), any::<u32>()).prop_map(
        |(ask, interval, timeout, unhealthy, healthy)| Probe { ask, interval, timeout, unhealthy, healthy },
    )
}

fn handling() -> impl Strategy<Value = Handling> {
    let warmup = (time(), any::<u32>(), any::<u32>())
        .prop_map(|(duration, least_percent, aggression)| Warmup { duration, least_percent, aggression });
    let budget = (any::<u32>(), any::<u32>()).prop_map(|(percent, floor)| RetryBudget { percent, floor });
    let parts = (
        option::of(warmup),
        option::of(outlier()),
        option::of(budget),
        option::of("[a-z]{1,9}"),
        option::of(tls()),
        option::of(prop_oneof![Just(Proxied::V1), Just(Proxied::V2)]),
    );
    let adaptive = (any::<u32>(), any::<u32>()).prop_map(|(least, most)| Adaptive { least, most });
    let resilient = (option::of(probe()), option::of(time()), option::of(adaptive));
    (balance(), near(), limits(), parts, resilient).prop_map(|(balance, near, limits, parts, resilient)| {
        let (warmup, outlier, retry_budget, closed, tls, proxied) = parts;
        let closed = closed.map(|why| Broken::because(&why));
        let (probe, hedge_after, adaptive) = resilient;
        Handling {
            balance,
            near,
            warmup,
            limits,
            outlier,
            probe,
            hedge_after,
            adaptive,
            retry_budget,
            tls,
            proxied,
            closed,
        }
    })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let ports = || btree_map(any::<u16>(), handling(), 0..2);
    let subset = (btree_set(PART.prop_map(Into::into), 0..3), handling(), ports())
        .prop_map(|(members, handling, ports)| Subset { members, handling, ports });
    (service_key(), handling(), ports(), btree_map(PART.prop_map(Into::into), subset, 0..3))
        .prop_map(|(service, handling, ports, subsets)| Traffic { service, handling, ports, subsets })
}

proptest! {
    #[test]
    fn any_handling_of_traffic_reads_back(traffic in traffic()) {
        reads_back(&Change::Traffic(Arc::new(traffic)))?;
    }
}

/// What is sent of a simple one, changed.
fn changed(change: impl FnOnce(&mut pb::Traffic, &mut pb::Handling)) -> Result<Traffic, ConvertError> {
    let simple = Traffic {
        service: "shop/web.shop.svc".parse().unwrap(),
        handling: Handling::default(),
        ports: Default::default(),
        subsets: Default::default(),
    };
    let mut raw = traffic_to_pb(&simple);
    let mut handling = raw.handling.take().unwrap();
    change(&mut raw, &mut handling);
    raw.handling = Some(handling);
    traffic_from_pb(raw)
}

#[test]
fn what_cannot_be_read_is_refused_by_its_field() {
    assert!(changed(|_, _| {}).is_ok());
    let none = pb::Balance { kind: None };
    let refused = changed(|_, it| it.balance = Some(none));
    assert_eq!(refused, Err(ConvertError::NoAlternative { field: "balance" }));
    let none = pb::Near { kind: None };
    assert_eq!(changed(|_, it| it.near = Some(none)), Err(ConvertError::NoAlternative { field: "near" }));
    let version = pb::Limits { version: 9, ..Default::default() };
    let refused = changed(|_, it| it.limits = Some(version));
    assert_eq!(refused, Err(ConvertError::UnknownValue { field: "limits.version", value: 9 }));
    let by = pb::hash_balance::By::Header("a b".into());
    let hash = pb::HashBalance { by: Some(by), table: Some(pb::hash_balance::Table::Ring(1)) };
    let balance = pb::Balance { kind: Some(pb::balance::Kind::Hash(hash)) };
    let refused = changed(|_, it| it.balance = Some(balance)).unwrap_err();
    assert!(refused.to_string().starts_with("balance.hash.header is \"a b\""), "{refused}");
    let wanted = pb::Wanted { scope: "rack".into(), value: None };
    let near = pb::near::Kind::Priority(pb::Priorities { wanted: vec![wanted] });
    let refused = changed(|_, it| it.near = Some(pb::Near { kind: Some(near) })).unwrap_err();
    assert!(refused.to_string().starts_with("near.priority.scope is \"rack\""), "{refused}");
    let many = vec![pb::Subset::default(); limits::TRAFFIC_SUBSETS + 1];
    let refused = changed(|it, _| it.subsets = many);
    let limit = limits::TRAFFIC_SUBSETS;
    assert_eq!(refused, Err(ConvertError::TooMany { field: "subsets", found: limit + 1, limit }));
    let port = pb::PortHandling { port: 70_000, handling: None };
    let refused = changed(|it, _| it.ports = vec![port]);
    assert_eq!(refused, Err(ConvertError::Port { field: "ports.port", value: 70_000 }));
    assert!(matches!(
        changed(|it, _| it.service = "web".into()),
        Err(ConvertError::Name { field: "service", .. })
    ));
}

#[test]
fn a_version_of_the_proxy_header_that_there_is_not_is_refused() {
    let error = changed(|_, handling| handling.proxied = 3).unwrap_err();
    assert!(matches!(error, ConvertError::Value { field: "proxied", .. }), "{error}");
}
