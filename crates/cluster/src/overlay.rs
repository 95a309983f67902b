//! The folder beside the manifests where the mesh writes: one file per writer and object, replaced atomically.
//! Owns the layers' format and how they are laid over a source. The user's files are never touched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::object::{Kind, ObjectRef};

/// A writer's hand in an overlay. Writers do not see each other; where several patch one object, they are applied
/// in the order of their names.
#[derive(Debug, Clone)]
pub struct Overlay {
    folder: PathBuf,
    writer: String,
}

/// Why the overlay could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The file system refused.
    #[error("cannot write {}; make the folder writable for this program", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The value is not an object with a kind and a name.
    #[error("not an object that can be stored: {0}")]
    NotAnObject(String),
}

/// What one writer says about one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layer {
    /// A merge patch (RFC 7396).
    Patch(Value),
    /// The whole object, in place of the source's.
    Put(Value),
    /// The object is not there, whatever the source says.
    Tombstone,
}

/// The overlay's folder for a folder of manifests: its sibling `<folder>.overlay`.
#[must_use]
pub fn beside(source: &Path) -> PathBuf {
    let mut name = source.file_name().unwrap_or_default().to_owned();
    name.push(".overlay");
    source.with_file_name(name)
}

impl Overlay {
    /// A writer's hand in the overlay in `folder`, which is made at the first write.
    pub fn new(folder: impl Into<PathBuf>, writer: &str) -> Self {
        Self { folder: folder.into(), writer: writer.into() }
    }

    /// Lays a merge patch (RFC 7396) over the object, after what this writer patched before.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn patch(&self, object: &ObjectRef, patch: Value) -> Result<(), OverlayError> {
        let next = match self.read(object) {
            None => Layer::Patch(patch),
            Some(Layer::Patch(mut before)) => {
                compose(&mut before, patch);
                Layer::Patch(before)
            }
            Some(Layer::Put(mut whole)) => {
                merge(&mut whole, patch);
                Layer::Put(whole)
            }
            Some(Layer::Tombstone) => return Ok(()),
        };
        self.write(object, &next)
    }

    /// Puts a whole object in place of the source's, or where the source has none.
    ///
    /// # Errors
    /// When the value is no object that is read, or the file system refuses.
    pub fn put(&self, object: Value) -> Result<ObjectRef, OverlayError> {
        let reference = match crate::files::identify(&object) {
            Ok(Some(reference)) => reference,
            Ok(None) => return Err(OverlayError::NotAnObject("its kind is not read by the mesh".into())),
            Err(wrong) => {
                return Err(OverlayError::NotAnObject(format!("{}: {}", wrong.field, wrong.problem)));
            }
        };
        self.write(&reference, &Layer::Put(object))?;
        Ok(reference)
    }

    /// Says that the object is not there, whatever the source says.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn tombstone(&self, object: &ObjectRef) -> Result<(), OverlayError> {
        self.write(object, &Layer::Tombstone)
    }

    /// Takes back all this writer said about the object.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn clear(&self, object: &ObjectRef) -> Result<(), OverlayError> {
        let path = self.path(object);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OverlayError::Io { path, source }),
            _ => Ok(()),
        }
    }

    fn path(&self, object: &ObjectRef) -> PathBuf {
        self.folder.join(&self.writer).join(file_name(object))
    }

    fn read(&self, object: &ObjectRef) -> Option<Layer> {
        serde_json::from_slice(&fs::read(self.path(object)).ok()?).ok()
    }

    fn write(&self, object: &ObjectRef, layer: &Layer) -> Result<(), OverlayError> {
        let path = self.path(object);
        let text = serde_json::to_vec(layer).map_err(|error| OverlayError::NotAnObject(error.to_string()))?;
        let refuse = |source| OverlayError::Io { path: path.clone(), source };
        // The writer's process id keeps two processes of one writer apart while they write.
        let hidden = path.with_file_name(format!(".{}.{}", std::process::id(), file_name(object)));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(refuse)?;
        }
        fs::write(&hidden, text).map_err(refuse)?;
        fs::rename(&hidden, &path).map_err(refuse)
    }
}

