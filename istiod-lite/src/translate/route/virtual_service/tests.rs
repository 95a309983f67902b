//! What becomes of VirtualServices, by what their authors wrote.

use ambit_model::delta::{Change, Delta};
use ambit_model::http_path::{Normalization, RequestTarget};
use ambit_model::http_route::{Around, Asked, Choice, RetryOn, Table, ValueMatch};
use ambit_model::snapshot::Snapshot;
use ambit_wire::convert::{route_from_pb, route_to_pb};
use http::{HeaderMap, Method};

use super::*;
use crate::testing;

const AROUND: &str = "
{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: shop}, spec: {ports: [{port: 80}, {port: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: v2, namespace: next}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: next, labels: {istio.io/use-waypoint: way, istio.io/use-waypoint-namespace: shop}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: bank, namespace: shop}, spec: {hosts: [bank.example], resolution: DNS, ports: [{number: 443, name: tls}]}}
";

fn world(more: &str) -> World {
    testing::world(&format!("{AROUND}---\n{more}"))
}

fn object(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-01T00:00:00Z'}}, spec: {{{spec}}}}}\n"
    )
}

fn read_in(world: &World, name: &str, namespace: &str) -> Reading {
    let reading = virtual_service(world, &world.space(namespace).unwrap().virtual_services[name]);
    // Whatever is made of one, waypoints take it.
    if let Some(route) = &reading.route {
        assert_eq!(route_from_pb(route_to_pb(route)).unwrap(), *route);
    }
    reading
}

fn read(spec: &str) -> Reading {
    read_in(&world(&object("r", "shop", spec)), "r", "shop")
}

/// Of rules for `cart`.
fn rules(rules: &str) -> Reading {
    read(&format!("hosts: [cart], http: [{rules}]"))
}

fn one(rule: &str) -> Rule {
    let reading = rules(rule);
    assert_eq!(reading.notes, Notes::default(), "{rule}");
    let route = reading.route.unwrap();
    let [rule] = route.rules.as_slice() else { panic!("{:?}", route.rules) };
    (**rule).clone()
}

fn shown(backend: &Backend) -> String {
    let to = backend.to.as_ref().map_or_else(|_| "nowhere".into(), Upstream::to_string);
    format!("{to} {}", backend.weight)
}

/// What a rule does that is not asked about.
const TO: &str = "route: [{destination: {host: cart}}]";

#[test]
fn it_is_for_the_services_of_its_namespace_and_of_its_waypoint_and_for_no_others() {
    for (spec, wanted) in [
        ("hosts: [cart]", &["shop/cart.shop.svc.cluster.local"][..]),
        ("hosts: [cart.shop.svc.cluster.local]", &["shop/cart.shop.svc.cluster.local"]),
        ("hosts: [CART.shop.svc.cluster.local, cart]", &["shop/cart.shop.svc.cluster.local"]),
        ("hosts: [bank.example]", &["shop/bank.example"]),
        ("hosts: [far.next.svc.cluster.local]", &["next/far.next.svc.cluster.local"]),
        ("hosts: [v2.next.svc.cluster.local]", &[]),
        (
            "hosts: ['*.svc.cluster.local']",
            &[
                "next/far.next.svc.cluster.local",
                "shop/cart.shop.svc.cluster.local",
                "shop/pay.shop.svc.cluster.local",
            ],
        ),
        ("hosts: ['*.example']", &["shop/bank.example"]),
        ("hosts: [nobody]", &[]),
        ("hosts: [cart], gateways: [front]", &[]),
        ("hosts: [cart], gateways: [front, mesh]", &["shop/cart.shop.svc.cluster.local"]),
        ("hosts: [cart], exportTo: [.]", &["shop/cart.shop.svc.cluster.local"]),
        ("hosts: [cart], exportTo: [next]", &[]),
        ("hosts: [cart], exportTo: ['*']", &["shop/cart.shop.svc.cluster.local"]),
    ] {
        let route = read(&format!("{spec}, http: [{{{TO}}}]")).route;
        let mut found: Vec<String> =
            route.iter().flat_map(|it| &it.parents).map(|it| it.service.to_string()).collect();
        found.sort();
        assert_eq!(found, wanted, "{spec}");
    }
    let route = rules(&format!("{{{TO}}}")).route.unwrap();
    assert_eq!((route.key.to_string().as_str(), route.created_s), ("VirtualService/shop/r", 1_767_225_600));
    assert_eq!(read("hosts: [cart]").route, None);
}

