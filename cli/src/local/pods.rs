//! The pods of a mesh, from admission to removal: the scheduler's and the kubelet's part.
//! Looks at what is wanted and what is there, and takes the next step; sandboxes are made on other threads.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ambit_cluster::Overlay;
use ambit_cluster::kinds::core::Pod;
use ambit_cluster::object::ObjectRef;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::ipam::{Ipam, Networks};
use super::kept::{Kept, Restart};
use super::launch::Launch;
use super::layout::Node;
use super::mesh::Mesh;
use super::names::{self, NamedService, Reader};
use super::process;
use super::report::{ContainerStatus, PodStatus};
use super::sandbox::{Sandbox, SandboxError};
use super::spec::Spec;
use super::world::{ContainerSpec, World, in_mesh};
use crate::enter::search_path;

/// The pause after a refused attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a container may take to end when asked.
const GRACE: Duration = Duration::from_secs(2);
/// Sandboxes made or taken down at the same moment, as a kubelet would at most.
const JOBS: usize = 8;
const SERVICES_PER_MESH_HINT: &str = "no service address is left";

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

struct Entry {
    sandbox: Sandbox,
    containers: Vec<ContainerSpec>,
    restart: Restart,
    state: State,
    hosts: String,
    /// Gone from the manifests; taken down as soon as its state allows.
    leaving: bool,
}

enum State {
    /// Waits for a thread, from this moment on.
    Queued {
        at: Instant,
        pause: Duration,
        why: String,
    },
    Making {
        pause: Duration,
    },
    Up {
        containers: Vec<Kept>,
        over: bool,
    },
    Removing,
}

impl Pods {
    /// Takes the next steps towards what the world wants.
    pub(crate) fn reconcile(
        &mut self,
        ground: &Ground,
        world: &World,
        jobs: &mut JoinSet<Done>,
        now: Instant,
    ) {
        self.give_addresses(ground, world);
        self.refused.retain(|pod, _| world.pod(pod).is_some());
        let fresh: Vec<_> = world
            .pods()
            .filter(|(reference, pod)| !self.entries.contains_key(reference) && !pod.is_over())
            .map(|(reference, pod)| (reference.clone(), pod.clone()))
            .collect();
        for (reference, pod) in fresh {
            self.admit(ground, world, &reference, &pod);
        }
        for (reference, entry) in &mut self.entries {
            entry.leaving |= world.pod(reference).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
            entry.step(ground, reference, jobs, now);
        }
        self.refresh_names(ground, world);
    }

    /// Takes in what a thread has finished.
    pub(crate) fn finished(&mut self, ground: &Ground, done: Done, now: Instant) {
        match done {
            Done::Made { pod, attempt, result } => {
                let Some(entry) = self.entries.get_mut(&pod) else { return };
                if entry.sandbox.attempt != attempt {
                    return;
                }
                match result {
                    Ok(()) => entry.begin(ground, &pod, &self.names, now),
                    Err(error) => entry.try_later(&error, now),
                }
            }
            Done::Removed { pod } => {
                if let Some(entry) = self.entries.remove(&pod) {
                    entry.sandbox.addresses.iter().for_each(|address| self.ipam.release(*address));
                    // What was said of this pod is not true of a later one of the same name.
                    warn(ground.overlay.clear(&pod).map_err(|e| e.to_string()));
                    let files = ground.mesh.pod(&entry.sandbox.uid);
                    warn(fs::remove_dir_all(&files).map_err(|e| format!("{}: {e}", files.display())));
                }
            }
        }
    }

