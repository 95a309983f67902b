//! Names for telemetry, and how a workload says that it is reached by a tunnel.

use ambit_cluster::kinds::core::Pod;
use ambit_cluster::kinds::meta::Texts;
use ambit_model::workload::{Tunnel, Workload};

/// Fills in the canonical names, from labels or else from the workload's own name.
pub(super) fn canonical(workload: &mut Workload, labels: &Texts) {
    let first = |keys: [&str; 3]| keys.into_iter().find_map(|key| labels.get(key)).map(String::as_str);
    let name = first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    workload.canonical_name = name.map_or_else(|| workload.workload_name.clone(), Into::into);
    let revision = first(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    workload.canonical_revision = revision.unwrap_or("latest").into();
}

/// Reads the labels and annotations that say how a workload is reached.
pub(super) fn tunnel(workload: &mut Workload, labels: &Texts, annotations: &Texts) {
    if annotations.get("ambient.istio.io/redirection").is_some_and(|it| it == "enabled") {
        workload.tunnel = Tunnel::Hbone;
    }
    let own = labels.get("networking.istio.io/tunnel");
    if own.is_some_and(|list| list.split(',').any(|it| it.trim() == "http")) {
        workload.tunnel = Tunnel::Hbone;
        workload.native_tunnel = true;
    }
}

/// The name of what made a pod: the Deployment, not its ReplicaSet; the CronJob, not its Job.
pub(super) fn of_owner(pod: &Pod) -> &str {
    let meta = &pod.metadata;
    if let Some(name) = meta.label("service.istio.io/workload-name") {
        return name;
    }
    let owner = meta.owner_references.iter().find(|owner| owner.controller);
    let Some(owner) = owner.filter(|_| !meta.generate_name.is_empty()) else { return &meta.name };
    let name = owner.name.as_str();
    let cut = |hash: &str| name.strip_suffix(meta.label(hash)?)?.strip_suffix('-');
    let found = match owner.kind.as_str() {
        "ReplicaSet" => cut("pod-template-hash").or_else(|| cut("rollouts-pod-template-hash")),
        "ReplicationController" => meta.label("deploymentconfig"),
        "Job" => cron_job(name),
        _ => None,
    };
    found.unwrap_or(name)
}

/// A CronJob names its Jobs after the minute they are due: eight to ten digits.
fn cron_job(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let due = (8..=10).contains(&minute.len()) && minute.bytes().all(|byte| byte.is_ascii_digit());
    due.then_some(name)
}
