//! What goes into a report: what `status`, `proxy-status` and `analyze` say, objects of the mesh, nodes, and of each of
//! the mesh's own pods its log, metrics and dumps. Secrets are not read at all. What cannot be asked is noted.

use std::fs::File;
use std::io;
use std::time::Duration;

use ambit_cluster::api::{ApiError, Client};
use ambit_process::clock::{self, Instant};
use serde_json::{Value, json};

use super::archive::Archive;
use crate::args::chain;
use crate::cluster::Which;
use crate::cluster::dump::text;
use crate::cluster::parts::{CONTROL_PLANE, NODE_DAEMONS, Part, ZTUNNELS, fetch, parts};

/// Of each sort of pods so many; a large mesh's others say the same.
const PODS: usize = 20;
/// A log is asked for up to this.
const LOG_BYTES: &str = "4194304";

/// Collections that are written as they are, less secrets. None holds an application's own settings.
const OBJECTS: [(&str, &str); 14] = [
    ("namespaces", "/api/v1/namespaces"),
    ("services", "/api/v1/services"),
    ("serviceaccounts", "/api/v1/serviceaccounts"),
    ("authorizationpolicies", "/apis/security.istio.io/v1/authorizationpolicies"),
    ("peerauthentications", "/apis/security.istio.io/v1/peerauthentications"),
    ("serviceentries", "/apis/networking.istio.io/v1/serviceentries"),
    ("workloadentries", "/apis/networking.istio.io/v1/workloadentries"),
    ("gateways", "/apis/gateway.networking.k8s.io/v1/gateways"),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("validatingwebhooks", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"),
    ("definitions", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("nodes", "/api/v1/nodes"),
    ("pods", "/api/v1/pods"),
];

/// Collects into an archive until a moment.
pub(super) struct Collector {
    client: Client,
    which: Which,
    archive: Archive<File>,
    until: Instant,
}

impl Collector {
    pub(super) fn new(client: Client, which: Which, archive: Archive<File>, until: Instant) -> Self {
        Self { client, which, archive, until }
    }

    pub(super) fn into_archive(self) -> Archive<File> {
        self.archive
    }

    /// Collects. Only that the archive cannot be written, or that the API server is not there at all, is an error.
    pub(super) async fn collect(&mut self, tail: u32) -> Result<(), Box<dyn std::error::Error>> {
        let version: Value = self.client.read("/version").await?;
        let own = json!({"ambit": env!("CARGO_PKG_VERSION"), "kubernetes": version,
            "namespace": self.which.istio_namespace});
        self.archive.object("version.json", own)?;
        let which = self.which.clone();
        let limit = self.left();
        let status = Box::pin(tokio::time::timeout(limit, crate::cluster::status::told(&which))).await;
        self.note(
            "status.txt",
            status.map_err(|_| late(limit)).and_then(|it| it.map_err(|e| chain(e.as_ref()))),
        )?;
        let system = self.which.istio_namespace.clone();
        for (sort, labels) in [("istiod", CONTROL_PLANE), ("ztunnel", ZTUNNELS), ("cni", NODE_DAEMONS)] {
            match parts(&self.client, &system, labels).await {
                Ok(all) => self.pods(sort, all, tail).await?,
                Err(error) => self.archive.miss(sort, &chain(&error)),
            }
        }
        for (name, path) in OBJECTS {
            self.objects(name, path, &[]).await?;
        }
        for kind in ["deployments", "daemonsets"] {
            self.objects(kind, &format!("/apis/apps/v1/namespaces/{system}/{kind}"), &[]).await?;
        }
        self.objects("leases", &format!("/apis/coordination.k8s.io/v1/namespaces/{system}/leases"), &[])
            .await?;
        self.objects("events", &format!("/api/v1/namespaces/{system}/events"), &[]).await?;
        self.objects("events-refused", "/api/v1/events", &[("fieldSelector", "reason=AmbientNotEnrolled")])
            .await?;
        self.mesh_config(&system).await?;
        let missing = self.archive.missing().join("\n");
        Ok(self.archive.text("missing.txt", &missing)?)
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(clock::now())
    }

    /// Whether there is time for another question; that there is none is noted.
    fn has_time(&mut self, name: &str) -> bool {
        let has = !self.left().is_zero();
        if !has {
            self.archive.miss(name, "the time was over");
        }
        has
    }

    fn note(&mut self, name: &str, said: Result<String, String>) -> io::Result<()> {
        match said {
            Ok(said) => self.archive.text(name, &said),
            Err(why) => {
                self.archive.miss(name, &why);
                Ok(())
            }
        }
    }

    async fn objects(&mut self, name: &str, path: &str, query: &[(&str, &str)]) -> io::Result<()> {
        let file = format!("objects/{name}.json");
        if !self.has_time(&file) {
            return Ok(());
        }
        match self.client.list(path, query).await {
            Ok(items) if name == "pods" => {
                let items: Vec<Value> = items.iter().map(pod).collect();
                self.archive.object(&file, Value::Array(items))
            }
            Ok(items) => self.archive.object(&file, Value::Array(items)),
            // A kind that is not installed is no surprise.
            Err(ApiError::NotFound { name: None }) => Ok(()),
            Err(error) => {
                self.archive.miss(&file, &chain(&error));
                Ok(())
            }
        }
    }

    async fn mesh_config(&mut self, system: &str) -> io::Result<()> {
        let path = format!("/api/v1/namespaces/{system}/configmaps/istio");
        match self.client.read::<Value>(&path).await {
            Ok(map) => self.archive.object("objects/mesh-config.json", map),
            Err(error) => {
                self.archive.miss("objects/mesh-config.json", &chain(&error));
                Ok(())
            }
        }
    }

    async fn pods(&mut self, sort: &str, all: Vec<Part>, tail: u32) -> io::Result<()> {
        if let Some(more) = all.len().checked_sub(PODS).filter(|more| *more > 0) {
            self.archive.miss(sort, &format!("{more} more pods"));
        }
        for part in all.into_iter().take(PODS) {
            let folder = format!("{sort}/{}", part.name);
            if !self.has_time(&folder) {
                continue;
            }
            self.logs(&folder, &part, tail).await?;
            for (port, path, name) in questions(sort) {
                let said = Box::pin(fetch(&self.client, &part, port, path)).await;
                self.note(&format!("{folder}/{name}"), said.map_err(|error| chain(&error)))?;
            }
        }
        Ok(())
    }

    async fn logs(&mut self, folder: &str, part: &Part, tail: u32) -> io::Result<()> {
        let path = format!("/api/v1/namespaces/{}/pods/{}/log", part.namespace, part.name);
        let tail = tail.to_string();
        let query = [("tailLines", tail.as_str()), ("limitBytes", LOG_BYTES), ("timestamps", "true")];
        let said = self.client.text(&path, &query).await;
        self.note(&format!("{folder}/log.txt"), said.map_err(|error| chain(&error)))?;
        if part.restarts == 0 {
            return Ok(());
        }
        let before: Vec<_> = query.into_iter().chain([("previous", "true")]).collect();
        let said = self.client.text(&path, &before).await;
        self.note(&format!("{folder}/log-before.txt"), said.map_err(|error| chain(&error)))
    }
}

fn late(limit: Duration) -> String {
    format!("not told within {limit:?}")
}

/// What each sort of pods is asked, and under which name the answer is kept.
fn questions(sort: &str) -> Vec<(u16, &'static str, &'static str)> {
    match sort {
        "istiod" => vec![
            (8080, "/debug/syncz", "syncz.json"),
            (8080, "/debug/faults", "faults.json"),
            (8080, "/debug/ambientz", "ambientz.json"),
            (15014, "/metrics", "metrics.txt"),
        ],
        "ztunnel" => vec![(15000, "/config_dump", "config_dump.json"), (15020, "/metrics", "metrics.txt")],
        _ => Vec::new(),
    }
}

/// Of a pod only what the mesh reads, and how it is: its settings are its owner's.
fn pod(pod: &Value) -> Value {
    let at = |path: &str| pod.pointer(path).cloned().unwrap_or_default();
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
    let kept =
        annotations.filter(|(key, _)| key.contains("istio.io/")).map(|(key, it)| (key.clone(), it.clone()));
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let container =
        |it: &Value| json!({"name": text(it, "name"), "image": text(it, "image"), "ports": it.get("ports")});
    json!({
        "metadata": {
            "namespace": at("/metadata/namespace"), "name": at("/metadata/name"), "uid": at("/metadata/uid"),
            "labels": at("/metadata/labels"), "annotations": kept.collect::<serde_json::Map<_, _>>(),
            "creationTimestamp": at("/metadata/creationTimestamp"),
            "deletionTimestamp": at("/metadata/deletionTimestamp"),
        },
        "spec": {
            "nodeName": at("/spec/nodeName"), "hostNetwork": at("/spec/hostNetwork"),
            "serviceAccountName": at("/spec/serviceAccountName"),
            "containers": containers.map(container).collect::<Vec<_>>(),
        },
        "status": at("/status"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_pod_no_setting_is_kept() {
        let kept = pod(&json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"},
                "annotations": {"ambient.istio.io/redirection": "enabled", "vault/key": "hunter2"}},
            "spec": {"nodeName": "n1", "volumes": ["hunter2"], "containers": [
                {"name": "c", "image": "i", "env": [{"name": "X", "value": "hunter2"}], "args": ["hunter2"]}]},
            "status": {"phase": "Running"},
        }));
        let said = kept.to_string();
        assert!(!said.contains("hunter2"), "{said}");
        for words in ["redirection", "\"image\":\"i\"", "n1", "Running"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn secrets_are_not_even_read() {
        assert!(OBJECTS.iter().all(|(name, path)| !name.contains("secret") && !path.contains("secrets")));
    }
}
