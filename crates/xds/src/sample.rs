//! Small nouns for this crate's tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_model::delta::{Change, Delta};
use ambit_wire::convert::{
    policy_from_pb, request_policy_from_pb, route_from_pb, service_from_pb, workload_from_pb,
};
use ambit_wire::pb::{security, waypoint, workload};

/// A pod named `name`, with a revision that tells its versions apart.
pub(crate) fn pod(name: &str, revision: u32) -> Change {
    pod_of(name, revision, "", &[])
}

/// A pod on a node, an endpoint of services, with address `10.0.0.<length of its name>`.
pub(crate) fn pod_of(name: &str, revision: u32, node: &str, services: &[&str]) -> Change {
    let raw = workload::Workload {
        uid: format!("Kubernetes//Pod/ns/{name}"),
        name: name.into(),
        namespace: "ns".into(),
        addresses: vec![vec![10, 0, 0, u8::try_from(name.len()).unwrap()].into()],
        canonical_revision: revision.to_string(),
        node: node.into(),
        services: services
            .iter()
            .map(|host| (format!("ns/{host}"), workload::PortList::default()))
            .collect::<BTreeMap<_, _>>(),
        ..Default::default()
    };
    Change::Workload(Arc::new(workload_from_pb(raw).unwrap()))
}

/// A service `ns/<host>` with address `10.1.0.1`.
pub(crate) fn service(host: &str, revision: u32) -> Change {
    let address = workload::NetworkAddress {
        network: String::new(),
        address: vec![10, 1, 0, u8::try_from(host.len()).unwrap()].into(),
        length: None,
    };
    let raw = workload::Service {
        name: revision.to_string(),
        namespace: "ns".into(),
        hostname: host.into(),
        addresses: vec![address],
        ..Default::default()
    };
    Change::Service(Arc::new(service_from_pb(raw).unwrap()))
}

/// A policy `ns/<name>`; revisions differ in their number of rules.
pub(crate) fn policy(name: &str, revision: u32) -> Change {
    let raw = security::Authorization {
        name: name.into(),
        namespace: "ns".into(),
        rules: vec![security::Rule::default(); usize::try_from(revision).unwrap()],
        ..Default::default()
    };
    Change::Policy(Arc::new(policy_from_pb(raw).unwrap()))
}

/// A route `ns/<name>` of a service `ns/<host>` to itself.
pub(crate) fn route(name: &str, host: &str) -> Change {
    let raw = waypoint::Route {
        kind: waypoint::Kind::Http.into(),
        namespace: "ns".into(),
        name: name.into(),
        parents: vec![waypoint::Parent { service: format!("ns/{host}"), port: 0 }],
        ..Default::default()
    };
    Change::Route(Arc::new(route_from_pb(raw).unwrap()))
}

/// A policy of requests `ns/<name>`; revisions differ in their number of rules.
pub(crate) fn demand(name: &str, revision: u32) -> Change {
    let raw = waypoint::Policy {
        name: name.into(),
        namespace: "ns".into(),
        action: waypoint::PolicyAction::Deny.into(),
        rules: vec![waypoint::PolicyRule::default(); usize::try_from(revision).unwrap()],
        ..Default::default()
    };
    Change::RequestPolicy(Arc::new(request_policy_from_pb(raw).unwrap()))
}

/// Takes out what a change brought in.
pub(crate) fn gone(change: &Change) -> Change {
    ambit_wire::convert::encode(change).0.gone()
}

pub(crate) fn delta<const N: usize>(changes: [Change; N]) -> Delta {
    changes.into_iter().collect()
}