#[test]
fn the_closest_name_of_a_host_counts() {
    let all = format!("http: [{{{TO}}}]");
    let (closest, wide) =
        (format!("hosts: [cart], {all}"), format!("hosts: ['*.shop.svc.cluster.local'], {all}"));
    let world = world(&[object("closest", "shop", &closest), object("wide", "shop", &wide)].join("---\n"));
    let services = |name: &str| {
        let route = read_in(&world, name, "shop").route.unwrap();
        route.parents.iter().map(|it| it.service.hostname.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(services("closest"), ["cart.shop.svc.cluster.local"]);
    assert_eq!(services("wide"), ["pay.shop.svc.cluster.local"]);
}

#[test]
fn a_destination_is_a_port_that_is_there_or_its_share_leads_nowhere() {
    for (route, wanted, unresolved) in [
        ("{destination: {host: cart}}", &["shop/cart.shop.svc.cluster.local:80 1"][..], 0),
        ("{destination: {host: cart}, weight: 0}", &["shop/cart.shop.svc.cluster.local:80 1"], 0),
        (
            "{destination: {host: cart, subset: v1, port: {number: 80}}, weight: 90}, {destination: {host: pay, port: {number: 8080}}, weight: 30}",
            &["shop/cart.shop.svc.cluster.local:80 (v1) 90", "shop/pay.shop.svc.cluster.local:8080 30"],
            0,
        ),
        (
            "{destination: {host: cart}, weight: 1}, {destination: {host: nobody}, weight: 0}",
            &["shop/cart.shop.svc.cluster.local:80 1"],
            0,
        ),
        (
            "{destination: {host: cart}, weight: 1}, {destination: {host: nobody}, weight: 1}",
            &["shop/cart.shop.svc.cluster.local:80 1", "nowhere 1"],
            1,
        ),
        ("{destination: {host: v2.next.svc.cluster.local}}", &["next/v2.next.svc.cluster.local:80 1"], 0),
        ("{destination: {host: v2.next}}", &["nowhere 1"], 1),
        ("{destination: {host: bank.example}}", &["shop/bank.example:443 1"], 0),
        ("{destination: {host: cart, port: {number: 81}}}", &["nowhere 1"], 1),
    ] {
        let reading = rules(&format!("{{route: [{route}]}}"));
        let rule = reading.route.unwrap().rules[0].clone();
        assert_eq!(rule.backends.iter().map(shown).collect::<Vec<_>>(), wanted, "{route}");
        assert_eq!(reading.notes.unresolved.len(), unresolved, "{route}: {:?}", reading.notes);
        assert!(!reading.is_broken);
    }
}

#[test]
fn a_host_of_others_is_what_is_preferred_and_nobody_takes_it_over_or_what_is_not_shown() {
    let entry = |namespace: &str, day: u32| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: e, namespace: {namespace}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}, \
             spec: {{hosts: [out.example], resolution: DNS, ports: [{{number: 44{day}, name: tls}}]}}}}"
        )
    };
    let label = |namespace: &str, label: &str| {
        format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{seen: {label}}}}}}}"
        )
    };
    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: '{serviceEntryVisibility: {defaultVisibility: PUBLIC, policies: [\
                  {visibility: NONE, matchingRules: [{namespaceSelector: {matchLabels: {seen: nowhere}}}]}, {visibility: NAMESPACE, matchingRules: [{namespaceSelector: {matchLabels: {seen: here}}}]}]}}'}}";
    let both = || vec![entry("a", 3), entry("z", 2)];
    for (more, wanted) in [
        (both(), "z/out.example:442"),
        ([both(), vec![entry("shop", 4)]].concat(), "shop/out.example:444"),
        ([both(), vec![config.into(), label("z", "here")]].concat(), "a/out.example:443"),
        ([both(), vec![config.into(), label("z", "nowhere")]].concat(), "a/out.example:443"),
        ([vec![entry("z", 2)], vec![config.into(), label("z", "here")]].concat(), ""),
        (
            [both(), vec![entry("shop", 4), config.into(), label("shop", "nowhere")]].concat(),
            "z/out.example:442",
        ),
        (
            [both(), vec![entry("shop", 4), config.into(), label("shop", "here")]].concat(),
            "shop/out.example:444",
        ),
    ] {
        let rule = "hosts: [cart], http: [{route: [{destination: {host: out.example}}]}]";
        let route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: h, namespace: shop}, spec: {parentRefs: [{group: '', kind: Service, name: cart}], \
                     rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: out.example, port: PORT}]}]}}";
        let port = wanted.split_once(':').map_or("1", |(_, port)| port);
        let route = route.replace("PORT", port);
        let all = [more.clone(), vec![route, object("r", "shop", rule)]].concat();
        let world = world(&all.join("\n---\n"));
        let by_virtual_service = read_in(&world, "r", "shop").route.unwrap();
        let by_route =
            super::super::http(&world, &world.space("shop").unwrap().http_routes["h"]).route.unwrap();
        for rule in [&by_virtual_service.rules[0], &by_route.rules[0]] {
            let to = rule.backends[0].to.as_ref().map(Upstream::to_string).unwrap_or_default();
            assert_eq!(to, wanted, "{more:?}");
        }
    }
}

