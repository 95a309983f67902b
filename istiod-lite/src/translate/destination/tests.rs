//! DestinationRules become how services' traffic is handled.

use std::time::Duration;

use ambit_model::service::Scope;
use ambit_model::traffic::{Balance, HashBy, HashTable, Limits, Near, Outlier, Place, Version, Warmup};

use super::*;
use crate::testing::world;

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-0{age}T00:00:00Z'}}, spec: {{{spec}}}}}\n",
        age = name.len().min(9),
    )
}

fn pod(name: &str, labels: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: web, {labels}}}}}, spec: {{nodeName: n}}, status: {{podIP: 10.0.0.1, phase: Running}}}}\n"
    )
}

const SERVICE: &str = "---\n{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [{port: 80}]}}\n";

fn web(text: &str, waypoint: Option<&str>) -> Option<Traffic> {
    let world = world(&format!("{SERVICE}{text}"));
    let key = "shop/web.shop.svc.cluster.local".parse().unwrap();
    traffic(&world, Host { key: &key, waypoint }, &Secured::default(), |labels| {
        labelled(&world, "shop", labels, |_| true)
    })
}

/// What one policy means, and what of it is not gone by.
fn read(policy: &str) -> (Handling, Vec<String>) {
    let text = rule("shop", "a", &format!("host: web, trafficPolicy: {{{policy}}}"));
    let world = world(&format!("{SERVICE}{text}"));
    let rule = &world.space("shop").unwrap().destination_rules["a"];
    (web(&text, None).unwrap().handling, notes(rule, Within { world: &world, namespace: None }))
}

#[test]
fn the_rule_that_is_in_force_is_the_waypoints_or_the_services_or_the_meshs_and_names_the_host_best() {
    let of = |namespace: &str, name: &str, host: &str, more: &str| {
        rule(
            namespace,
            name,
            &format!(
                "host: {host}, {more}trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {}}}}}}}",
                name.len()
            ),
        )
    };
    let full = "web.shop.svc.cluster.local";
    let found =
        |all: &[String], waypoint| web(&all.concat(), waypoint).and_then(|it| it.handling.limits.requests);
    let own = of("shop", "aa", full, "");
    let root = of("istio-system", "aaa", full, "");
    let ways = of("ways", "aaaa", full, "");
    for (all, waypoint, wanted) in [
        (vec![own.clone(), root.clone(), ways.clone()], None, Some(2)),
        (vec![own.clone(), root.clone(), ways.clone()], Some("ways"), Some(4)),
        (vec![root.clone(), ways.clone()], None, Some(3)),
        (vec![ways.clone()], None, None),
        // A word is a service of the rule's own namespace.
        (vec![of("shop", "aa", "web", "")], None, Some(2)),
        (vec![of("ways", "aa", "web", "")], Some("ways"), None),
        (
            vec![of("shop", "aaa", "'*.shop.svc.cluster.local'", ""), of("shop", "a", "'*'", "")],
            None,
            Some(3),
        ),
        (vec![of("shop", "aa", "web", ""), of("shop", "a", "'*'", "")], None, Some(2)),
        (vec![of("shop", "aa", "other", "")], None, None),
        // Not for everybody.
        (vec![of("shop", "aa", full, "exportTo: ['.'], ")], Some("ways"), None),
        (vec![of("shop", "aa", full, "exportTo: ['.'], ")], Some("shop"), Some(2)),
        (vec![of("shop", "aa", full, "exportTo: [ways], ")], Some("ways"), Some(2)),
        (vec![of("shop", "aa", full, "exportTo: ['*'], ")], Some("ways"), Some(2)),
        // For sidecars.
        (vec![of("shop", "aa", full, "workloadSelector: {matchLabels: {a: b}}, ")], None, None),
        // Of two, the older one's.
        (vec![of("shop", "aaa", full, ""), of("shop", "aa", full, "")], None, Some(2)),
    ] {
        assert_eq!(found(&all, waypoint), wanted, "{waypoint:?} {all:?}");
    }
}

