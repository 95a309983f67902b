//! Recorded clusters beside what ours says of them: `tests/vectors`, and the list of deliberate differences in it.
//! Owns reading and comparing. Who is asked for ours is the test's: a directory's reader, or a control plane that
//! follows a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The recorded clusters that there are.
pub const ALL: [&str; 5] = ["basic", "workloads", "services", "policies", "waypoints"];

/// One place in which a resource differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The recorded cluster.
    pub vector: String,
    /// The resource.
    pub name: String,
    /// A JSON pointer into the resource; empty: the whole resource.
    pub at: String,
    /// What was recorded; empty: nothing.
    pub theirs: String,
    /// What ours says; empty: nothing.
    pub ours: String,
}

/// The folder of all recorded clusters.
#[must_use]
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

/// A file of theirs, as JSON.
///
/// # Panics
/// When it does not read: it is part of the repository.
#[must_use]
pub fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What was recorded of a cluster.
///
/// # Panics
/// When it does not read.
#[must_use]
pub fn recorded(vector: &str) -> Vec<Value> {
    read(&data().join(vector).join("resources.json")).as_array().cloned().unwrap_or_default()
}

/// Where ours is not what was recorded.
#[must_use]
pub fn differences(vector: &str, ours: &[Value]) -> BTreeSet<Difference> {
    let (theirs, ours) = (by_name(&recorded(vector)), by_name(ours));
    let mut found = BTreeSet::new();
    for key in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let base = Difference {
            vector: vector.into(),
            name: key.1.clone(),
            at: String::new(),
            theirs: String::new(),
            ours: String::new(),
        };
        compare(&base, theirs.get(key), ours.get(key), &mut found);
    }
    found
}

/// Resources by type and name.
fn by_name(list: &[Value]) -> BTreeMap<(String, String), Value> {
    let text = |resource: &Value, key: &str| resource[key].as_str().unwrap_or_default().to_owned();
    let named = |it: &Value| ((text(it, "type"), text(it, "name")), it["resource"].clone());
    // What only our own waypoints are told has no counterpart.
    let is_shared = |it: &&Value| !text(it, "type").starts_with("type.googleapis.com/ambit.");
    list.iter().filter(is_shared).map(named).collect()
}

fn compare(
    here: &Difference,
    theirs: Option<&Value>,
    ours: Option<&Value>,
    found: &mut BTreeSet<Difference>,
) {
    if theirs == ours {
        return;
    }
    let below = |key: &str| Difference {
        at: format!("{}/{}", here.at, key.replace('~', "~0").replace('/', "~1")),
        ..here.clone()
    };
    match (theirs, ours) {
        (Some(Value::Object(theirs)), Some(Value::Object(ours))) => {
            for key in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
                compare(&below(key), theirs.get(key), ours.get(key), found);
            }
        }
        _ => {
            let shown = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default();
            found.insert(Difference { theirs: shown(theirs), ours: shown(ours), ..here.clone() });
        }
    }
}

/// The deliberate differences, each of which has a reason.
///
/// # Panics
/// When one has none.
#[must_use]
pub fn listed() -> BTreeSet<Difference> {
    let list = read(&data().join("differences.json"));
    let entry = |it: &Value| {
        let text =
            |key: &str| it[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {it}")).to_owned();
        assert!(text("reason").len() > 20, "a reason is a sentence: {it}");
        let shown = |key: &str| it.get(key).map(Value::to_string).unwrap_or_default();
        let (theirs, ours) = (shown("theirs"), shown("ours"));
        Difference { vector: text("vector"), name: text("name"), at: text("at"), theirs, ours }
    };
    list.as_array().into_iter().flatten().map(entry).collect()
}
