//! Translation by cases where upstream's recorded clusters do not reach, or where ours differs on purpose.

use ambit_cluster::files::Event;
use ambit_xds::library::Library;
use serde_json::Value;

use crate::catalog::Catalog;
use crate::dump;
use crate::index::World;
use crate::mesh::Mesh;
use crate::testing::objects;

pub(super) fn resources(manifests: &str) -> Vec<Value> {
    let mut catalog = Catalog::new(World::new(Mesh::default()));
    objects(manifests).into_iter().for_each(|object| catalog.take(Event::Applied(object)));
    dump::resources(&Library::default().with(&catalog.settle()), None)
}

pub(super) fn named(resources: &[Value], name: &str) -> Value {
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

const REMOTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: NAME, namespace: gw, labels: {topology.istio.io/network: net2}, annotations: {}}
spec: {gatewayClassName: istio-remote, listeners: [{name: s, port: 15012, protocol: TLS}, {name: h, port: 15108, protocol: HBONE}]}
status: {addresses: [{type: TYPE, value: ADDRESS}]}
";

fn remote(name: &str, kind: &str, address: &str) -> String {
    REMOTE.replace("NAME", name).replace("TYPE", kind).replace("ADDRESS", address)
}

const ELSEWHERE: &str = "
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: far, namespace: shop}
spec: {address: 10.9.0.1, network: net2}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: near, namespace: shop}
spec: {address: 10.9.0.2}
";

#[test]
fn a_workload_on_another_network_is_reached_by_the_first_gateway_into_it() {
    let both = remote("b", "IPAddress", "192.0.2.2") + &remote("a", "IPAddress", "192.0.2.1") + ELSEWHERE;
    let all = resources(&both);
    let far = &named(&all, "Kubernetes/networking.istio.io/WorkloadEntry/shop/far")["workload"];
    assert_eq!(far["network"], "net2");
    let expected = serde_json::json!({
        "address": {"network": "net2", "address": "wAACAQ=="}, "hboneMtlsPort": 15108
    });
    assert_eq!(far["networkGateway"], expected);
    let near = &named(&all, "Kubernetes/networking.istio.io/WorkloadEntry/shop/near")["workload"];
    assert_eq!(near["networkGateway"], Value::Null);
}

#[test]
fn a_gateway_into_a_network_is_a_workload_so_that_its_identity_is_known() {
    let all = resources(&remote("east", "IPAddress", "192.0.2.1"));
    let gateway = &named(&all, "NetworkGateway/net2/192.0.2.1/15108")["workload"];
    assert_eq!(gateway["tunnelProtocol"], "HBONE");
    assert_eq!(
        (&gateway["namespace"], &gateway["serviceAccount"]),
        (&"gw".into(), &"east-istio-remote".into())
    );
    let named_account = remote("east", "IPAddress", "192.0.2.1")
        .replace("annotations: {}", "annotations: {gateway.istio.io/service-account: own}");
    let all = resources(&named_account);
    assert_eq!(named(&all, "NetworkGateway/net2/192.0.2.1/15108")["workload"]["serviceAccount"], "own");
    let by_name = resources(&(remote("east", "Hostname", "gw.example") + ELSEWHERE));
    assert_eq!(named(&by_name, "NetworkGateway/net2/gw.example/15108")["workload"]["hostname"], "gw.example");
    let far = &named(&by_name, "Kubernetes/networking.istio.io/WorkloadEntry/shop/far")["workload"];
    assert_eq!(far["networkGateway"]["hostname"]["hostname"], "gw.example");
}

#[test]
fn what_is_no_way_into_a_network_is_none() {
    let good = remote("east", "IPAddress", "192.0.2.1");
    for (spoilt, by) in [
        ("istio-remote", "istio"),
        ("protocol: HBONE", "protocol: HTTPS"),
        ("topology.istio.io/network: net2", "other: x"),
        ("value: 192.0.2.1", "value: nonsense"),
    ] {
        let all = resources(&good.replace(spoilt, by));
        assert!(!all.iter().any(|it| it["name"].as_str().unwrap().starts_with("NetworkGateway")), "{by}");
    }
}

fn configured(mesh: &str) -> String {
    let mesh = mesh.replace('\'', "''");
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{mesh}'}}\n"
    )
}