/// `Pod_shop_web-1.json`: kinds and names hold no underscore.
fn file_name(object: &ObjectRef) -> String {
    format!("{}_{}_{}.json", object.kind, object.namespace, object.name)
}

/// Which object a layer's file is about.
pub(crate) fn named(path: &Path) -> Option<ObjectRef> {
    let mut parts = path.file_name()?.to_str()?.strip_suffix(".json")?.splitn(3, '_');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ObjectRef::new(Kind::named(kind)?, namespace, name))
}

/// What all writers say about one object, laid over what the source has: none when the object is not there.
pub(crate) fn lay(source: Option<Value>, layers: &BTreeMap<String, Layer>) -> Option<Value> {
    if layers.values().any(|layer| *layer == Layer::Tombstone) {
        return None;
    }
    let put = layers.values().rev().find_map(|layer| match layer {
        Layer::Put(whole) => Some(whole.clone()),
        Layer::Patch(_) | Layer::Tombstone => None,
    });
    let mut object = put.or(source)?;
    for layer in layers.values() {
        if let Layer::Patch(patch) = layer {
            merge(&mut object, patch.clone());
        }
    }
    Some(object)
}

/// RFC 7396: members are merged, null removes, anything else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            members.remove(&key);
        } else {
            merge(members.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// As `merge`, but nulls are kept: the result is itself a patch.
fn compose(before: &mut Value, patch: Value) {
    match (before, patch) {
        (Value::Object(members), Value::Object(patch)) => {
            for (key, value) in patch {
                compose(members.entry(key).or_insert(Value::Null), value);
            }
        }
        (before, patch) => *before = patch,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_merge_as_rfc_7396_says() {
        for (target, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!(["a"]), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": [1]}), json!({"a": [2]}), json!({"a": [2]})),
        ] {
            let mut result = target.clone();
            merge(&mut result, patch.clone());
            assert_eq!(result, merged, "{target} with {patch}");
        }
    }

    #[test]
    fn a_later_patch_of_the_same_writer_keeps_what_an_earlier_one_removed() {
        let mut first = json!({"metadata": {"labels": {"a": null, "b": "1"}}});
        compose(&mut first, json!({"metadata": {"labels": {"b": null}}}));
        assert_eq!(first, json!({"metadata": {"labels": {"a": null, "b": null}}}));
    }

    #[test]
    fn a_tombstone_of_any_writer_hides_the_object() {
        let layers = BTreeMap::from([
            ("cni".to_owned(), Layer::Patch(json!({"a": 1}))),
            ("user".to_owned(), Layer::Tombstone),
        ]);
        assert_eq!(lay(Some(json!({})), &layers), None);
    }

    #[test]
    fn writers_patch_in_the_order_of_their_names_over_the_latest_whole_object() {
        let layers = BTreeMap::from([
            ("cni".to_owned(), Layer::Patch(json!({"a": "cni", "b": "cni"}))),
            ("local".to_owned(), Layer::Patch(json!({"b": "local"}))),
            ("user".to_owned(), Layer::Put(json!({"a": "user", "c": "user"}))),
        ]);
        let laid = lay(Some(json!({"d": "source"})), &layers);
        assert_eq!(laid, Some(json!({"a": "cni", "b": "local", "c": "user"})));
    }

    #[test]
    fn a_patch_without_an_object_makes_none() {
        let layers = BTreeMap::from([("cni".to_owned(), Layer::Patch(json!({"a": 1})))]);
        assert_eq!(lay(None, &layers), None);
    }

    #[test]
    fn file_names_and_objects_turn_into_each_other() {
        for (kind, namespace, name) in [(Kind::Pod, "shop", "web-1"), (Kind::Namespace, "", "shop")] {
            let object = ObjectRef::new(kind, namespace, name);
            assert_eq!(named(Path::new(&file_name(&object))), Some(object));
        }
        assert_eq!(named(Path::new("notes.json")), None);
    }
}
