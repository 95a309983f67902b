//! What a node's credentials are good for: its own pods, and no others.

use std::time::Duration;

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::SYSTEM;
use anyhow::{Result, ensure};

/// A policy, or a right, that was put in a moment ago is in force then.
const SOON: Duration = Duration::from_secs(60);

/// What kubectl asks before it writes, and the daemon does not.
const LOOKS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: looks, namespace: shop }
rules: [{ apiGroups: [''], resources: [pods, pods/status], verbs: [get] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: looks, namespace: shop }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: looks }
subjects: [{ kind: ServiceAccount, name: istio-cni, namespace: istio-system }]
";

/// Whoever has the token of a node's daemon can say of that node's pods what the daemon says, and nothing of others.
pub(crate) fn a_daemon_writes_onto_pods_of_its_node_only(lab: &Lab) -> Result<()> {
    lab.apply(LOOKS)?;
    let find =
        ["-n", SYSTEM, "get", "pods", "-l", "k8s-app=istio-cni-node", "--field-selector=spec.nodeName=n1"];
    let daemon = lab.kubectl(&[&find[..], &["-o", "jsonpath={.items[0].metadata.name}"]].concat())?;
    let bound = format!("--bound-object-name={}", daemon.trim());
    let token = ["-n", SYSTEM, "create", "token", "istio-cni", "--bound-object-kind=Pod", &bound];
    let token = format!("--token={}", lab.kubectl(&token)?.trim());
    let server =
        lab.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"])?;
    let server = format!("--server={}", server.trim());
    let note = |pod: &str| {
        // With this token alone: the administrator's certificate would go before it.
        let who = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", &server, &token];
        let what = r#"{"metadata": {"annotations": {"ambit.test/note": "here"}}}"#;
        let patch = ["-n", "shop", "patch", "pod", pod, "--subresource=status", "--type=merge", "-p", what];
        lab.kubectl(&[&who[..], &patch].concat())
    };
    lab.wait("a note on a pod of the node", SOON, || note("client"))?;
    lab.kubectl(&["-n", "shop", "annotate", "pod", "client", "ambit.test/note-"])?;
    lab.wait("a note on another node's pod to be refused", SOON, || {
        let refused = note("web").err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("of its own node only"), "it is told {refused:?}");
        Ok(())
    })?;
    lab.delete(LOOKS)
}
