//! What becomes of routes, by what their authors wrote.

use ambit_model::http_route::{PathMatch, Upstream, ValueMatch};
use ambit_model::policy::TextMatch;
use ambit_model::provider::{Speaks, Which};

use super::*;
use crate::testing;

const AROUND: &str = "
{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {ports: [{port: 80}, {port: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: v2, namespace: next}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: alias, namespace: shop}, spec: {type: ExternalName, ports: [{port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: bank, namespace: shop}, spec: {hosts: [bank.example, pay.example], resolution: DNS, ports: [{number: 443, name: tls}]}}
";

fn world(more: &str) -> World {
    testing::world(&format!("{AROUND}---\n{more}"))
}

fn read(spec: &str) -> Reading {
    let route = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}}, spec: {{{spec}}}}}\n"
    );
    let world = world(&route);
    http(&world, &world.space("shop").unwrap().http_routes["r"])
}

fn rules(rules: &str) -> Reading {
    read(&format!("parentRefs: [{{group: '', kind: Service, name: cart}}], rules: [{rules}]"))
}

fn calls(rule: &str) -> Reading {
    let route = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {{name: r, namespace: shop}}, spec: {{parentRefs: [{{group: '', kind: Service, name: cart, port: 80}}], rules: [{rule}]}}}}\n"
    );
    let world = world(&route);
    grpc(&world, &world.space("shop").unwrap().grpc_routes["r"])
}

#[test]
fn a_route_is_for_the_services_it_is_attached_to_and_for_no_gateway() {
    for (parents, wanted) in [
        ("{group: '', kind: Service, name: cart}", &["shop/cart.shop.svc.cluster.local"][..]),
        ("{group: '', kind: Service, name: cart, port: 8080}", &["shop/cart.shop.svc.cluster.local:8080"]),
        ("{group: '', kind: Service, name: v2, namespace: next}", &["next/v2.next.svc.cluster.local"]),
        (
            "{group: networking.istio.io, kind: ServiceEntry, name: bank}",
            &["shop/bank.example", "shop/pay.example"],
        ),
        ("{group: '', kind: Service, name: cart, port: 81}", &[]),
        ("{group: '', kind: Service, name: nobody}", &[]),
        ("{name: front}", &[]),
    ] {
        let route = read(&format!("parentRefs: [{parents}], rules: [{{}}]")).route;
        let shown = |it: &Parent| {
            it.port.map_or_else(|| it.service.to_string(), |port| format!("{}:{port}", it.service))
        };
        let found: Vec<String> = route.iter().flat_map(|it| &it.parents).map(shown).collect();
        assert_eq!(found, wanted, "{parents}");
    }
    let reading = read("parentRefs: [{name: front}, {group: '', kind: Service, name: nobody}]");
    assert_eq!(reading.parents.len(), 1, "that of a gateway is not ours to speak of");
    let route = read("parentRefs: [{group: '', kind: Service, name: cart}]").route.unwrap();
    assert_eq!((route.key.to_string().as_str(), route.created_s), ("HTTPRoute/shop/r", 1_767_225_600));
    assert_eq!(route.rules.len(), 1, "without a word on rules there is one, for everything");
}

