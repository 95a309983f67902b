//! Worlds for tests, made of manifests.

use std::path::Path;

use ambit_cluster::Object;
use ambit_cluster::files::{Keep, load_once};

use crate::index::World;
use crate::mesh::Mesh;

/// The objects in manifests, which all have to read.
pub(crate) fn objects(manifests: &str) -> Vec<Object> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), manifests).unwrap();
    objects_in(folder.path(), None)
}

/// The objects in a folder, with what was written back about them.
pub(crate) fn objects_in(folder: &Path, overlay: Option<&Path>) -> Vec<Object> {
    let loaded = load_once(folder, overlay, Keep::Slim).unwrap();
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    loaded.objects
}

/// A cluster of these objects.
pub(crate) fn world_of(objects: impl IntoIterator<Item = Object>) -> World {
    let mut world = World::new(Mesh::default());
    objects.into_iter().for_each(|object| drop(world.apply(object)));
    world
}

/// A cluster of what is in manifests.
pub(crate) fn world(manifests: &str) -> World {
    world_of(objects(manifests))
}
