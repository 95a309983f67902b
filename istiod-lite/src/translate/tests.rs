//! Translation by cases where upstream's recorded clusters do not reach, or where ours differs on purpose.

use ambit_cluster::files::Event;
use ambit_cluster::files::{Keep, load_once};
use ambit_xds::library::Library;
use serde_json::Value;

use crate::catalog::Catalog;
use crate::dump;
use crate::index::World;
use crate::mesh::Mesh;

fn resources(manifests: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mesh.yaml"), manifests).unwrap();
    let loaded = load_once(folder.path(), None, Keep::Slim).unwrap();
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let mut catalog = Catalog::new(World::new(Mesh::default()));
    loaded.objects.into_iter().for_each(|object| catalog.take(Event::Applied(object)));
    dump::resources(&Library::default().with(&catalog.settle()), None)
}

fn named(resources: &[Value], name: &str) -> Value {
    let found = resources.iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not among {resources:#?}"))["resource"].clone()
}

fn policy(spec: &str) -> Value {
    let manifests = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    );
    named(&resources(&manifests), "shop/p")
}

const POD: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {phase: Running, podIP: 10.0.0.1}
";

/// Mode of the mesh, of the namespace, of the workload with its ports; what is listed on the workload; what the
/// derived policy says, by the ports in its groups.
const PEERS: &[(&str, &str, &str, &str, &str)] = &[
    ("", "", "", "", ""),
    ("STRICT", "", "", "static", ""),
    ("STRICT", "PERMISSIVE", "", "", ""),
    ("STRICT", "UNSET", "", "static", ""),
    ("PERMISSIVE", "STRICT", "", "static", ""),
    ("PERMISSIVE", "", "{mtls: {mode: STRICT}}", "static", ""),
    ("STRICT", "", "{mtls: {mode: DISABLE}}", "", ""),
    ("STRICT", "", "{mtls: {mode: UNSET}}", "static", ""),
    ("", "", "{mtls: {mode: STRICT}, portLevelMtls: {80: {mode: STRICT}}}", "static", ""),
    ("", "", "{mtls: {mode: STRICT}, portLevelMtls: {80: {mode: UNSET}}}", "static", ""),
    ("", "", "{mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}}", "own", "not 80"),
    ("", "", "{portLevelMtls: {80: {mode: STRICT}}}", "own", "80"),
    ("", "", "{mtls: {mode: DISABLE}, portLevelMtls: {80: {mode: PERMISSIVE}}}", "", ""),
    // Upstream drops the strict policy and lists one that it never sends: plaintext is accepted on all ports.
    ("STRICT", "UNSET", "{portLevelMtls: {80: {mode: PERMISSIVE}}}", "own", "not 80"),
    // Upstream believes the mesh enforces the port already: plaintext is accepted there.
    ("STRICT", "", "{mtls: {mode: PERMISSIVE}, portLevelMtls: {80: {mode: STRICT}}}", "own", "80"),
    // Upstream does not see exceptions that are written DISABLE.
    ("STRICT", "", "{portLevelMtls: {80: {mode: DISABLE}}}", "own", "not 80"),
];

#[test]
fn what_peers_must_prove_is_one_answer_for_listing_and_content() {
    for (mesh, namespace, workload, listed, says) in PEERS {
        let peer = |name: &str, namespace: &str, spec: &str| {
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
            )
        };
        let mut manifests = POD.to_owned();
        for (mode, home) in [(mesh, "istio-system"), (namespace, "shop")] {
            if !mode.is_empty() {
                manifests += &peer("all", home, &format!("{{mtls: {{mode: {mode}}}}}"));
            }
        }
        if !workload.is_empty() {
            manifests +=
                &peer("web", "shop", &workload.replacen('{', "{selector: {matchLabels: {app: web}}, ", 1));
        }
        let resources = resources(&manifests);
        let pod = named(&resources, "Kubernetes//Pod/shop/web");
        let expected = match *listed {
            "static" => serde_json::json!(["istio-system/istio_converted_static_strict"]),
            "own" => serde_json::json!(["shop/converted_peer_authentication_web"]),
            _ => Value::Null,
        };
        let case = format!("mesh {mesh}, namespace {namespace}, workload {workload}");
        assert_eq!(pod["workload"]["authorizationPolicies"], expected, "{case}");
        for policy in expected.as_array().into_iter().flatten() {
            named(&resources, policy.as_str().unwrap());
        }
        let own = resources.iter().find(|it| it["name"] == "shop/converted_peer_authentication_web");
        let text = own.map(|it| it["resource"]["groups"].to_string()).unwrap_or_default();
        assert_eq!(text.contains("\"notDestinationPorts\":[80]"), *says == "not 80", "{case}: {text}");
        assert_eq!(text.contains("\"destinationPorts\":[80]"), *says == "80", "{case}: {text}");
        assert_eq!(text.is_empty(), says.is_empty(), "{case}: {text}");
    }
}

