//! Requests explained on one small mesh with a waypoint, by tables.

use ambit_model::delta::{Change, Delta};
use ambit_model::http_route::{Backend, Broken, Filters, Timeouts, Upstream};
use ambit_model::policy::Condition;
use ambit_model::request_policy::{Operation, RequestRule, Source, Target, text_match};

use super::*;
use crate::why::explain;

const MESH: &str = r#"
workloads:
- {name: client, namespace: shop, serviceAccount: client, workloadIps: [10.0.0.1], node: n1, protocol: HBONE}
- {name: guest, namespace: shop, serviceAccount: guest, workloadIps: [10.0.0.2], node: n1, protocol: HBONE}
- name: one
  namespace: shop
  workloadIps: [10.0.0.5]
  node: n2
  protocol: HBONE
  services: {shop/v1.shop.svc.cluster.local: {80: 8080}, shop/cart.shop.svc.cluster.local: {80: 8080}}
- name: two
  namespace: shop
  workloadIps: [10.0.0.6]
  node: n2
  status: Unhealthy
  protocol: HBONE
  services: {shop/v1.shop.svc.cluster.local: {80: 8080}}
- name: way-1
  namespace: shop
  serviceAccount: way
  workloadIps: [10.0.0.7]
  node: n2
  protocol: HBONE
  nativeTunnel: true
  services: {shop/way.shop.svc.cluster.local: {15008: 15008}}
services:
- {name: v1, namespace: shop, hostname: v1.shop.svc.cluster.local, vips: [/10.96.0.1], ports: {80: 8080}}
- {name: way, namespace: shop, hostname: way.shop.svc.cluster.local, vips: [/10.96.0.4], ports: {15008: 15008}}
- name: cart
  namespace: shop
  hostname: cart.shop.svc.cluster.local
  vips: [/10.96.0.5]
  ports: {80: 8080}
  waypoint: {destination: shop/way.shop.svc.cluster.local, hboneMtlsPort: 15008}
policies: []
"#;

fn backend(to: Result<&str, &str>, weight: u32) -> Backend {
    let upstream = |name: &str| Upstream {
        service: format!("shop/{name}.shop.svc.cluster.local").parse().unwrap(),
        port: 80,
        subset: None,
    };
    Backend { to: to.map(upstream).map_err(Broken::because), weight, filters: Ok(Filters::default()) }
}

fn rule(matches: &[&str], backends: Vec<Backend>) -> Arc<Rule> {
    let matched = |path: &&str| ambit_model::http_route::Match {
        path: ambit_model::http_route::PathMatch::Prefix((*path).into()),
        ..Default::default()
    };
    Arc::new(Rule {
        name: "".into(),
        matches: matches.iter().map(matched).collect(),
        filters: Ok(Filters::default()),
        backends,
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    })
}

fn told() -> Told {
    let cart = "shop/cart.shop.svc.cluster.local";
    let route = Route {
        key: "HTTPRoute/shop/cart".parse().unwrap(),
        created_s: 1,
        parents: vec![ambit_model::http_route::Parent { service: cart.parse().unwrap(), port: None }],
        rules: vec![
            rule(&["/canary", "/beta"], vec![backend(Ok("v1"), 9), backend(Err("gone"), 1)]),
            rule(&["/none"], vec![]),
            rule(&["/lost"], vec![backend(Ok("nowhere"), 1)]),
        ],
    };
    let paths = Condition { any: vec!["/canary/admin*".parse().unwrap()], none: vec![] };
    let principals = Condition { any: vec![text_match("cluster.local/ns/shop/sa/client")], none: vec![] };
    let policy = |name: &str, action, rule| RequestPolicy {
        key: format!("shop/{name}").parse().unwrap(),
        targets: vec![Target::Service(cart.parse().unwrap())],
        action,
        rules: vec![rule],
        dry_run: false,
    };
    let to = RequestRule { to: vec![Operation { paths, ..Operation::default() }], ..RequestRule::default() };
    let from =
        RequestRule { from: vec![Source { principals, ..Source::default() }], ..RequestRule::default() };
    let resources = local::write_lines([
        Change::Route(Arc::new(route)),
        Change::RequestPolicy(Arc::new(policy("admin", RequestAction::Deny, to))),
        Change::RequestPolicy(Arc::new(policy("client", RequestAction::Allow, from))),
    ]);
    let world = local::dump(&mesh());
    let mut dump = serde_json::to_value(world).unwrap();
    dump["gateway"] = "shop/way.shop.svc.cluster.local".into();
    Told { dump: dump.to_string(), resources }
}

