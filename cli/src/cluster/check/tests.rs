//! Clusters in which one thing is wrong, and what is said of it.

use serde_json::json;

use super::*;

fn node(name: &str, info: impl Into<Value>) -> Value {
    let info: Value = info.into();
    let ready = json!([{"type": "Ready", "status": "True"}]);
    json!({"metadata": {"name": name, "labels": {}}, "status": {"nodeInfo": info, "conditions": ready}})
}

fn plain(kernel: &str) -> Value {
    json!({"kernelVersion": kernel, "operatingSystem": "linux", "architecture": "amd64", "osImage": "Debian"})
}

/// A cluster in which all is well, and no mesh yet.
fn fit() -> Facts {
    Facts {
        namespace: "istio-system".into(),
        version: "v1.34.4".into(),
        groups: vec!["apps".into()],
        nodes: vec![node("n1", plain("6.18.5-amd64")), node("n2", plain("5.2.0"))],
        ..Facts::default()
    }
}

/// What is wrong, as state and check, with the texts.
fn wrong(facts: &Facts) -> Vec<(State, &'static str, String)> {
    let all = Report::all(facts).findings.into_iter().filter(|it| it.state != State::Ok);
    all.map(|it| (it.state, it.check, format!("{} → {}", it.found, it.remedy))).collect()
}

/// The one thing that is wrong with facts that are otherwise well.
#[track_caller]
fn only(facts: &Facts, state: State, check: &str, words: &[&str]) {
    let found = wrong(facts);
    let [(seen, of, text)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((*seen, *of), (state, check), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    let (_, remedy) = text.split_once(" → ").unwrap();
    assert!(!remedy.is_empty(), "what is wrong has a remedy: {text}");
}

#[test]
fn a_cluster_that_is_fit_has_nothing_to_complain_of() {
    assert_eq!(wrong(&fit()), []);
    let text = summary(&Report::all(&fit()));
    assert!(
        text.contains("✓ Kubernetes         v1.34.4\n") && text.ends_with(" fine, 0 to know of, 0 wrong"),
        "{text}"
    );
}

#[test]
fn what_an_installation_would_stumble_over_is_said_with_its_remedy() {
    let mut old = fit();
    old.version = "v1.28.9-gke.1".into();
    only(&old, State::Failed, "Kubernetes", &["v1.28.9", "1.29"]);
    let mut kernel = fit();
    kernel.nodes.push(node("n3", plain("4.18.0-305.el8")));
    only(&kernel, State::Failed, "kernels", &["n3 has 4.18.0", "5.2"]);
    let mut rights = fit();
    rights.missing_rights = vec!["create namespaces".into()];
    only(&rights, State::Failed, "rights to install", &["create namespaces", "cluster-admin"]);
    let mut blind = fit();
    blind.unread.push(("networkpolicies", "nobody may".into()));
    only(&blind, State::Warning, "what may be read", &["networkpolicies", "nobody may"]);
    let mut away = fit();
    away.nodes[1]["status"]["conditions"][0]["status"] = "Unknown".into();
    only(&away, State::Warning, "nodes", &["n2"]);
    let mut selinux = fit();
    selinux.nodes[0]["status"]["nodeInfo"]["osImage"] = "Rocky Linux 9".into();
    only(&selinux, State::Warning, "SELinux", &["Rocky", "cni.seLinuxOptions.type=spc_t"]);
}

#[test]
fn platforms_are_known_by_what_their_nodes_show() {
    let with = |label: &str, info: Value, name: &str| {
        let mut facts = fit();
        let mut node = node(name, info);
        node["metadata"]["labels"] = json!({label: "yes"});
        facts.nodes = vec![node];
        platform(&facts).map(|it| it.name)
    };
    let kubelet = json!({"kubeletVersion": "v1.34.1+k3s1"});
    let docker = json!({"containerRuntimeVersion": "docker://28.0"});
    let containerd = json!({"containerRuntimeVersion": "containerd://2.1"});
    for (label, info, name, found) in [
        ("x", json!({}), "n1", None),
        ("x", kubelet.clone(), "n1", Some("k3s")),
        ("x", kubelet, "k3d-mesh-server-0", Some("k3d")),
        ("microk8s.io/cluster", json!({}), "n1", Some("microk8s")),
        ("cloud.google.com/gke-nodepool", json!({}), "n1", Some("gke")),
        ("minikube.k8s.io/name", docker, "minikube", Some("minikube")),
        // Its namespaces are where everybody's are.
        ("minikube.k8s.io/name", containerd, "minikube", None),
    ] {
        assert_eq!(with(label, info, name), found, "{label} {name}");
    }
    let mut openshift = fit();
    openshift.groups.push("config.openshift.io".into());
    assert_eq!(platform(&openshift).map(|it| it.name), Some("openshift"));
}

fn set(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "labels": {}}})
}

