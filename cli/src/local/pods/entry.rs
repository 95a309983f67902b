//! One pod's way: queued, its sandbox made on another thread, its containers kept, all of it removed.
//! The kubelet's part; which pods there are to be is the parent module's.

use std::fs;
use std::time::{Duration, Instant};

use ambit_cluster::object::ObjectRef;
use serde_json::{Value, json};

use super::member::{GRACE, Member};
use super::{Done, Ground, Question, warn};
use crate::args::chain;
use crate::enter::search_path;
use crate::local::container::{Container, Field, PodPlan};
use crate::local::hosts::Hosts;
use crate::local::jobs::Jobs;
use crate::local::kept::Kept;
use crate::local::launch::Launch;
use crate::local::mesh::Mesh;
use crate::local::names::{self, NamedService, Reader};
use crate::local::probe::{self, Place};
use crate::local::process;
use crate::local::report::PodStatus;
use crate::local::sandbox::{Sandbox, SandboxError};
use crate::local::world::{World, in_mesh};

/// The pause after a refused attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A pod that was admitted.
pub(super) struct Entry {
    sandbox: Sandbox,
    plan: PodPlan,
    state: State,
    /// The names that its containers see.
    hosts: Hosts,
    /// Gone from the manifests; taken down as soon as its state allows.
    leaving: bool,
    /// How long its containers may take to end when asked.
    grace: Duration,
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
        members: Vec<Member>,
        over: bool,
        /// What was written of the containers last.
        told: Value,
    },
    Removing,
}