#[test]
fn a_destination_of_several_ports_means_the_one_that_was_asked() {
    let reading = read(
        "hosts: [pay, cart], http: [{name: x, match: [{uri: {prefix: /a}}, {port: 81}], route: [{destination: {host: pay}}]}]",
    );
    assert_eq!(reading.notes, Notes::default());
    let route = reading.route.unwrap();
    let told = |rule: &Arc<Rule>| {
        let ports: Vec<_> = rule.matches.iter().map(|it| it.more.as_ref().and_then(|it| it.port)).collect();
        (ports, shown(&rule.backends[0]))
    };
    let wanted = [
        (vec![Some(80)], "shop/pay.shop.svc.cluster.local:80 1".into()),
        (vec![Some(8080)], "shop/pay.shop.svc.cluster.local:8080 1".into()),
    ];
    assert_eq!(route.rules.iter().map(told).collect::<Vec<_>>(), wanted);
    let all = read("hosts: [pay], http: [{route: [{destination: {host: pay}}]}]").route.unwrap();
    assert_eq!(all.rules.iter().map(|it| it.matches.len()).collect::<Vec<_>>(), [1, 1]);
}

/// Whether a request is of a rule with this match.
fn takes(of: &str, (method, path): (&str, &str), headers: &[(&str, &str)], port: u16) -> bool {
    let reading = rules(&format!("{{match: [{of}], {TO}}}"));
    assert_eq!(reading.notes, Notes::default(), "{of}");
    let route = Arc::new(reading.route.unwrap());
    let table = Table::new(RouteKind::VirtualService, [&route]);
    let target = RequestTarget::read(path, Normalization::default()).unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let from = "shop".parse().unwrap();
    let asked = Asked {
        path: &target.path,
        query: target.query,
        method: &method.parse::<Method>().unwrap(),
        headers: &map,
        around: Around {
            scheme: "http",
            authority: "cart:80",
            port,
            from: Some(&from),
            source: None,
            token: None,
        },
    };
    matches!(table.choose(&asked), Choice::Found(_))
}