#[test]
fn settings_of_networks_that_do_not_go_with_a_mesh_are_named() {
    let cilium = |data: Value| {
        let mut facts = fit();
        facts.daemon_sets.push(set("kube-system", "cilium"));
        facts.cilium = Some(json!({"data": data}));
        facts
    };
    assert_eq!(wrong(&cilium(json!({"cni-exclusive": "false"}))), []);
    only(&cilium(json!({})), State::Warning, "network", &["cni.exclusive=false"]);
    let masquerade = json!({"cni-exclusive": "false", "enable-bpf-masquerade": "true"});
    only(&cilium(masquerade), State::Failed, "network", &["bpf.masquerade=false"]);
    let sockets = json!({"cni-exclusive": "false", "kube-proxy-replacement": "true"});
    only(&cilium(sockets), State::Warning, "network", &["socketLB.hostNamespaceOnly=true"]);
    let mut calico = fit();
    calico.felix = Some(json!({"spec": {"bpfEnabled": true}}));
    only(&calico, State::Warning, "network", &["3.29"]);
    let mut amazon = fit();
    let mut node = set("kube-system", "aws-node");
    node["spec"] = json!({"template": {"spec": {"containers": [{"env": [{"name": "ENABLE_POD_ENI", "value": "true"}]}]}}});
    amazon.daemon_sets.push(node);
    only(&amazon, State::Warning, "network", &["POD_SECURITY_GROUP_ENFORCING_MODE=standard"]);
}

fn policy(name: &str, spec: impl Into<Value>) -> Value {
    let spec: Value = spec.into();
    json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

#[test]
fn network_policies_that_keep_tunnels_out_are_found_and_others_are_not() {
    let web = json!({"matchLabels": {"app": "web"}});
    let ingress = |ports: Value| json!({"podSelector": web, "ingress": [{"ports": ports}]});
    let blocking = policy("web", ingress(json!([{"port": 8080}])));
    let tunnels = policy("tunnels", json!({"podSelector": {}, "ingress": [{"ports": [{"port": 15008}]}]}));
    let range = policy("range", ingress(json!([{"port": 8080}, {"port": 15000, "endPort": 15010}])));
    let datagrams = policy("udp", ingress(json!([{"port": 8080}, {"port": 15008, "protocol": "UDP"}])));
    let open = policy("open", json!({"podSelector": web, "ingress": [{"from": [{"podSelector": {}}]}]}));
    let closed = policy("closed", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    let names = json!([{"port": 53, "protocol": "UDP"}, {"port": 53}]);
    let dns =
        policy("dns", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": names}]}));
    let out = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 443}]}]});
    for (policies, blocked) in [
        (vec![blocking.clone()], true),
        (vec![blocking.clone(), closed.clone()], true),
        (vec![blocking.clone(), tunnels], false),
        (vec![range], false),
        (vec![datagrams], true),
        (vec![open], false),
        (vec![closed], false),
        (vec![dns], false),
        (vec![policy("out", out)], true),
    ] {
        let mut facts = fit();
        facts.network_policies = policies;
        let what = format!("{:?}", facts.network_policies);
        assert_eq!(!wrong(&facts).is_empty(), blocked, "{what}");
        if blocked {
            let name = text_at(&facts.network_policies[0], "/metadata/name").to_owned();
            only(&facts, State::Warning, "network policies", &["shop/", &name, "15008"]);
            facts.namespaces =
                vec![json!({"metadata": {"name": "shop", "labels": {"istio.io/dataplane-mode": "ambient"}}})];
            only(&facts, State::Failed, "network policies", &[&name]);
        }
    }
    let mut cut = fit();
    let closed = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    cut.network_policies =
        vec![json!({"metadata": {"namespace": "istio-system", "name": "closed"}, "spec": closed})];
    only(&cut, State::Failed, "network policies", &["istio-system/closed", "15012"]);
}

