//! Versions, generations, lookups and what changed since when.

use super::*;
use crate::sample::{delta, gone, pod, pod_of, policy, service};

const POD: ResourceType = ResourceType::Address;

fn names<'a>(records: impl IntoIterator<Item = &'a Arc<Record>>) -> Vec<String> {
    records.into_iter().map(|record| record.name.to_string()).collect()
}

#[test]
fn the_same_content_again_is_no_change() {
    let library = Library::default().with(&delta([pod("a", 1), policy("p", 1)]));
    assert_eq!(library.generation(), 1);
    assert_eq!(library.with(&delta([pod("a", 1), policy("p", 1)])).generation(), 1);
    assert_eq!(library.with(&delta([gone(&pod("unknown", 1))])).generation(), 1);
    let changed = library.with(&delta([pod("a", 2)]));
    assert_eq!(changed.generation(), 2);
    let version = |library: &Library| library.record(POD, "Kubernetes//Pod/ns/a").unwrap().version.clone();
    assert_ne!(version(&library), version(&changed));
    assert_eq!(
        version(&library),
        version(&changed.with(&delta([pod("a", 1)]))),
        "versions are of the content"
    );
}

#[test]
fn a_version_is_the_hash_upstream_computes() {
    // xxHash64 of the empty text and of "a", seed 0, as its authors publish them.
    assert_eq!(&*version_of(b""), "ef46db3751d8e999");
    assert_eq!(&*version_of(b"a"), "d24ec4f1a98c6e5b");
}

#[test]
fn a_lookup_finds_by_uid_by_address_and_by_service() {
    let library = Library::default().with(&delta([
        service("host", 1),
        pod_of("a", 1, "n1", &["host"]),
        pod_of("b", 1, "n2", &["host"]),
        pod_of("long", 1, "n1", &[]),
    ]));
    for (asked, found) in [
        ("Kubernetes//Pod/ns/a", vec!["Kubernetes//Pod/ns/a"]),
        ("/10.0.0.1", vec!["Kubernetes//Pod/ns/a", "Kubernetes//Pod/ns/b"]),
        ("ns/host", vec!["ns/host", "Kubernetes//Pod/ns/a", "Kubernetes//Pod/ns/b"]),
        ("/10.1.0.4", vec!["ns/host", "Kubernetes//Pod/ns/a", "Kubernetes//Pod/ns/b"]),
        ("/10.9.9.9", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(names(&library.find(asked)), found, "{asked}");
    }
    assert_eq!(names(library.on_node(&"n1".into())), ["Kubernetes//Pod/ns/a", "Kubernetes//Pod/ns/long"]);
    assert_eq!(names(library.on_node(&NodeName::default())), [""; 0]);
}

/// A service `ns/<host>` with a range of addresses.
fn ranged(host: &str, range: [u8; 4], length: u32) -> ambit_model::delta::Change {
    use ambit_wire::pb::workload;
    let address = workload::NetworkAddress {
        network: "n".into(),
        address: range.to_vec().into(),
        length: Some(length),
    };
    let raw = workload::Service {
        namespace: "ns".into(),
        hostname: host.into(),
        addresses: vec![address],
        ..Default::default()
    };
    ambit_model::delta::Change::Service(Arc::new(ambit_wire::convert::service_from_pb(raw).unwrap()))
}

#[test]
fn an_address_that_is_nobodys_own_is_looked_up_in_the_narrowest_range_around_it() {
    let wide = ranged("wide", [10, 0, 0, 0], 8);
    let library = Library::default().with(&delta([
        wide.clone(),
        ranged("narrow", [10, 1, 0, 0], 16),
        pod_of("a", 1, "", &["narrow"]),
    ]));
    for (asked, found) in [
        ("n/10.1.2.3", vec!["ns/narrow", "Kubernetes//Pod/ns/a"]),
        ("n/10.2.0.1", vec!["ns/wide"]),
        ("n/10.0.0.0/8", vec!["ns/wide"]),
        ("n/11.0.0.1", vec![]),
        ("other/10.1.2.3", vec![]),
        ("/10.1.2.3", vec![]),
    ] {
        assert_eq!(names(&library.find(asked)), found, "{asked}");
    }
    let library = library.with(&delta([gone(&wide)]));
    assert_eq!(names(&library.find("n/10.2.0.1")), [""; 0]);
}

#[test]
fn indexes_follow_changes_and_removals() {
    let library = Library::default().with(&delta([service("host", 1), pod_of("a", 1, "n1", &["host"])]));
    let moved = library.with(&delta([pod_of("a", 1, "n2", &[])]));
    assert_eq!(names(&moved.find("ns/host")), ["ns/host"]);
    assert_eq!(names(moved.on_node(&"n1".into())), [""; 0]);
    let empty = moved.with(&delta([gone(&service("host", 1)), gone(&pod("a", 1))]));
    assert_eq!(names(&empty.find("/10.0.0.1")), [""; 0]);
    assert_eq!((empty.len(POD), empty.generation()), (0, 3));
    assert_eq!(library.len(POD), 2, "an older view stays as it was");
}

#[test]
fn what_changed_is_known_from_memory_and_by_comparison_alike() {
    let first = Library::default().with(&delta([pod("a", 1), pod("b", 1), policy("p", 1)]));
    let mut now = first.with(&delta([pod("b", 2), gone(&pod("a", 1)), policy("q", 1)]));
    let wanted: Vec<String> = vec!["Kubernetes//Pod/ns/a".into(), "Kubernetes//Pod/ns/b".into()];
    let touched =
        |now: &Library| now.touched_since(&first, POD).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(touched(&now), wanted);
    for revision in 0..u32::try_from(STEPS).unwrap() {
        now = now.with(&delta([policy("p", revision + 5)]));
    }
    assert_eq!(now.steps.len(), STEPS, "memory is bounded");
    assert_eq!(touched(&now), wanted, "by comparing everything");
}