#[test]
fn a_match_takes_what_all_of_its_fields_take() {
    let get = ("GET", "/foo/bar?q=one&e=");
    let headers = [("x-a", "one"), ("x-b", "")];
    for (of, wanted) in [
        ("{}", true),
        ("{uri: {exact: /foo/bar}}", true),
        ("{uri: {exact: /FOO/bar}}", false),
        ("{uri: {exact: /FOO/bar}, ignoreUriCase: true}", true),
        ("{uri: {prefix: /fo}}", true),
        ("{uri: {prefix: /FO}}", false),
        ("{uri: {prefix: /FO}, ignoreUriCase: true}", true),
        ("{uri: {regex: '/foo/.*'}}", true),
        ("{uri: {regex: '/foo'}}", false),
        ("{method: {exact: GET}}", true),
        ("{method: {exact: get}}", false),
        ("{method: {regex: 'GET|HEAD'}}", true),
        ("{scheme: {exact: http}}", true),
        ("{scheme: {exact: https}}", false),
        ("{authority: {exact: 'cart:80'}}", true),
        ("{authority: {prefix: cart}}", true),
        ("{authority: {exact: cart}}", false),
        ("{headers: {X-A: {exact: one}}}", true),
        ("{headers: {x-a: {prefix: on}}}", true),
        ("{headers: {x-a: {regex: on}}}", false),
        ("{headers: {x-a: {}}}", true),
        ("{headers: {x-b: {}}}", true),
        ("{headers: {x-c: {}}}", false),
        ("{headers: {x-a: {regex: '*'}}}", true),
        ("{headers: {x-a: {exact: one}, x-b: {exact: two}}}", false),
        ("{headers: {method: {exact: PUT}}}", true), // passed over, as Istio has it
        ("{withoutHeaders: {x-a: {exact: one}}}", false),
        ("{withoutHeaders: {x-a: {exact: two}}}", true),
        ("{withoutHeaders: {x-c: {}}}", true),
        ("{queryParams: {q: {exact: one}}}", true),
        ("{queryParams: {q: {prefix: o}}}", true),
        ("{queryParams: {q: {regex: 't.*'}}}", false),
        ("{queryParams: {e: {}}}", true),
        ("{queryParams: {f: {}}}", false),
        ("{port: 80}", true),
        ("{port: 81}", false),
        ("{sourceNamespace: shop}", true),
        ("{sourceNamespace: next}", false),
        ("{gateways: [mesh]}", true),
        ("{headers: {'@request.auth.claims.group': {exact: a}}}", false),
        ("{withoutHeaders: {'@request.auth.claims.group': {exact: a}}}", true),
        ("{uri: {exact: /no}}, {uri: {prefix: /foo}}", true),
    ] {
        assert_eq!(takes(of, get, &headers, 80), wanted, "{of}");
    }
}

#[test]
fn claims_are_named_with_dots_or_in_brackets() {
    for (key, wanted) in [
        ("@request.auth.claims.group", &["group"][..]),
        ("@request.auth.claims.a.b", &["a", "b"]),
        ("@request.auth.claims[a.b][c]", &["a.b", "c"]),
    ] {
        let rule = one(&format!("{{match: [{{headers: {{'{key}': {{exact: x}}}}}}], {TO}}}"));
        let claims = &rule.matches[0].more.as_ref().unwrap().claims;
        assert_eq!(claims[0].path.iter().map(|it| &**it).collect::<Vec<_>>(), wanted);
        assert_eq!(claims[0].value, ValueMatch::Exact("x".into()));
    }
}

#[test]
fn a_rule_for_other_gateways_alone_is_for_nobody_here() {
    let reading = rules(&format!("{{match: [{{gateways: [front]}}], {TO}}}, {{{TO}}}"));
    assert_eq!((reading.notes, reading.route.unwrap().rules.len()), (Notes::default(), 1));
}

