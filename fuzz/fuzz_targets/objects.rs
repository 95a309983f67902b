//! Objects of routes, traffic and policies in a cluster that has what they are about, from arbitrary manifests: they are
//! translated, and what is said of them is said, the same each time; whatever is sent of them, a waypoint can read and
//! show.
#![no_main]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use ambit_cluster::Object;
use ambit_cluster::files::load_text;
use ambit_istiod_lite::index::World;
use ambit_istiod_lite::mesh::Mesh;
use ambit_istiod_lite::{conditions, status, translate};
use ambit_model::delta::{Change, Delta};
use ambit_model::snapshot::Snapshot;
use ambit_wire::convert::{decode, encode};
use ambit_wire::pb::discovery::Payload;
use libfuzzer_sys::{Corpus, fuzz_target};

/// An object of each kind has under 1 KiB; longer texts find nothing that these do not, only slower.
const LONGEST: usize = 2048;

/// What is there already.
const CLUSTER: &str = include_str!("../cluster.yaml");

fn cluster() -> Vec<Object> {
    static OBJECTS: OnceLock<Vec<Object>> = OnceLock::new();
    let read = || {
        let loaded = load_text(Path::new("cluster.yaml"), CLUSTER);
        assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
        loaded.objects
    };
    OBJECTS.get_or_init(read).clone()
}

fn is_read(change: &Change) {
    let (key, Some(encoded)) = encode(change) else { return };
    let payload = Payload { type_url: key.kind().url().into(), value: encoded.body };
    let decoded = decode(key.kind(), &key.to_string(), Some(payload));
    assert!(decoded.is_ok(), "{decoded:?}: {change:?}");
}

fuzz_target!(|text: &str| -> Corpus {
    if text.len() > LONGEST {
        return Corpus::Reject;
    }
    let objects = load_text(Path::new("a.yaml"), text).objects;
    if objects.is_empty() {
        return Corpus::Keep;
    }
    let mut world = World::new(Mesh::default());
    let mut touched = BTreeSet::new();
    for object in cluster().into_iter().chain(objects) {
        touched.extend(world.apply(object));
    }
    let mut changes = Vec::new();
    for unit in &touched {
        let found = translate::unit(&world, unit);
        assert_eq!(found, translate::unit(&world, unit));
        changes.extend(found);
    }
    changes.iter().for_each(is_read);
    let _ = Snapshot::default().with(&Delta { changes });
    for at in status::all(&world) {
        assert_eq!(conditions::of(&world, &at), conditions::of(&world, &at));
    }
    Corpus::Keep
});