    /// Wants every pod gone.
    pub(crate) fn leave_all(&mut self, ground: &Ground, jobs: &mut JoinSet<Done>, now: Instant) {
        for (reference, entry) in &mut self.entries {
            entry.leaving = true;
            entry.step(ground, reference, jobs, now);
        }
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
                tracing::warn!(service = %service, "{SERVICES_PER_MESH_HINT}");
                continue;
            };
            let patch = json!({ "spec": { "clusterIP": v4, "clusterIPs": [v4, v6] } });
            warn(ground.overlay.patch(&service, patch).map_err(|e| e.to_string()));
        }
    }

    fn admit(&mut self, ground: &Ground, world: &World, reference: &ObjectRef, pod: &Pod) {
        let place = if pod.spec.host_network {
            Err("a local mesh runs no hostNetwork pods".to_owned())
        } else {
            self.place(&ground.nodes, &pod.spec.node_name)
        };
        let node = match place {
            Ok(node) => node,
            Err(why) => {
                self.refused.insert(reference.clone(), why);
                return;
            }
        };
        self.refused.remove(reference);
        let uid = if pod.metadata.uid.is_empty() { new_uid() } else { pod.metadata.uid.clone() };
        let addresses = self.lease(&node);
        let host: Vec<_> = node.addresses().iter().map(|net| net.addr()).collect();
        let patch = json!({
            "metadata": { "uid": uid },
            "spec": { "nodeName": node.name, "serviceAccountName": pod.service_account() },
            "status": { "phase": "Pending", "hostIP": host.first(), "conditions": [] },
        });
        warn(ground.overlay.patch(reference, patch).map_err(|e| e.to_string()));
        let (containers, policy) = world.containers(reference);
        let entry = Entry {
            sandbox: Sandbox {
                mesh: ground.mesh.clone(),
                node,
                namespace: reference.namespace.to_string(),
                pod: reference.name.to_string(),
                uid,
                attempt: 0,
                addresses,
                plugin: (!ground.spec.bare).then(|| ground.spec.bin_dir.join("ambit-cni")),
            },
            containers,
            restart: match policy.as_str() {
                "Never" => Restart::Never,
                "OnFailure" => Restart::OnFailure,
                _ => Restart::Always,
            },
            state: State::Queued { at: Instant::now(), pause: FIRST_PAUSE, why: String::new() },
            hosts: String::new(),
            leaving: false,
        };
        self.entries.insert(reference.clone(), entry);
    }

    /// The node asked for, or the one with the fewest pods.
    fn place(&self, nodes: &[Node], wanted: &str) -> Result<Node, String> {
        if !wanted.is_empty() {
            let found = nodes.iter().find(|node| node.name == wanted).cloned();
            return found.ok_or_else(|| format!("there is no node {wanted}"));
        }
        let load = |node: &Node| self.entries.values().filter(|entry| entry.sandbox.node == *node).count();
        nodes.iter().min_by_key(|node| load(node)).cloned().ok_or_else(|| "there are no nodes".to_owned())
    }

    fn refresh_names(&mut self, ground: &Ground, world: &World) {
        self.names = world.names();
        for (reference, entry) in &mut self.entries {
            if let State::Up { .. } = entry.state {
                let in_mesh = world.pod(reference).is_some_and(in_mesh);
                warn(entry.write_hosts(&ground.mesh, &self.names, in_mesh));
            }
        }
    }
}

impl Entry {
    fn step(&mut self, ground: &Ground, reference: &ObjectRef, jobs: &mut JoinSet<Done>, now: Instant) {
        match &mut self.state {
            State::Queued { .. } if self.leaving => self.remove(ground, reference, jobs),
            State::Queued { at, pause, .. } if *at <= now && jobs.len() < JOBS => {
                let pause = *pause;
                self.sandbox.attempt += 1;
                self.state = State::Making { pause };
                let (sandbox, pod) = (self.sandbox.clone(), reference.clone());
                jobs.spawn_blocking(move || {
                    let result = sandbox.make();
                    Done::Made { pod, attempt: sandbox.attempt, result }
                });
            }
            State::Up { .. } if self.leaving => self.remove(ground, reference, jobs),
            State::Up { containers, over } => {
                for kept in containers.iter_mut() {
                    warn(kept.tend(&ground.mesh, now).map_err(|e| e.to_string()));
                }
                let ends: Vec<_> = containers.iter().filter_map(Kept::over).collect();
                if !*over && !containers.is_empty() && ends.len() == containers.len() {
                    *over = true;
                    let phase = if ends.iter().all(|end| end.success()) { "Succeeded" } else { "Failed" };
                    let patch = json!({ "status": { "phase": phase, "conditions": conditions(false) } });
                    warn(ground.overlay.patch(reference, patch).map_err(|e| e.to_string()));
                }
            }
            State::Queued { .. } | State::Making { .. } | State::Removing => {}
        }
    }

    /// The sandbox is there: files, containers, status.
    fn begin(&mut self, ground: &Ground, reference: &ObjectRef, names: &[NamedService], now: Instant) {
        let mesh = &ground.mesh;
        let files = mesh.pod(&self.sandbox.uid);
        warn(fs::create_dir_all(&files).map_err(|e| format!("{}: {e}", files.display())));
        warn(self.write_hosts(mesh, names, false));
        let resolv = files.join("resolv.conf");
        warn(fs::write(&resolv, names::resolv(&self.sandbox.namespace)).map_err(|e| e.to_string()));
        let mut containers: Vec<_> = self
            .containers
            .iter()
            .filter(|spec| !spec.command.is_empty() || !spec.args.is_empty())
            .map(|spec| Kept::new(self.launch(ground, spec), self.restart, now))
            .collect();
        for kept in &mut containers {
            warn(kept.tend(mesh, now).map_err(|e| e.to_string()));
        }
        self.state = State::Up { containers, over: false };
        let ips: Vec<_> = self.sandbox.addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        let patch = json!({ "status": {
            "phase": "Running",
            "podIP": self.sandbox.addresses.first(),
            "podIPs": ips,
            "conditions": conditions(true),
        }});
        warn(ground.overlay.patch(reference, patch).map_err(|e| e.to_string()));
    }

