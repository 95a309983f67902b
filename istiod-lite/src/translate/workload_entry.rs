//! A workload entry to a workload (`control-plane.md` 1.5).

use ambit_cluster::kinds::entry::WorkloadEntry;
use ambit_cluster::kinds::policy::PolicyCondition;
use ambit_model::workload::{Health, Workload};

use super::waypoint::Asker;
use super::{At, locality, membership, names, policy, uid, waypoint};

/// The workload of an entry.
pub(super) fn translate(at: &At<'_>, entry: &WorkloadEntry) -> Option<Workload> {
    let (meta, spec) = (&entry.metadata, &entry.spec);
    let labels = entry.labels();
    let uid = uid::workload_entry(at.world, at.namespace, at.name);
    let mut workload = at.blank(uid)?;
    match spec.address.parse::<std::net::IpAddr>() {
        Ok(ip) => workload.addresses = vec![ip.to_canonical()],
        Err(_) => workload.hostname = spec.address.as_str().into(),
    }
    at.place(&mut workload, &spec.network);
    if !spec.service_account.is_empty() {
        workload.service_account = spec.service_account.parse().ok()?;
    }
    // Upstream sends traffic also to those that its own probes found ill.
    let ill = |it: &PolicyCondition| it.kind == "Healthy" && it.status == "False";
    if entry.status.conditions.iter().any(ill) {
        workload.health = Health::Unhealthy;
    }
    if spec.weight > 0 {
        workload.capacity = spec.weight;
    }
    workload.locality = locality(&spec.locality);
    let group = meta.annotation("istio.io/autoRegistrationGroup");
    let named = group.or_else(|| labels.get("service.istio.io/workload-name").map(String::as_str));
    workload.workload_name = named.unwrap_or(at.name).into();
    names::canonical(&mut workload, &labels);
    names::tunnel(&mut workload, &labels, &meta.annotations);
    workload.labels = at.world.looked_at(&labels);
    workload.services = membership::of_entry(at, entry, &labels);
    workload.policies = policy::attached(at, &labels);
    let asker = Asker::Workload { namespace: at.namespace, labels: &labels, account: &spec.service_account };
    workload.waypoint = waypoint::of_workload(at.world, asker);
    Some(workload)
}