const ENTRIES: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: trusted, labels: {trusted: 'yes'}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {hosts: [h.example], resolution: DNS, ports: [{number: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: trusted, creationTimestamp: '2026-01-02T00:00:00Z'}
spec: {hosts: [h.example], resolution: DNS, ports: [{number: 80}]}
";

#[test]
fn service_entries_are_for_those_that_the_mesh_says() {
    let rules = "{serviceEntryVisibility: {defaultVisibility: WORD, policies: [{visibility: PUBLIC, matchingRules: \
                 [{namespaceSelector: {matchLabels: {trusted: \"yes\"}}}]}]}}";
    let said = |all: &[Value], name: &str| {
        let service = all.iter().find(|it| it["name"] == name).map(|it| it["resource"]["service"].clone());
        service.map(|it| (it["visibility"].as_str().map(str::to_owned), it["canonical"] == true))
    };
    let none = resources(ENTRIES);
    assert_eq!(said(&none, "shop/h.example"), Some((None, true)), "without rules everybody sees all");
    let own = resources(&(configured(&rules.replace("WORD", "NAMESPACE")) + ENTRIES));
    assert_eq!(
        said(&own, "shop/h.example"),
        Some((Some("NAMESPACE".into()), false)),
        "never preferred elsewhere"
    );
    assert_eq!(said(&own, "trusted/h.example"), Some((None, true)));
    let hidden = resources(&(configured(&rules.replace("WORD", "NONE")) + ENTRIES));
    assert_eq!(said(&hidden, "shop/h.example"), None);
    assert_eq!(said(&hidden, "trusted/h.example"), Some((None, true)));
    assert!(
        !hidden.iter().any(|it| it["name"].as_str().unwrap().contains("/shop/")),
        "its endpoints neither"
    );
    let by_name = "{serviceEntryVisibility: {policies: [{visibility: NONE, matchingRules: \
                   [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}]}}";
    assert_eq!(said(&resources(&(configured(by_name) + ENTRIES)), "shop/h.example"), None);
}

#[test]
fn the_meshs_config_map_names_trust_domain_root_namespace_and_the_namespaces_looked_at() {
    let all = resources(&(configured("trustDomain: other.example") + POD));
    assert_eq!(named(&all, "Kubernetes//Pod/shop/web")["workload"]["trustDomain"], "other.example");
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {rules: [{}]}\n";
    let all = resources(&(configured("rootNamespace: shop") + policy));
    assert_eq!(named(&all, "shop/p")["scope"], Value::Null, "global");
    let seen = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh: 'on'}}\n";
    let selectors = "{discoverySelectors: [{matchLabels: {mesh: \"on\"}}]}";
    assert_eq!(resources(&(configured(selectors) + POD)), [] as [Value; 0]);
    assert_eq!(resources(&(configured(selectors) + POD + seen)).len(), 1);
    let elsewhere = configured("trustDomain: other.example").replace("istio-system", "shop");
    let all = resources(&(elsewhere + POD));
    assert_eq!(named(&all, "Kubernetes//Pod/shop/web")["workload"]["trustDomain"], Value::Null);
}

#[test]
fn an_endpoint_of_a_slice_is_where_its_node_is_and_its_zone_counts_without_one() {
    let all = resources(
        "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}}\n---\n\
         {apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {clusterIP: 10.1.0.1, ports: [{port: 80}]}}\n---\n\
         {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: e, namespace: a, labels: {kubernetes.io/service-name: s}}, \
         endpoints: [{addresses: [10.2.0.1], nodeName: n1, zone: other}, {addresses: [10.2.0.2], zone: z2}], ports: [{port: 81}]}\n",
    );
    let at = |ip: &str| {
        named(&all, &format!("Kubernetes/discovery.k8s.io/EndpointSlice/a/e/{ip}"))["workload"].clone()
    };
    assert_eq!(at("10.2.0.1")["locality"], serde_json::json!({"region": "r1", "zone": "z1"}));
    assert_eq!(at("10.2.0.1")["node"], "n1");
    assert_eq!(at("10.2.0.2")["locality"], serde_json::json!({"zone": "z2"}));
}

#[test]
fn a_workload_entry_that_is_found_ill_gets_no_traffic() {
    for (status, told) in [("'False'", "UNHEALTHY"), ("'True'", ""), ("Unknown", "")] {
        let all = resources(&format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: a}}\nspec: {{address: 10.0.0.1}}\n\
             status: {{conditions: [{{type: Healthy, status: {status}}}]}}\n"
        ));
        let workload = named(&all, "Kubernetes/networking.istio.io/WorkloadEntry/a/vm")["workload"].clone();
        assert_eq!(workload["status"].as_str().unwrap_or_default(), told, "{status}");
    }
}