#[test]
fn what_a_tunnel_cannot_see_is_read_strictly() {
    for (spec, groups) in [
        // An allow rule goes, a deny rule loses the condition.
        ("{rules: [{from: [{source: {trustDomains: ['*.example']}}]}]}", "null"),
        (
            "{action: DENY, rules: [{from: [{source: {trustDomains: ['*.example'], namespaces: [a]}}]}]}",
            r#"[{"rules":[{"matches":[{"namespaces":[{"exact":"a"}]}]}]}]"#,
        ),
        ("{rules: [{from: [{source: {trustDomains: [td], principals: [a]}}]}]}", "null"),
        // A trust domain is how a principal begins; upstream forgets it, which allows everybody.
        (
            "{rules: [{from: [{source: {trustDomains: [td]}}]}]}",
            r#"[{"rules":[{"matches":[{"principals":[{"prefix":"td/"}]}]}]}]"#,
        ),
        (
            "{action: DENY, rules: [{from: [{source: {notTrustDomains: [td], notPrincipals: [a]}}]}]}",
            r#"[{"rules":[{"matches":[{"notPrincipals":[{"exact":"a"},{"prefix":"td/"}]}]}]}]"#,
        ),
        (
            "{rules: [{when: [{key: source.ip, values: [10.0.0.1]}, {key: request.headers, values: [a]}]}]}",
            "null",
        ),
    ] {
        assert_eq!(policy(spec)["groups"].to_string(), groups, "{spec}");
    }
}

#[test]
fn a_selector_without_labels_is_for_the_whole_namespace() {
    assert_eq!(policy("{selector: {}, rules: [{}]}")["scope"], "NAMESPACE");
    assert_eq!(policy("{selector: {matchLabels: {}}, rules: [{}]}")["scope"], "NAMESPACE");
    assert_eq!(policy("{selector: {matchLabels: {a: b}}, rules: [{}]}")["scope"], "WORKLOAD_SELECTOR");
}

#[test]
fn a_workload_is_named_after_what_made_its_pod() {
    for (kind, owner, labels, name) in [
        ("ReplicaSet", "shop-abc12", "{pod-template-hash: abc12}", "shop"),
        ("ReplicaSet", "shop-abc12", "{rollouts-pod-template-hash: abc12}", "shop"),
        ("ReplicaSet", "shop-abc12", "{}", "shop-abc12"),
        ("ReplicationController", "shop-1", "{deploymentconfig: shop}", "shop"),
        ("Job", "backup-29384756", "{}", "backup"),
        ("Job", "backup-1", "{}", "backup-1"),
        ("StatefulSet", "db", "{}", "db"),
        ("StatefulSet", "db", "{service.istio.io/workload-name: own}", "own"),
    ] {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop, generateName: p-, labels: {labels}, \
             ownerReferences: [{{kind: {kind}, name: {owner}, controller: true}}]}}\nstatus: {{podIP: 10.0.0.1}}\n"
        );
        let pod = named(&resources(&pod), "Kubernetes//Pod/shop/p");
        assert_eq!(pod["workload"]["workloadName"], name, "{kind} {owner} {labels}");
        assert_eq!(pod["workload"]["canonicalName"], name, "{kind} {owner} {labels}");
    }
}

#[test]
fn of_several_that_claim_a_host_one_is_in_force_and_one_is_canonical() {
    let entry = |name: &str, namespace: &str, day: u32| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}, \
             creationTimestamp: '2026-01-0{day}T00:00:00Z'}}\nspec: {{hosts: [h.example], resolution: STATIC, \
             ports: [{{number: 80}}], endpoints: [{{address: 10.0.0.{day}}}]}}\n"
        )
    };
    let all = resources(&[entry("young", "a", 3), entry("old", "a", 2), entry("oldest", "b", 1)].concat());
    let (a, b) = (named(&all, "a/h.example"), named(&all, "b/h.example"));
    assert_eq!((&a["service"]["name"], &a["service"]["canonical"]), (&"old".into(), &Value::Null));
    assert_eq!((&b["service"]["name"], &b["service"]["canonical"]), (&"oldest".into(), &true.into()));
    assert!(
        !all.iter().any(|it| it["name"].as_str().unwrap().contains("/young/")),
        "the loser has no endpoints"
    );
}

#[test]
fn endpoints_of_one_address_and_networks_of_their_own_are_kept_apart() {
    let all = resources(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: a}\n\
         spec: {hosts: [h.example], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: \
         [{address: 10.0.0.1, network: n1}, {address: 10.0.0.1, ports: {http: 81}}]}\n",
    );
    let uid = "Kubernetes/networking.istio.io/ServiceEntry/a/e/10.0.0.1";
    assert_eq!(named(&all, uid)["workload"]["network"], "n1");
    let second = &named(&all, &format!("{uid}#2"))["workload"];
    assert_eq!(second["network"], Value::Null, "upstream lets it inherit the first one's network");
    assert_eq!(second["services"]["a/h.example"]["ports"][0]["targetPort"], 81);
}
