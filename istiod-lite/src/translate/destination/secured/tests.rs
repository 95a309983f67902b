//! Policies of the Gateway API become how TLS is begun, and whatever is wrong with one sends nothing.

use ambit_kit::Authority;
use ambit_model::traffic::{Handling, Traffic};

use super::*;
use crate::testing::world;
use crate::translate::destination::of_asker;
use crate::translate::waypoint::Asker;

const SERVICE: &str = "---\n{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {ports: [{name: one, port: 80}, {name: two, port: 81}]}}\n";

/// A policy whose name says how old it is: the longer, the younger.
fn policy(name: &str, section: &str, validation: &str) -> String {
    let age = name.len();
    let section = if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
    format!(
        "---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-01-0{age}T00:00:00Z'}}, spec: {{targetRefs: [{{group: '', kind: Service, name: api{section}}}], validation: {{{validation}}}}}}}\n"
    )
}

fn system(host: &str) -> String {
    format!("hostname: {host}, wellKnownCACertificates: System")
}

fn map(name: &str, text: &str) -> String {
    let data = serde_json::json!({"ca.crt": text});
    format!(
        "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: shop}}, data: {data}}}\n"
    )
}

fn traffic(manifests: &str) -> Option<Traffic> {
    let world = world(&format!("{SERVICE}{manifests}"));
    let service = world.space("shop").unwrap().services["api"].clone();
    let key = "shop/api.shop.svc.cluster.local".parse().unwrap();
    of_asker(&world, Asker::Service(&service), [&key], |_| Default::default()).pop()
}

fn server(handling: &Handling) -> &str {
    handling.tls.as_ref().map_or("", |it| it.server("asked.example".into(), "service"))
}

#[test]
fn what_is_said_of_a_port_goes_before_what_is_said_of_the_service_and_the_oldest_before_others() {
    assert_eq!(traffic(""), None);
    let all = [
        policy("aaa", "", &system("young.example")),
        policy("aa", "", &system("whole.example")),
        policy("aaaaa", "two", &system("younger.example")),
        policy("aaaa", "two", &system("port.example")),
        policy("a", "none", &system("nowhere.example")),
    ];
    let found = traffic(&all.concat()).unwrap();
    assert_eq!(server(&found.handling), "whole.example");
    assert_eq!(server(found.of(80, None).unwrap().0), "whole.example");
    assert_eq!(server(found.of(81, None).unwrap().0), "port.example");
    let world = world(&format!("{SERVICE}{}", all.concat()));
    let space = world.space("shop").unwrap();
    let at = ObjectRef::new(Kind::Service, "shop", "api");
    for (name, wanted) in [
        ("aa", Standing::InForce),
        ("aaa", Standing::Behind("aa".into())),
        ("aaaa", Standing::InForce),
        ("aaaaa", Standing::Behind("aaaa".into())),
        ("a", Standing::NotThere),
    ] {
        let policy = &space.backend_tls[name];
        assert_eq!(standing(&world, policy, (&policy.spec.target_refs[0], &at)), wanted, "{name}");
    }
    // With something of its own on every port nothing is left of it.
    let each = [policy("a", "", &system("a.example")), policy("aa", "one", &system("b.example"))].concat();
    let each = format!("{each}{}", policy("aaa", "two", &system("c.example")));
    let world = crate::testing::world(&format!("{SERVICE}{each}"));
    let policy = &world.space("shop").unwrap().backend_tls["a"];
    let stands = standing(&world, policy, (&policy.spec.target_refs[0], &at));
    assert_eq!(stands, Standing::Behind("aa".into()));
}

#[test]
fn a_policy_goes_before_what_destination_rules_say_of_tls_and_leaves_the_rest_to_them() {
    let rule = |tls: &str| {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: r, namespace: shop}}, spec: {{host: api, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}, tls: {{{tls}}}, portLevelSettings: [{{port: {{number: 80}}, tls: {{mode: SIMPLE, sni: rule.example}}}}]}}, subsets: [{{name: v1, labels: {{v: '1'}}, trafficPolicy: {{tls: {{mode: SIMPLE, sni: subset.example}}}}}}]}}}}\n"
        )
    };
    for tls in ["mode: SIMPLE, sni: rule.example", "mode: MUTUAL", "mode: DISABLE"] {
        let manifests = format!("{}{}", rule(tls), policy("a", "", &system("policy.example")));
        let found = traffic(&manifests).unwrap();
        assert_eq!(found.handling.balance, ambit_model::traffic::Balance::Random);
        for subset in [None, Some("v1")] {
            for port in [80, 81] {
                let handling = found.of(port, subset).unwrap().0;
                assert_eq!(
                    (server(handling), &handling.closed),
                    ("policy.example", &None),
                    "{tls} {port} {subset:?}"
                );
            }
        }
        // On one port only, the other stays the rule's.
        let manifests = format!("{}{}", rule(tls), policy("a", "two", &system("policy.example")));
        let found = traffic(&manifests).unwrap();
        assert_eq!(server(found.of(81, None).unwrap().0), "policy.example", "{tls}");
        assert_eq!(server(found.of(81, Some("v1")).unwrap().0), "policy.example", "{tls}");
        assert_eq!(server(found.of(80, None).unwrap().0), "rule.example", "{tls}");
    }
}

