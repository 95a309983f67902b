//! Each rule with what it refuses, what it warns of, and that good objects pass.

use std::path::Path;

use super::*;
use crate::files::parse;

fn object(kind: &str, spec: &str) -> Value {
    let group = match kind {
        "ServiceEntry" | "WorkloadEntry" | "VirtualService" | "DestinationRule" => "networking.istio.io",
        "BackendTLSPolicy" => "gateway.networking.k8s.io",
        _ => "security.istio.io",
    };
    let text = format!(
        "{{apiVersion: {group}/v1, kind: {kind}, metadata: {{name: x, namespace: a}}, spec: {spec}}}"
    );
    yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Kind, specification, and what is said of it: begun with ! for a refusal, with ? for a warning; empty: nothing.
const CASES: &[(&str, &str, &str)] = &[
    ("VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a}}]}]}", ""),
    ("VirtualService", "{hosts: ['*.b.c'], gateways: [mesh], http: [{redirect: {uri: /a}}]}", ""),
    ("VirtualService", "{hosts: [a]}", "!spec: nothing is said of requests"),
    ("VirtualService", "{hosts: ['a b'], http: [{redirect: {}}]}", "!spec.hosts[0]: a b: not a host"),
    ("VirtualService", "{hosts: [a, A], http: [{redirect: {}}]}", "!spec.hosts[1]: A: given twice"),
    ("VirtualService", "{hosts: [a], http: [{}]}", "!spec.http[0]: nothing is done with requests"),
    ("VirtualService", "{hosts: [a], http: [{redirekt: {}}]}", "!spec.http[0].redirekt: "),
    (
        "VirtualService",
        "{hosts: [a], http: [{match: [{uri: {regex: '('}}], redirect: {}}]}",
        "!spec.http[0].match[0].uri.regex: (: ",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{match: [{headers: {'x y': {}}}], redirect: {}}]}",
        "!spec.http[0].match[0].headers.x y: x y: not the name of a header",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{match: [{headers: {'@request.auth.claims.a': {exact: b}}}], redirect: {}}]}",
        "",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{route: [{destination: {host: '*.b'}}]}]}",
        "!spec.http[0].route[0].destination.host: *.b: not a host",
    ),
    ("VirtualService", "{hosts: [a], http: [{match: [{sourceLabels: {a: b}}], redirect: {}}]}", ""),
    (
        "VirtualService",
        "{hosts: [a], http: [{redirect: {}}, {redirect: {}}]}",
        "?spec.http[1]: no request comes this far",
    ),
    ("VirtualService", "{hosts: [a], tcp: [{route: [{destination: {host: a}}]}]}", ""),
    (
        "VirtualService",
        "{hosts: [a], http: [{headers: {request: {set: {a: '%HOSTNAME%', b: '%REQ(b)%'}}}, redirect: {}}]}",
        "?spec.http[0].headers.request.a: %HOSTNAME%: waypoints do not know %HOSTNAME%",
    ),
    (
        "BackendTLSPolicy",
        "{targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: 'a:b'}]}}",
        "",
    ),
    (
        "BackendTLSPolicy",
        "{targetRefs: [{kind: Backend, name: a}], validation: {hostname: a.b, wellKnownCACertificates: System}}",
        "?spec.targetRefs[0].kind: Backend: waypoints send to nothing",
    ),
    (
        "BackendTLSPolicy",
        "{targetRefs: [{kind: Service, name: a}], validation: {hostname: a.b}}",
        "?spec.validation.wellKnownCACertificates: nothing is sent",
    ),
    (
        "BackendTLSPolicy",
        "{targetRefs: [{kind: Service, name: a}], validation: {hostname: a.b, caCertificateRefs: [{kind: Secret, name: a}]}}",
        "?spec.validation.caCertificateRefs[0].kind: Secret: only a ConfigMap",
    ),
    (
        "BackendTLSPolicy",
        "{targetRefs: [{kind: Service, name: a}], validation: {hostname: '*.b', wellKnownCACertificates: System}}",
        "?spec.validation.hostname: *.b: not a host",
    ),
    (
        "BackendTLSPolicy",
        "{targetRefs: [{kind: Service, name: a}], validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: IP}]}}",
        "?spec.validation.subjectAltNames[0].type: IP: not known",
    ),
    ("BackendTLSPolicy", "{targetRefs: [{kind: Service}]}", "!spec.targetRefs[0].name: missing"),
    ("AuthorizationPolicy", "{rules: [{from: [{source: {principals: [a]}}]}]}", ""),
    ("AuthorizationPolicy", "{rules: [{}]}", ""),
    ("AuthorizationPolicy", "{}", ""),
    ("AuthorizationPolicy", "{action: DENY}", "!spec.action: DENY: denies nothing without rules"),
    ("AuthorizationPolicy", "{action: AUDIT}", "!spec.rules: []: this action does nothing"),
    ("AuthorizationPolicy", "{action: CUSTOM, rules: [{}]}", "!spec.provider: missing"),
    ("AuthorizationPolicy", "{action: CUSTOM, provider: {name: p}, rules: [{}]}", ""),
    (
        "AuthorizationPolicy",
        "{action: CUSTOM, provider: {name: p}, targetRefs: [{kind: Service, name: a}], rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
        "?spec.rules[0].from: requestPrincipals: not known yet",
    ),
    (
        "AuthorizationPolicy",
        "{action: CUSTOM, provider: {name: p}, targetRefs: [{kind: Service, name: a}], rules: [{when: [{key: 'request.auth.claims[a]', values: [b]}]}]}",
        "?spec.rules[0].when[0].key: request.auth.claims[a]: not known yet",
    ),
    (
        "AuthorizationPolicy",
        "{provider: {name: p}, rules: [{}]}",
        "!spec.provider: p: only for the action CUSTOM",
    ),
    ("AuthorizationPolicy", "{rulez: []}", "!spec.rulez: "),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {}}]}]}",
        "!spec.rules[0].from[0].source: {}: says nothing",
    ),
    ("AuthorizationPolicy", "{rules: [{to: [{}]}]}", "!spec.rules[0].to[0].operation: {}: says nothing"),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {serviceAccounts: [b], namespaces: [a]}}]}]}",
        "!spec.rules[0].from[0].source: serviceAccounts together",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {principals: ['']}}]}]}",
        "!spec.rules[0].from[0].source.principals[0]: ",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]}",
        "!spec.rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/33\": not an address",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{to: [{operation: {ports: ['0']}}]}]}",
        "!spec.rules[0].to[0].operation.ports[0]: ",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: source.port, values: [a]}]}]}",
        "!spec.rules[0].when[0].key: source.port: unknown attribute",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: 'request.headers[]', values: [a]}]}]}",
        "!spec.rules[0].when[0].key: request.headers[]: unknown",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]}",
        "?spec.rules[0].when[0].key: request.headers[x]: not seen by tunnels, which leave such a rule out",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: Service, name: s}], rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]}",
        "",
    ),
    ("AuthorizationPolicy", "{rules: [{when: [{key: destination.port, values: ['80']}]}]}", ""),
    (
        "AuthorizationPolicy",
        "{rules: [{to: [{operation: {methods: [GET]}}]}]}",
        "?spec.rules[0].to: HTTP attributes are not seen by tunnels, which leave such a rule out: it allows nobody",
    ),
    (
        "AuthorizationPolicy",
        "{action: DENY, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
        "?spec.rules[0].from: HTTP attributes are not seen by tunnels, which deny",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: source.namespace, values: ['']}]}]}",
        "!spec.rules[0].when[0].values[0]: empty",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: source.namespace}]}]}",
        "!spec.rules[0].when[0]: source.namespace: the condition demands nothing",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: Service, name: s}], rules: [{to: [{operation: {paths: ['/a/{*}/b/{**}']}}]}]}",
        "",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: Service, name: s}], rules: [{to: [{operation: {paths: ['/{**}/{*}']}}]}]}",
        "!spec.rules[0].to[0].operation.paths[0]: /{**}/{*}: not a path template",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: Service, name: s}], rules: [{to: [{operation: {paths: ['/a{*}']}}]}]}",
        "!spec.rules[0].to[0].operation.paths[0]: /a{*}: not a path template",
    ),
    (
        "AuthorizationPolicy",
        "{action: DENY, rules: [{to: [{operation: {ports: ['80'], paths: [/x]}}]}]}",
        "?spec.rules[0].to: HTTP attributes",
    ),
    (
        "AuthorizationPolicy",
        "{targetRef: {kind: Service, name: s}, targetRefs: [{kind: Service, name: s}]}",
        "!spec.targetRef: given together",
    ),
    ("AuthorizationPolicy", "{targetRefs: [{kind: Service, name: ''}]}", "!spec.targetRefs[0].name: missing"),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: Service, name: s, namespace: b}]}",
        "!spec.targetRefs[0].namespace: b: not supported",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: Pod, name: s}]}",
        "!spec.targetRefs[0].kind: /Pod: a policy cannot",
    ),
    (
        "AuthorizationPolicy",
        "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: s}]}",
        "!spec.targetRefs: given together with selector",
    ),
    (
        "AuthorizationPolicy",
        "{selector: {matchLabels: {a: 'b*'}}}",
        "!spec.selector.matchLabels.a: b*: labels take no wildcards",
    ),
    ("AuthorizationPolicy", "{selector: {}}", "?spec.selector.matchLabels: a selector without labels"),
    ("PeerAuthentication", "{mtls: {mode: STRICT}}", ""),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwks: '{}', timeout: 1s}]}",
        "",
    ),
    ("DestinationRule", "{host: web, subsets: [{name: v1, labels: {v: '1'}}]}", ""),
    ("DestinationRule", "{host: '*.shop.svc.cluster.local'}", ""),
    ("DestinationRule", "{host: 'a b'}", "!spec.host: a b: not a host"),
    (
        "DestinationRule",
        "{host: web, trafficPolicy: {what: 1}}",
        "!spec.trafficPolicy.what: 1: unknown field",
    ),
    (
        "DestinationRule",
        "{host: web, trafficPolicy: {loadBalancer: {simple: FASTEST}}}",
        "!spec.trafficPolicy.loadBalancer.simple: \"FASTEST\": unknown variant",
    ),
    (
        "DestinationRule",
        "{host: web, subsets: [{name: v1}]}",
        "?spec.subsets[0].labels: every endpoint is in it",
    ),
    (
        "DestinationRule",
        "{host: web, subsets: [{name: v1, labels: {v: '*'}}]}",
        "!spec.subsets[0].labels.v: *: labels take no wildcards",
    ),
    (
        "DestinationRule",
        "{host: web, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /a}}}",
        "?spec.trafficPolicy.tls.caCertificates: /a: waypoints have no such file",
    ),
    (
        "DestinationRule",
        "{host: web, trafficPolicy: {outlierDetection: {interval: 1s}}}",
        "?spec.trafficPolicy.outlierDetection.maxEjectionPercent: 10: with fewer than 10 endpoints",
    ),
    (
        "DestinationRule",
        "{host: web, trafficPolicy: {portLevelSettings: [{port: {number: 0}}]}}",
        "!spec.trafficPolicy.portLevelSettings[0].port.number: 0",
    ),
    ("RequestAuthentication", "{jwtRules: []}", "?spec.targetRefs: tunnels see no tokens"),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{jwks: '{}'}]}",
        "!spec.jwtRules[0].issuer: missing",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwks: '{}', jwksUri: 'http://a/b'}]}",
        "!spec.jwtRules[0].jwks: given together",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwksUri: 'file:///etc/passwd'}]}",
        "!spec.jwtRules[0].jwksUri: file:///etc/passwd: not an address",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: 'https://i'}]}",
        "?spec.jwtRules[0].jwksUri: missing: the issuer is asked",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i}]}",
        "?spec.jwtRules[0].jwksUri: i: there are no keys",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwks: '{}', fromHeaders: [{name: 'a b'}]}]}",
        "!spec.jwtRules[0].fromHeaders[0].name: a b: not the name",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwks: '{}', fromParams: ['']}]}",
        "!spec.jwtRules[0].fromParams[0]: empty",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwks: '{}', outputClaimToHeaders: [{header: x-a, claim: a}, {header: X-A, claim: b}]}]}",
        "!spec.jwtRules[0].outputClaimToHeaders[1].header: X-A: given twice",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwks: '{}', timeout: soon}]}",
        "!spec.jwtRules[0].timeout: soon: not a duration",
    ),
    (
        "RequestAuthentication",
        "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: i, jwks: '{}', audience: [a]}]}",
        "!spec.jwtRules[0]",
    ),
    (
        "PeerAuthentication",
        "{portLevelMtls: {80: {mode: STRICT}}}",
        "!spec.portLevelMtls: ports can only be set",
    ),
    (
        "PeerAuthentication",
        "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
        "!spec.portLevelMtls: {}: no port",
    ),
    (
        "PeerAuthentication",
        "{selector: {matchLabels: {a: b}}, portLevelMtls: {70000: {mode: STRICT}}}",
        "!spec.portLevelMtls",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
        "",
    ),
    ("ServiceEntry", "{ports: []}", "!spec.hosts: []: no host"),
    ("ServiceEntry", "{hosts: ['*']}", "!spec.hosts[0]: *: would be every host"),
    ("ServiceEntry", "{hosts: ['a..b']}", "!spec.hosts[0]: a..b: not a host name"),
    ("ServiceEntry", "{hosts: ['*-a.example']}", "?spec.hosts[0]: *-a.example: a wildcard for a part"),
    (
        "ServiceEntry",
        "{hosts: ['*.a.example'], resolution: DNS}",
        "!spec.hosts[0]: *.a.example: a wildcard cannot",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], addresses: [10.0.0.0/8], resolution: DNS}",
        "!spec.addresses[0]: 10.0.0.0/8: a range",
    ),
    ("ServiceEntry", "{hosts: [a.example], addresses: [10.0.0.0/8], resolution: NONE}", ""),
    (
        "ServiceEntry",
        "{hosts: [a.example], ports: [{number: 80, name: a}, {number: 80, name: b}]}",
        "!spec.ports[1].number: 80: given twice",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], ports: [{number: 80, name: a}, {number: 81, name: a}]}",
        "!spec.ports[1].name: a: given twice",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], ports: [{number: 80, name: A_b}]}",
        "!spec.ports[0].name: A_b: not a port's name",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], ports: [{number: 80, protocol: HTTP9}]}",
        "!spec.ports[0].protocol: HTTP9: unknown protocol",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], resolution: STATIC, endpoints: [{address: b.example}]}",
        "!spec.endpoints[0].address: b.example: STATIC",
    ),
    ("ServiceEntry", "{hosts: [a.example], resolution: STATIC, endpoints: [{address: 'unix:///run/x'}]}", ""),
    (
        "ServiceEntry",
        "{hosts: [a.example], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.0.0.1, ports: {web: 81}}]}",
        "!spec.endpoints[0].ports: web: no port",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], resolution: DNS, endpoints: [{address: 'a b'}]}",
        "!spec.endpoints[0].address: a b: neither",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, {address: b.b}]}",
        "!spec.endpoints: 2: DNS_ROUND_ROBIN",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], resolution: DYNAMIC_DNS, ports: [{number: 443, protocol: TLS}]}",
        "!spec.hosts[0]: a.example: DYNAMIC_DNS is for wildcards",
    ),
    (
        "ServiceEntry",
        "{hosts: ['*.a.example'], resolution: DYNAMIC_DNS, addresses: [10.0.0.1], ports: [{number: 443, protocol: TLS}]}",
        "!spec.addresses: DYNAMIC_DNS",
    ),
    (
        "ServiceEntry",
        "{hosts: ['*.a.example'], resolution: DYNAMIC_DNS, ports: [{number: 443, protocol: TCP}]}",
        "!spec.ports[0].protocol: TCP: DYNAMIC_DNS cannot",
    ),
    (
        "ServiceEntry",
        "{hosts: ['*.a.example'], resolution: DYNAMIC_DNS, ports: [{number: 443, protocol: TLS}]}",
        "",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example, b.example], resolution: DNS, addresses: [10.0.0.1], ports: [{number: 80, protocol: TCP}]}",
        "?spec.ports: 80: its hosts cannot be told apart",
    ),
    ("ServiceEntry", "{hosts: [a.example], exportTo: ['a b']}", "!spec.exportTo[0]: a b: not a namespace"),
    (
        "ServiceEntry",
        "{hosts: [a.example], resolution: STATIC, workloadSelector: {labels: {}}}",
        "?spec.workloadSelector.labels: a selector without labels",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.example], resolution: NONE, workloadSelector: {labels: {a: b}}}",
        "?spec.workloadSelector: not used",
    ),
    ("WorkloadEntry", "{address: 10.0.0.1, ports: {http: 80}}", ""),
    ("WorkloadEntry", "{address: vm.example}", ""),
    ("WorkloadEntry", "{}", "!spec.address: missing"),
    ("WorkloadEntry", "{network: n2}", "?spec.address: only reached through"),
    ("WorkloadEntry", "{address: 'a b'}", "!spec.address: a b: not an address"),
    ("WorkloadEntry", "{address: 'unix:///run/x', ports: {http: 80}}", "!spec.ports: a socket's path"),
    ("WorkloadEntry", "{address: 10.0.0.1, ports: {HTTP_1: 80}}", "!spec.ports: HTTP_1: not a port's name"),
    ("WorkloadEntry", "{address: 10.0.0.1, labels: {a: 'b c'}}", "!spec.labels.a: b c: not a label"),
];

