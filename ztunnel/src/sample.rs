//! Small worlds for tests. Owns nothing that ships.

use std::sync::Arc;

use ambit_model::delta::{Change, Delta};
use ambit_model::name::Identity;
use ambit_model::policy::{Action, Clause, Condition, Match, Policy, PolicyScope, Rule, TextMatch};
use ambit_model::workload::{Health, Tunnel, Workload, WorkloadKind};
use ambit_wire::node_link::PodInfo;

pub(crate) fn pod(name: &str) -> PodInfo {
    PodInfo { name: name.into(), namespace: "shop".parse().unwrap(), service_account: name.parse().unwrap() }
}

pub(crate) fn identity(name: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{name}").parse().unwrap()
}

/// `<ip> <name> <node>` each.
pub(crate) fn world(workloads: &[&str]) -> Delta {
    workloads.iter().map(|line| Change::Workload(Arc::new(workload(line)))).collect()
}

pub(crate) fn workload(line: &str) -> Workload {
    let parts: Vec<_> = line.split(' ').collect();
    let [ip, name, node] = parts[..] else { panic!("{line}") };
    Workload {
        uid: format!("Kubernetes//Pod/shop/{name}").into(),
        name: name.into(),
        namespace: "shop".parse().unwrap(),
        addresses: vec![ip.parse().unwrap()],
        hostname: "".into(),
        network: "".into(),
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: name.parse().unwrap(),
        waypoint: None,
        network_gateway: None,
        node: node.into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        kind: WorkloadKind::Pod,
        workload_name: name.into(),
        application_tunnel: None,
        services: std::collections::BTreeMap::new(),
        policies: Vec::new(),
        health: Health::Healthy,
        cluster: "Kubernetes".into(),
        locality: ambit_model::workload::Locality::default(),
        host_network: false,
        capacity: 1,
        labels: Default::default(),
    }
}

/// A deny policy of the namespace for one peer.
pub(crate) fn deny(name: &str, peer: &str) -> Delta {
    let principal = format!("cluster.local/ns/shop/sa/{peer}");
    let any = vec![TextMatch::Exact(principal.into())];
    let one = Match { principals: Condition { any, none: Vec::new() }, ..Match::default() };
    let policy = Policy {
        key: format!("shop/{name}").parse().unwrap(),
        scope: PolicyScope::Namespace,
        action: Action::Deny,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![one] }] }],
        dry_run: false,
    };
    [Change::Policy(Arc::new(policy))].into_iter().collect()
}

/// A deny policy of the namespace for whoever proves nothing, as STRICT is translated.
pub(crate) fn deny_plaintext(name: &str) -> Delta {
    let nobody = Condition { any: Vec::new(), none: vec![TextMatch::Presence] };
    let one = Match { principals: nobody, ..Match::default() };
    let policy = Policy {
        key: format!("shop/{name}").parse().unwrap(),
        scope: PolicyScope::Namespace,
        action: Action::Deny,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![one] }] }],
        dry_run: false,
    };
    [Change::Policy(Arc::new(policy))].into_iter().collect()
}
