//! A manifest file as documents, and a document as objects with a kind and a name.
//! Owns splitting, list unpacking and which kinds there are. Leaves a kind's own fields to `kinds`.

use serde_json::Value;

use crate::fault::Wrong;
use crate::files::tree::Tree;
use crate::kinds::meta::is_object_name;
use crate::kinds::without_nulls;
use crate::object::{Kind, ObjectRef};

/// Kinds that manifests often hold and the mesh does not read.
const NOT_READ: &[&str] = &[
    "APIService",
    "Binding",
    "CSIDriver",
    "CSINode",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterTrustBundle",
    "ControllerRevision",
    "CronJob",
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "Endpoints",
    "Event",
    "HorizontalPodAutoscaler",
    "Ingress",
    "IngressClass",
    "Job",
    "Kustomization",
    "Lease",
    "LimitRange",
    "MutatingWebhookConfiguration",
    "NetworkPolicy",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "PodTemplate",
    "PriorityClass",
    "ReplicaSet",
    "ReplicationController",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "RuntimeClass",
    "StatefulSet",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
    // Gateway API and Istio: read by other issues, or never.
    "BackendTrafficPolicy",
    "DestinationRule",
    "EnvoyFilter",
    "GRPCRoute",
    "HTTPRoute",
    "ListenerSet",
    "ProxyConfig",
    "ReferenceGrant",
    "RequestAuthentication",
    "Sidecar",
    "TCPRoute",
    "TLSRoute",
    "TrafficExtension",
    "UDPRoute",
    "WasmPlugin",
    "WorkloadGroup",
];

/// Items of lists inside lists: one level, as the API server writes them.
const LIST_DEPTH: usize = 1;

/// What one document of a file turned out to hold.
pub(crate) struct Document {
    /// Counted from 1.
    pub(crate) number: usize,
    /// The objects, or what is wrong with it.
    pub(crate) content: Result<Vec<Item>, Wrong>,
}

/// One object in a document.
pub(crate) struct Item {
    /// Where in the document, when it was in a list: `items[2]`.
    pub(crate) at: String,
    /// The object, or what is wrong with it.
    pub(crate) found: Result<(ObjectRef, Value), Wrong>,
    /// The name it has, even when it is otherwise no object that is known; none when that is bad as well.
    pub(crate) name: Option<String>,
}

/// Reads all documents of a text. One that cannot be read does not keep the others from being read.
pub(crate) fn read(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    for (at, chunk) in split(text).into_iter().enumerate() {
        match parse(chunk.text, chunk.line) {
            Ok(None) => {}
            Ok(Some(value)) => {
                let mut items = Vec::new();
                unpack(value, "", LIST_DEPTH, &mut items);
                documents.push(Document { number: at + 1, content: Ok(items) });
            }
            Err(wrong) => documents.push(Document { number: at + 1, content: Err(wrong) }),
        }
    }
    documents
}

struct Chunk<'a> {
    text: &'a str,
    /// Lines before it in the file.
    line: usize,
}

/// Splits at `---` in the first column, which is a border even inside a block of text.
fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let border = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if border {
            chunks.push(Chunk { text: text.get(start..at).unwrap_or_default(), line: start_line });
            (start, start_line) = (at + "---".len(), number);
        }
        at += line.len();
    }
    chunks.push(Chunk { text: text.get(start..).unwrap_or_default(), line: start_line });
    // What stands before the first border is usually nothing; then the first document is the one after it.
    if chunks.first().is_some_and(|first| is_blank(first.text)) && chunks.len() > 1 {
        chunks.remove(0);
    }
    chunks
}

/// Only comments, directives and white space.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "..."
    })
}