#[test]
fn a_backend_is_a_port_that_is_there_or_its_share_is_answered_with_an_error() {
    for (backend, wanted, reason) in [
        ("{name: cart, port: 80}", "shop/cart.shop.svc.cluster.local:80", ""),
        ("{name: v2, namespace: next, port: 80}", "next/v2.next.svc.cluster.local:80", ""),
        (
            "{group: networking.istio.io, kind: Hostname, name: bank.example, port: 443}",
            "shop/bank.example:443",
            "",
        ),
        (
            "{group: networking.istio.io, kind: Hostname, name: v2.next.svc.cluster.local, port: 80}",
            "next/v2.next.svc.cluster.local:80",
            "",
        ),
        ("{name: cart, port: 81}", "", "BackendNotFound"),
        ("{name: cart}", "", "InvalidKind"),
        ("{name: nobody, port: 80}", "", "BackendNotFound"),
        ("{name: cart.shop, port: 80}", "", "BackendNotFound"),
        ("{name: alias, port: 80}", "", "InvalidKind"),
        ("{group: example.com, kind: Bucket, name: cart, port: 80}", "", "InvalidKind"),
        ("{group: networking.istio.io, kind: Hostname, name: no.example, port: 80}", "", "BackendNotFound"),
    ] {
        let reading = rules(&format!("{{backendRefs: [{backend}, {{name: cart, port: 80, weight: 3}}]}}"));
        let rule = reading.route.unwrap().rules[0].clone();
        let found = rule.backends[0].to.as_ref().map(Upstream::to_string).unwrap_or_default();
        assert_eq!(found, wanted, "{backend}");
        assert_eq!((rule.backends.len(), rule.backends[1].weight), (2, 3), "the other keeps its share");
        let reasons: Vec<_> = reading.notes.unresolved.iter().map(|it| it.reason).collect();
        assert_eq!(reasons.join(","), reason, "{backend}");
        assert!(!reading.is_broken);
    }
}

#[test]
fn whoever_is_to_be_asked_is_shown_and_believed_what_the_route_says() {
    let filter = |member: &str| {
        let filter = format!("{{type: ExternalAuth, externalAuth: {{{member}}}}}");
        rules(&format!("{{filters: [{filter}], backendRefs: [{{name: cart, port: 80}}]}}"))
    };
    let asked = |member: &str| filter(member).route.unwrap().rules[0].filters.clone().unwrap().ask.unwrap();
    let exact = |name: &str| Which::These(vec![TextMatch::Exact(name.into())]);
    let cart = "backendRef: {name: cart, port: 8080}";
    let grpc = asked(&format!("protocol: GRPC, {cart}"));
    assert_eq!(grpc.at.to_string(), "shop/cart.shop.svc.cluster.local:8080");
    assert_eq!((&grpc.speaks, &grpc.shown, grpc.body), (&Speaks::Grpc, &Which::All, None));
    assert_eq!((grpc.fail_open, grpc.error_status), (false, 403));
    let some = asked(&format!(
        "protocol: GRPC, {cart}, grpc: {{allowedHeaders: [X-User]}}, forwardBody: {{maxSize: 9}}"
    ));
    assert_eq!(
        (&some.shown, some.body.unwrap().most, some.body.unwrap().partial),
        (&exact("x-user"), 9, false)
    );
    let http =
        asked(&format!("protocol: HTTP, {cart}, http: {{path: /check, allowedResponseHeaders: [x-a]}}"));
    assert_eq!(http.shown, Which::default());
    let Speaks::Http(how) = &http.speaks else { panic!("{http:?}") };
    assert_eq!((&*how.prefix, &how.onward, &how.back_refused), ("/check", &exact("x-a"), &Which::All));
    let Speaks::Http(how) = asked(&format!("protocol: HTTP, {cart}")).speaks.clone() else { panic!("http") };
    assert_eq!(how.onward, Which::All);
    // Nobody is asked in the place of somebody who is not there.
    let missing = filter("protocol: GRPC, backendRef: {name: nobody, port: 80}");
    assert_eq!(missing.notes.unresolved[0].reason, "BackendNotFound");
    assert!(missing.route.unwrap().rules[0].filters.is_err());
}

