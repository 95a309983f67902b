//! Commands that change the cluster: `label`, `apply`, `delete`. They write to the overlay as `user`;
//! the manifests of the person are never touched.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use ambit_cluster::object::{Kind, ObjectRef};
use ambit_cluster::{Fault, Overlay, files};
use serde_json::{Value, json};

use super::mesh::Mesh;
use super::report::{AskError, not_there};
use super::spec::supervisor;
use crate::analyze::reviewed;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("{0:?} is no kind that a mesh reads")]
    Kind(String),
    #[error("{0:?} is no label change: KEY=VALUE sets, KEY- removes")]
    Label(String),
    #[error("{0}")]
    Manifest(Box<Fault>),
    #[error("{0} holds no object that a mesh reads")]
    Empty(String),
    #[error("nothing is applied:\n{}", .0.trim_end())]
    Refused(String),
}

/// Label changes: a value sets, none removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(BTreeMap<String, Option<String>>);

impl Labels {
    /// Reads `KEY=VALUE` and `KEY-`.
    pub(crate) fn parse(texts: &[impl AsRef<str>]) -> Result<Self, ChangeError> {
        let mut labels = BTreeMap::new();
        for text in texts.iter().map(AsRef::as_ref) {
            let change = match text.split_once('=') {
                Some((key, value)) => Some((key, Some(value.to_owned()))),
                None => text.strip_suffix('-').map(|key| (key, None)),
            };
            let (key, value) = change
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| ChangeError::Label(text.to_owned()))?;
            labels.insert(key.to_owned(), value);
        }
        Ok(Self(labels))
    }
}

/// Writes label changes to the overlay.
pub(crate) fn change_labels(mesh: &Mesh, object: &ObjectRef, labels: &Labels) -> Result<(), Box<dyn Error>> {
    let patch = json!({ "metadata": { "labels": labels.0 } });
    Ok(hand(mesh).patch(object, patch)?)
}

pub(super) fn label(mesh: &Mesh, kind: &str, name: &str, texts: &[String]) -> Result<(), Box<dyn Error>> {
    must_be_up(mesh)?;
    let object = reference(kind, name)?;
    change_labels(mesh, &object, &Labels::parse(texts)?)?;
    println!("{object} labelled");
    Ok(())
}

pub(super) fn apply(mesh: &Mesh, file: &Path) -> Result<(), Box<dyn Error>> {
    must_be_up(mesh)?;
    let text = fs::read_to_string(file)?;
    let (objects, faults) = files::parse(file, &text);
    if let Some(fault) = faults.into_iter().next() {
        return Err(Box::new(ChangeError::Manifest(Box::new(fault))));
    }
    if objects.is_empty() {
        return Err(Box::new(ChangeError::Empty(file.display().to_string())));
    }
    // As it is where the control plane is asked before an object is accepted.
    let review = files::review_text(file, &text);
    let (refused, doubtful): (Vec<_>, Vec<_>) = review.remarks.into_iter().partition(|it| it.refused);
    if !refused.is_empty() {
        return Err(Box::new(ChangeError::Refused(reviewed(refused))));
    }
    eprint!("{}", reviewed(doubtful));
    for (object, value) in objects {
        put(mesh, &object, value)?;
        println!("{object} applied");
    }
    Ok(())
}

fn put(mesh: &Mesh, object: &ObjectRef, mut value: Value) -> Result<(), Box<dyn Error>> {
    // An object of the core group may come without its namespace; it is then in `default`.
    if object.kind.namespaced()
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.entry("namespace").or_insert_with(|| object.namespace.as_ref().into());
    }
    hand(mesh).put(value)?;
    Ok(())
}

pub(super) fn delete(mesh: &Mesh, kind: &str, name: &str) -> Result<(), Box<dyn Error>> {
    must_be_up(mesh)?;
    let object = reference(kind, name)?;
    hand(mesh).tombstone(&object)?;
    println!("{object} deleted");
    Ok(())
}

fn must_be_up(mesh: &Mesh) -> Result<(), AskError> {
    match supervisor(mesh) {
        Some(_) => Ok(()),
        None => Err(not_there(mesh)),
    }
}

fn hand(mesh: &Mesh) -> Overlay {
    Overlay::new(mesh.overlay(), "user")
}

/// `pod shop/web`, `namespace shop`, `authorizationpolicies web` (in `default`): as kubectl reads kinds.
fn reference(kind: &str, name: &str) -> Result<ObjectRef, ChangeError> {
    let kind = kind_named(kind)?;
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    Ok(ObjectRef::new(kind, namespace, name))
}

fn kind_named(text: &str) -> Result<Kind, ChangeError> {
    let short =
        [("ns", "namespace"), ("po", "pod"), ("svc", "service"), ("sa", "serviceaccount"), ("no", "node")];
    let lower = text.to_ascii_lowercase();
    let long = short.iter().find(|(short, _)| *short == lower).map_or(lower.as_str(), |(_, long)| long);
    Kind::ALL
        .into_iter()
        .find(|kind| {
            let one = kind.name().to_ascii_lowercase();
            let many = one.strip_suffix('y').map_or_else(|| format!("{one}s"), |stem| format!("{stem}ies"));
            long == one || long == many
        })
        .ok_or_else(|| ChangeError::Kind(text.to_owned()))
}

impl FromStr for Labels {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        Self::parse(&[text])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_kubectl_reads_them() {
        for (text, kind) in [
            ("ns", Kind::Namespace),
            ("Pod", Kind::Pod),
            ("pods", Kind::Pod),
            ("authorizationpolicies", Kind::AuthorizationPolicy),
            ("AuthorizationPolicy", Kind::AuthorizationPolicy),
        ] {
            assert_eq!(kind_named(text).unwrap(), kind, "{text}");
        }
        assert!(matches!(kind_named("deployment"), Err(ChangeError::Kind(_))));
    }

    #[test]
    fn labels_are_set_and_removed() {
        let labels = Labels::parse(&["a=b", "c-"]).unwrap();
        assert_eq!(json!(labels.0), json!({ "a": "b", "c": null }));
        assert!(matches!(Labels::parse(&["a"]), Err(ChangeError::Label(_))));
        assert!(matches!(Labels::parse(&["=b"]), Err(ChangeError::Label(_))));
    }
}