#[test]
fn what_cannot_be_carried_out_breaks_its_rule_and_no_other() {
    for (rule, wanted) in [
        (format!("{{match: [{{uri: {{regex: '('}}}}, {{}}], {TO}}}"), "refused"),
        (
            format!("{{headers: {{request: {{set: {{x-a: '%HOSTNAME%'}}}}}}, {TO}}}"),
            "%HOSTNAME%, which waypoints do not know",
        ),
        (format!("{{headers: {{response: {{add: {{x-a: '50% off'}}}}}}, {TO}}}"), "begins no operator"),
        (format!("{{headers: {{request: {{set: {{content-length: '0'}}}}}}, {TO}}}"), "content-length"),
        (format!("{{rewrite: {{uri: 'a?b'}}, {TO}}}"), "'?'"),
        (format!("{{rewrite: {{uriRegexRewrite: {{match: a, rewrite: '\\1'}}}}, {TO}}}"), "group"),
        (format!("{{fault: {{delay: {{fixedDelay: 1h}}}}, {TO}}}"), "ten minutes"),
        ("{directResponse: {status: 200, body: {bytes: '?'}}}".into(), "Base64"),
        ("{delegate: {name: cart}}".into(), "there is no VirtualService"),
    ] {
        let reading = rules(&format!("{rule}, {{{TO}}}"));
        let route = reading.route.unwrap();
        let [first, second] = route.rules.as_slice() else { panic!("{rule}: {:?}", route.rules) };
        assert!(first.filters.is_err() || first.backends.is_empty(), "{rule}");
        assert!(second.filters.is_ok(), "{rule}");
        let notes =
            reading.notes.unsupported.iter().chain(reading.notes.unresolved.iter().map(|it| &it.text));
        let notes: Vec<_> = notes.collect();
        assert!(
            matches!(notes.as_slice(), [one] if one.starts_with("rule 0: ") && one.contains(wanted)),
            "{notes:?}"
        );
    }
    let alone = rules(&format!("{{match: [{{uri: {{regex: '('}}}}], {TO}}}"));
    assert!(alone.route.unwrap().rules.is_empty() && alone.is_broken, "it would be for everything");
    let passed = read(&format!(
        "hosts: [cart], http: [{{match: [{{uri: {{prefix: /}}, statPrefix: x}}], {TO}}}], tcp: [{TCP}]"
    ));
    assert_eq!(passed.ignored.len(), 1, "{:?}", passed.ignored);
}

#[test]
fn who_asks_is_known_by_its_labels_too() {
    let rule =
        one(&format!("{{match: [{{sourceLabels: {{app: a, version: v1}}, sourceNamespace: next}}], {TO}}}"));
    let more = rule.matches[0].more.as_ref().unwrap();
    let labels: Vec<_> = more.from_labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(labels, [("app", "a"), ("version", "v1")]);
    assert_eq!(more.from.as_ref().unwrap().as_str(), "next");
    let many: String = (0..17).map(|at| format!("l{at}: x, ")).collect();
    let reading = rules(&format!("{{match: [{{sourceLabels: {{{many}}}}}], {TO}}}"));
    assert!(reading.is_broken && reading.notes.unsupported[0].contains("16 labels"), "{:?}", reading.notes);
}

#[test]
fn rules_of_connections_come_behind_those_of_requests_and_tls_before_tcp() {
    let tls = "{match: [{sniHosts: [pay.shop, '*.org'], port: 443}], route: [{destination: {host: cart}}]}";
    let tcp = "{match: [{destinationSubnets: [10.1.0.0/16, 10.2.0.1], sourceSubnet: 'fd00::/8', sourceLabels: {a: b}, \
               sourceNamespace: next}, {gateways: [front]}], \
               route: [{destination: {host: cart}, weight: 9}, {destination: {host: nobody}, weight: 1}, {destination: {host: pay, port: {number: 80}}, weight: 0}]}";
    let reading = read(&format!("hosts: [cart], tcp: [{tcp}], tls: [{tls}], http: [{{{TO}}}]"));
    assert_eq!(reading.notes.unsupported, Vec::<String>::new());
    assert_eq!(reading.notes.unresolved.len(), 1, "nobody is not there");
    let route = reading.route.unwrap();
    let [http, tls, tcp] = route.rules.as_slice() else { panic!("{:?}", route.rules) };
    assert!(http.matches.iter().all(|it| it.more.is_none()));
    let more = tls.matches[0].more.as_ref().unwrap();
    assert_eq!(more.servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["pay.shop", "*.org"]);
    assert_eq!((more.port, more.connection.is_some()), (Some(443), true));
    let [of] = tcp.matches.as_slice() else { panic!("what is for a gateway alone is for nobody: {tcp:?}") };
    let more = of.more.as_ref().unwrap();
    let connection = more.connection.as_ref().unwrap();
    assert_eq!(
        connection.to.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.1.0.0/16", "10.2.0.1/32"]
    );
    assert_eq!(connection.from.unwrap().to_string(), "fd00::/8");
    assert_eq!(more.from_labels.len(), 1);
    assert_eq!(
        tcp.backends.iter().map(|it| (it.weight, it.to.is_ok())).collect::<Vec<_>>(),
        [(9, true), (1, false)]
    );
}

