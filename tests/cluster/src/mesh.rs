//! Our mesh in a cluster of the tests: images and charts put in, pods that talk, what a story asks again and again.
//! Owns what stories share. What a story tells is its own.

mod load;
mod page;
mod programs;
mod reader;
mod story;
mod traces;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::images::APP;
use crate::lab::Lab;
pub use load::{Load, Seen};
pub use reader::Reader;
pub use story::{on, told};
pub use traces::Traces;

/// The namespace that the mesh is installed into.
pub const SYSTEM: &str = "istio-system";
/// How long an installation may take on two cores that are busy.
const INSTALLED: Duration = Duration::from_secs(240);
/// How long a pod may take to be enrolled, or a namespace to be heard of, there.
const SOON: Duration = Duration::from_secs(60);
/// How a client tells of a connection that was made and then ended by the other side.
const ENDS: [&str; 3] = ["reset", "end of file", "Broken pipe"];
/// A namespace with the accounts and the service of [`pod`]'s pods.
pub const SHOP: &str = r"
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: web, namespace: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: client, namespace: shop }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";

/// Which pods there are in a namespace, and when their containers started, for `kubectl get pods -o`.
pub const STARTS: &str = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].state.running.startedAt}\
     {.status.containerStatuses[*].restartCount} {end}";

impl Lab {
    /// Gives every node the images of our programs that the charts name, from what is built beside this program.
    pub fn import_programs(&self) -> Result<()> {
        programs::import(self)
    }

    /// Installs the whole mesh from its charts, as the release `ambit`, and waits until every part is ready.
    /// `arguments` go to Helm, for example `--set`.
    pub fn install_mesh(&self, arguments: &[&str]) -> Result<()> {
        if self.kubectl(&["get", "namespace", SYSTEM]).is_err() {
            self.kubectl(&["create", "namespace", SYSTEM])?;
        }
        let chart = chart("ambit");
        let base = ["upgrade", "--install", "ambit", &chart, "-n", SYSTEM, "--wait", "--timeout", "240s"];
        let all: Vec<&str> = base.into_iter().chain(arguments.iter().copied()).collect();
        self.helm(&all)?;
        self.mesh_ready()
    }

    /// Waits until every part of the mesh is ready.
    pub fn mesh_ready(&self) -> Result<()> {
        for labels in ["app=istiod", "app=ztunnel", "k8s-app=istio-cni-node"] {
            self.pods_ready(SYSTEM, labels, INSTALLED)?;
        }
        Ok(())
    }

    /// Puts a namespace into the mesh.
    pub fn enrol(&self, namespace: &str) -> Result<()> {
        self.kubectl(&["label", "namespace", namespace, "istio.io/dataplane-mode=ambient", "--overwrite"])
            .map(drop)
    }

    /// Waits until a pod is told to be in the mesh.
    pub fn is_in(&self, namespace: &str, pod: &str) -> Result<()> {
        let word = "jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}";
        self.wait(&format!("{pod} to be in the mesh"), SOON, || {
            let said = self.kubectl(&["-n", namespace, "get", "pod", pod, "-o", word])?;
            ensure!(said == "enabled", "it is {said:?}");
            Ok(())
        })
    }

    /// A pod asks for a page, once.
    pub fn fetch(&self, pod: &str, url: &str) -> Result<String> {
        self.pod_exec(pod, &["ambit", "pod", "fetch", url])
    }

    /// Waits until a pod that asks for this is not let in: it is connected, as to anybody in the mesh, and then the
    /// connection is ended without an answer. That may be seen as a reset or as an end.
    pub fn is_refused(&self, pod: &str, url: &str, limit: Duration) -> Result<()> {
        self.wait(&format!("{pod} to be refused {url}"), limit, || {
            let refused = self.fetch(pod, url).err().context("it was let in")?;
            let said = format!("{refused:#}");
            ensure!(ENDS.iter().any(|end| said.contains(end)), "{said}");
            Ok(())
        })
    }
}

/// The manifest of a pod of the namespace `shop` that answers on port 8080 and can ask: see `ambit pod`. One that is
/// called `web` runs as that account, any other as `client`.
#[must_use]
pub fn pod(name: &str, node: &str) -> String {
    let account = if name == "web" { "web" } else { "client" };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}, spec: {{\
         nodeName: {node}, serviceAccountName: {account}, terminationGracePeriodSeconds: 1, containers: [{{\
         name: app, image: '{APP}', readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}}}]}}}}"
    )
}

/// The folder of one of our charts.
#[must_use]
pub fn chart(name: &str) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/helm").join(name);
    folder.display().to_string()
}
