//! Explanations of one small mesh, by tables.

use ambit_wire::local;

use super::*;

const MESH: &str = r#"
workloads:
- {name: client, namespace: shop, serviceAccount: client, workloadIps: [10.0.0.1, "fd00::1"], node: n1, protocol: HBONE}
- {name: guest, namespace: shop, serviceAccount: guest, workloadIps: [10.0.0.2], node: n1, protocol: HBONE}
- {name: outside, namespace: other, workloadIps: [10.0.0.3], node: n1}
- {name: client, namespace: other, workloadIps: [10.0.0.4], node: n1}
- name: web
  namespace: shop
  serviceAccount: web
  workloadIps: [10.0.0.5, "fd00::5"]
  node: n2
  protocol: HBONE
  authorizationPolicies: [istio-system/istio_converted_static_strict]
  services: {shop/web.shop.svc.cluster.local: {80: 8080}}
- {name: plain, namespace: other, workloadIps: [10.0.0.6], node: n2, services: {other/plain.other.svc.cluster.local: {80: 80}}}
- name: waypoint
  namespace: shop
  serviceAccount: waypoint
  workloadIps: [10.0.0.7]
  node: n2
  protocol: HBONE
  nativeTunnel: true
  services: {shop/waypoint.shop.svc.cluster.local: {15008: 15008}}
services:
- {name: web, namespace: shop, hostname: web.shop.svc.cluster.local, vips: [/10.96.0.1], ports: {80: 8080}}
- {name: plain, namespace: other, hostname: plain.other.svc.cluster.local, vips: [/10.96.0.2], ports: {80: 80}}
- {name: empty, namespace: shop, hostname: empty.shop.svc.cluster.local, vips: [/10.96.0.3], ports: {80: 80}}
- {name: waypoint, namespace: shop, hostname: waypoint.shop.svc.cluster.local, vips: [/10.96.0.4], ports: {15008: 15008}}
- name: inner
  namespace: shop
  hostname: inner.shop.svc.cluster.local
  vips: [/10.96.0.5]
  ports: {80: 80}
  waypoint: {destination: shop/waypoint.shop.svc.cluster.local, hboneMtlsPort: 15008}
policies:
- name: istio_converted_static_strict
  namespace: istio-system
  scope: WorkloadSelector
  action: Deny
  dryRun: false
  rules: [[[{notPrincipals: [!Presence []]}]]]
- name: allow-client
  namespace: shop
  scope: Namespace
  action: Allow
  dryRun: false
  rules: [[[{principals: [!Exact cluster.local/ns/shop/sa/client], destinationPorts: [8080]}]]]
"#;

fn mesh() -> Snapshot {
    Snapshot::default().with(&local::parse(MESH).unwrap())
}

#[test]
fn the_path_and_the_policy_that_decides_are_named() {
    let (allow, strict) = ("shop/allow-client", "istio-system/istio_converted_static_strict");
    for (src, dst, kind, outcome, policy) in [
        ("shop/client", "web.shop.svc.cluster.local:80", "tunnel", Outcome::Allowed, Some(allow)),
        ("shop/client", "web:80", "tunnel", Outcome::Allowed, Some(allow)),
        ("shop/client", "web.shop:80", "tunnel", Outcome::Allowed, Some(allow)),
        ("shop/client", "10.96.0.1:80", "tunnel", Outcome::Allowed, Some(allow)),
        ("shop/client", "[fd00::5]:8080", "tunnel", Outcome::Allowed, Some(allow)),
        ("shop/client", "shop/web:8080", "tunnel", Outcome::Allowed, Some(allow)),
        ("shop/client", "shop/web:9090", "tunnel", Outcome::Denied, Some(allow)),
        ("guest", "web:80", "tunnel", Outcome::Denied, Some(allow)),
        ("outside", "web.shop.svc:80", "plaintext", Outcome::Denied, Some(strict)),
        ("outside", "10.0.0.1:80", "plaintext", Outcome::Denied, Some(allow)),
        ("outside", "plain:80", "plaintext", Outcome::Allowed, None),
        ("shop/client", "plain.other:80", "plaintext", Outcome::Allowed, None),
        ("shop/client", "192.0.2.1:443", "plaintext", Outcome::Allowed, None),
        ("shop/client", "empty:80", "refused", Outcome::Refused, None),
        ("shop/client", "web:81", "refused", Outcome::Refused, None),
        ("shop/client", "inner:80", "waypoint", Outcome::DecidedElsewhere, None),
    ] {
        let told = explain(&mesh(), src, dst).unwrap();
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(json["path"]["kind"], kind, "{src} {dst}\n{told}");
        assert_eq!(told.outcome, outcome, "{src} {dst}\n{told}");
        let found = told.verdict.as_ref().and_then(|r| r.policy.as_deref());
        assert_eq!(found, policy, "{src} {dst}\n{told}");
        if let Some(policy) = policy {
            assert!(told.to_string().contains(policy), "{told}");
        }
    }
}

#[test]
fn a_plaintext_client_goes_past_the_waypoint() {
    let told = explain(&mesh(), "outside", "10.96.0.5:80").unwrap();
    assert!(matches!(told.path, Path::Plaintext { to: None, .. }), "{told}");
}

#[test]
fn the_text_says_it_in_order() {
    let told = explain(&mesh(), "shop/client", "web:80").unwrap().to_string();
    assert_eq!(
        told,
        "shop/client -> web:80: allowed\n  \
         source   shop/client, spiffe://cluster.local/ns/shop/sa/client, on n1, in the mesh\n  \
         dials    10.96.0.1:80, service shop/web.shop.svc.cluster.local\n  \
         path     HBONE to 10.0.0.5:15008, asking for 10.0.0.5:8080\n           \
         expecting spiffe://cluster.local/ns/shop/sa/web\n           \
         to shop/web, spiffe://cluster.local/ns/shop/sa/web, on n2, in the mesh\n  \
         verdict  allowed by policy shop/allow-client\n           \
         judged as spiffe://cluster.local/ns/shop/sa/client on 10.0.0.5:8080"
    );
}

#[test]
fn what_cannot_be_told_says_what_to_give() {
    let several = vec!["other/client".into(), "shop/client".into()];
    for (src, dst, wanted) in [
        ("nobody", "web:80", Unclear::NoPod { name: "nobody".into() }),
        ("client", "web:80", Unclear::SeveralPods { name: "client".into(), found: several }),
        ("guest", "web", Unclear::NoPort { text: "web".into() }),
        ("guest", "web:http", Unclear::NoPort { text: "web:http".into() }),
        ("guest", "fd00::5:x", Unclear::NoPort { text: "fd00::5:x".into() }),
        ("guest", "nothing:80", Unclear::NoDestination { name: "nothing".into() }),
    ] {
        assert_eq!(explain(&mesh(), src, dst), Err(wanted), "{src} {dst}");
    }
}