#[test]
fn a_destination_without_a_port_is_that_which_was_dialled_and_what_cannot_be_meant_breaks_its_rule() {
    let both = read("hosts: [pay], tcp: [{route: [{destination: {host: pay}}]}]").route.unwrap();
    let ports = both.rules.iter().map(|it| it.matches[0].more.as_ref().unwrap().port);
    assert_eq!(ports.collect::<Vec<_>>(), [Some(80), Some(8080)]);
    for (of, wanted) in [
        ("{destinationSubnets: ['10.0.0.0/99']}", "destinationSubnets"),
        ("{sourceSubnet: here}", "sourceSubnet"),
        ("{sourceNamespace: 'A b'}", "sourceNamespace"),
    ] {
        let reading = read(&format!("hosts: [cart], tcp: [{{match: [{of}, {{port: 80}}], {TO}}}]"));
        assert!(reading.notes.unsupported[0].contains(wanted), "{of}: {:?}", reading.notes);
        let route = reading.route.unwrap();
        assert!(route.rules[0].filters.is_err() && route.rules[0].matches.len() == 1, "{of}");
    }
}

const TCP: &str = "{route: [{destination: {host: cart}}]}";

#[test]
fn what_a_rule_does_comes_through_as_it_was_written() {
    let rule = one("{name: buy, timeout: 0.5s, rewrite: {uri: /x, authority: 'h.example:81'}, \
         headers: {request: {set: {x-a: '100%%', x-d: 'a %REQ(b)%'}, remove: [x-b]}, response: {add: {x-c: d, x-e: '%PROTOCOL%'}}}, \
         mirror: {host: pay, port: {number: 80}}, mirrorPercentage: {value: 0.5}, \
         corsPolicy: {allowOrigins: [{exact: 'https://a.b'}, {regex: 'https://.*'}], allowMethods: [GET], maxAge: 24h, allowCredentials: true}, \
         fault: {delay: {fixedDelay: 2s, percentage: {value: 25}}, abort: {grpcStatus: UNAVAILABLE}}, \
         retries: {attempts: 3, perTryTimeout: 100ms, retryOn: 'gateway-error,503,reset', backoff: 10ms, retryIgnorePreviousHosts: false, retryRemoteLocalities: true}, \
         route: [{destination: {host: cart}, headers: {request: {set: {host: other.example}}}}]}");
    assert_eq!(rule.name.as_str(), "buy");
    let filters = rule.filters.as_ref().unwrap();
    assert_eq!(filters.request_headers.sets()[0].1, "100%");
    let [filling] = filters.request_headers.fillings() else { panic!("{filters:?}") };
    assert_eq!((filling.name.as_str(), filling.value.to_string().as_str()), ("x-d", "a %REQ(b)%"));
    assert!(!filling.adds && filters.response_headers.fillings()[0].adds);
    assert_eq!((filters.request_headers.removes().len(), filters.response_headers.adds().len()), (1, 1));
    let rewrite = filters.rewrite.as_ref().unwrap();
    assert_eq!((rewrite.hostname.as_ref().unwrap().as_str(), rewrite.port), ("h.example", Some(81)));
    assert_eq!(filters.mirrors[0].to.as_ref().unwrap().port, 80);
    assert_eq!((filters.mirrors[0].share.parts(), filters.mirrors[0].share.whole()), (5_000, 1_000_000));
    let cors = filters.cors.as_ref().unwrap();
    assert_eq!((cors.more_origins.len(), cors.max_age_s, cors.credentials), (2, Some(86_400), true));
    assert!(cors.passes_unknown);
    let fault = filters.fault.as_ref().unwrap();
    assert_eq!(fault.delay.unwrap().share.parts(), 250_000);
    assert_eq!(fault.abort.unwrap().with, ambit_model::http_route::AbortWith::Grpc(14));
    assert_eq!(rule.timeouts.request.after().unwrap().as_millis(), 500);
    assert_eq!(rule.timeouts.backend_request.after().unwrap().as_millis(), 100);
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.codes.as_slice()), (3, &[503][..]));
    assert!(retry.same_again && retry.moves_on);
    assert_eq!(retry.base.unwrap().as_millis(), 10);
    for on in [RetryOn::GatewayError, RetryOn::Reset, RetryOn::AttemptTimeout, RetryOn::ConnectFailure] {
        assert!(retry.on.contains(&on), "{on:?}");
    }
    let own = rule.backends[0].filters.as_ref().unwrap().rewrite.as_ref().unwrap();
    assert_eq!(own.hostname.as_ref().unwrap().as_str(), "other.example");
    let unsaid = one(&format!("{{retries: {{attempts: 0}}, {TO}}}"));
    assert_eq!(unsaid.retry.unwrap().attempts, 0);
    assert_eq!(one(&format!("{{{TO}}}")).retry, None);
}

