//! Network configurations of a container runtime, and our place in them (`cni.md` 6.2, 6.3). Pure.

use serde_json::{Map, Value, json};

/// The type of our entry: the plugin's file name.
pub const TYPE: &str = "ambit-cni";

/// Types whose entries are ours to replace: our own, and upstream's, which does the same work.
const REPLACED: [&str; 2] = [TYPE, "istio-cni"];

/// For a single configuration without a version; what upstream's entry says.
const VERSION: &str = "0.3.1";

/// Why a text is no configuration that a runtime would use.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is no JSON.
    #[error("it is no JSON")]
    Json(#[from] serde_json::Error),
    /// It lacks what every configuration has.
    #[error("{0}")]
    Lacks(&'static str),
}

/// A configuration that a runtime would use.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// Plugins one after the other.
    List(Map<String, Value>),
    /// One plugin, as older files have it.
    Single(Map<String, Value>),
}

impl Network {
    /// Reads a file, whose name decides what it has to be.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, ListError> {
        let Value::Object(members) = serde_json::from_slice(bytes)? else {
            return Err(ListError::Lacks("it is no object"));
        };
        if !name.ends_with(".conflist") {
            let is_typed = members.get("type").and_then(Value::as_str).is_some_and(|it| !it.is_empty());
            return if is_typed {
                Ok(Self::Single(members))
            } else {
                Err(ListError::Lacks("it has no type"))
            };
        }
        if members.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(ListError::Lacks("the list has no name"));
        }
        let plugins = members.get("plugins").and_then(Value::as_array).filter(|it| !it.is_empty());
        let Some(plugins) = plugins else { return Err(ListError::Lacks("the list has no plugins")) };
        if !plugins.iter().all(|it| it.get("type").is_some_and(Value::is_string)) {
            return Err(ListError::Lacks("a plugin of the list has no type"));
        }
        Ok(Self::List(members))
    }

    /// The same with our entry, once and last.
    #[must_use]
    pub fn with(&self, entry: &Value) -> Map<String, Value> {
        let mut list = match self {
            Self::List(members) => members.clone(),
            Self::Single(members) => wrapped(members),
        };
        if let Some(Value::Array(plugins)) = list.get_mut("plugins") {
            plugins.retain(|it| !is_ours(it));
            plugins.push(entry.clone());
        }
        list
    }

    /// The same without any entry of ours; none when nothing but ours was in it.
    #[must_use]
    pub fn without(&self) -> Option<Map<String, Value>> {
        match self {
            Self::Single(members) => (!is_ours(&Value::Object(members.clone()))).then(|| members.clone()),
            Self::List(members) => {
                let mut list = members.clone();
                let Some(Value::Array(plugins)) = list.get_mut("plugins") else { return None };
                plugins.retain(|it| !is_ours(it));
                (!plugins.is_empty()).then_some(list)
            }
        }
    }

    /// Whether an entry of ours, or upstream's, is in it.
    #[must_use]
    pub fn has_ours(&self) -> bool {
        match self {
            Self::Single(members) => is_ours(&Value::Object(members.clone())),
            Self::List(members) => {
                members.get("plugins").and_then(Value::as_array).is_some_and(|all| all.iter().any(is_ours))
            }
        }
    }
}

/// As it is written to a file.
#[must_use]
pub fn text(members: &Map<String, Value>) -> Vec<u8> {
    // Values made of texts, numbers and objects always have a text.
    let mut bytes = serde_json::to_vec_pretty(members).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn is_ours(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str).is_some_and(|it| REPLACED.contains(&it))
}

/// One plugin as a list of one. It keeps its name: addresses are given out by it, and pods that run keep theirs.
fn wrapped(single: &Map<String, Value>) -> Map<String, Value> {
    let mut plugin = single.clone();
    let version = plugin.remove("cniVersion").unwrap_or_else(|| json!(VERSION));
    let name = plugin.get("name").filter(|it| it.as_str().is_some_and(|it| !it.is_empty())).cloned();
    let mut list = Map::new();
    list.insert("name".into(), name.unwrap_or_else(|| json!("k8s-pod-network")));
    list.insert("cniVersion".into(), version);
    list.insert("plugins".into(), json!([plugin]));
    list
}