#[test]
fn whoever_vouches_is_the_config_maps_or_the_systems_and_without_them_nothing_is_sent() {
    let pem = Authority::new().root_pem().to_owned();
    let other = Authority::new().root_pem().to_owned();
    let maps = [
        map("good", &pem),
        map("other", &other),
        map("none", "nothing"),
        map("half", &format!("{pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        map("large", &pem.repeat(65_537 / pem.len() + 1)),
    ];
    let refs = |names: &[&str]| {
        let all = names.iter().map(|it| match it.split_once('/') {
            Some((kind, name)) => format!("{{group: '', kind: {kind}, name: {name}}}"),
            None => format!("{{group: '', kind: ConfigMap, name: {it}}}"),
        });
        format!("hostname: a.example, caCertificateRefs: [{}]", all.collect::<Vec<_>>().join(", "))
    };
    let both = format!("{}\n{}\n", pem.trim_end(), other.trim_end());
    let one = format!("{}\n", pem.trim_end());
    let no = |reason| Err(reason);
    for (validation, roots, unresolved) in [
        (system("a.example"), Ok(Roots::System), None),
        (refs(&["good"]), Ok(Roots::Given(one.clone().into())), None),
        (refs(&["good", "other"]), Ok(Roots::Given(both.into())), None),
        // Those that are there vouch, and those that are not are named.
        (refs(&["good", "missing"]), Ok(Roots::Given(one.into())), Some("InvalidCACertificateRef")),
        (refs(&["missing"]), no("NoValidCACertificate"), Some("InvalidCACertificateRef")),
        (refs(&["none"]), no("NoValidCACertificate"), Some("InvalidCACertificateRef")),
        (refs(&["half"]), no("NoValidCACertificate"), Some("InvalidCACertificateRef")),
        (refs(&["large"]), no("NoValidCACertificate"), Some("InvalidCACertificateRef")),
        (refs(&["Secret/good"]), no("NoValidCACertificate"), Some("InvalidKind")),
        ("hostname: a.example".into(), no("Invalid"), None),
        ("hostname: a.example, wellKnownCACertificates: Magic".into(), no("Invalid"), None),
        (format!("{}, wellKnownCACertificates: System", refs(&["good"])), no("Invalid"), None),
        ("hostname: '*.example', wellKnownCACertificates: System".into(), no("Invalid"), None),
        ("wellKnownCACertificates: System".into(), no("Invalid"), None),
        (format!("{}, subjectAltNames: [{{type: Magic}}]", system("a.example")), no("Invalid"), None),
        (
            format!("{}, subjectAltNames: [{{type: Hostname, hostname: '*.a'}}]", system("a.example")),
            no("Invalid"),
            None,
        ),
        (format!("{}, subjectAltNames: [{{type: URI}}]", system("a.example")), no("Invalid"), None),
    ] {
        let manifests = format!("{}{}", maps.concat(), policy("p", "", &validation));
        let world = world(&format!("{SERVICE}{manifests}"));
        let reading = read(&world, &world.space("shop").unwrap().backend_tls["p"]);
        let found = reading.begun.as_ref().map(|it| it.roots.clone()).map_err(|it| it.reason);
        assert_eq!(found, roots, "{validation} {:?}", reading.unresolved);
        assert_eq!(reading.unresolved.map(|it| it.0), unresolved, "{validation}");
        let handling = traffic(&manifests).unwrap().handling;
        assert_eq!(handling.closed.is_some(), roots.is_err(), "{validation}");
        assert_eq!(handling.tls.is_some(), roots.is_ok(), "{validation}");
    }
}

#[test]
fn names_that_are_given_stand_instead_of_the_one_that_is_asked_for() {
    let names = format!(
        "{}, subjectAltNames: [{{type: Hostname, hostname: b.example}}, {{type: URI, uri: 'spiffe://x/y'}}]",
        system("a.example")
    );
    let tls = traffic(&policy("p", "", &names)).unwrap().handling.tls.unwrap();
    assert_eq!(tls.server.as_ref().map(|it| it.as_str()), Some("a.example"));
    assert_eq!(tls.names, [SubjectName::Host("b.example".into()), SubjectName::Uri("spiffe://x/y".into())]);
    assert_eq!(traffic(&policy("p", "", &system("a.example"))).unwrap().handling.tls.unwrap().names, []);
}

#[test]
fn a_config_map_that_changes_is_told_to_the_services_of_those_who_refer_to_it_and_only_these_are_kept() {
    let roots = ObjectRef::new(Kind::ConfigMap, "shop", "roots");
    let refers = "hostname: a.example, caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}, {group: '', kind: Secret, name: no}]";
    let mut world = world(&format!("{SERVICE}{}{}", policy("p", "", refers), map("roots", "")));
    assert_eq!(world.referred().into_iter().collect::<Vec<_>>(), std::slice::from_ref(&roots));
    let touched = world.remove(&roots);
    assert!(touched.iter().any(|it| &*it.name == "api"), "{touched:?}");
    let touched = world.remove(&ObjectRef::new(Kind::BackendTlsPolicy, "shop", "p"));
    assert!(touched.iter().any(|it| &*it.name == "api"), "{touched:?}");
    assert_eq!(world.referred().len(), 0);
}
