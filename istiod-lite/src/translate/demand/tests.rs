//! AuthorizationPolicies become what waypoints are told.

use ambit_model::policy::{AccountMatch, TextMatch};
use ambit_model::request_policy::Target;

use super::*;
use crate::testing::world;

fn read(namespace: &str, spec: &str) -> Option<RequestPolicy> {
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: bank, namespace: shop}}, spec: {{hosts: [bank.example, pay.example], resolution: DNS}}}}
---
{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: 'extensionProviders: [{{name: known, envoyExtAuthzGrpc: {{service: authz.shop.svc, port: 9000}}}}, {{name: other}}]'}}}}
---
{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: {namespace}, annotations: {{istio.io/dry-run: 'true'}}}}, spec: {{{spec}}}}}\n"
    );
    let world = world(&text);
    demand(&world, &world.space(namespace).unwrap().policies["p"])
}

/// The one rule of a policy of the service `web`.
fn only(rule: &str) -> RequestRule {
    let spec = format!("targetRefs: [{{kind: Service, name: web}}], action: DENY, rules: [{rule}]");
    read("shop", &spec).unwrap().rules.remove(0)
}

fn any<T>(values: impl IntoIterator<Item = T>) -> Condition<T> {
    Condition { any: values.into_iter().collect(), none: Vec::new() }
}

fn none<T>(values: impl IntoIterator<Item = T>) -> Condition<T> {
    Condition { any: Vec::new(), none: values.into_iter().collect() }
}

#[test]
fn a_policy_is_for_those_that_it_names_and_one_that_names_nobody_for_no_waypoint() {
    let found = read("shop", "targetRefs: [{kind: Service, name: web}], rules: [{}]").unwrap();
    assert!(found.dry_run && found.rules == [RequestRule::default()]);
    assert_eq!(found.targets, [Target::Service("shop/web.shop.svc.cluster.local".parse().unwrap())]);
    assert_eq!(read("shop", "targetRefs: [{group: example.com, kind: Odd, name: web}], rules: [{}]"), None);
    // By its author's choice it is for tunnels.
    assert_eq!(read("shop", "selector: {matchLabels: {app: web}}, rules: [{}]"), None);
    // Who is no provider that can be asked is nobody.
    for (name, provider) in [("known", Some("known".into())), ("other", None), ("nobody", None)] {
        let asked = format!(
            "targetRefs: [{{kind: Service, name: web}}], action: CUSTOM, provider: {{name: {name}}}, rules: [{{}}]"
        );
        assert_eq!(read("shop", &asked).unwrap().action, RequestAction::Custom { provider });
    }
}

#[test]
fn sources_and_operations_read_whole() {
    let account = |namespace: &str, name: &str| AccountMatch {
        namespace: namespace.parse().unwrap(),
        service_account: name.parse().unwrap(),
    };
    let given = only(
        "{from: [{source: {principals: ['td/ns/a/*'], notRequestPrincipals: ['i/s'], namespaces: ['a-*-b'], trustDomains: ['*td']}},
                 {source: {serviceAccounts: [cart, pay/till], ipBlocks: [10.0.0.1], notRemoteIpBlocks: [10.1.0.0/16]}}],
          to: [{operation: {hosts: ['*.example'], notPorts: ['81'], methods: [GET], paths: ['/a/*', '/b/{*}/c']}}]}",
    );
    let principal = Source {
        principals: any([TextMatch::Prefix("td/ns/a/".into())]),
        request_principals: none(["i/s".into()]),
        namespaces: any(["a-*-b".into()]),
        trust_domains: any([TextMatch::Suffix("td".into())]),
        ..Source::default()
    };
    let place = Source {
        service_accounts: any([account("shop", "cart"), account("pay", "till")]),
        ip_blocks: any(["10.0.0.1/32".parse().unwrap()]),
        remote_ip_blocks: none(["10.1.0.0/16".parse().unwrap()]),
        ..Source::default()
    };
    let operation = Operation {
        hosts: any([TextMatch::Suffix(".example".into())]),
        ports: none([81]),
        methods: any([TextMatch::Exact("GET".into())]),
        paths: any(["/a/*".parse().unwrap(), "/b/{*}/c".parse().unwrap()]),
    };
    assert_eq!(given, RequestRule { from: vec![principal, place], to: vec![operation], when: vec![] });
}

#[test]
fn conditions_are_of_what_their_key_names_and_one_that_does_not_read_is_of_nothing_known() {
    let exact = |text: &str| any([TextMatch::Exact(text.into())]);
    let text = |of| Requirement::Text { of, values: exact("x") };
    let unknown = |key: &str| Requirement::Unknown(key.into());
    let account = AccountMatch { namespace: "shop".parse().unwrap(), service_account: "x".parse().unwrap() };
    for (key, value, wanted) in [
        ("request.headers[X-Role]", "x", text(TextOf::Header("x-role".parse().unwrap()))),
        ("request.headers[]", "x", unknown("request.headers[]")),
        ("request.headers", "x", unknown("request.headers")),
        ("request.auth.claims[a]", "x", text(TextOf::Claim(vec!["a".into()]))),
        ("request.auth.claims[a][b.c]", "x", text(TextOf::Claim(vec!["a".into(), "b.c".into()]))),
        ("request.auth.claims[a][]", "x", unknown("request.auth.claims[a][]")),
        ("request.auth.claims[a]b[c]", "x", unknown("request.auth.claims[a]b[c]")),
        ("request.auth.audiences", "x", text(TextOf::Audiences)),
        ("request.auth.presenter", "x", text(TextOf::Presenter)),
        ("request.auth.principal", "i/s", Requirement::RequestPrincipal(any(["i/s".into()]))),
        ("source.principal", "x", text(TextOf::Principal)),
        ("source.trustDomain", "x", text(TextOf::TrustDomain)),
        ("source.namespace", "x", Requirement::Namespace(any(["x".into()]))),
        ("source.serviceAccount", "x", Requirement::ServiceAccount(any([account]))),
        (
            "source.ip",
            "10.0.0.0/8",
            Requirement::Address { of: AddressOf::Source, values: any(["10.0.0.0/8".parse().unwrap()]) },
        ),
        (
            "remote.ip",
            "10.0.0.1",
            Requirement::Address { of: AddressOf::Remote, values: any(["10.0.0.1/32".parse().unwrap()]) },
        ),
        (
            "destination.ip",
            "10.0.0.1",
            Requirement::Address {
                of: AddressOf::Destination,
                values: any(["10.0.0.1/32".parse().unwrap()]),
            },
        ),
        ("destination.port", "80", Requirement::Port(any([80]))),
        ("connection.sni", "x", text(TextOf::Sni)),
        ("experimental.envoy.filters.a[b]", "x", unknown("experimental.envoy.filters.a[b]")),
    ] {
        let found = only(&format!("{{when: [{{key: '{key}', values: ['{value}']}}]}}"));
        assert_eq!(found.when, [wanted], "{key}");
    }
    // A template that is none, and an account in no namespace: neither makes the rule mean less than it says.
    let odd = only("{to: [{operation: {paths: ['/{*}a'], methods: [GET]}}]}");
    assert_eq!(odd.when, [unknown("paths")]);
    assert!(odd.to[0].paths.is_empty() && !odd.to[0].methods.is_empty());
    let odd = only("{when: [{key: source.serviceAccount, values: ['a/b/c']}]}");
    assert!(odd.when.contains(&unknown("source.serviceAccount")));
}
