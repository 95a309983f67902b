//! What upstream's control plane sent for whole clusters, beside what ours would send for the same clusters.
//! They are equal but for the differences listed, with a reason each, in `tests/vectors/differences.json`; a
//! difference that is not listed fails, and so does one that is listed and no longer there.

#![cfg(test)]

use std::collections::BTreeSet;

use ambit_cluster::Body;
use ambit_cluster::files::{Keep, load_once};
use ambit_istiod_lite::conditions::{self, WAYPOINT_BOUND, ZTUNNEL_ACCEPTED};
use ambit_istiod_lite::dump::{self, json};
use ambit_istiod_lite::index::World;
use ambit_istiod_lite::mesh::Mesh;
use ambit_kit::vectors::{self, data};
use ambit_wire::pb::security::Authorization;
use ambit_wire::pb::workload::Address;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Value};

fn ours(vector: &str) -> Vec<Value> {
    let dump = dump::dump(&data().join(vector).join("cluster.yaml"), None, None, Mesh::default()).unwrap();
    assert!(dump.faults.is_empty(), "{vector}: {:?}", dump.faults);
    dump.resources
}

#[test]
fn what_is_sent_for_recorded_clusters_differs_from_upstream_only_as_listed() {
    let found: BTreeSet<_> =
        vectors::ALL.into_iter().flat_map(|it| vectors::differences(it, &ours(it))).collect();
    let listed = vectors::listed();
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
    for vector in vectors::ALL {
        for resource in vectors::recorded(vector) {
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
    assert!(checked == 114, "{checked} resources were checked");
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

#[test]
fn whoever_asks_for_a_waypoint_is_told_what_upstream_told_them() {
    let source = data().join("waypoints/cluster.yaml");
    let mut world = World::new(Mesh::default());
    let mut recorded = Vec::new();
    for object in load_once(&source, None, Keep::Slim).unwrap().objects {
        let conditions = match &object.body {
            Body::Service(it) => it.status.conditions.clone(),
            Body::ServiceEntry(it) => it.status.conditions.clone(),
            _ => Vec::new(),
        };
        recorded.push((object.reference.clone(), conditions));
        world.apply(object);
    }
    let mut told = BTreeSet::new();
    for (object, conditions) in &recorded {
        let theirs = conditions.iter().filter(|it| it.kind == WAYPOINT_BOUND);
        let theirs: Vec<_> = theirs.map(|it| (it.status.as_str(), it.reason.as_str())).collect();
        let ours = conditions::of(&world, object);
        let ours = ours.iter().filter(|it| it.kind == WAYPOINT_BOUND);
        let ours: Vec<_> = ours.map(|it| (it.status, it.reason)).collect();
        assert_eq!(ours, theirs, "{object}");
        told.extend(ours.into_iter().map(|(_, reason)| reason));
    }
    let all = ["AttachmentDenied", "UnsupportedTrafficType", "WaypointAccepted", "WaypointIsNotReady"];
    assert_eq!(told, BTreeSet::from(all));
}