impl Entry {
    /// To be started at the next look.
    pub(super) fn new(sandbox: Sandbox, plan: PodPlan) -> Self {
        Self {
            sandbox,
            grace: plan.grace.unwrap_or(GRACE),
            plan,
            state: State::Queued { at: Instant::now(), pause: FIRST_PAUSE, why: String::new() },
            hosts: Hosts::default(),
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

    /// As with all the others: nobody is left to whom its end would matter.
    pub(super) fn leave_at_once(&mut self) {
        self.leaving = true;
        self.grace = self.grace.min(GRACE);
    }

    pub(super) fn refresh_names(&mut self, ground: &Ground, names: &[NamedService]) {
        if let State::Up { .. } = self.state {
            warn(self.write_hosts(&ground.mesh, names));
        }
    }

    pub(super) fn step(&mut self, ground: &Ground, reference: &ObjectRef, jobs: &mut Jobs, now: Instant) {
        match &mut self.state {
            State::Queued { .. } | State::Up { .. } if self.leaving => self.remove(ground, reference, jobs),
            State::Queued { at, pause, .. } if *at <= now && jobs.sandbox_may() => {
                let pause = *pause;
                self.sandbox.attempt += 1;
                self.state = State::Making { pause };
                let (sandbox, pod) = (self.sandbox.clone(), reference.clone());
                jobs.sandbox(move || {
                    let result = sandbox.make();
                    Done::Made { pod, attempt: sandbox.attempt, result }
                });
            }
            State::Up { members, .. } => {
                for member in members.iter_mut() {
                    warn(member.tend(&ground.mesh, now).map_err(|e| e.to_string()));
                }
                self.tell(ground, reference);
                self.probe(ground, reference, jobs, now);
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
        warn(self.write_hosts(mesh, names));
        let resolv = files.join("resolv.conf");
        warn(fs::write(&resolv, names::resolv(&self.sandbox.namespace)).map_err(|e| e.to_string()));
        let member = |container| {
            let kept = Kept::new(self.launch(ground, container), self.plan.restart, now);
            let mut member = Member::new(container, kept, now);
            warn(member.tend(mesh, now).map_err(|e| e.to_string()));
            member
        };
        let members = self.plan.containers.iter().map(member).collect();
        self.state = State::Up { members, over: false, told: Value::Null };
        let ips: Vec<_> = self.sandbox.addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        let patch = json!({ "status": {
            "phase": "Running",
            "podIP": self.sandbox.addresses.first(),
            "podIPs": ips,
        }});
        warn(ground.overlay.patch(reference, patch).map_err(|e| e.to_string()));
        self.tell(ground, reference);
    }

    /// Takes in what a probe said.
    pub(super) fn answered(&mut self, about: Question, answer: Result<(), String>, now: Instant) {
        if let State::Up { members, .. } = &mut self.state
            && let Some(member) = members.get_mut(about.container)
        {
            member.answered(about, answer, now);
        }
    }

    /// Writes what has become of the containers, if that has changed.
    fn tell(&mut self, ground: &Ground, reference: &ObjectRef) {
        let State::Up { members, over, told } = &mut self.state else { return };
        let ends: Vec<_> = members.iter().filter_map(Member::over).collect();
        *over = ends.len() == members.len();
        let phase = match *over {
            false => "Running",
            true if ends.iter().all(|end| end.success()) => "Succeeded",
            true => "Failed",
        };
        let each = members.iter().map(|member| {
            let status = member.status(&ground.mesh);
            json!({
                "name": status.name,
                "ready": status.ready,
                "started": status.pid.is_some(),
                "restartCount": status.restarts,
            })
        });
        let status = json!({
            "phase": phase,
            "conditions": conditions(members.iter().all(Member::is_ready)),
            "containerStatuses": each.collect::<Vec<_>>(),
        });
        if *told != status {
            let written = ground.overlay.patch(reference, json!({ "status": status }));
            if written.is_ok() {
                *told = status;
            }
            warn(written.map_err(|e| e.to_string()));
        }
    }

    /// Has the probes asked that are due.
    fn probe(&mut self, ground: &Ground, reference: &ObjectRef, jobs: &mut Jobs, now: Instant) {
        let Some(address) = self.sandbox.addresses.first().copied() else { return };
        let State::Up { members, .. } = &mut self.state else { return };
        let mut due = Vec::new();
        for (at, (member, container)) in members.iter_mut().zip(&self.plan.containers).enumerate() {
            if due.len() < jobs.probe_room() {
                due.extend(
                    member
                        .due(now)
                        .into_iter()
                        .map(|(run, kind, probe)| (container, Question { container: at, run, kind }, probe)),
                );
            }
        }
        for (container, about, probe) in due {
            let launch = self.launch(ground, container);
            let launch = Launch { name: format!("{}-{}", launch.name, about.kind), ..launch };
            let (mesh, node) = (ground.mesh.clone(), self.sandbox.node_pin());
            let place = Place { mesh, node, address, launch };
            let pod = reference.clone();
            jobs.probe(move || Done::Probed { pod, about, answer: probe::ask(&place, &probe) });
        }
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

    fn remove(&mut self, ground: &Ground, reference: &ObjectRef, jobs: &mut Jobs) {
        let before = std::mem::replace(&mut self.state, State::Removing);
        let (sandbox, pod, mesh) = (self.sandbox.clone(), reference.clone(), ground.mesh.clone());
        let grace = self.grace;
        jobs.sandbox(move || {
            if let State::Up { mut members, .. } = before {
                let running: Vec<_> = members.iter().filter_map(Member::process).collect();
                process::end(&running, grace);
                members.iter_mut().for_each(|member| member.kill(&mesh));
                sandbox.remove();
            }
            Done::Removed { pod }
        });
    }

    fn launch(&self, ground: &Ground, container: &Container) -> Launch {
        let files = ground.mesh.pod(&self.sandbox.uid);
        let Sandbox { namespace, pod, uid, .. } = &self.sandbox;
        let path = search_path(&ground.spec.bin_dir);
        let mut env = vec![("PATH".into(), path), ("HOSTNAME".into(), pod.into())];
        env.extend(container.env.iter().map(|(name, value)| (name.into(), value.into())));
        env.extend(container.fields.iter().map(|(name, field)| (name.into(), self.own(*field).into())));
        Launch {
            name: format!("pod-{uid}-{}", container.name),
            log: format!("pod-{namespace}-{pod}-{}", container.name),
            space: self.sandbox.pin(),
            hosts: Some(files.join("hosts")),
            resolv: Some(files.join("resolv.conf")),
            command: container.command.iter().map(Into::into).collect(),
            env,
            inherit_env: false,
        }
    }

    /// What a variable tells of the pod.
    fn own(&self, field: Field) -> String {
        let Sandbox { namespace, pod, uid, node, addresses, .. } = &self.sandbox;
        match field {
            Field::Name => pod.clone(),
            Field::Namespace => namespace.clone(),
            Field::Uid => uid.clone(),
            Field::Node => node.name.clone(),
            Field::Address => addresses.first().map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn write_hosts(&mut self, mesh: &Mesh, names: &[NamedService]) -> Result<(), String> {
        let reader = Reader {
            namespace: self.sandbox.namespace.clone(),
            name: self.sandbox.pod.clone(),
            addresses: self.sandbox.addresses.clone(),
            aliases: self.plan.aliases.clone(),
        };
        let text = names::hosts(&reader, names);
        let path = mesh.pod(&self.sandbox.uid).join("hosts");
        self.hosts.write(&path, &text).map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(super) fn status(&self, ground: &Ground, world: &World, reference: &ObjectRef) -> PodStatus {
        let (phase, why) = match &self.state {
            State::Queued { why, .. } => ("ContainerCreating", why.clone()),
            State::Making { .. } => ("ContainerCreating", String::new()),
            State::Up { over: true, .. } => ("Completed", String::new()),
            State::Up { members, .. } => {
                let why = members.iter().find_map(|member| member.why(&ground.mesh)).unwrap_or_default();
                (if members.iter().any(Member::is_away) { "Restarting" } else { "Running" }, why)
            }
            State::Removing => ("Terminating", String::new()),
        };
        let members = match &self.state {
            State::Up { members, .. } => members.as_slice(),
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
            ready: !members.is_empty() && members.iter().all(Member::is_ready),
            containers: members.iter().map(|member| member.status(&ground.mesh)).collect(),
        }
    }
}

fn conditions(ready: bool) -> Value {
    let word = |holds| if holds { "True" } else { "False" };
    [("Initialized", true), ("PodScheduled", true), ("ContainersReady", ready), ("Ready", ready)]
        .map(|(kind, holds)| json!({ "type": kind, "status": word(holds) }))
        .to_vec()
        .into()
}
