//! Stories about pods and services that are well, and about such that are not.

use ambit_cluster::kinds::service::Service;
use ambit_wire::local;
use serde_json::{from_value, json};

use super::*;
use crate::cluster::enrolment::Standing;

const MESH: &str = r#"
workloads:
- uid: Kubernetes//Pod/shop/web
  name: web
  namespace: shop
  serviceAccount: web
  workloadIps: [10.0.0.5]
  node: n2
  protocol: HBONE
  authorizationPolicies: [shop/only-client]
  services: {shop/web.shop.svc.cluster.local: {80: 8080}}
- {uid: Kubernetes//Pod/shop/plain, name: plain, namespace: shop, workloadIps: [10.0.0.6], node: n2}
services:
- {name: web, namespace: shop, hostname: web.shop.svc.cluster.local, vips: [/10.96.0.1], ports: {80: 8080}}
- {name: empty, namespace: shop, hostname: empty.shop.svc.cluster.local, vips: [/10.96.0.2], ports: {80: 8080}}
policies:
- {name: only-client, namespace: shop, scope: WorkloadSelector, action: Allow, dryRun: false, rules: [[[{namespaces: [!Exact shop]}]]]}
- {name: all, namespace: istio-system, scope: Global, action: Deny, dryRun: false, rules: [[[{namespaces: [!Exact bad]}]]]}
"#;

fn witness(yaml: &str) -> Witness {
    let known = local::parse(yaml).unwrap();
    let world = Snapshot::default().with(&known);
    let mut whole = serde_json::to_value(local::dump(&world)).unwrap();
    whole["certificates"] = json!([{
        "identity": "spiffe://cluster.local/ns/shop/sa/web", "state": "Available", "rootCerts": [],
        "certChain": [{"expirationTime": "2026-11-22T00:00:00Z"}],
    }]);
    let one =
        json!({"src": "10.0.0.9:1", "originalDst": null, "actualDst": "10.0.0.5:80", "protocol": "HBONE"});
    whole["workloadState"] = json!({"uid-of-web": {
        "state": "Up", "info": {"name": "web", "namespace": "shop"}, "connections": {"inbound": [one], "outbound": []},
    }});
    let part = Part {
        namespace: "istio-system".into(),
        name: "zt-2".into(),
        node: "n2".into(),
        ready: true,
        version: "1".into(),
        phase: "Running".into(),
        restarts: 0,
    };
    Witness { part, dump: Dump::parse(&whole.to_string()).unwrap(), known, world }
}

fn web() -> PodFacts {
    let pod = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "uid-of-web"},
        "spec": {"nodeName": "n2", "serviceAccountName": "web"},
        "status": {"phase": "Running", "podIP": "10.0.0.5", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    PodFacts {
        pod: from_value(pod).unwrap(),
        stand: Stand { standing: Standing::Enrolled, why: String::new() },
        witness: Ok(witness(MESH)),
        warnings: Vec::new(),
    }
}

#[test]
fn a_pod_that_is_well_is_told_with_its_identity_certificate_services_and_policies() {
    let told = web().tell();
    assert_eq!(told.problems, Vec::<String>::new());
    let text = told.to_string();
    for words in [
        "Pod shop/web on n2, 10.0.0.5, ready",
        "Mesh:         in",
        "Identity:     spiffe://cluster.local/ns/shop/sa/web",
        "Certificate:  Available, until 2026-11-22T00:00:00Z",
        "Reached by:   HBONE",
        "Services:     web.shop.svc.cluster.local 80->8080",
        "DENY istio-system/all, the whole mesh",
        "ALLOW shop/only-client, chosen for it",
        "Connections:  1 in, 0 out",
        "As told by:   zt-2",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn each_thing_that_is_wrong_with_a_pod_is_named() {
    type Spoil = fn(&mut PodFacts);
    let cases: [(Spoil, &str); 8] = [
        (
            |it| {
                it.stand = Stand { standing: Standing::NotEnrolled, why: "no socket".into() };
                it.warnings.push("today: it was refused".into());
            },
            "said at today: it was refused",
        ),
        (|it| it.stand = Stand { standing: Standing::Leaving, why: "x".into() }, "is not to be"),
        (|it| it.witness = Err("no ztunnel runs on node n2".into()), "does not tell: no ztunnel runs"),
        (
            |it| it.witness = Ok(witness(&MESH.replace("protocol: HBONE", "protocol: TCP"))),
            "outside the mesh",
        ),
        (|it| it.pod.metadata.uid = "another".into(), "does not serve it"),
        (
            |it| it.witness = Ok(witness(&MESH.replace("serviceAccount: web", "serviceAccount: x"))),
            "no certificate",
        ),
        (|it| it.witness = Ok(witness(&MESH.replace("10.0.0.5", "10.0.0.7"))), "other addresses: 10.0.0.7"),
        (
            |it| it.witness = Ok(witness(&MESH.replace("name: only-client", "name: renamed"))),
            "not told of policy shop/only-client",
        ),
    ];
    for (spoil, problem) in cases {
        let mut facts = web();
        spoil(&mut facts);
        let told = facts.tell();
        assert!(told.problems.iter().any(|it| it.contains(problem)), "{problem}: {:?}", told.problems);
        assert!(told.to_string().contains(problem), "{problem}: {told}");
    }
}

#[test]
fn a_pod_that_is_out_as_it_is_to_be_has_no_problem_and_says_why_it_is_out() {
    let mut facts = web();
    facts.stand = Stand { standing: Standing::Out, why: "its label leaves it out".into() };
    facts.witness = Ok(witness(&MESH.replace("protocol: HBONE", "protocol: TCP")));
    let told = facts.tell();
    assert_eq!(told.problems, Vec::<String>::new());
    assert!(told.to_string().contains("out; its label leaves it out"), "{told}");
}

fn service(name: &str) -> ServiceFacts {
    let service: Service = from_value(json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    }))
    .unwrap();
    let stand = Stand { standing: Standing::Enrolled, why: String::new() };
    ServiceFacts { service, stands: [("web".to_owned(), stand)].into(), witness: Ok(witness(MESH)) }
}

#[test]
fn a_service_is_told_with_its_ends_and_their_policies() {
    let told = service("web").tell();
    assert_eq!(told.problems, Vec::<String>::new());
    let text = told.to_string();
    for words in [
        "Service shop/web, 10.96.0.1",
        "Host:         web.shop.svc.cluster.local",
        "Endpoints:    web 10.0.0.5 on n2, ready, in the mesh",
        "ALLOW shop/only-client",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn each_thing_that_is_wrong_with_a_service_is_named() {
    let mut unready = service("web");
    unready.witness = Ok(witness(&MESH.replace("node: n2\n", "node: n2\n  status: Unhealthy\n")));
    let mut late = service("web");
    late.stands.insert("web".into(), Stand { standing: Standing::NotEnrolled, why: "no address yet".into() });
    let mut untold = service("web");
    untold.witness = Ok(witness(&MESH.replace("protocol: HBONE", "protocol: TCP")));
    let mut mute = service("web");
    mute.witness = Err("none is ready".into());
    let mut bound = service("web");
    bound.service.status = from_value(json!({"conditions": [
        {"type": "istio.io/WaypointBound", "status": "False", "reason": "NotFound", "message": "no waypoint"}]}))
    .unwrap();
    for (facts, problem) in [
        (service("empty"), "no endpoints"),
        (service("gone"), "was not told of it"),
        (unready, "none of its 1 endpoints is ready"),
        (late, "is not: no address yet"),
        (untold, "ztunnels were not told so"),
        (mute, "no ztunnel tells of it"),
        (bound, "WaypointBound=False"),
    ] {
        let told = facts.tell();
        assert!(told.problems.iter().any(|it| it.contains(problem)), "{problem}: {:?}", told.problems);
    }
}

#[test]
fn a_dump_of_upstreams_ztunnel_is_a_world_too() {
    let known = read_dump(include_str!("../../../tests/dump.json")).unwrap();
    let world = Snapshot::default().with(&known);
    let client = pod::find(&world, "default", "client").unwrap();
    assert_eq!(client.identity().to_string(), "spiffe://cluster.local/ns/default/sa/default");
}
