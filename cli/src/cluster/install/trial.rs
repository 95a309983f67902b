//! A dry run: what charts make is rendered and laid before the API server, which judges it and stores nothing.
//! Owns that, and telling what would be made, changed, or left as it is.

use std::collections::BTreeMap;

use ambit_cluster::api::{ApiError, Client};
use serde::Deserialize as _;
use serde_json::Value;

use crate::cluster::check::{list_at, named, text_at};

/// Where objects of a namespace that is not there yet are judged.
const STAND_IN: &str = "default";

/// What would become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Made,
    Changed,
    Same,
}

/// Lays all objects of a rendering before the API server; says what would become of each, and how many it refuses.
pub(super) async fn judge(client: &Client, rendered: &str, namespace: &str) -> Result<usize, ApiError> {
    let is_there = match client.read::<Value>(&format!("/api/v1/namespaces/{namespace}")).await {
        Ok(_) => true,
        Err(ApiError::NotFound { .. }) => false,
        Err(error) => return Err(error),
    };
    if !is_there {
        println!("+ Namespace {namespace}");
    }
    let mut kinds = Kinds::default();
    let mut refused = 0;
    for mut object in documents(rendered) {
        let what = format!("{} {}", text_at(&object, "/kind"), named(&object));
        let inside = text_at(&object, "/metadata/namespace") == namespace;
        if !is_there
            && inside
            && let Some(meta) = object.get_mut("metadata")
        {
            meta["namespace"] = STAND_IN.into();
        }
        match fate(client, &mut kinds, &object).await {
            // What is judged in another namespace is made anew in its own.
            Ok(_) if !is_there && inside => println!("+ {what}"),
            Ok(Fate::Made) => println!("+ {what}"),
            Ok(Fate::Changed) => println!("~ {what}"),
            Ok(Fate::Same) => println!("= {what}"),
            Err(ApiError::Unreachable(error)) => return Err(ApiError::Unreachable(error)),
            Err(error) => {
                refused += 1;
                println!("✗ {what}: {error}");
            }
        }
    }
    Ok(refused)
}

async fn fate(client: &Client, kinds: &mut Kinds, object: &Value) -> Result<Fate, ApiError> {
    let path = kinds.path(client, object).await?;
    let before = match client.read::<Value>(&path).await {
        Ok(before) => Some(before),
        Err(ApiError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let after = client.rehearse(&path, object).await?;
    Ok(match before {
        None => Fate::Made,
        Some(before) if substance(&before) == substance(&after) => Fate::Same,
        Some(_) => Fate::Changed,
    })
}

/// Without what the API server counts and others report.
fn substance(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(field);
        }
    }
    object
}

fn documents(rendered: &str) -> Vec<Value> {
    let all = yaml_serde::Deserializer::from_str(rendered);
    all.filter_map(|it| Value::deserialize(it).ok()).filter(Value::is_object).collect()
}

/// Where objects of a kind are: its plural, and whether it is in namespaces, by version and kind.
#[derive(Debug, Default)]
struct Kinds(BTreeMap<String, BTreeMap<String, (String, bool)>>);

impl Kinds {
    async fn path(&mut self, client: &Client, object: &Value) -> Result<String, ApiError> {
        let (version, kind) = (text_at(object, "/apiVersion"), text_at(object, "/kind"));
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        if !self.0.contains_key(&root) {
            let said: Value = client.read(&root).await?;
            let all = list_at(&said, "/resources").iter().filter(|it| !text_at(it, "/name").contains('/'));
            let inside = |it: &Value| it.get("namespaced") == Some(&Value::Bool(true));
            let all = all
                .map(|it| (text_at(it, "/kind").to_owned(), (text_at(it, "/name").to_owned(), inside(it))));
            self.0.insert(root.clone(), all.collect());
        }
        let found = self.0.get(&root).and_then(|kinds| kinds.get(kind));
        let (plural, inside) = found.ok_or(ApiError::NotFound { name: None })?;
        let name = text_at(object, "/metadata/name");
        Ok(match text_at(object, "/metadata/namespace") {
            namespace if *inside => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
            _ => format!("{root}/{plural}/{name}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rendering_is_taken_apart_and_what_the_server_counts_makes_no_difference() {
        let text = "---\n# Source: a\nkind: A\n---\n---\nkind: B\nspec: { a: 1 }\n";
        let kinds: Vec<Value> = documents(text).into_iter().map(|it| it["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B"]);
        let object = |version: &str, value: u8| json!({"metadata": {"name": "a", "resourceVersion": version}, "spec": {"a": value}, "status": {"at": version}});
        assert_eq!(substance(&object("1", 1)), substance(&object("2", 1)));
        assert_ne!(substance(&object("1", 1)), substance(&object("1", 2)));
    }
}
