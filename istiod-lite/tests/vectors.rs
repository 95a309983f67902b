//! What upstream's control plane sent for whole clusters, beside what ours would send for the same clusters.
//! They are equal but for the differences listed, with a reason each, in `tests/vectors/differences.json`; a
//! difference that is not listed fails, and so does one that is listed and no longer there.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ambit_cluster::Body;
use ambit_cluster::files::{Keep, load_once};
use ambit_istiod_lite::conditions::{self, ZTUNNEL_ACCEPTED};
use ambit_istiod_lite::dump::{self, json};
use ambit_istiod_lite::index::World;
use ambit_istiod_lite::mesh::Mesh;
use ambit_wire::pb::security::Authorization;
use ambit_wire::pb::workload::Address;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Value};

const VECTORS: [&str; 4] = ["basic", "workloads", "services", "policies"];

/// One place in which a resource differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    vector: String,
    name: String,
    /// A JSON pointer into the resource; empty: the whole resource.
    at: String,
    theirs: String,
    ours: String,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Resources by type and name.
fn by_name(list: &[Value]) -> BTreeMap<(String, String), Value> {
    let text = |resource: &Value, key: &str| resource[key].as_str().unwrap_or_default().to_owned();
    let named = |it: &Value| ((text(it, "type"), text(it, "name")), it["resource"].clone());
    list.iter().map(named).collect()
}

fn ours(vector: &str) -> Vec<Value> {
    let dump = dump::dump(&data().join(vector).join("cluster.yaml"), None, None, Mesh::default()).unwrap();
    assert!(dump.faults.is_empty(), "{vector}: {:?}", dump.faults);
    dump.resources
}

fn differences(vector: &str) -> BTreeSet<Difference> {
    let recorded = read(&data().join(vector).join("resources.json"));
    let (theirs, ours) = (by_name(recorded.as_array().unwrap()), by_name(&ours(vector)));
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

fn listed() -> BTreeSet<Difference> {
    let list = read(&data().join("differences.json"));
    let entry = |it: &Value| {
        let text =
            |key: &str| it[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {it}")).to_owned();
        assert!(text("reason").len() > 20, "a reason is a sentence: {it}");
        let shown = |key: &str| it.get(key).map(Value::to_string).unwrap_or_default();
        let (theirs, ours) = (shown("theirs"), shown("ours"));
        Difference { vector: text("vector"), name: text("name"), at: text("at"), theirs, ours }
    };
    list.as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn what_is_sent_for_recorded_clusters_differs_from_upstream_only_as_listed() {
    let found: BTreeSet<_> = VECTORS.into_iter().flat_map(differences).collect();
    let listed = listed();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&found).collect();
    assert!(
        unlisted.is_empty() && stale.is_empty(),
        "not listed: {unlisted:#?}\nlisted, but not there: {stale:#?}"
    );
}

#[test]
fn recorded_bytes_are_written_as_the_recorded_json() {
    let mut checked = 0;
    for vector in VECTORS {
        for resource in read(&data().join(vector).join("resources.json")).as_array().unwrap() {
            let bytes = STANDARD.decode(resource["bytes"].as_str().unwrap()).unwrap();
            let written = if resource["type"].as_str().unwrap().ends_with("Authorization") {
                json::authorization(Authorization::decode(bytes.as_slice()).unwrap())
            } else {
                json::address(Address::decode(bytes.as_slice()).unwrap())
            };
            assert_eq!(written, resource["resource"], "{}", resource["name"]);
            checked += 1;
        }
    }
    assert!(checked == 85, "{checked} resources were checked");
}

#[test]
fn a_node_is_shown_its_own_workloads_and_every_service_and_policy() {
    let source = data().join("policies/cluster.yaml");
    let all = dump::dump(&source, None, None, Mesh::default()).unwrap().resources;
    let mine = dump::dump(&source, None, Some("node-b"), Mesh::default()).unwrap().resources;
    let workloads =
        |list: &[Value]| list.iter().filter(|it| it["resource"].get("workload").is_some()).count();
    assert_eq!((workloads(&all), workloads(&mine)), (5, 2));
    assert_eq!(all.len() - mine.len(), 3);
    let aliased = all.iter().find(|it| it["name"] == "shop/web.shop.svc.cluster.local").unwrap();
    assert_eq!(aliased["aliases"], serde_json::json!(["/10.96.50.1"]));
    let empty = Map::new();
    assert!(all.iter().all(|it| it.as_object().unwrap_or(&empty).contains_key("resource")));
}

#[test]
fn policies_are_told_what_upstream_told_them_but_for_those_that_protect_nothing() {
    let loaded = load_once(&data().join("policies/cluster.yaml"), None, Keep::Slim).unwrap();
    let mut world = World::new(Mesh::default());
    let mut policies = Vec::new();
    for object in loaded.objects {
        if let Body::AuthorizationPolicy(policy) = &object.body {
            policies.push(policy.clone());
        }
        world.apply(object);
    }
    let mut differing = Vec::new();
    for policy in &policies {
        let recorded = policy.status.conditions.iter().find(|it| it.kind == ZTUNNEL_ACCEPTED);
        let said = conditions::policy(&world, policy).into_iter().find(|it| it.kind == ZTUNNEL_ACCEPTED);
        let pair = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
        let theirs = recorded.map(|it| pair(&it.status, &it.reason));
        let ours = said.map(|it| pair(it.status, it.reason));
        if theirs != ours {
            differing.push(policy.metadata.name.as_str());
        }
    }
    // A deny policy of which nothing is left: upstream says that it is accepted.
    assert_eq!(differing, ["jwt-when", "l7-deny-only"]);
    assert!(policies.len() > 20);
}
