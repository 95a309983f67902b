//! A pod to a workload (`control-plane.md` 1.4).

use ambit_cluster::kinds::core::Pod;
use ambit_model::workload::{Health, Locality, Workload};

use super::waypoint::Asker;
use super::{At, membership, names, policy, uid, waypoint};

/// The workload of a pod; none while it has no address, or when it has ended.
pub(super) fn translate(at: &At<'_>, pod: &Pod) -> Option<Workload> {
    let addresses = pod.ips();
    if pod.is_over() || addresses.is_empty() {
        return None;
    }
    let uid = uid::pod(at.world, at.namespace, at.name);
    let mut workload = at.blank(uid)?;
    workload.addresses = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
    workload.node = pod.spec.node_name.as_str().into();
    workload.service_account = pod.service_account().parse().ok()?;
    workload.host_network = pod.spec.host_network;
    workload.locality = place(at, &pod.spec.node_name);
    let alive = pod.is_ready() && pod.metadata.deletion_timestamp.is_none();
    workload.health = if alive { Health::Healthy } else { Health::Unhealthy };
    workload.workload_name = names::of_owner(pod).into();
    names::canonical(&mut workload, &pod.metadata.labels);
    names::tunnel(&mut workload, &pod.metadata.labels, &pod.metadata.annotations);
    workload.labels = at.world.looked_at(&pod.metadata.labels);
    workload.services = membership::of_pod(at, pod);
    workload.policies = policy::attached(at, &pod.metadata.labels);
    match waypoint::instance(at.world, at.namespace, pod) {
        // What comes out of a waypoint goes through no other.
        Some(handover) => workload.application_tunnel = handover,
        None => {
            let (namespace, labels) = (at.namespace, &pod.metadata.labels);
            let asker = Asker::Workload { namespace, labels, account: pod.service_account() };
            workload.waypoint = waypoint::of_workload(at.world, asker);
        }
    }
    Some(workload)
}

/// Where a node is.
pub(super) fn place(at: &At<'_>, node: &str) -> Locality {
    let label =
        |key| at.world.node(node).and_then(|node| node.metadata.label(key)).unwrap_or_default().into();
    Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    }
}
