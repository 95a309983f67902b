//! One pod's way: queued, its sandbox made on another thread, its containers kept, all of it removed.
//! The kubelet's part; which pods there are to be is the parent module's.

use std::fs;
use std::time::{Duration, Instant};

use ambit_cluster::object::ObjectRef;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Done, Ground, warn};
use crate::args::chain;
use crate::enter::search_path;
use crate::local::kept::{Kept, Restart};
use crate::local::launch::Launch;
use crate::local::mesh::Mesh;
use crate::local::names::{self, NamedService, Reader};
use crate::local::process;
use crate::local::report::{ContainerStatus, PodStatus};
use crate::local::sandbox::{Sandbox, SandboxError};
use crate::local::world::{ContainerSpec, World, in_mesh};

/// The pause after a refused attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a container may take to end when asked.
const GRACE: Duration = Duration::from_secs(2);
/// Sandboxes made or taken down at the same moment, as a kubelet would at most.
const JOBS: usize = 8;

/// A pod that was admitted.
pub(super) struct Entry {
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

impl Entry {
    /// To be started at the next look. The restart policy comes as the manifest has it.
    pub(super) fn new(sandbox: Sandbox, (containers, policy): (Vec<ContainerSpec>, String)) -> Self {
        Self {
            sandbox,
            containers,
            restart: match policy.as_str() {
                "Never" => Restart::Never,
                "OnFailure" => Restart::OnFailure,
                _ => Restart::Always,
            },
            state: State::Queued { at: Instant::now(), pause: FIRST_PAUSE, why: String::new() },
            hosts: String::new(),
            leaving: false,
        }
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Which attempt at a sandbox is the current one.
    pub(super) fn attempt(&self) -> u32 {
        self.sandbox.attempt
    }

    /// Wants it gone.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    pub(super) fn refresh_names(
        &mut self,
        ground: &Ground,
        world: &World,
        reference: &ObjectRef,
        names: &[NamedService],
    ) {
        if let State::Up { .. } = self.state {
            let in_mesh = world.pod(reference).is_some_and(in_mesh);
            warn(self.write_hosts(&ground.mesh, names, in_mesh));
        }
    }

    pub(super) fn step(
        &mut self,
        ground: &Ground,
        reference: &ObjectRef,
        jobs: &mut JoinSet<Done>,
        now: Instant,
    ) {
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
    pub(super) fn begin(
        &mut self,
        ground: &Ground,
        reference: &ObjectRef,
        names: &[NamedService],
        now: Instant,
    ) {
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

    pub(super) fn try_later(&mut self, error: &SandboxError, now: Instant) {
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

    pub(super) fn status(&self, ground: &Ground, world: &World, reference: &ObjectRef) -> PodStatus {
        let (phase, why) = match &self.state {
            State::Queued { why, .. } => ("ContainerCreating", why.clone()),
            State::Making { .. } => ("ContainerCreating", String::new()),
            State::Up { over: true, .. } => ("Completed", String::new()),
            State::Up { containers, .. } => match containers.iter().find(|kept| kept.pid().is_none()) {
                None => ("Running", String::new()),
                Some(kept) => ("Restarting", format!("see {}", kept.log(&ground.mesh).display())),
            },
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

fn conditions(ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    ["Initialized", "PodScheduled", "ContainersReady", "Ready"]
        .map(|kind| json!({ "type": kind, "status": status }))
        .to_vec()
        .into()
}