#[test]
fn each_rule_says_field_value_problem_and_remedy() {
    for (kind, spec, told) in CASES {
        let findings = review(&object(kind, spec));
        let text = |it: &Finding| format!("{}{it}", if it.refused { "!" } else { "?" });
        let said: Vec<_> = findings.iter().map(text).collect();
        match told {
            &"" => assert_eq!(said, [""; 0], "{spec}"),
            told => {
                assert!(said.iter().any(|it| it.starts_with(told)), "{spec}: {said:?}, not {told}");
                assert!(
                    findings.iter().all(|it| !it.wrong.remedy.is_empty()),
                    "{spec}: no remedy in {said:?}"
                );
            }
        }
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let spec =
        "{action: AUDIT, provider: {name: p}, selector: {matchLabels: {'*': a}}, targetRefs: [{kind: Pod}]}";
    let refused = review(&object("AuthorizationPolicy", spec)).iter().filter(|it| it.refused).count();
    assert!(refused >= 5, "{refused}");
}

#[test]
fn members_that_no_object_has_are_refused_and_foreign_kinds_are_left_alone() {
    let mut policy = object("AuthorizationPolicy", "{}");
    policy["rules"] = serde_json::json!([]);
    let said = review(&policy).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(said[0].starts_with("rules: unknown field; remove it, or move it below spec"), "{said:?}");
    let foreign =
        serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}});
    assert_eq!(review(&foreign), []);
}

#[test]
fn what_upstream_admitted_is_admitted() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let mut looked_at = 0;
    for vector in ["basic", "workloads", "services", "policies"] {
        let path = vectors.join(vector).join("cluster.yaml");
        let (objects, faults) = parse(&path, &std::fs::read_to_string(&path).unwrap());
        assert!(faults.is_empty(), "{faults:?}");
        for (reference, object) in objects {
            let refused: Vec<_> =
                review(&object).into_iter().filter(|it| it.refused).map(|it| it.to_string()).collect();
            assert_eq!(refused, [""; 0], "{vector}: {reference}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 80, "{looked_at}");
}
