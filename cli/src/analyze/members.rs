//! Labels that ask pods into the mesh, against the pods.

use ambit_cluster::Kind;
use ambit_cluster::kinds::meta::Meta;

use super::finding::{Finding, NOT_ENROLLED, TWO_MODES, UNKNOWN_MODE};
use super::view::View;
use crate::cluster::{MODE, Rules, Standing};

/// Pods that are named in one finding.
const NAMED: usize = 5;

/// All that is wrong with who is in.
pub(super) fn check(view: &View<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for namespace in view.namespaces.values() {
        let meta = &namespace.metadata;
        found.extend(unknown_mode(Kind::Namespace, meta));
        let injects = meta.label("istio-injection") == Some("enabled");
        if injects && meta.label(MODE) == Some("ambient") {
            let what = "asks for sidecars and for the mesh without them: pods with a sidecar are left out";
            let remedy = "remove the label istio-injection, then start the pods again";
            let finding = Finding::about(TWO_MODES, Kind::Namespace, meta, what, remedy);
            found.push(finding.at("metadata.labels: istio-injection", "enabled"));
        }
    }
    found.extend(view.pods.iter().filter_map(|pod| unknown_mode(Kind::Pod, &pod.metadata)));
    // Whether a pod was enrolled is only known where it runs.
    if view.around.whole {
        found.extend(not_enrolled(view));
    }
    found
}

fn unknown_mode(kind: Kind, meta: &Meta) -> Option<Finding> {
    let mode = meta.label(MODE).filter(|mode| !matches!(*mode, "ambient" | "none"))?;
    let what = "means nothing: pods are as without the label";
    let finding = Finding::about(UNKNOWN_MODE, kind, meta, what, "use ambient or none");
    Some(finding.at(format!("metadata.labels: {MODE}"), mode))
}

fn not_enrolled(view: &View<'_>) -> Vec<Finding> {
    let rules = Rules::of(view.around.daemon_set.as_ref(), &view.around.system);
    let mut found = Vec::new();
    for (name, namespace) in &view.namespaces {
        let own = view.pods.iter().filter(|pod| pod.metadata.namespace == *name);
        let late: Vec<String> = own
            .map(|pod| (pod, rules.stand(pod, Some(namespace))))
            .filter(|(_, stand)| stand.standing == Standing::NotEnrolled)
            .map(|(pod, stand)| format!("{} ({})", pod.metadata.name, stand.why))
            .collect();
        if late.is_empty() {
            continue;
        }
        let named = late.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = late.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = format!("pods that are to be in the mesh and are not: {named}{more}");
        let remedy = "`ambit describe pod` says why";
        found.push(Finding::about(NOT_ENROLLED, Kind::Namespace, &namespace.metadata, what, remedy));
    }
    found
}