#[test]
fn what_cannot_be_carried_out_breaks_its_rule_and_no_other() {
    for filter in [
        "{type: Magic}",
        "{type: RateLimit}",
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: content-length, value: '0'}]}}",
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: \"a\\nb\"}]}}",
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceNothing}}}",
        "{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: 'a?b'}}}",
    ] {
        let reading = rules(&format!("{{filters: [{filter}]}}, {{backendRefs: [{{name: cart, port: 80}}]}}"));
        let route = reading.route.unwrap();
        assert!(route.rules[0].filters.is_err() && route.rules[1].filters.is_ok(), "{filter}");
        assert_eq!(reading.notes.unsupported.len(), 1, "{filter}");
        assert!(reading.notes.unsupported[0].starts_with("rule 0: "), "{:?}", reading.notes);
        assert!(!reading.is_broken);
        assert!(rules(&format!("{{filters: [{filter}]}}")).is_broken, "{filter}");
    }
    let reading = rules("{filters: [{type: ExtensionRef}]}");
    assert_eq!(reading.notes.unresolved[0].reason, "InvalidKind");
    assert!(reading.route.unwrap().rules[0].filters.is_err());
}

#[test]
fn sessions_are_kept_as_either_version_of_the_api_says_and_what_cannot_be_meant_breaks_the_rule() {
    let read = |session: &str| {
        rules(&format!("{{sessionPersistence: {{{session}}}, backendRefs: [{{name: cart, port: 80}}]}}"))
    };
    let cookie = |name: &str, path: Option<&str>, permanent| ambit_model::http_route::Kept::Cookie {
        name: name.parse().unwrap(),
        path: path.map(Into::into),
        permanent,
    };
    let header =
        |name: &'static str| ambit_model::http_route::Kept::Header(http::HeaderName::from_static(name));
    let hour = Some(Duration::from_secs(3600));
    for (session, kept, absolute, idle) in [
        ("", cookie("ambit-session", None, false), None, None),
        ("sessionName: s, absoluteTimeout: 1h", cookie("s", None, false), hour, None),
        (
            "cookieConfig: {lifetimeType: Permanent}, absoluteTimeout: 1h, idleTimeout: 1h",
            cookie("ambit-session", None, true),
            hour,
            hour,
        ),
        ("type: Cookie, cookie: {name: c, path: /p}", cookie("c", Some("/p"), false), None, None),
        ("type: Header", header("x-ambit-session"), None, None),
        ("type: Header, sessionName: X-Mine", header("x-mine"), None, None),
        ("type: Header, header: {name: x-own}", header("x-own"), None, None),
    ] {
        let reading = read(session);
        assert_eq!(reading.notes, Notes::default(), "{session}");
        let wanted = ambit_model::http_route::Session { kept, absolute, idle };
        assert_eq!(reading.route.unwrap().rules[0].session, Some(wanted), "{session}");
    }
    for session in [
        "type: Path",
        "type: Header, sessionName: content-length",
        "type: Header, sessionName: 'a b'",
        "sessionName: 'a;b'",
        "cookie: {path: nowhere}",
        "cookieConfig: {lifetimeType: Permanent}",
        "cookieConfig: {lifetimeType: Sometimes}",
        "absoluteTimeout: soon",
    ] {
        let reading = read(session);
        assert!(
            reading.notes.unsupported[0].contains("sessionPersistence"),
            "{session}: {:?}",
            reading.notes
        );
        assert!(reading.route.unwrap().rules[0].filters.is_err(), "{session}");
    }
}

#[test]
fn a_match_that_cannot_be_understood_never_makes_its_rule_match_more() {
    let bad = "{path: {type: RegularExpression, value: '('}}";
    let alone = rules(&format!("{{matches: [{bad}]}}")).route.unwrap();
    assert_eq!(alone.rules.len(), 0, "a rule without matches would be for everything");
    let both = rules(&format!("{{matches: [{bad}, {{path: {{value: /a}}}}]}}")).route.unwrap();
    let [rule] = both.rules.as_slice() else { panic!("{both:?}") };
    assert_eq!(rule.matches.len(), 1);
    assert!(rule.filters.is_err(), "what was asked for is not done in part");
}

