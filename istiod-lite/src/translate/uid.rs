//! What workloads are called: the names by which the control plane tells of them, as Istio forms them.

use crate::index::World;

/// A pod's.
pub(super) fn pod(world: &World, namespace: &str, name: &str) -> String {
    format!("{}//Pod/{namespace}/{name}", world.mesh.cluster)
}

/// A workload entry's.
pub(super) fn workload_entry(world: &World, namespace: &str, name: &str) -> String {
    format!("{}/networking.istio.io/WorkloadEntry/{namespace}/{name}", world.mesh.cluster)
}