#[test]
fn a_subset_has_the_workloads_with_all_of_its_labels_and_rules_of_one_host_add_theirs() {
    let text = [
        pod("one", "v: '1', zone: a"),
        pod("two", "v: '2', zone: a"),
        rule(
            "shop",
            "a",
            "host: web, subsets: [{name: v1, labels: {v: '1'}}, {name: both, labels: {zone: a}}]",
        ),
        rule(
            "shop",
            "aa",
            "host: web, subsets: [{name: v1, labels: {v: '2'}}, {name: none, labels: {v: '2', zone: b}}]",
        ),
    ];
    let found = web(&text.concat(), None).unwrap();
    let members = |name: &str| -> Vec<String> {
        let all = &found.subsets[name].members;
        all.iter().map(|it| it.as_str().rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(found.subsets.len(), 3);
    assert_eq!(
        (members("v1"), members("both"), members("none")),
        (vec!["one".into()], vec!["one".into(), "two".into()], vec![])
    );
}

#[test]
fn what_is_said_of_a_subset_goes_before_the_host_part_by_part_and_a_port_stands_for_itself() {
    let text = rule(
        "shop",
        "a",
        "host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 1}}, portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 2}}}]}, subsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, portLevelSettings: [{port: {number: 82}, connectionPool: {tcp: {maxConnections: 3}}}]}}]",
    );
    let traffic = web(&text, None).unwrap();
    let of = |port, subset| {
        let (handling, _) = traffic.of(port, subset).unwrap();
        (handling.balance.clone(), handling.limits.connections)
    };
    assert_eq!(of(80, None), (Balance::Random, Some(1)));
    assert_eq!(of(81, None), (Balance::LeastRequest, Some(2)));
    assert_eq!(of(80, Some("v1")), (Balance::RoundRobin, Some(1)));
    assert_eq!(of(81, Some("v1")), (Balance::RoundRobin, Some(2)));
    assert_eq!(of(82, Some("v1")), (Balance::LeastRequest, Some(3)));
}

#[test]
fn algorithms_and_what_they_go_by_are_read_with_their_defaults() {
    let hash = |by, table| Balance::Hash(by, table);
    let ring = HashTable::Ring { least: 1024 };
    let cookie = |ttl| HashBy::Cookie { name: "u".into(), path: "/a".into(), ttl };
    for (policy, wanted) in [
        ("simple: UNSPECIFIED", Balance::LeastRequest),
        ("simple: LEAST_CONN", Balance::LeastRequest),
        ("simple: RANDOM", Balance::Random),
        ("simple: ROUND_ROBIN", Balance::RoundRobin),
        ("consistentHash: {useSourceIp: true}", hash(HashBy::SourceIp, ring)),
        (
            "consistentHash: {httpHeaderName: X-User, maglev: {}}",
            hash(HashBy::Header("x-user".parse().unwrap()), HashTable::Maglev { size: 65_537 }),
        ),
        (
            "consistentHash: {httpQueryParameterName: u, ringHash: {minimumRingSize: 9}}",
            hash(HashBy::Query("u".into()), HashTable::Ring { least: 9 }),
        ),
        ("consistentHash: {httpCookie: {name: u, path: /a}}", hash(cookie(None), ring)),
        (
            "consistentHash: {httpCookie: {name: u, path: /a, ttl: 0s}}",
            hash(cookie(Some(Duration::ZERO)), ring),
        ),
    ] {
        let (handling, notes) = read(&format!("loadBalancer: {{{policy}}}"));
        assert_eq!((handling.balance, notes.len()), (wanted, 0), "{policy}");
    }
}

#[test]
fn limits_and_who_is_left_out_are_read_with_their_defaults() {
    let (handling, notes) = read(
        "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 1m}, http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRequestsPerConnection: 4, maxRetries: 5, idleTimeout: 0.5s, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 6}}, outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 7, splitExternalLocalOriginErrors: true, interval: 1s, maxEjectionPercent: 100}, retryBudget: {percent: 12.5}",
    );
    let secs = Duration::from_secs;
    assert_eq!(
        handling.limits,
        Limits {
            connections: Some(1),
            pending: Some(2),
            requests: Some(3),
            retries: Some(5),
            per_connection: Some(4),
            connect: Some(secs(2)),
            idle: Some(Duration::from_millis(500)),
            still: None,
            age: Some(secs(60)),
            streams: Some(6),
            version: Version::Http2,
        }
    );
    let outlier = Outlier {
        errors: 0,
        gateway_errors: 7,
        split: Some(5),
        interval: secs(1),
        most_percent: 100,
        ..Outlier::default()
    };
    assert_eq!(handling.outlier, Some(outlier));
    assert_eq!(handling.retry_budget.map(|it| (it.percent, it.floor)), Some((13, 3)));
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(read("outlierDetection: {}").0.outlier, Some(Outlier::default()));
    assert_eq!(read("connectionPool: {http: {http2MaxRequests: 0}}").0.limits, Limits::default());
}

#[test]
fn places_and_warming_up_are_read() {
    let near = |setting: &str| read(&format!("loadBalancer: {{localityLbSetting: {{{setting}}}}}")).0.near;
    assert_eq!(near("enabled: false"), Near::Ignored);
    assert_eq!(near("enabled: true"), Near::Unsaid);
    assert_eq!(near("failover: [{from: a, to: b}]"), Near::Failover(vec![("a".into(), "b".into())]));
    let Near::Shares(shares) = near("distribute: [{from: a/b, to: {'c/*': 80, d: 20}}]") else { panic!() };
    assert_eq!((&shares[0].from, &shares[0].to[0]), (&Place::read("a/b"), &(Place::read("c/*"), 80)));
    let Near::Priority(wanted) =
        near("failoverPriority: [topology.istio.io/network, topology.kubernetes.io/zone=z]")
    else {
        panic!()
    };
    let wanted: Vec<_> =
        wanted.iter().map(|it| (it.scope, it.value.as_ref().map(|it| it.as_str()))).collect();
    assert_eq!(wanted, [(Scope::Network, None), (Scope::Zone, Some("z"))]);
    let warmup = |text: &str| read(&format!("loadBalancer: {{{text}}}")).0.warmup;
    let usual = Warmup { duration: Duration::from_secs(30), least_percent: 10, aggression: 1_000 };
    assert_eq!(warmup("warmupDurationSecs: 30s"), Some(usual));
    let given = Warmup { least_percent: 20, aggression: 1_500, ..usual };
    assert_eq!(warmup("warmup: {duration: 30s, minimumPercent: 20, aggression: 1.5}"), Some(given));
}

#[test]
fn what_is_not_gone_by_is_told_and_what_must_not_go_on_otherwise_is_closed() {
    for (policy, closed, told) in [
        ("tls: {mode: ISTIO_MUTUAL}", false, ""),
        ("tls: {mode: DISABLE}", false, ""),
        ("tls: {mode: SIMPLE}", false, ""),
        ("tls: {mode: SIMPLE, credentialName: c}", true, "trafficPolicy.tls.credentialName"),
        ("tls: {mode: MUTUAL, credentialName: c}", true, "trafficPolicy.tls.credentialName"),
        ("proxyProtocol: {version: V2}", false, ""),
        ("proxyProtocol: {version: V3}", false, "trafficPolicy.proxyProtocol.version: \"V3\" is none"),
        ("tunnel: {protocol: CONNECT, targetHost: a, targetPort: 1}", false, "trafficPolicy.tunnel"),
        ("loadBalancer: {simple: PASSTHROUGH}", false, "trafficPolicy.loadBalancer.simple PASSTHROUGH"),
        (
            "loadBalancer: {zoneAwareLbSetting: {enabled: true}}",
            false,
            "trafficPolicy.loadBalancer.zoneAwareLbSetting",
        ),
        (
            "loadBalancer: {localityLbSetting: {failoverPriority: [rack]}}",
            false,
            "trafficPolicy.loadBalancer.localityLbSetting.failoverPriority: rack",
        ),
        ("connectionPool: {tcp: {tcpKeepalive: {}}}", false, "trafficPolicy.connectionPool.tcp.tcpKeepalive"),
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [429]}",
            false,
            "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes",
        ),
        (
            "portLevelSettings: [{port: {number: 81}, tls: {mode: MUTUAL}}]",
            false,
            "trafficPolicy.portLevelSettings[0].tls.mode MUTUAL",
        ),
    ] {
        let (handling, notes) = read(policy);
        assert_eq!(handling.closed.is_some(), closed, "{policy}");
        assert_eq!(notes.is_empty(), told.is_empty(), "{policy}: {notes:?}");
        assert!(notes.iter().all(|note| note.starts_with(told)), "{policy}: {notes:?}");
    }
}