#[test]
fn matches_filters_and_limits_come_through_as_they_were_written() {
    let reading = rules(
        "{name: buy, matches: [{path: {type: Exact, value: /buy}, method: POST, headers: [{name: X-A, value: a}, {name: x-a, value: b}], queryParams: [{name: q, type: RegularExpression, value: '[0-9]+'}]}, {}], \
         filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}}, {type: URLRewrite, urlRewrite: {hostname: h.example, path: {type: ReplaceFullPath, replaceFullPath: /x}}}, {type: RequestMirror, requestMirror: {backendRef: {name: v2, namespace: next, port: 80}, percent: 10}}, {type: CORS, cors: {allowOrigins: ['*'], allowMethods: [GET]}}], \
         timeouts: {request: 10s, backendRequest: 0s}, retry: {codes: [503], backoff: 100ms}, backendRefs: [{name: cart, port: 80}]}",
    );
    assert_eq!(reading.notes, Notes::default());
    let rule = reading.route.unwrap().rules[0].clone();
    let [first, second] = rule.matches.as_slice() else { panic!("{:?}", rule.matches) };
    assert_eq!(first.path, PathMatch::Exact("/buy".into()));
    assert_eq!(first.headers.len(), 1, "of one name the first counts");
    assert_eq!(first.headers[0].value, ValueMatch::Exact("a".into()));
    assert_eq!(*second, Match::default());
    let filters = rule.filters.as_ref().unwrap();
    assert_eq!(filters.request_headers.sets().len() + filters.request_headers.removes().len(), 2);
    assert_eq!(filters.mirrors[0].to.as_ref().unwrap().to_string(), "next/v2.next.svc.cluster.local:80");
    assert!(filters.cors.is_some() && filters.rewrite.is_some());
    assert_eq!(rule.timeouts.request, TimeLimit::After(Duration::from_secs(10)));
    assert_eq!(rule.timeouts.backend_request, TimeLimit::Off);
    let retry = rule.retry.clone().unwrap();
    assert_eq!(
        (retry.attempts, retry.codes, retry.backoff),
        (2, vec![503], Some(Duration::from_millis(100)))
    );
}

#[test]
fn calls_are_matched_by_service_and_method_and_by_nothing_else_when_nothing_is_said() {
    for (rule, wanted) in [
        ("{}", (None, None)),
        ("{matches: [{headers: [{name: a, value: b}]}]}", (None, None)),
        ("{matches: [{method: {service: shop.Cart}}]}", (Some("shop.Cart"), None)),
        ("{matches: [{method: {service: shop.Cart, method: Add}}]}", (Some("shop.Cart"), Some("Add"))),
    ] {
        let route = calls(rule).route.unwrap();
        let exact = |it: Option<&str>| it.map(|it| ValueMatch::Exact(it.into()));
        let path = PathMatch::Grpc { service: exact(wanted.0), method: exact(wanted.1) };
        assert_eq!(route.rules[0].matches[0].path, path, "{rule}");
        assert_eq!(route.parents[0].port, Some(80));
    }
}

#[test]
fn a_route_is_read_again_when_what_it_names_comes_or_goes() {
    let route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}], backendRefs: [{name: new, namespace: next, port: 80}, {group: networking.istio.io, kind: Hostname, name: far.example, port: 80}]}]}}\n";
    let mut world = world(route);
    let service = |name: &str, namespace: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{ports: [{{port: 80}}]}}}}"
        )
    };
    let far = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x, namespace: far}, spec: {hosts: [far.example], resolution: DNS, ports: [{number: 80, name: http}]}}";
    for (text, touches) in [
        (service("cart", "shop"), true),
        (service("copy", "shop"), true),
        (service("new", "next"), true),
        (far.to_owned(), true),
        (service("new", "shop"), false),
    ] {
        let object = testing::objects(&text).remove(0);
        let reference = object.reference.clone();
        let is_route = |units: std::collections::BTreeSet<crate::index::unit::Unit>| {
            units.iter().any(|it| it.kind == crate::index::unit::UnitKind::HttpRoute)
        };
        assert_eq!(is_route(world.apply(object)), touches, "{text}");
        assert_eq!(is_route(world.remove(&reference)), touches, "{text}");
    }
}