fn mesh() -> Snapshot {
    let known: Delta = local::parse(MESH).unwrap();
    Snapshot::default().with(&known)
}

fn explained(from: &str, method: &str, url: &str) -> RequestExplanation {
    let wanted = Wanted::read(method, url, &[]).unwrap();
    let connection = explain(&mesh(), from, &wanted.dialled()).unwrap();
    let told = waypoint_of(&connection).map(|_| told());
    explain_request(&wanted, connection, told.as_ref()).unwrap()
}

#[test]
fn what_becomes_of_a_request_is_what_the_waypoint_would_do() {
    for (from, url, wanted) in [
        ("client", "http://cart/canary/x", "sent on"),
        ("client", "http://cart/none", "500: the rule has no backend with a weight"),
        ("client", "http://cart/other", "404: routes are attached, and it is of no rule of them"),
        ("client", "http://cart/x/../canary/%61dmin", "403: denied by rule 0 of policy shop/admin"),
        ("client", "http://cart/../../x", "400: the path leads above the root"),
        ("guest", "http://cart/canary", "403: denied: no policy that allows matched"),
        // Who may not ask is not told that there is nothing either.
        ("guest", "http://cart/other", "403: denied: no policy that allows matched"),
    ] {
        let said = explained(from, "GET", url);
        let found = match &said.waypoint.as_ref().unwrap().end {
            End::Sent { .. } => "sent on".to_owned(),
            End::Asked { provider } => provider.clone(),
            End::Answered { status, why } => format!("{status}: {why}"),
        };
        assert_eq!(found, wanted, "{from} {url}\n{said}");
    }
}

#[test]
fn the_text_names_the_rule_those_passed_over_the_policies_and_the_shares() {
    let said = explained("client", "get", "http://cart/canary/x?y=z").to_string();
    let (connection, waypoint) = said.split_once("  waypoint ").unwrap();
    assert!(connection.starts_with("shop/client asks GET http://cart/canary/x?y=z: sent on\n"), "{said}");
    assert!(connection.contains("HBONE to a waypoint, to 10.0.0.7:15008"), "{said}");
    assert_eq!(
        waypoint,
        "looks at service shop/cart.shop.svc.cluster.local, port 80, path /canary/x\n  \
         route    HTTPRoute/shop/cart rule 0\n           \
         matches [{\"path\":{\"prefix\":\"/canary\"}},{\"path\":{\"prefix\":\"/beta\"}}]\n  \
         policies DENY shop/admin: no rule matches\n           \
         ALLOW shop/client: rule 0 matches\n  \
         verdict  allowed by rule 0 of policy shop/client\n  \
         goes to  90 % shop/v1.shop.svc.cluster.local:80, 1 of 2 endpoints well\n           \
         10 % nobody, answered 500: gone"
    );
    let lost = explained("client", "GET", "http://cart/lost").to_string();
    assert!(lost.contains("not HTTPRoute/shop/cart rule 0: the path is another"), "{lost}");
    assert!(
        lost.contains("answered 500: the backend shop/nowhere.shop.svc.cluster.local:80 is not known"),
        "{lost}"
    );
    let json = serde_json::to_value(explained("client", "GET", "http://cart/beta")).unwrap();
    assert_eq!(json["waypoint"]["end"]["shares"][0]["percent"], 90.0, "{json:#}");
    assert_eq!(json["connection"]["path"]["kind"], "waypoint", "{json:#}");
}

