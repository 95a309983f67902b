//! Files and dumps in, files and dumps out, and what is said about those that do not hold.

use ambit_model::name::NameError;
use ambit_model::snapshot::Snapshot;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What a real node's proxy dumped.
const LIVE: &str = include_str!("../../tests/data/ztunnel-config_dump.json");

const EVERYTHING: &str = r#"
workloads:
- uid: Kubernetes//Pod/shop/web
  name: web
  namespace: shop
  serviceAccount: web
  trustDomain: example.org
  workloadIps: [10.0.0.1, "fd00::1"]
  network: net1
  node: n1
  protocol: HBONE
  networkMode: Standard
  status: Unhealthy
  hostname: web.example.org
  workloadName: web
  workloadType: deployment
  canonicalName: web
  canonicalRevision: v1
  clusterId: c1
  waypoint: {destination: shop/waypoint.shop.svc.cluster.local, hboneMtlsPort: 15008}
  networkGateway: {destination: net1/192.0.2.1, hboneMtlsPort: 15009}
  applicationTunnel: {protocol: PROXY, port: 15088}
  authorizationPolicies: [shop/allow-web]
  locality: {region: r, zone: z, subzone: s}
  nativeTunnel: true
  capacity: 7
  services:
    shop/web.shop.svc.cluster.local: {80: 8080, 443: 8443}
    shop/unknown.shop.svc.cluster.local: {80: 8080}
- name: db
  namespace: shop
  workloadIps: [10.0.0.2]
  networkMode: HostNetwork
  services: {}