#[test]
fn clients_are_sent_elsewhere_as_envoy_would_send_them() {
    for (redirect, wanted) in [
        ("{}", "http://cart:8080/a/b?q"),
        ("{uri: /x}", "http://cart:8080/x?q"),
        ("{prefixRewrite: /x}", "http://cart:8080/x/b?q"),
        ("{authority: h.example}", "http://h.example/a/b?q"),
        ("{authority: 'h.example:81'}", "http://h.example:81/a/b?q"),
        ("{scheme: https}", "https://cart:8080/a/b?q"),
        ("{scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}", "https://cart/a/b?q"),
        ("{scheme: https, authority: h.example}", "https://h.example/a/b?q"),
        ("{authority: h.example, derivePort: FROM_REQUEST_PORT}", "http://h.example:8080/a/b?q"),
        ("{port: 82}", "http://cart:82/a/b?q"),
    ] {
        let reading = rules(&format!("{{match: [{{uri: {{prefix: /a}}}}], redirect: {redirect}}}"));
        let route = Arc::new(reading.route.unwrap());
        let table = Table::new(RouteKind::VirtualService, [&route]);
        let found = table.all().next().unwrap();
        let filters = found.rule.filters.as_ref().unwrap();
        let target = RequestTarget::read("/a/b?q", Normalization::default()).unwrap();
        let asked = ambit_model::http_route::Redirected {
            scheme: ambit_model::http_route::Scheme::Http,
            host: "cart:8080",
            port: 8080,
            target: &target,
        };
        let redirected = filters.redirect.as_ref().unwrap();
        assert_eq!(redirected.location(&asked, &found).as_deref(), Some(wanted), "{redirect}");
        assert_eq!(redirected.status.code(), 301);
    }
    let direct = one("{directResponse: {status: 503, body: {bytes: aGk=}}}");
    assert_eq!(&*direct.filters.unwrap().direct.unwrap().body, b"hi");
}

#[test]
fn what_is_delegated_is_of_both_and_says_what_was_left_unsaid() {
    let root = "hosts: [cart], http: [{name: root, timeout: 5s, match: [{uri: {prefix: /a}, headers: {x-a: {exact: '1'}}}], delegate: {name: inner, namespace: next}}]";
    let inner = "http: [{match: [{uri: {prefix: /a/b}}], route: [{destination: {host: v2}}]}, {name: all, timeout: 1s, route: [{destination: {host: v2}}]}, {match: [{uri: {prefix: /c}}], route: [{destination: {host: v2}}]}]";
    let with = |inner: &str| {
        let objects = [object("r", "shop", root), object("inner", "next", inner)].join("---\n");
        read_in(&world(&objects), "r", "shop")
    };
    let reading = with(inner);
    let route = reading.route.unwrap();
    let [first, second] = route.rules.as_slice() else { panic!("{:?}", route.rules) };
    assert_eq!(
        first.matches[0].path,
        ambit_model::http_route::PathMatch::Begins { text: "/a/b".into(), any_case: false }
    );
    assert_eq!(first.matches[0].headers.len(), 1);
    assert_eq!(
        shown(&first.backends[0]),
        "next/v2.next.svc.cluster.local:80 1",
        "names are those of its namespace"
    );
    assert_eq!((first.name.as_str(), second.name.as_str()), ("root", "root-all"));
    let times = [first, second].map(|it| it.timeouts.request.after().unwrap().as_secs());
    assert_eq!(times, [5, 1]);
    assert_eq!(reading.notes.unsupported.len(), 1, "/c is no part of /a: {:?}", reading.notes);
    for refused in [
        "hosts: [v2], http: [{route: [{destination: {host: v2}}]}]",
        "exportTo: [.], http: [{route: [{destination: {host: v2}}]}]",
    ] {
        let reading = with(refused);
        assert!(reading.route.unwrap().rules[0].backends.is_empty(), "{refused}");
        assert_eq!(reading.notes.unsupported.len() + reading.notes.unresolved.len(), 1, "{refused}");
    }
}

