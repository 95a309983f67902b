//! The nodes: kernels, systems, and the platform that says where the runtime has its folders.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::facts::Facts;
use super::server::numbers;
use super::{Finding, few, label, list_at, named, text_at};

/// Rules that redirect IPv4 and IPv6 in one table are known since then.
const OLDEST_KERNEL: (u32, u32) = (5, 2);
/// Systems whose kernels enforce SELinux out of the box.
const SELINUX: [&str; 6] = ["Red Hat", "Fedora", "CentOS", "Rocky", "Alma", "Oracle Linux"];

pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let linux: Vec<&Value> = facts.nodes.iter().filter(|it| !is_windows(it)).collect();
    let mut findings = vec![kernels(&linux), ready(&linux), found_platform(facts)];
    let windows = facts.nodes.len() - linux.len();
    if windows > 0 {
        let remedy = "pods there stay outside the mesh, and reach what is STRICT no more";
        findings.push(Finding::warning("Windows nodes", windows.to_string(), remedy));
    }
    findings.extend(processors(&linux));
    findings.extend(selinux(facts, &linux));
    findings
}

fn is_windows(node: &Value) -> bool {
    text_at(node, "/status/nodeInfo/operatingSystem") == "windows"
}

fn kernels(nodes: &[&Value]) -> Finding {
    let check = "kernels";
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in nodes {
        versions.entry(text_at(node, "/status/nodeInfo/kernelVersion")).or_default().push(named(node));
    }
    let is_old = |version: &str| numbers(version).is_some_and(|version| version < OLDEST_KERNEL);
    let old: Vec<String> = versions
        .iter()
        .filter(|(version, _)| is_old(version))
        .flat_map(|(version, nodes)| nodes.iter().map(move |node| format!("{node} has {version}")))
        .collect();
    if !old.is_empty() {
        return Finding::failed(
            check,
            few(&old),
            "nf_tables with redirection for both families needs Linux 5.2",
        );
    }
    if nodes.is_empty() {
        return Finding::warning(
            check,
            "no node is known",
            "see that nodes may be listed, and that there are some",
        );
    }
    let all: Vec<&str> = versions.into_keys().collect();
    let nodes = if nodes.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", nodes.len()) };
    Finding::ok(check, format!("{} on {nodes}", few(&all)))
}

fn ready(nodes: &[&Value]) -> Finding {
    let is_ready = |node: &&&Value| {
        list_at(node, "/status/conditions")
            .iter()
            .any(|it| text_at(it, "/type") == "Ready" && text_at(it, "/status") == "True")
    };
    let away: Vec<String> = nodes.iter().filter(|it| !is_ready(it)).map(|it| named(it)).collect();
    if away.is_empty() {
        return Finding::ok("nodes", "all ready");
    }
    Finding::warning(
        "nodes",
        format!("not ready: {}", few(&away)),
        "the mesh comes to them when they are back",
    )
}

fn processors(nodes: &[&Value]) -> Option<Finding> {
    let place = "/status/nodeInfo/architecture";
    let others: BTreeSet<&str> =
        nodes.iter().map(|it| text_at(it, place)).filter(|it| !["amd64", "arm64", ""].contains(it)).collect();
    let others: Vec<&str> = others.into_iter().collect();
    (!others.is_empty()).then(|| {
        let remedy = "make images for it with `cargo xtask images` there, and name them in global.hub";
        Finding::warning("processors", others.join(", "), remedy)
    })
}

fn selinux(facts: &Facts, nodes: &[&Value]) -> Option<Finding> {
    let image = |node: &&Value| text_at(node, "/status/nodeInfo/osImage").to_owned();
    let enforcing = |image: &String| SELINUX.iter().any(|name| image.contains(name));
    let found: BTreeSet<String> = nodes.iter().map(image).filter(enforcing).collect();
    let is_openshift = platform(facts).is_some_and(|it| it.name == "openshift");
    let found: Vec<String> = found.into_iter().collect();
    (!found.is_empty() && !is_openshift).then(|| {
        let remedy = "where SELinux enforces: --set cni.seLinuxOptions.type=spc_t --set ztunnel.seLinuxOptions.type=spc_t";
        Finding::warning("SELinux", few(&found), remedy)
    })
}

/// A platform with folders of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Platform {
    /// The value of `global.platform`.
    pub(crate) name: &'static str,
    /// What tells it.
    pub(crate) sign: &'static str,
}

/// The platform, by what the cluster shows of itself.
pub(crate) fn platform(facts: &Facts) -> Option<Platform> {
    let any = |test: &dyn Fn(&Value) -> bool| facts.nodes.iter().any(test);
    let is_k3s = any(&|it| text_at(it, "/status/nodeInfo/kubeletVersion").contains("+k3s"));
    let signs = [
        ("openshift", "an API of OpenShift", facts.groups.iter().any(|it| it == "config.openshift.io")),
        (
            "gke",
            "a version of GKE",
            facts.version.contains("-gke")
                || any(&|it| !label(it, "cloud.google.com/gke-nodepool").is_empty()),
        ),
        ("microk8s", "nodes of MicroK8s", any(&|it| !label(it, "microk8s.io/cluster").is_empty())),
        ("k3d", "nodes of k3d", is_k3s && any(&|it| text_at(it, "/metadata/name").starts_with("k3d-"))),
        ("k3s", "kubelets of k3s", is_k3s),
        (
            "minikube",
            "minikube on Docker",
            any(&|it| {
                !label(it, "minikube.k8s.io/name").is_empty()
                    && text_at(it, "/status/nodeInfo/containerRuntimeVersion").starts_with("docker")
            }),
        ),
    ];
    let found = signs.into_iter().find(|(.., shows)| *shows);
    found.map(|(name, sign, _)| Platform { name, sign })
}

fn found_platform(facts: &Facts) -> Finding {
    match platform(facts) {
        None => Finding::ok("platform", "nothing special: the runtime's folders are the usual ones"),
        Some(Platform { name, sign }) => {
            Finding::ok("platform", format!("{sign}: installed with --platform {name}"))
        }
    }
}