/// The same mesh with limits and processors, of the service and of its route.
fn told_with_others() -> Told {
    use ambit_model::ext_proc::{BODY_USUAL, ChangeRules, ExtProc, Modes, PATIENCE, Shown};
    use ambit_model::http_route::RouteTarget;
    use ambit_model::rate_limit::{
        Descriptor, Entry, EntryValue, GlobalLimit, LocalLimit, PATIENCE as SOON, Rate, RateLimit,
    };
    let service = || vec![Target::Service("shop/cart.shop.svc.cluster.local".parse().unwrap())];
    let route = || vec![RouteTarget { route: "HTTPRoute/shop/cart".parse().unwrap(), rule: None }];
    let rate = Rate::new(10, std::time::Duration::from_secs(60), 10).unwrap();
    let local = LocalLimit { rule: RequestRule::default(), key: Vec::new(), rate };
    let entries = vec![Entry { key: "what".into(), value: EntryValue::Fixed("cart".into()) }];
    let global = GlobalLimit {
        at: Some("shop/limits.example:8081".parse().unwrap()),
        domain: "shop".into(),
        descriptors: vec![Descriptor { rule: RequestRule::default(), entries }],
        hits: 1,
        patience: SOON,
        fail_closed: false,
    };
    let limit = |name: &str, targets, routes, local, global| RateLimit {
        key: name.parse().unwrap(),
        targets,
        routes,
        local,
        global,
        tell: false,
        exhausted: false,
    };
    let guard = ExtProc {
        key: "shop/guard".parse().unwrap(),
        targets: Vec::new(),
        routes: route(),
        rule: RequestRule::default(),
        at: None,
        patience: PATIENCE,
        fail_open: false,
        watches: true,
        modes: Modes::default(),
        may_choose: false,
        body_most: BODY_USUAL,
        shown: Shown::default(),
        attributes: Vec::new(),
        changes: ChangeRules::default(),
    };
    let more = local::write_lines([
        Change::RateLimit(Arc::new(limit(
            "shop/all",
            service(),
            Vec::new(),
            vec![local],
            Some(global.clone()),
        ))),
        Change::RateLimit(Arc::new(limit("shop/route", Vec::new(), route(), Vec::new(), Some(global)))),
        Change::ExtProc(Arc::new(guard)),
    ]);
    let Told { dump, resources } = told();
    Told { dump, resources: resources + &more }
}

#[test]
fn limits_and_processors_of_a_request_are_named_where_it_gets_to_them() {
    let said = |url: &str| {
        let wanted = Wanted::read("GET", url, &[]).unwrap();
        let connection = explain(&mesh(), "client", &wanted.dialled()).unwrap();
        explain_request(&wanted, connection, Some(&told_with_others())).unwrap()
    };
    let text = said("http://cart/beta").to_string();
    assert!(
        text.contains(
            "\n  limits   shop/all: local[0] (10 in 60s), and shop/limits.example:8081 counts\n           \
             shop/route: shop/limits.example:8081 counts\n  \
             goes by  shop/guard at a service that cannot be read, which only watches\n           \
             none of those was asked: each may still refuse it or change it\n  verdict  "
        ),
        "{text}"
    );
    // Of no rule of the route, only those of the service have a say; and nobody has of what is denied.
    for (url, wanted) in [("http://cart/other", &["shop/all"][..]), ("http://cart/canary/admin", &[])] {
        let seen = said(url).waypoint.unwrap();
        let names: Vec<_> = seen.limits.iter().map(|it| it.name.as_str()).collect();
        assert_eq!((names.as_slice(), seen.processors.len()), (wanted, 0), "{url}");
    }
    let json = serde_json::to_value(said("http://cart/beta")).unwrap();
    assert_eq!(json["waypoint"]["processors"][0]["name"], "shop/guard", "{json:#}");
}

#[test]
fn a_request_past_any_waypoint_is_looked_at_by_nobody() {
    let said = explained("client", "GET", "http://v1/");
    assert_eq!(said.waypoint, None);
    assert!(said.to_string().ends_with("  request  nobody on the way looks at requests"), "{said}");
    assert!(said.to_string().starts_with("shop/client asks GET http://v1/: allowed\n"), "{said}");
}

#[test]
fn what_is_no_request_and_what_cannot_be_read_is_said() {
    for (method, url, headers, wanted) in [
        ("G T", "http://a/", &[][..], NoRequest::Method("G T".into())),
        ("GET", "https://a/", &[], NoRequest::Url("https://a/".into())),
        ("GET", "http://a:x/", &[], NoRequest::Url("http://a:x/".into())),
        ("GET", "http://a/", &["x"], NoRequest::Header("x".into())),
        ("GET", "http://a/", &["x y: z"], NoRequest::Header("x y: z".into())),
    ] {
        let headers: Vec<_> = headers.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(Wanted::read(method, url, &headers).unwrap_err(), wanted);
    }
    let wanted = Wanted::read("GET", "http://cart/", &[]).unwrap();
    let connection = || explain(&mesh(), "client", "cart:80").unwrap();
    let torn = Told { resources: "x".into(), ..told() };
    assert!(matches!(explain_request(&wanted, connection(), Some(&torn)), Err(ToldError::Resources(_))));
    let nameless = Told { dump: told().dump.replace("\"gateway\"", "\"other\""), ..told() };
    assert!(matches!(explain_request(&wanted, connection(), Some(&nameless)), Err(ToldError::Gateway)));
}
