//! The pods of a mesh, from admission to removal: the scheduler's part, and who goes next.
//! Looks at what is wanted and what is there. A single pod's way is `entry`'s.

mod entry;
mod member;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use ambit_cluster::Overlay;
use ambit_cluster::kinds::core::Pod;
use ambit_cluster::object::ObjectRef;
use serde_json::json;

use self::entry::Entry;
use super::ipam::{Ipam, Networks};
use super::jobs::Jobs;
use super::layout::Node;
use super::mesh::Mesh;
use super::names::NamedService;
use super::probe::ProbeKind;
use super::report::PodStatus;
use super::sandbox::{Sandbox, SandboxError};
use super::spec::Spec;
use super::world::World;

/// What all pods stand on.
pub(crate) struct Ground {
    pub(crate) mesh: Mesh,
    pub(crate) spec: Spec,
    pub(crate) nodes: Vec<Node>,
    pub(crate) overlay: Overlay,
}

/// What a thread has finished.
pub(crate) enum Done {
    Made { pod: ObjectRef, attempt: u32, result: Result<(), SandboxError> },
    Removed { pod: ObjectRef },
    Probed { pod: ObjectRef, about: Question, answer: Result<(), String> },
}

/// What was asked of a pod: a probe of one run of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    container: usize,
    run: u32,
    kind: ProbeKind,
}

/// All pods that were admitted.
#[derive(Default)]
pub(crate) struct Pods {
    entries: BTreeMap<ObjectRef, Entry>,
    /// Pods that cannot be admitted as they are, and why.
    refused: BTreeMap<ObjectRef, String>,
    ipam: Ipam,
    names: Vec<NamedService>,
}

