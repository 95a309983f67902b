//! Random changes to a small mesh: few names, so that the same ones come, change and go again and again.

use ambit_model::delta::{Change, Delta};
use ambit_wire::local;
use fastrand::Rng;

/// One to four changes.
pub(super) fn change(rng: &mut Rng) -> Delta {
    let mut delta = Delta::default();
    for _ in 0..rng.u8(1..5) {
        let (kind, nth) = (rng.u8(..6), rng.u8(..8));
        let change = match kind {
            0 => Change::WorkloadGone(format!("Kubernetes//Pod/shop/pod-{nth}").into()),
            1 => Change::ServiceGone(format!("shop/svc-{nth}.shop.svc.cluster.local").parse().unwrap()),
            2 => Change::PolicyGone(format!("shop/policy-{nth}").parse().unwrap()),
            3 => one(&workload(nth, rng)),
            4 => one(&service(nth, rng)),
            _ => one(&policy(nth, rng)),
        };
        delta.changes.push(change);
    }
    delta
}

/// Something to ask for by name: a uid, a service, an address.
pub(super) fn name(rng: &mut Rng) -> String {
    let nth = rng.u8(..8);
    match rng.u8(..4) {
        0 => format!("Kubernetes//Pod/shop/pod-{nth}"),
        1 => format!("shop/svc-{nth}.shop.svc.cluster.local"),
        2 => format!("/10.0.0.{}", nth % 4 + 1),
        _ => format!("/10.96.0.{}", nth % 3 + 1),
    }
}

fn one(yaml: &str) -> Change {
    let delta = local::parse(yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    delta.changes.into_iter().next().unwrap()
}

fn workload(nth: u8, rng: &mut Rng) -> String {
    let status = if rng.bool() { "Healthy" } else { "Unhealthy" };
    let (ip, node, to, port) = (rng.u8(1..5), rng.u8(..3), rng.u8(..8), rng.u16(8000..8004));
    format!(
        "workloads: [{{uid: Kubernetes//Pod/shop/pod-{nth}, name: pod-{nth}, namespace: shop, clusterId: Kubernetes,\
         workloadIps: [10.0.0.{ip}], node: node-{node}, protocol: HBONE, status: {status},\
         authorizationPolicies: [shop/policy-{to}],\
         services: {{shop/svc-{to}.shop.svc.cluster.local: {{80: {port}}}}}}}]"
    )
}

fn service(nth: u8, rng: &mut Rng) -> String {
    let (ip, port) = (rng.u8(1..4), rng.u16(8000..8004));
    format!(
        "services: [{{name: svc-{nth}, namespace: shop, hostname: svc-{nth}.shop.svc.cluster.local,\
         vips: [/10.96.0.{ip}], ports: {{80: {port}}}}}]"
    )
}

fn policy(nth: u8, rng: &mut Rng) -> String {
    let scope = ["Global", "Namespace", "WorkloadSelector"][rng.usize(..3)];
    let (action, port) = (["Allow", "Deny"][rng.usize(..2)], rng.u16(8000..8004));
    format!(
        "policies: [{{name: policy-{nth}, namespace: shop, scope: {scope}, action: {action}, dryRun: false,\
         rules: [[[{{destinationPorts: [{port}]}}]]]}}]"
    )
}
