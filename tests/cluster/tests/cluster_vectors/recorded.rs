//! One recorded cluster, put onto an API server and taken off again. Owns what of an object is the server's to say.

use std::fs;

use ambit_cluster_lab::Lab;
use ambit_kit::vectors;
use anyhow::{Context as _, Result};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// Kinds whose definitions are installed by those who implement them; here nobody does.
const NOT_KNOWN: [&str; 1] = ["GatewayClass"];

/// Kinds whose status is somebody else's to say than the control plane's under test.
const WITH_STATUS: [&str; 4] = ["Node", "Pod", "Service", "ServiceEntry"];

/// A recorded cluster.
pub(crate) struct Recorded {
    pub(crate) vector: &'static str,
    /// Its namespaces.
    pub(crate) namespaces: Vec<String>,
    objects: Vec<Value>,
}

impl Recorded {
    pub(crate) fn read(vector: &'static str) -> Result<Self> {
        let path = vectors::data().join(vector).join("cluster.yaml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut objects = Vec::new();
        for document in yaml_serde::Deserializer::from_str(&text) {
            let object = Value::deserialize(document)?;
            if object.is_object() && !NOT_KNOWN.iter().any(|kind| object["kind"] == *kind) {
                objects.push(object);
            }
        }
        // "The oldest wins": a server says itself when an object was made.
        objects.sort_by_key(|it| {
            let meta = |key: &str| it["metadata"][key].as_str().unwrap_or_default().to_owned();
            (meta("creationTimestamp"), meta("namespace"), meta("name"))
        });
        let is_namespace = |it: &&Value| it["kind"] == "Namespace";
        let name = |it: &Value| it["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let namespaces = objects.iter().filter(is_namespace).map(name).collect();
        Ok(Self { vector, namespaces, objects })
    }

    /// Its objects of a kind.
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |it| it["kind"] == kind)
    }

    /// Whether a resource is of it, and not of the cluster that it is put into.
    pub(crate) fn holds(&self, resource: &Value) -> bool {
        let body = &resource["resource"];
        let places = ["/workload/namespace", "/service/namespace", "/namespace"];
        let namespace = places.iter().find_map(|at| body.pointer(at)?.as_str());
        namespace.is_none_or(|it| self.namespaces.iter().any(|own| own == it))
    }

    /// Puts it onto the server, and says what is.
    pub(crate) fn apply(&self, lab: &Lab) -> Result<()> {
        let is_namespace = |it: &&Value| it["kind"] == "Namespace";
        let namespaces: Vec<Value> = self.objects.iter().filter(is_namespace).map(asked).collect();
        let others: Vec<Value> = self.objects.iter().filter(|it| !is_namespace(it)).map(asked).collect();
        lab.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &list(namespaces)?)?;
        lab.kubectl_with(&["create", "--validate=strict", "-f", "-"], &list(others)?)?;
        let has_status = |it: &&Value| {
            WITH_STATUS.iter().any(|kind| it["kind"] == *kind)
                && it["status"].as_object().is_some_and(|status| !status.is_empty())
        };
        let said: Vec<Value> = self.objects.iter().filter(has_status).map(told).collect();
        lab.kubectl_with(&["replace", "--subresource=status", "-f", "-"], &list(said)?).map(drop)
    }

    /// Takes it off again, but for its namespaces, that nobody would end.
    pub(crate) fn remove(&self, lab: &Lab) -> Result<()> {
        let others = self.objects.iter().filter(|it| it["kind"] != "Namespace").map(asked).collect();
        let delete =
            ["delete", "--force", "--grace-period=0", "--ignore-not-found", "--wait=false", "-f", "-"];
        lab.kubectl_with(&delete, &list(others)?).map(drop)
    }
}

/// What is asked for: without what only a server says.
fn asked(object: &Value) -> Value {
    let mut object = told(object);
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
        if members.get("kind").is_some_and(|kind| kind == "EndpointSlice") {
            // A server shows none as nothing, and takes nothing for a mistake.
            let endpoints = members.entry("endpoints").or_insert(Value::Null);
            if endpoints.is_null() {
                *endpoints = json!([]);
            }
        }
    }
    object
}

/// With what is.
fn told(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|key, _| {
            !["creationTimestamp", "generation", "resourceVersion", "uid"].contains(&key.as_str())
        });
    }
    object
}

fn list(items: Vec<Value>) -> Result<String> {
    Ok(serde_json::to_string(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))?)
}