#[test]
fn what_annotations_ask_for_is_of_all_ports_and_subsets_and_what_cannot_be_read_is_told() {
    let annotated = |annotations: &str| {
        rule(
            "shop",
            "a",
            "host: web, subsets: [{name: v1}], trafficPolicy: {portLevelSettings: [{port: {number: 81}}]}",
        )
        .replace("name: a,", &format!("name: a, annotations: {{{annotations}}},"))
    };
    let text = annotated(
        "ambit.io/health-check: 'http=/healthz, interval=5s', ambit.io/hedging: after=80ms, ambit.io/adaptive-concurrency: 'min=2, max=20'",
    );
    let traffic = web(&text, None).unwrap();
    let subset = &traffic.subsets["v1"];
    for handling in [&traffic.handling, &traffic.ports[&81], &subset.handling, &subset.ports[&81]] {
        assert_eq!(handling.probe.as_ref().map(|it| it.interval), Some(Duration::from_secs(5)));
        assert_eq!(handling.hedge_after, Some(Duration::from_millis(80)));
        assert_eq!(handling.adaptive.map(|it| (it.least, it.most)), Some((2, 20)));
    }
    let text = annotated("ambit.io/health-check: ping, ambit.io/hedging: after=80ms");
    let world = world(&format!("{SERVICE}{text}"));
    let rule = &world.space("shop").unwrap().destination_rules["a"];
    assert_eq!(
        notes(rule, Within { world: &world, namespace: None }),
        ["annotation ambit.io/health-check has no effect: ping: not understood"]
    );
    let traffic = web(&text, None).unwrap();
    assert_eq!(
        (&traffic.handling.probe, traffic.handling.hedge_after),
        (&None, Some(Duration::from_millis(80)))
    );
}
