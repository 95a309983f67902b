//! Who plays: pods, services, policies. Owns manifests only.

use ambit_cluster_lab::APP;
use ambit_cluster_lab::mesh::SHOP;

/// Begins every path that is asked for inside the mesh: to be seen nowhere on the wire.
pub(crate) const PRIVATE: &str = "/private-";

/// Nobody outside the mesh may speak to anybody in it: a pod that is not protected is found by its answer.
pub(crate) const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: shop }
spec: { mtls: { mode: STRICT } }
";

/// Keeps the client out of one of the servers.
pub(crate) const NOT_THE_CLIENT: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: not-the-client, namespace: shop }
spec:
  action: DENY
  selector: { matchLabels: { app: near } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/client] } }] }]
";

/// Keeps everybody of the account `web` out of the other.
pub(crate) const NOT_THE_WEB: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: not-the-web, namespace: shop }
spec:
  action: DENY
  selector: { matchLabels: { app: far } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/web] } }] }]
";

/// On each node a server, a client, an application of three pods, a pod that asks from its first moment on; and one
/// pod outside of the mesh.
pub(crate) fn all() -> String {
    let pods = [("near", "n1", ""), ("client", "n1", ""), ("far", "n2", ""), ("eager", "n2", EAGER)];
    let pods: String = pods.iter().map(|(name, node, more)| pod(("shop", name), node, more)).collect();
    let outsider = pod(("outside", "outsider"), "n1", "");
    format!("{SHOP}{ENDS}---{pods}\n---\n{WEB}\n{OUTSIDE}---{outsider}").replace("$APP", APP)
}

/// What the eager one does instead of serving. Its standard input stays open, so it asks until it is killed.
const EAGER: &str =
    ", stdin: true, command: [ambit, pod, load, --every-ms, '50', 'http://near.shop/private-eager']";

/// Beside the shop's own: a service for each of two pods.
const ENDS: &str = "
---
apiVersion: v1
kind: Service
metadata: { name: near, namespace: shop }
spec: { selector: { app: near }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: far, namespace: shop }
spec: { selector: { app: far }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";

const OUTSIDE: &str = "
---
apiVersion: v1
kind: Namespace
metadata: { name: outside }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: client, namespace: outside }
";

/// It ends the moment it is told to, with whoever is connected answered: nobody waits for the world to hear of it.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 3
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      serviceAccountName: web
      terminationGracePeriodSeconds: 5
      containers:
        - name: app
          image: "$APP"
          readinessProbe: { httpGet: { path: /ready, port: 8080 }, periodSeconds: 1 }
"#;

/// A pod that serves on port 8080, or does what `more` says.
pub(crate) fn pod((namespace, name): (&str, &str), node: &str, more: &str) -> String {
    let probe = if more.contains("command") {
        ""
    } else {
        ", readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}"
    };
    format!(
        "\n---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, \
         labels: {{app: {name}}}}}, spec: {{nodeName: {node}, serviceAccountName: client, \
         terminationGracePeriodSeconds: 1, containers: [{{name: app, image: '{APP}'{more}{probe}}}]}}}}"
    )
}