fn parse(text: &str, line: usize) -> Result<Option<Value>, Wrong> {
    if is_blank(text) {
        return Ok(None);
    }
    let tree = yaml_serde::from_str::<Tree>(text).map_err(|error| {
        let place = error.location().map(|at| format!("line {}, column {}", line + at.line(), at.column()));
        let message = error.to_string();
        let problem = message.split(" at line ").next().unwrap_or_default().to_owned();
        let shown = text.lines().nth(error.location().map_or(0, |at| at.line().saturating_sub(1)));
        Wrong::field(
            place.unwrap_or_default(),
            // Of a text that may hold a secret nothing is repeated.
            shown.filter(|_| !text.contains("Secret")).unwrap_or_default().trim(),
            problem,
            "correct the YAML there",
        )
    })?;
    let mut value = tree.0;
    without_nulls(&mut value);
    Ok(if value.is_null() { None } else { Some(value) })
}

fn unpack(value: Value, at: &str, depth: usize, items: &mut Vec<Item>) {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if depth > 0 && kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
        let of = kind.trim_end_matches("List").to_owned();
        let Value::Object(mut members) = value else { return };
        let version = members.get("apiVersion").cloned();
        let Some(Value::Array(list)) = members.remove("items") else { return };
        for (nth, mut item) in list.into_iter().enumerate() {
            inherit(&mut item, &of, version.as_ref());
            unpack(item, &format!("{at}items[{nth}]"), depth - 1, items);
        }
        return;
    }
    let name = value.pointer("/metadata/name").and_then(Value::as_str).filter(|name| is_object_name(name));
    let name = name.map(str::to_owned);
    let found = match identify(&value) {
        Ok(None) => return,
        Ok(Some(reference)) => Ok((reference, slim(value))),
        Err(wrong) => Err(wrong),
    };
    items.push(Item { at: at.into(), found, name });
}

/// Items of a typed list (`PodList`) need not repeat what they are.
fn inherit(item: &mut Value, kind: &str, version: Option<&Value>) {
    let (Value::Object(members), false) = (item, kind.is_empty()) else { return };
    members.entry("kind").or_insert_with(|| kind.into());
    if let Some(version) = version {
        members.entry("apiVersion").or_insert_with(|| version.clone());
    }
}

/// Which object this is; none when its kind is not read.
pub(crate) fn identify(value: &Value) -> Result<Option<ObjectRef>, Wrong> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if !value.is_object() {
        let remedy = "write a mapping with apiVersion, kind and metadata";
        return Err(Wrong::field("", &value.to_string(), "not an object", remedy));
    }
    let (kind, version) = (text("/kind"), text("/apiVersion"));
    if kind.is_empty() {
        return Err(Wrong::field("kind", "", "missing", "say which kind of object this is"));
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let istio_gateway = kind == "Gateway" && group == "networking.istio.io";
    // Of config maps only the mesh's own is read, and those with roots; the others are the applications'.
    let is_mesh = text("/metadata/name").starts_with("istio") && !text("/data/mesh").is_empty();
    let foreign = kind == "ConfigMap" && !is_mesh && text("/data/ca.crt").is_empty();
    if istio_gateway || foreign || (Kind::named(kind).is_none() && NOT_READ.contains(&kind)) {
        return Ok(None);
    }
    let Some(kind) = Kind::named(kind) else {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let remedy = format!("kinds that are read: {}", known.join(", "));
        return Err(Wrong::field("kind", kind, "unknown kind", &remedy));
    };
    if version.is_empty() || group != kind.group() {
        let remedy = format!("write {} for a {kind}", kind.api_version());
        return Err(Wrong::field("apiVersion", version, "not this kind's API", &remedy));
    }
    let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
    for (field, text) in [("metadata.name", name), ("metadata.namespace", namespace)] {
        let missing = field == "metadata.name" && text.is_empty();
        if missing || (!text.is_empty() && !is_object_name(text)) {
            let remedy = "use lower-case letters, digits, '-' and '.', at most 253 of them";
            return Err(Wrong::field(field, text, if missing { "missing" } else { "not a name" }, remedy));
        }
    }
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    Ok(Some(ObjectRef::new(kind, namespace, name)))
}

/// Leaves out what nobody reads and everybody carries.
fn slim(mut value: Value) -> Value {
    if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    value
}