impl Pods {
    /// Takes the next steps towards what the world wants.
    pub(crate) fn reconcile(&mut self, ground: &Ground, world: &World, jobs: &mut Jobs, now: Instant) {
        self.give_addresses(ground, world);
        self.refused.retain(|pod, _| world.pod(pod).is_some());
        let fresh: Vec<_> = world
            .pods()
            .filter(|(reference, pod)| {
                let is_wanted = !pod.is_over() && pod.metadata.deletion_timestamp.is_none();
                is_wanted && !self.entries.contains_key(reference)
            })
            .map(|(reference, pod)| (reference.clone(), pod.clone()))
            .collect();
        for (reference, pod) in fresh {
            self.admit(ground, world, &reference, &pod);
        }
        for (reference, entry) in &mut self.entries {
            if world.pod(reference).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()) {
                entry.leave();
            }
            entry.step(ground, reference, jobs, now);
        }
        self.refresh_names(ground, world);
    }

    /// Takes in what a thread has finished.
    pub(crate) fn finished(&mut self, ground: &Ground, done: Done, now: Instant) {
        match done {
            Done::Made { pod, attempt, result } => {
                let Some(entry) = self.entries.get_mut(&pod) else { return };
                if entry.attempt() != attempt {
                    return;
                }
                match result {
                    Ok(()) => entry.begin(ground, &pod, &self.names, now),
                    Err(error) => entry.try_later(&error, now),
                }
            }
            Done::Probed { pod, about, answer } => {
                if let Some(entry) = self.entries.get_mut(&pod) {
                    entry.answered(about, answer, now);
                }
            }
            Done::Removed { pod } => {
                if let Some(entry) = self.entries.remove(&pod) {
                    entry.sandbox().addresses.iter().for_each(|address| self.ipam.release(*address));
                    // What was said of this pod is not true of a later one of the same name.
                    warn(ground.overlay.clear(&pod).map_err(|e| e.to_string()));
                    let files = ground.mesh.pod(&entry.sandbox().uid);
                    warn(fs::remove_dir_all(&files).map_err(|e| format!("{}: {e}", files.display())));
                }
            }
        }
    }

    /// Wants every pod gone.
    pub(crate) fn leave_all(&mut self, ground: &Ground, jobs: &mut Jobs, now: Instant) {
        for (reference, entry) in &mut self.entries {
            entry.leave_at_once();
            entry.step(ground, reference, jobs, now);
        }
    }

    /// Whether something is left of a pod.
    pub(crate) fn has(&self, pod: &ObjectRef) -> bool {
        self.entries.contains_key(pod)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An address of each family for something that is no pod of the manifests.
    pub(crate) fn lease(&mut self, node: &Node) -> Vec<IpAddr> {
        node.pods().into_iter().filter_map(|net| self.ipam.lease(net).ok()).collect()
    }

    pub(crate) fn release(&mut self, addresses: &[IpAddr]) {
        addresses.iter().for_each(|address| self.ipam.release(*address));
    }

    /// All pods as they are.
    pub(crate) fn status(&self, ground: &Ground, world: &World) -> Vec<PodStatus> {
        let admitted = self.entries.iter().map(|(reference, entry)| entry.status(ground, world, reference));
        let refused = self.refused.iter().map(|(reference, why)| PodStatus {
            namespace: reference.namespace.to_string(),
            name: reference.name.to_string(),
            uid: String::new(),
            node: String::new(),
            ips: Vec::new(),
            phase: "Refused".to_owned(),
            why: why.clone(),
            in_mesh: false,
            ready: false,
            space: PathBuf::new(),
            files: PathBuf::new(),
            containers: Vec::new(),
        });
        admitted.chain(refused).collect()
    }

    fn give_addresses(&mut self, ground: &Ground, world: &World) {
        for vip in world.services().flat_map(|(_, service)| service.spec.vips()) {
            self.ipam.hold(vip);
        }
        for service in world.without_address() {
            let leased = Networks::services().map(|net| self.ipam.lease(net));
            let [Ok(v4), Ok(v6)] = leased else {
                tracing::warn!(service = %service, "no service address is left");
                continue;
            };
            let patch = json!({ "spec": { "clusterIP": v4, "clusterIPs": [v4, v6] } });
            warn(ground.overlay.patch(&service, patch).map_err(|e| e.to_string()));
        }
    }

    fn admit(&mut self, ground: &Ground, world: &World, reference: &ObjectRef, pod: &Pod) {
        let plan = world.plan(reference).map_err(|unfit| unfit.to_string());
        let placed = plan.and_then(|plan| Ok((plan, self.place(&ground.nodes, &pod.spec.node_name)?)));
        let (plan, node) = match placed {
            Ok(placed) => placed,
            Err(why) => {
                self.refused.insert(reference.clone(), why);
                return;
            }
        };
        self.refused.remove(reference);
        let uid = if pod.metadata.uid.is_empty() { new_uid() } else { pod.metadata.uid.clone() };
        let host: Vec<_> = node.addresses().iter().map(|net| net.addr()).collect();
        let host_network = pod.spec.host_network;
        let addresses = if host_network { host.clone() } else { self.lease(&node) };
        let patch = json!({
            "metadata": { "uid": uid },
            "spec": { "nodeName": node.name, "serviceAccountName": pod.service_account() },
            "status": { "phase": "Pending", "hostIP": host.first(), "conditions": [] },
        });
        warn(ground.overlay.patch(reference, patch).map_err(|e| e.to_string()));
        let sandbox = Sandbox {
            mesh: ground.mesh.clone(),
            node,
            namespace: reference.namespace.to_string(),
            pod: reference.name.to_string(),
            uid,
            attempt: 0,
            addresses,
            host_network,
            plugin: (!ground.spec.bare).then(|| ground.spec.bin_dir.join("ambit-cni")),
        };
        let entry = Entry::new(sandbox, plan);
        self.entries.insert(reference.clone(), entry);
    }

    /// The node asked for, or the one with the fewest pods.
    fn place(&self, nodes: &[Node], wanted: &str) -> Result<Node, String> {
        if !wanted.is_empty() {
            let found = nodes.iter().find(|node| node.name == wanted).cloned();
            return found.ok_or_else(|| format!("there is no node {wanted}"));
        }
        let load = |node: &Node| self.entries.values().filter(|entry| entry.sandbox().node == *node).count();
        nodes.iter().min_by_key(|node| load(node)).cloned().ok_or_else(|| "there are no nodes".to_owned())
    }

    fn refresh_names(&mut self, ground: &Ground, world: &World) {
        self.names = world.names();
        for entry in self.entries.values_mut() {
            entry.refresh_names(ground, &self.names);
        }
    }
}

pub(crate) fn new_uid() -> String {
    let bits = fastrand::u128(..);
    // RFC 9562, 5.4: version 4, variant 10.
    let bits = bits & !(0xf << 76) | (0x4 << 76);
    let bits = bits & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let cut = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [cut(0, 8), cut(8, 12), cut(12, 16), cut(16, 20), cut(20, 32)].join("-")
}

/// A step that failed is tried again at the next look; it must not go unseen.
fn warn<T>(result: Result<T, String>) {
    if let Err(error) = result {
        tracing::warn!(error, "a step failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_goes_where_it_asks_to_and_nowhere_else() {
        let nodes: Vec<_> = (1..=2).map(|number| Node { name: format!("n{number}"), number }).collect();
        let pods = Pods::default();
        assert_eq!(pods.place(&nodes, "n2").unwrap(), nodes[1]);
        assert_eq!(pods.place(&nodes, "").unwrap(), nodes[0]);
        assert_eq!(pods.place(&nodes, "n3").unwrap_err(), "there is no node n3");
    }

    #[test]
    fn uids_are_of_version_4_and_not_the_same_twice() {
        let (one, other) = (new_uid(), new_uid());
        assert_ne!(one, other);
        let parts: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(one.chars().nth(14), Some('4'));
        assert!(matches!(one.chars().nth(19), Some('8' | '9' | 'a' | 'b')));
    }
}
