//! The network of the cluster: which it is, and what of its settings does not go with a mesh.

use serde_json::Value;

use super::facts::Facts;
use super::{Finding, few, list_at, text_at};

/// Daemon sets by which networks are known.
const NETWORKS: [(&str, &str); 15] = [
    ("calico-node", "Calico"),
    ("canal", "Canal"),
    ("cilium", "Cilium"),
    ("kube-flannel", "Flannel"),
    ("kindnet", "kindnet"),
    ("aws-node", "Amazon VPC CNI"),
    ("azure-cni", "Azure CNI"),
    ("weave-net", "Weave"),
    ("antrea-agent", "Antrea"),
    ("kube-ovn-cni", "Kube-OVN"),
    ("ovnkube-node", "OVN-Kubernetes"),
    ("kube-router", "kube-router"),
    ("netd", "GKE"),
    ("anetd", "GKE Dataplane V2"),
    ("kube-multus", "Multus"),
];
const CHECK: &str = "network";

pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![known(facts)];
    findings.extend(facts.cilium.iter().flat_map(cilium));
    let ebpf = facts.felix.as_ref().and_then(|it| it.pointer("/spec/bpfEnabled"));
    if ebpf == Some(&Value::Bool(true)) {
        let remedy = "use Calico 3.29 or newer: older ones drop the kubelet's probes to pods in the mesh";
        findings.push(Finding::warning(CHECK, "Calico with eBPF", remedy));
    }
    findings.extend(strict_branch_interfaces(facts));
    findings
}

fn known(facts: &Facts) -> Finding {
    let name = |it: &Value| text_at(it, "/metadata/name").to_owned();
    let names: Vec<String> = facts.daemon_sets.iter().map(name).collect();
    let is_there = |prefix: &str| names.iter().any(|it| it.starts_with(prefix));
    let found: Vec<&str> =
        NETWORKS.iter().filter(|(prefix, _)| is_there(prefix)).map(|(_, network)| *network).collect();
    if found.is_empty() {
        return Finding::ok(
            CHECK,
            "none that is known by name; any that is configured by a CNI list will do",
        );
    }
    Finding::ok(CHECK, few(&found))
}

fn cilium(config: &Value) -> Vec<Finding> {
    let is = |key: &str, value: &str| text_at(config, &format!("/data/{key}")) == value;
    let mut findings = Vec::new();
    if !is("cni-exclusive", "false") {
        let remedy = "set cni.exclusive=false in Cilium's chart: it takes others' plugins out of the list";
        findings.push(Finding::warning(CHECK, "Cilium keeps the CNI list for itself", remedy));
    }
    if is("enable-bpf-masquerade", "true") {
        let remedy = "set bpf.masquerade=false in Cilium's chart: probes to pods in the mesh fail with it";
        findings.push(Finding::failed(CHECK, "Cilium masquerades by eBPF", remedy));
    }
    let in_pods = is("bpf-lb-sock", "true") || is("kube-proxy-replacement", "true");
    if in_pods && !is("bpf-lb-sock-hostns-only", "true") {
        let remedy = "set socketLB.hostNamespaceOnly=true in Cilium's chart: what is asked of a service would reach the \
                      mesh as a pod's address";
        findings.push(Finding::warning(CHECK, "Cilium chooses services' pods inside of pods", remedy));
    }
    findings
}

/// Pods with security groups of their own, whose traffic leaves through another interface.
fn strict_branch_interfaces(facts: &Facts) -> Option<Finding> {
    let node = facts.daemon_sets.iter().find(|it| text_at(it, "/metadata/name") == "aws-node")?;
    let containers = list_at(node, "/spec/template/spec/containers");
    let is = |name: &str, value: &str| {
        containers
            .iter()
            .flat_map(|it| list_at(it, "/env"))
            .any(|setting| text_at(setting, "/name") == name && text_at(setting, "/value") == value)
    };
    let mode = "POD_SECURITY_GROUP_ENFORCING_MODE";
    (is("ENABLE_POD_ENI", "true") && !is(mode, "standard")).then(|| {
        let remedy = format!("set {mode}=standard on the daemon set aws-node if probes to such pods fail");
        Finding::warning(CHECK, "security groups for pods, enforced strictly", remedy)
    })
}
