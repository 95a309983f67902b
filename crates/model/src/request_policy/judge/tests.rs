//! The order of actions, every field, and what is read strictly (`waypoint.md` 4.3 and 9.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http_path::{NormalPath, Normalization};
use crate::request_policy::{Claim, PathPattern, Token, text_match};
use crate::sample::identity;

/// A request of `shop/web` to port 80 of a service: `<METHOD> <path> <header>:<value>…`.
#[derive(Debug)]
struct Asked {
    peer: Option<Identity>,
    host: &'static str,
    method: Method,
    path: NormalPath<'static>,
    headers: HeaderMap,
    token: Option<Token>,
    is_http: bool,
}

fn asked(text: &str) -> Asked {
    in_mode(text, Normalization::Base)
}

fn in_mode(text: &str, mode: Normalization) -> Asked {
    let mut parts = text.split(' ');
    let method = parts.next().unwrap().parse().unwrap();
    let path = NormalPath::read(parts.next().unwrap(), mode).unwrap().into_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in parts.map(|part| part.split_once(':').unwrap()) {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let peer = Some(identity("shop/web"));
    Asked { peer, host: "Cart.shop:80", method, path, headers, token: None, is_http: true }
}

impl Asked {
    fn with<T>(&self, then: impl FnOnce(&Facts<'_>) -> T) -> T {
        let mut facts =
            Facts::new(self.peer.as_ref(), "10.0.0.7".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
        facts.remote = "203.0.113.9".parse().unwrap();
        facts.sni = Some("outer.example");
        facts.http = self.is_http.then_some(Http {
            host: self.host,
            method: &self.method,
            path: &self.path,
            headers: &self.headers,
            token: self.token.as_ref(),
        });
        then(&facts)
    }

    fn judged(&self, policies: &[Arc<RequestPolicy>]) -> Opinion {
        self.with(|facts| judge(policies, facts))
    }

    fn is_of(&self, action: RequestAction, rule: &RequestRule) -> bool {
        let policy = policy("p", action, vec![rule.clone()]);
        self.with(|facts| matched(&policy, facts).is_some())
    }
}

fn policy(name: &str, action: RequestAction, rules: Vec<RequestRule>) -> Arc<RequestPolicy> {
    let key = format!("shop/{name}").parse().unwrap();
    Arc::new(RequestPolicy { key, targets: vec![], action, rules, dry_run: false })
}

fn rehearsed(policy: &Arc<RequestPolicy>) -> Arc<RequestPolicy> {
    Arc::new(RequestPolicy { dry_run: true, ..(**policy).clone() })
}

fn any<T>(values: impl IntoIterator<Item = T>) -> Condition<T> {
    Condition { any: values.into_iter().collect(), none: vec![] }
}

fn none<T>(values: impl IntoIterator<Item = T>) -> Condition<T> {
    Condition { any: vec![], none: values.into_iter().collect() }
}

fn from(source: Source) -> RequestRule {
    RequestRule { from: vec![source], ..RequestRule::default() }
}

fn to(operation: Operation) -> RequestRule {
    RequestRule { to: vec![operation], ..RequestRule::default() }
}

fn when(requirement: Requirement) -> RequestRule {
    RequestRule { when: vec![requirement], ..RequestRule::default() }
}

fn paths(texts: &[&str]) -> Condition<PathPattern> {
    any(texts.iter().map(|text| text.parse().unwrap()))
}

fn to_paths(texts: &[&str]) -> RequestRule {
    to(Operation { paths: paths(texts), ..Operation::default() })
}

fn header(name: &str, values: Condition<TextMatch>) -> RequestRule {
    when(Requirement::Text { of: TextOf::Header(name.parse().unwrap()), values })
}

fn by(name: &str, rule: usize) -> RuleRef {
    RuleRef { policy: format!("shop/{name}").parse().unwrap(), rule }
}

fn token() -> Token {
    let text = |text: &str| Claim::Text(text.into());
    let nested = BTreeMap::from([("inner".into(), Claim::List(vec![text("x"), Claim::Other, text("y")]))]);
    Token {
        issuer: "https://issuer.example/v1".into(),
        subject: "alice".into(),
        claims: BTreeMap::from([
            ("aud".into(), Claim::List(vec![text("cart"), text("pay")])),
            ("azp".into(), text("app")),
            ("scope".into(), text("read write")),
            ("group".into(), text("a b")),
            ("level".into(), Claim::Other),
            ("outer".into(), Claim::Object(nested)),
        ]),
    }
}

#[test]
fn deny_goes_before_allow_and_without_allow_all_are_let_in() {
    let everything = RequestRule::default;
    let allow_a = policy("allow-a", RequestAction::Allow, vec![to_paths(&["/x"]), to_paths(&["/a*"])]);
    let deny_b = policy("deny-b", RequestAction::Deny, vec![to_paths(&["*b"])]);
    let get = |path: &str, policies: &[&Arc<RequestPolicy>]| {
        let policies: Vec<_> = policies.iter().map(|it| Arc::clone(it)).collect();
        asked(&format!("GET {path}")).judged(&policies).verdict
    };
    assert_eq!(get("/", &[]), Verdict::Allow(None));
    assert_eq!(get("/a", &[&allow_a]), Verdict::Allow(Some(by("allow-a", 1))));
    assert_eq!(get("/c", &[&allow_a]), Verdict::Deny(Denial::NothingAllows));
    assert_eq!(get("/ab", &[&allow_a, &deny_b]), Verdict::Deny(Denial::Rule(by("deny-b", 0))));
    assert_eq!(get("/b", &[&deny_b]), Verdict::Deny(Denial::Rule(by("deny-b", 0))));
    assert_eq!(get("/c", &[&deny_b]), Verdict::Allow(None));
    let nobody = policy("nobody", RequestAction::Allow, vec![]);
    assert_eq!(get("/a", &[&nobody]), Verdict::Deny(Denial::NothingAllows), "no rules: nothing is allowed");
    assert_eq!(get("/a", &[&nobody, &allow_a]), Verdict::Allow(Some(by("allow-a", 1))));
    let idle = policy("idle", RequestAction::Deny, vec![]);
    assert_eq!(get("/a", &[&idle]), Verdict::Allow(None), "no rules: nothing is denied");
    let all = policy("all", RequestAction::Deny, vec![everything()]);
    assert_eq!(
        get("/a", &[&all]),
        Verdict::Deny(Denial::Rule(by("all", 0))),
        "an empty rule is of everything"
    );
}

#[test]
fn audits_are_told_of_and_dry_runs_change_nothing() {
    let deny = policy("deny", RequestAction::Deny, vec![RequestRule::default()]);
    let allow = policy("allow", RequestAction::Allow, vec![to_paths(&["/a"])]);
    let audit = policy("audit", RequestAction::Audit, vec![to_paths(&["/a"])]);
    let dry = [rehearsed(&deny), rehearsed(&allow), Arc::clone(&audit), rehearsed(&audit)];
    let a = asked("GET /a").judged(&dry);
    assert_eq!(a.verdict, Verdict::Allow(None));
    assert_eq!(a.audited, ["shop/audit".parse().unwrap()]);
    assert_eq!(a.dry_run, [Rehearsal::WouldDeny(by("deny", 0)), Rehearsal::WouldAllow(by("allow", 0))]);
    let b = asked("GET /b").judged(&dry[1..]);
    assert_eq!((b.verdict, b.audited.len()), (Verdict::Allow(None), 0));
    assert_eq!(b.dry_run, [Rehearsal::NothingWouldAllow]);
}

#[test]
fn whoever_is_to_be_asked_is_asked_once_and_nobody_that_is_unknown() {
    let custom = |name: &str, provider: Option<&str>, path: &str| {
        let provider = provider.map(Label::from);
        policy(name, RequestAction::Custom { provider }, vec![to_paths(&[path])])
    };
    let policies = [
        custom("one", Some("opa"), "/a"),
        custom("two", Some("opa"), "/a*"),
        custom("three", Some("other"), "/b"),
        custom("four", None, "/c"),
        rehearsed(&custom("five", None, "/a")),
    ];
    let ask = |text: &str| {
        asked(text).with(|facts| {
            asks(&policies, facts)
                .map(|all| all.into_iter().map(|(who, _)| who.to_string()).collect::<Vec<_>>())
        })
    };
    assert_eq!(ask("GET /a"), Ok(vec!["opa".to_owned()]));
    assert_eq!(ask("GET /b"), Ok(vec!["other".to_owned()]));
    assert_eq!(ask("GET /d"), Ok(vec![]));
    assert_eq!(ask("GET /c"), Err(Denial::Rule(by("four", 0))));
}

#[test]
fn what_is_demanded_of_tokens_is_in_doubt_while_others_are_asked() {
    let claim = Requirement::Text {
        of: TextOf::Claim(vec!["group".into()]),
        values: Condition { any: vec![text_match("staff")], none: Vec::new() },
    };
    let principals = Condition { any: Vec::new(), none: vec!["me/jane".into()] };
    let source = Source { request_principals: principals, ..Source::default() };
    for rule in [
        RequestRule { when: vec![claim], ..RequestRule::default() },
        RequestRule { from: vec![source], ..RequestRule::default() },
    ] {
        let provider = Some(Label::from("opa"));
        let policies = [policy("one", RequestAction::Custom { provider }, vec![rule])];
        let wanted = asked("GET /a").with(|facts| asks(&policies, facts).map(|all| all.len()));
        assert_eq!(wanted, Ok(1), "{policies:?}");
    }
}

#[test]
fn each_field_of_a_source_is_compared() {
    let source = Source::default;
    let text = |texts: &[&str]| any(texts.iter().map(|text| text_match(text)));
    let account = |namespace: &str, account: &str| AccountMatch {
        namespace: namespace.parse().unwrap(),
        service_account: account.parse().unwrap(),
    };
    let range = |text: &str| any([text.parse::<IpNet>().unwrap()]);
    let cases = [
        (Source { principals: text(&["cluster.local/ns/shop/sa/web"]), ..source() }, true),
        (Source { principals: text(&["cluster.local/ns/shop/*"]), ..source() }, true),
        (Source { principals: text(&["*/sa/web"]), ..source() }, true),
        (Source { principals: text(&["*"]), ..source() }, true),
        (Source { principals: text(&["spiffe://cluster.local/ns/shop/sa/web"]), ..source() }, false),
        (Source { principals: none([text_match("*/sa/web")]), ..source() }, false),
        (Source { namespaces: any(["sh*p".into()]), ..source() }, true),
        (Source { namespaces: any(["sho".into()]), ..source() }, false),
        (Source { service_accounts: any([account("shop", "web")]), ..source() }, true),
        (Source { service_accounts: any([account("other", "web")]), ..source() }, false),
        (Source { trust_domains: text(&["cluster.*"]), ..source() }, true),
        (Source { trust_domains: text(&["other"]), ..source() }, false),
        (Source { ip_blocks: range("10.0.0.0/24"), ..source() }, true),
        (Source { ip_blocks: range("203.0.113.0/24"), ..source() }, false),
        (Source { remote_ip_blocks: range("203.0.113.0/24"), ..source() }, true),
        (Source { request_principals: any(["https://issuer.example/v1/alice".into()]), ..source() }, true),
        (Source { request_principals: any(["*".into()]), ..source() }, true),
        (Source { request_principals: none(["*/alice".into()]), ..source() }, false),
        (Source { namespaces: any(["shop".into()]), ip_blocks: range("10.9.0.0/16"), ..source() }, false),
    ];
    for (source, wanted) in cases {
        let mut request = asked("GET /");
        request.token = Some(token());
        assert_eq!(request.is_of(RequestAction::Allow, &from(source.clone())), wanted, "{source:?}");
    }
    let stranger = Asked { peer: None, ..asked("GET /") };
    for (source, wanted) in [
        (Source { principals: text(&["*"]), ..source() }, false),
        (Source { principals: none([text_match("*")]), ..source() }, true),
        (Source { request_principals: any(["*".into()]), ..source() }, false),
        (Source { request_principals: none(["*".into()]), ..source() }, true),
    ] {
        assert_eq!(stranger.is_of(RequestAction::Deny, &from(source.clone())), wanted, "{source:?}");
    }
}

#[test]
fn each_field_of_an_operation_is_compared() {
    let text = |texts: &[&str]| any(texts.iter().map(|text| text_match(text)));
    let operation = Operation::default;
    for (operation, wanted) in [
        (Operation { hosts: text(&["cart.SHOP:80"]), ..operation() }, true),
        (Operation { hosts: text(&["cart.shop"]), ..operation() }, false), // its port is part of it
        (Operation { hosts: text(&["cart.shop", "cart.shop:*"]), ..operation() }, true),
        (Operation { ports: any([80]), ..operation() }, true),
        (Operation { ports: none([80]), ..operation() }, false),
        (Operation { methods: text(&["P*"]), ..operation() }, true),
        (Operation { methods: text(&["post"]), ..operation() }, false),
        (Operation { paths: paths(&["/pkg.Svc/Method"]), ..operation() }, true),
        (Operation { paths: paths(&["/pkg.Svc/*"]), ..operation() }, true),
        (Operation { paths: paths(&["*/Method"]), ..operation() }, true),
        (Operation { paths: paths(&["/{*}/Method"]), ..operation() }, true),
        (Operation { paths: paths(&["/other", "/{**}"]), ..operation() }, true),
        (Operation { paths: paths(&["/pkg"]), ..operation() }, false),
        (Operation { methods: text(&["POST"]), ports: any([81]), ..operation() }, false),
    ] {
        let request = asked("POST /pkg.Svc/Method");
        assert_eq!(request.is_of(RequestAction::Allow, &to(operation.clone())), wanted, "{operation:?}");
    }
}

#[test]
fn each_attribute_that_can_be_required_is_compared() {
    let of = |of, values: &[&str]| {
        let values = any(values.iter().map(|text| text_match(text)));
        Requirement::Text { of, values }
    };
    let claim = |path: &[&str]| TextOf::Claim(path.iter().map(|name| (*name).into()).collect());
    let at = |of, range: &str| Requirement::Address { of, values: any([range.parse().unwrap()]) };
    for (requirement, wanted) in [
        (of(TextOf::Header("x-a".parse().unwrap()), &["1,2"]), true),
        (of(TextOf::Header("X-A".parse().unwrap()), &["1*"]), false), // 2 is none of them
        (of(TextOf::Header("X-A".parse().unwrap()), &["1*", "2"]), true),
        (of(TextOf::Header("x-a".parse().unwrap()), &["2"]), false),
        (of(TextOf::Header("x-none".parse().unwrap()), &["*"]), false),
        (of(TextOf::Header("x-empty".parse().unwrap()), &["*"]), false),
        (of(TextOf::Principal, &["*/sa/web"]), true),
        (of(TextOf::TrustDomain, &["cluster.local"]), true),
        (of(TextOf::Sni, &["*.example"]), true),
        (of(TextOf::Audiences, &["pay"]), true),
        (of(TextOf::Audiences, &["other"]), false),
        (of(TextOf::Presenter, &["app"]), true),
        (of(claim(&["scope"]), &["write"]), true),
        (of(claim(&["scope"]), &["read write"]), false),
        (of(claim(&["group"]), &["a b"]), true),
        (of(claim(&["outer", "inner"]), &["y"]), true),
        (of(claim(&["outer"]), &["*"]), false),
        (of(claim(&["level"]), &["*"]), false), // a number is no text
        (of(claim(&["outer", "inner", "x"]), &["*"]), false),
        (of(claim(&[]), &["*"]), false),
        (at(AddressOf::Source, "10.0.0.7/32"), true),
        (at(AddressOf::Remote, "10.0.0.7/32"), false),
        (at(AddressOf::Destination, "10.1.0.0/16"), true),
        (Requirement::Namespace(any(["shop".into()])), true),
        (Requirement::Port(any([80])), true),
        (Requirement::Port(any([8080])), false),
        (Requirement::RequestPrincipal(any(["*/alice".into()])), true),
    ] {
        let mut request = asked("GET / x-a:1 x-a:2 x-empty:");
        request.token = Some(token());
        assert_eq!(
            request.is_of(RequestAction::Allow, &when(requirement.clone())),
            wanted,
            "{requirement:?}"
        );
    }
}

#[test]
fn of_a_header_that_comes_several_times_none_hides_behind_another() {
    let (allow, deny) = (RequestAction::Allow, RequestAction::Deny);
    let values = |values: &[&str]| any(values.iter().map(|text| text_match(text)));
    let not = |values: &[&str]| none(values.iter().map(|text| text_match(text)));
    for (headers, condition, allowed, denied) in [
        ("x-role:admin", values(&["admin"]), true, true),
        ("x-role:admin x-role:admin", values(&["admin"]), false, true),
        ("x-role:admin x-role:guest", values(&["guest"]), false, true),
        ("x-role:guest x-role:admin", values(&["guest"]), false, true),
        ("x-role:admin x-role:guest", values(&["admin,guest"]), true, true),
        ("x-role:admin x-role:guest", values(&["admin*"]), false, true),
        ("x-role:admin x-role:guest", values(&["*guest"]), false, true),
        ("x-role:admin x-role:guest", values(&["admin*", "guest"]), true, true),
        ("x-role:admin x-role:guest", values(&["*"]), true, true),
        ("x-role:admin x-role:", values(&["*"]), false, true),
        ("x-role:admin x-role:guest", not(&["guest"]), false, true),
        ("x-role:admin x-role:owner", not(&["guest"]), true, true),
        ("x-role:guest x-role:guest", not(&["guest", "guest,guest"]), false, false),
        ("x-role:admin x-role:guest", values(&["other"]), false, false),
    ] {
        let request = asked(&format!("GET / {headers}"));
        let rule = header("x-role", condition.clone());
        assert_eq!(request.is_of(allow.clone(), &rule), allowed, "{headers} is let in by {condition:?}");
        assert_eq!(request.is_of(deny.clone(), &rule), denied, "{headers} is kept out by {condition:?}");
    }
}

#[test]
fn a_header_that_is_not_there_is_none_of_the_refused_values() {
    let without = asked("GET /");
    assert!(!without.is_of(RequestAction::Allow, &header("x-a", any([text_match("1")]))));
    assert!(without.is_of(RequestAction::Allow, &header("x-a", none([text_match("1")]))));
    assert!(!asked("GET / x-a:1").is_of(RequestAction::Allow, &header("x-a", none([text_match("1")]))));
}

#[test]
fn what_cannot_be_seen_never_allows_and_never_keeps_from_denying() {
    let tcp = Asked { is_http: false, ..asked("GET /") };
    let not_admin = to(Operation { paths: none(["/admin".parse().unwrap()]), ..Operation::default() });
    let with_port =
        |port| to(Operation { paths: paths(&["/a"]), ports: any([port]), ..Operation::default() });
    let unknown = when(Requirement::Unknown("experimental.envoy.filters.x[y]".into()));
    let nobody = from(Source::default());
    for (rule, allows, denies) in [
        (&not_admin, false, true),
        (&to_paths(&["/a"]), false, true),
        (&with_port(80), false, true),
        (&with_port(81), false, false),
        (&header("x-a", any([text_match("1")])), false, true),
        (&header("x-a", none([text_match("1")])), false, true),
        (&unknown, false, true),
        (&nobody, false, true),
        (&to(Operation::default()), false, true),
    ] {
        assert_eq!(tcp.is_of(RequestAction::Allow, rule), allows, "allow {rule:?}");
        assert_eq!(tcp.is_of(RequestAction::Audit, rule), allows, "audit {rule:?}");
        assert_eq!(tcp.is_of(RequestAction::Deny, rule), denies, "deny {rule:?}");
        assert_eq!(tcp.is_of(RequestAction::Custom { provider: None }, rule), denies, "ask {rule:?}");
    }
}

#[test]
fn paths_are_judged_in_the_form_in_which_they_are_routed_and_forwarded() {
    let allow = [policy("public", RequestAction::Allow, vec![to_paths(&["/public"])])];
    assert!(asked("GET /admin/../public").judged(&allow).verdict.is_allowed());
    assert!(!asked("GET /public/../admin").judged(&allow).verdict.is_allowed());
    let deny = [policy("admin", RequestAction::Deny, vec![to_paths(&["/admin/*"])])];
    let with = |mode| in_mode("GET /admin%2Fx", mode).judged(&deny).verdict.is_allowed();
    assert!(with(Normalization::Base), "as documented: an escaped slash is no slash");
    assert!(!with(Normalization::DecodeAndMergeSlashes));
}

fn a_rule() -> impl Strategy<Value = RequestRule> {
    let path = proptest::sample::select(vec!["/a", "/a*", "*b", "/{*}", "*"]);
    let operation =
        (vec(path, 0..2), vec(80..82u16, 0..2), any_bool()).prop_map(|(texts, ports, refused)| {
            let paths: Vec<PathPattern> = texts.into_iter().map(|text| text.parse().unwrap()).collect();
            Operation {
                paths: if refused { none(paths) } else { any(paths) },
                ports: any(ports),
                ..Operation::default()
            }
        });
    let source = (vec(proptest::sample::select(vec!["shop", "s*", "other"]), 0..2), any_bool()).prop_map(
        |(texts, refused)| {
            let namespaces = texts.into_iter().map(Into::into);
            let namespaces = if refused { none(namespaces) } else { any(namespaces) };
            Source { namespaces, ..Source::default() }
        },
    );
    let unknown = any_bool().prop_map(|unknown| unknown.then(|| Requirement::Unknown("x".into())));
    (vec(source, 0..2), vec(operation, 0..2), unknown).prop_map(|(from, to, when)| RequestRule {
        from,
        to,
        when: when.into_iter().collect(),
    })
}

fn any_bool() -> impl Strategy<Value = bool> {
    proptest::bool::ANY
}

fn policies() -> impl Strategy<Value = Vec<Arc<RequestPolicy>>> {
    let action =
        proptest::sample::select(vec![RequestAction::Allow, RequestAction::Deny, RequestAction::Audit]);
    vec((action, vec(a_rule(), 0..3), any_bool()), 0..5).prop_map(|all| {
        let named = all.into_iter().enumerate().map(|(at, (action, rules, dry_run))| {
            let policy = policy(&format!("p{at}"), action, rules);
            Arc::new(RequestPolicy { dry_run: dry_run && at % 2 == 0, ..(*policy).clone() })
        });
        named.collect()
    })
}

fn a_request() -> impl Strategy<Value = Asked> {
    let path = proptest::sample::select(vec!["/", "/a", "/b", "/ab", "/a/b"]);
    (path, any_bool(), any_bool()).prop_map(|(path, known, is_http)| Asked {
        peer: known.then(|| identity("shop/web")),
        is_http,
        ..asked(&format!("GET {path}"))
    })
}

proptest! {
    #[test]
    fn another_deny_never_allows_more(policies in policies(), rules in vec(a_rule(), 0..3), request in a_request()) {
        let mut more = policies.clone();
        more.push(policy("another", RequestAction::Deny, rules));
        let (before, after) = (request.judged(&policies), request.judged(&more));
        prop_assert!(before.verdict.is_allowed() || !after.verdict.is_allowed());
    }

    #[test]
    fn another_rule_never_allows_less_where_it_allows_nor_more_where_it_denies(
        rules in vec(a_rule(), 0..3), rule in a_rule(), request in a_request(),
    ) {
        let allowed = |action, rules: &[RequestRule]| {
            request.judged(&[policy("p", action, rules.to_vec())]).verdict.is_allowed()
        };
        let more: Vec<_> = rules.iter().cloned().chain([rule]).collect();
        prop_assert!(!allowed(RequestAction::Allow, &rules) || allowed(RequestAction::Allow, &more));
        prop_assert!(allowed(RequestAction::Deny, &rules) || !allowed(RequestAction::Deny, &more));
    }

    #[test]
    fn whether_it_is_let_in_never_depends_on_the_order_of_policies(policies in policies(), request in a_request()) {
        let reversed: Vec<_> = policies.iter().rev().cloned().collect();
        let (one, other) = (request.judged(&policies), request.judged(&reversed));
        prop_assert_eq!(one.verdict.is_allowed(), other.verdict.is_allowed());
        prop_assert_eq!(one.audited.len(), other.audited.len());
    }

    #[test]
    fn hiding_what_is_asked_never_lets_more_in(policies in policies(), request in a_request()) {
        let seen = Asked { is_http: true, peer: request.peer.clone(), ..asked(&format!("GET {}", request.path)) };
        let hidden = Asked { is_http: false, peer: request.peer.clone(), ..asked(&format!("GET {}", request.path)) };
        prop_assert!(seen.judged(&policies).verdict.is_allowed() || !hidden.judged(&policies).verdict.is_allowed());
    }
}

#[test]
fn the_name_of_a_connection_at_which_nobody_looked_is_read_strictly() {
    let facts = Facts::new(None, "10.0.0.7".parse().unwrap(), "10.1.0.1:443".parse().unwrap());
    let rule = when(Requirement::Text { of: TextOf::Sni, values: any([text_match("a.example")]) });
    for (action, hit) in [(RequestAction::Deny, true), (RequestAction::Allow, false)] {
        let policy = policy("p", action, vec![rule.clone()]);
        assert_eq!(matched(&policy, &facts).is_some(), hit, "{:?}", policy.action);
    }
}