#[test]
fn other_meshes_and_definitions_of_others_are_told_of() {
    let mut ztunnel = fit();
    ztunnel.daemon_sets.push(set("kube-system", "ztunnel"));
    only(&ztunnel, State::Failed, "other meshes", &["kube-system/ztunnel", "docs/migrate.md"]);
    let plane = |namespace: &str, name: &str| {
        let mut facts = fit();
        let mut plane = set(namespace, name);
        plane["metadata"]["labels"] = json!({"app": "istiod"});
        facts.deployments.push(plane);
        facts
    };
    only(&plane("istio-system", "istiod"), State::Failed, "other meshes", &["istio-system/istiod"]);
    only(&plane("istio-system", "istiod-blue"), State::Warning, "other meshes", &["istiod-blue"]);
    only(&plane("elsewhere", "istiod"), State::Warning, "other meshes", &["elsewhere/istiod"]);
    let mut blue = plane("istio-system", "istiod-blue");
    blue.revision = "blue".into();
    only(&blue, State::Failed, "other meshes", &["istio-system/istiod-blue"]);
    let mut linkerd = fit();
    linkerd.groups.push("linkerd.io".into());
    only(&linkerd, State::Warning, "other meshes", &["Linkerd"]);
    let mut definitions = fit();
    let name = "authorizationpolicies.security.istio.io";
    let version = json!({"name": "v1", "served": true});
    definitions.definitions = vec![json!({"metadata": {"name": name}, "spec": {"versions": [version]}})];
    assert_eq!(wrong(&definitions), []);
    definitions.definitions[0]["spec"]["versions"][0]["name"] = "v1beta1".into();
    only(&definitions, State::Failed, "definitions", &[name, "v1"]);
}

#[test]
fn an_installed_mesh_is_well_when_its_parts_are_ready_and_every_labelled_pod_is_in() {
    let part = |name: &str, version: &str, status: Value| {
        let labels = json!({"app.kubernetes.io/part-of": "ambit", "app.kubernetes.io/version": version});
        json!({"metadata": {"namespace": "istio-system", "name": name, "labels": labels},
               "spec": {"replicas": 1}, "status": status})
    };
    let pod = |name: &str, word: &str| {
        let word = json!({"ambient.istio.io/redirection": word});
        json!({"metadata": {"namespace": "shop", "name": name, "annotations": word}, "spec": {},
               "status": {"phase": "Running"}})
    };
    let mut well = fit();
    well.deployments = vec![part("istiod", "0.1.0", json!({"readyReplicas": 1}))];
    let both = json!({"numberReady": 2, "desiredNumberScheduled": 2});
    well.daemon_sets =
        vec![part("ztunnel", "0.1.0", both.clone()), part("istio-cni-node", "0.1.0", both.clone())];
    let mut apart = pod("apart", "");
    apart["metadata"]["labels"] = json!({"istio.io/dataplane-mode": "none"});
    let mut host = pod("host", "");
    host["spec"]["hostNetwork"] = true.into();
    well.members = vec![pod("web", "enabled"), apart, host];
    assert_eq!(wrong(&well), []);
    well.members.push(pod("late", "pending"));
    only(&well, State::Failed, "pods", &["shop/late"]);
    well.members.pop();
    well.deployments[0]["status"] = json!({});
    only(&well, State::Failed, "the mesh", &["istiod 0/1 ready"]);
    well.deployments[0] = part("istiod", "0.2.0", json!({"readyReplicas": 1}));
    only(&well, State::Warning, "the mesh", &["0.1.0, 0.2.0", "ambit upgrade"]);
}