#[test]
fn it_is_read_again_when_what_it_names_comes_or_goes() {
    let root = object("r", "shop", "hosts: ['*.svc.cluster.local'], http: [{delegate: {name: inner}}]");
    let closest = object(
        "c",
        "shop",
        "hosts: [cart], http: [{route: [{destination: {host: new}}], mirror: {host: copy}}]",
    );
    let mut world = world(&[root, closest].join("---\n"));
    let service = |name: &str, namespace: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{ports: [{{port: 80}}]}}}}"
        )
    };
    let space = "{apiVersion: v1, kind: Namespace, metadata: {name: next, labels: {istio.io/use-waypoint: way, istio.io/use-waypoint-namespace: shop}}}".to_owned();
    for (text, wanted) in [
        (service("new", "shop"), "c r"),
        (service("copy", "shop"), "c r"),
        (service("other", "far"), "r"),
        (object("inner", "shop", "http: [{route: [{destination: {host: cart}}]}]"), "inner r"),
        (space, "r"),
    ] {
        let object = testing::objects(&text).remove(0);
        let reference = object.reference.clone();
        let told = |units: BTreeSet<crate::index::unit::Unit>| {
            let ours = units.iter().filter(|it| it.kind == crate::index::unit::UnitKind::VirtualService);
            ours.map(|it| it.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(world.apply(object)), wanted, "{text}");
        assert_eq!(told(world.remove(&reference)), wanted, "{text}");
    }
}

#[test]
fn what_delegates_is_read_again_when_that_comes_or_goes_where_the_delegate_leads() {
    let root = object("r", "shop", "hosts: [cart], http: [{delegate: {name: inner}}]");
    let inner = object("inner", "shop", "http: [{route: [{destination: {host: late}}]}]");
    let mut world = world(&[root, inner].join("---\n"));
    let late = "{apiVersion: v1, kind: Service, metadata: {name: late, namespace: shop}, spec: {ports: [{port: 80}]}}";
    let object = testing::objects(late).remove(0);
    let reference = object.reference.clone();
    let root = crate::index::unit::Unit {
        kind: crate::index::unit::UnitKind::VirtualService,
        namespace: "shop".into(),
        name: "r".into(),
    };
    assert!(world.apply(object).contains(&root));
    assert_eq!(read_in(&world, "r", "shop").notes, Notes::default());
    assert!(world.remove(&reference).contains(&root));
}

#[test]
fn several_of_one_host_are_one_after_the_other() {
    let older = object(
        "z",
        "shop",
        &format!("hosts: [cart], http: [{{name: older, match: [{{uri: {{prefix: /a}}}}], {TO}}}]"),
    );
    let newer = object("a", "shop", &format!("hosts: [cart], http: [{{name: newer, {TO}}}]"))
        .replace("2026-01", "2026-02");
    let world = world(&[older, newer].join("---\n"));
    let routes = ["z", "a"].map(|name| Change::Route(Arc::new(read_in(&world, name, "shop").route.unwrap())));
    let snapshot = Snapshot::default().with(&routes.into_iter().collect::<Delta>());
    let tables = snapshot.tables_of(&"shop/cart.shop.svc.cluster.local".parse().unwrap()).unwrap();
    let table = tables.table(80, None).unwrap();
    let names: Vec<_> = table.all().map(|it| it.rule.name.to_string()).collect();
    assert_eq!(names, ["older", "newer"]);
}