services:
- name: web
  namespace: shop
  hostname: web.shop.svc.cluster.local
  vips: [/10.96.0.1, net1/10.96.0.1]
  cidrVips: [{network: net1, cidr: 10.97.0.0/16}]
  ports: {80: 0, 443: 8443}
  endpoints:
    Kubernetes//Pod/shop/db: {workloadUid: Kubernetes//Pod/shop/db, port: {80: 9090}, status: Healthy}
  subjectAltNames: [spiffe://example.org/ns/shop/sa/web]
  waypoint: {destination: /10.96.0.9, hboneMtlsPort: 15008}
  weightedWaypoints:
  - destination: {destination: shop/waypoint.shop.svc.cluster.local, hboneMtlsPort: 15008}
    weight: 90
  loadBalancer: {routingPreferences: [Network, Region, Zone], mode: Failover, healthPolicy: AllowAll}
  ipFamilies: Dual
  canonical: true
  visibility: Namespace
policies:
- name: allow-web
  namespace: shop
  scope: WorkloadSelector
  action: Allow
  dryRun: false
  rules:
  - - - principals: [!Exact example.org/ns/shop/sa/web, !Prefix example.org/, !Suffix /sa/web, !Presence []]
        notNamespaces: [!Exact other]
        serviceAccounts: [{namespace: shop, serviceAccount: web}]
      - sourceIps: [10.0.0.0/8, "fd00::1"]
        notDestinationIps: [192.0.2.0/24]
        destinationPorts: [80]
        notDestinationPorts: [443]
"#;

fn world(delta: &Delta) -> Snapshot {
    Snapshot::default().with(delta)
}

#[test]
fn a_real_nodes_dump_reads_and_writes_back_to_the_same() {
    let read = world(&read_dump(LIVE).unwrap());
    let live: Value = serde_json::from_str(LIVE).unwrap();
    let written = serde_json::to_value(dump(&read)).unwrap();
    for key in ["workloads", "services", "policies", "stagedServices"] {
        // The order among equal hosts and uids of other clusters is ours; here both sort the same.
        let by_uid = |v: &Value| {
            let mut items = v.as_array().cloned().unwrap_or_default();
            items.sort_by_key(|item| (item["uid"].to_string(), item["hostname"].to_string()));
            items
        };
        assert_eq!(by_uid(&written[key]), by_uid(&live[key]), "{key}");
    }
    assert_eq!(written["stagedServices"], json!({}));
}

#[test]
fn a_file_with_everything_survives_a_dump() {
    let from_file = world(&parse(EVERYTHING).unwrap());
    let text = serde_json::to_string(&dump(&from_file)).unwrap();
    let from_dump = world(&read_dump(&text).unwrap());
    assert!(from_file == from_dump, "{text}");
    assert_eq!(dump(&from_dump), dump(&from_file));
    let db = from_file.workload(&"Kubernetes//Pod/shop/db".into()).unwrap();
    assert_eq!(db.identity().to_string(), "spiffe://cluster.local/ns/shop/sa/default");
    assert_eq!(db.services.len(), 1, "an endpoint that only the service lists");
}

#[test]
fn texts_are_tags_in_yaml_and_objects_in_json() {
    let policies = dump(&world(&parse(EVERYTHING).unwrap())).policies;
    assert_eq!(
        policies[0]["rules"][0][0][0]["principals"],
        json!([
            {"Exact": "example.org/ns/shop/sa/web"}, {"Prefix": "example.org/"},
            {"Suffix": "/sa/web"}, {"Presence": []},
        ])
    );
}

#[test]
fn a_range_that_could_not_be_read_is_one_again_after_a_dump() {
    let policy = |range: &str| {
        let p = json!({"name": "p", "namespace": "a", "scope": "Global", "action": "Deny", "dryRun": true,
            "rules": [[[{"sourceIps": [range]}]]]});
        json!({"workloads": [], "services": [], "policies": [p]}).to_string()
    };
    let unreadable = world(&read_dump(&policy("unreadable")).unwrap());
    assert_eq!(dump(&unreadable).policies[0]["rules"][0][0][0]["sourceIps"], json!(["unreadable"]));
    assert!(read_dump(&policy("10.0.0.0/33")).is_err());
}

#[test]
fn an_empty_file_is_an_empty_world() {
    for text in ["", "{}", "# nothing", "workloads: []"] {
        assert_eq!(parse(text), Ok(Delta::default()), "{text:?}");
    }
}

#[test]
fn what_does_not_hold_is_refused_by_field_value_and_remedy() {
    let workload =
        |field: &str| format!("workloads:\n- {{name: w, namespace: a, workloadIps: [], {field}}}\n");
    let twice = "{name: w, namespace: a, workloadIps: []}";
    let cases = [
        (workload("namespaze: b"), "unknown field `namespaze`"),
        (workload("protocol: HTTP"), "unknown variant `HTTP`, expected `TCP` or `HBONE`"),
        (workload("capacity: -1"), "workloads[0].capacity: invalid type: integer `-1`, expected u32"),
        (workload("services: {a/b: {80: 70000}}"), "invalid value: integer `70000`, expected u16"),
        (workload("services: {ab: {}}"), "workloads[0].services[ab]: service \"ab\" is not of the form"),
        (workload("services: 3"), "expected a map \"<namespace>/<hostname>\""),
        (workload("serviceAccount: a/b"), "workloads[0].serviceAccount: service account \"a/b\" holds '/'"),
        (workload("workloadType: robot"), "workloads[0].workloadType: \"robot\" is not a workload type"),
        (workload("waypoint: {destination: x, hboneMtlsPort: 1}"), "workloads[0].waypoint.destination: \"x\" is neither"),
        ("workloads:\n- {namespace: a, workloadIps: []}".into(), "workloads[0]: it has neither a uid nor a name"),
        ("workloads:\n- {name: w, workloadIps: []}".into(), "missing field `namespace`"),
        ("workloads:\n- {name: w, namespace: '', workloadIps: []}".into(), "workloads[0].namespace: namespace is empty"),
        (
            "workloads:\n- {name: w, namespace: a, workloadIps: [10.0.0.256]}".into(),
            "workloads[0].workloadIps[0]: \"10.0.0.256\" is not an IP address; write for example 10.0.0.1",
        ),
        (
            format!("workloads:\n- {twice}\n- {twice}"),
            "workloads[1].uid: \"Kubernetes//Pod/a/w\" is there twice",
        ),
        (
            "services:\n- {name: s, namespace: a, hostname: h, ports: {}, vips: [10.0.0.1]}".into(),
            "services[0].vips[0]: \"10.0.0.1\" is not of the form <network>/<ip>",
        ),
        (
            "services:\n- {name: s, namespace: a, hostname: h, ports: {}, vips: [], cidrVips: [{cidr: x}]}".into(),
            "services[0].cidrVips[0]: \"x\" is not a range",
        ),
        (
            "policies:\n- {name: p, namespace: a, scope: Global, action: Audit, dryRun: false, rules: []}".into(),
            "unknown variant `Audit`, expected `Allow` or `Deny`",
        ),
        (
            "policies:\n- {name: p, namespace: a, scope: Global, action: Deny, dryRun: false, rules: [[[{sourceIps: [1.2.3.4/40]}]]]}".into(),
            "policies[0].rules[0][0][0].sourceIps[0]: \"1.2.3.4/40\" is not a range; write for example 10.0.0.0/8",
        ),
        ("a: [".into(), "configuration: "),
    ];
    for (text, wanted) in cases {
        let said = parse(&text).unwrap_err().to_string();
        assert!(said.contains(wanted), "{text}\nsaid:   {said}\nwanted: {wanted}");
    }
}

#[test]
fn a_fault_is_told_by_its_variant() {
    let fault = parse("workloads:\n- {name: w, namespace: '', workloadIps: []}").unwrap_err();
    let empty = FieldFault::Name(NameError::Empty { what: "namespace" });
    assert_eq!(fault, LocalError::Field { field: "workloads[0].namespace".into(), fault: empty });
    for (json, wanted) in [
        ("{}", "workloads: missing, or not a list"),
        ("[]", "workloads: missing, or not a list"),
        ("{\"workloads\": [3]}", "workloads[0]: invalid type"),
        ("{", "configuration: EOF"),
    ] {
        let said = read_dump(json).unwrap_err().to_string();
        assert!(said.contains(wanted), "{json}: {said}");
    }
}

/// What is read is written and read back the same.
fn survives(text: &str) {
    let Ok(delta) = parse(text) else { return };
    let read = world(&delta);
    let dumped = serde_json::to_string(&dump(&read)).unwrap();
    assert!(world(&read_dump(&dumped).unwrap()) == read, "{text}\n{dumped}");
}

proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_read_and_never_panics(
        at in 0..EVERYTHING.len(), length in 0..40_usize, insert in "[-a-z0-9:{}\\[\\],!/ \n]{0,6}",
    ) {
        let mut text = EVERYTHING.to_owned();
        text.replace_range(at..(at + length).min(EVERYTHING.len()), &insert);
        survives(&text);
    }

    #[test]
    fn a_damaged_dump_is_refused_or_read_and_never_panics(
        at in 0..LIVE.len(), length in 0..40_usize, insert in "[-a-z0-9:{}\\[\\],\"/ ]{0,6}",
    ) {
        let mut text = LIVE.to_owned();
        text.replace_range(at..(at + length).min(LIVE.len()), &insert);
        let _ = read_dump(&text);
    }
}