    fn try_later(&mut self, error: &SandboxError, now: Instant) {
        let pause = match self.state {
            State::Making { pause } => pause,
            State::Queued { .. } | State::Up { .. } | State::Removing => FIRST_PAUSE,
        };
        let why = chain(error);
        tracing::info!(pod = self.sandbox.pod, attempt = self.sandbox.attempt, why, "sandbox refused");
        self.state = State::Queued { at: now + pause, pause: (pause * 2).min(LONGEST_PAUSE), why };
    }

    fn remove(&mut self, ground: &Ground, reference: &ObjectRef, jobs: &mut JoinSet<Done>) {
        let before = std::mem::replace(&mut self.state, State::Removing);
        let (sandbox, pod, mesh) = (self.sandbox.clone(), reference.clone(), ground.mesh.clone());
        jobs.spawn_blocking(move || {
            if let State::Up { mut containers, .. } = before {
                let running: Vec<_> = containers.iter().filter_map(Kept::process).collect();
                process::end(&running, GRACE);
                containers.iter_mut().for_each(|kept| kept.kill(&mesh));
                sandbox.remove();
            }
            Done::Removed { pod }
        });
    }

    fn launch(&self, ground: &Ground, spec: &ContainerSpec) -> Launch {
        let files = ground.mesh.pod(&self.sandbox.uid);
        let Sandbox { namespace, pod, uid, .. } = &self.sandbox;
        let path = search_path(&ground.spec.bin_dir);
        let mut env = vec![("PATH".into(), path), ("HOSTNAME".into(), pod.into())];
        env.extend(spec.env.iter().map(|var| (var.name.clone().into(), var.value.clone().into())));
        Launch {
            name: format!("pod-{uid}-{}", spec.name),
            log: format!("pod-{namespace}-{pod}-{}", spec.name),
            space: self.sandbox.pin(),
            hosts: Some(files.join("hosts")),
            resolv: Some(files.join("resolv.conf")),
            command: spec.command.iter().chain(&spec.args).map(Into::into).collect(),
            env,
            inherit_env: false,
        }
    }

    fn write_hosts(&mut self, mesh: &Mesh, names: &[NamedService], in_mesh: bool) -> Result<(), String> {
        let reader = Reader {
            namespace: self.sandbox.namespace.clone(),
            name: self.sandbox.pod.clone(),
            addresses: self.sandbox.addresses.clone(),
            in_mesh,
        };
        let text = names::hosts(&reader, names);
        if text == self.hosts {
            return Ok(());
        }
        // Rewritten in place: the processes of the pod have this very file mounted.
        let path = mesh.pod(&self.sandbox.uid).join("hosts");
        fs::write(&path, &text).map_err(|e| format!("{}: {e}", path.display()))?;
        self.hosts = text;
        Ok(())
    }

    fn status(&self, ground: &Ground, world: &World, reference: &ObjectRef) -> PodStatus {
        let (phase, why) = match &self.state {
            State::Queued { why, .. } => ("ContainerCreating", why.clone()),
            State::Making { .. } => ("ContainerCreating", String::new()),
            State::Up { over: true, .. } => ("Completed", String::new()),
            State::Up { .. } => ("Running", String::new()),
            State::Removing => ("Terminating", String::new()),
        };
        let kept = match &self.state {
            State::Up { containers, .. } => containers.as_slice(),
            State::Queued { .. } | State::Making { .. } | State::Removing => &[],
        };
        PodStatus {
            namespace: self.sandbox.namespace.clone(),
            name: self.sandbox.pod.clone(),
            uid: self.sandbox.uid.clone(),
            node: self.sandbox.node.name.clone(),
            ips: self.sandbox.addresses.clone(),
            phase: phase.to_owned(),
            why,
            in_mesh: world.pod(reference).is_some_and(in_mesh),
            space: self.sandbox.pin(),
            files: ground.mesh.pod(&self.sandbox.uid),
            containers: std::iter::zip(&self.containers, kept)
                .map(|(spec, kept)| ContainerStatus {
                    name: spec.name.clone(),
                    pid: kept.pid(),
                    restarts: kept.restarts(),
                    log: kept.log(&ground.mesh),
                })
                .collect(),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

fn conditions(ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    ["Initialized", "PodScheduled", "ContainersReady", "Ready"]
        .map(|kind| json!({ "type": kind, "status": status }))
        .to_vec()
        .into()
}

fn new_uid() -> String {
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
