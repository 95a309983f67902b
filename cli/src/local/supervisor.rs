//! The supervisor of one mesh: makes its namespaces, runs its programs and pods, answers `local` commands,
//! takes the pods down in order when asked to end. What it leaves behind in a crash, `down` removes.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ambit_cluster::Overlay;
use ambit_cluster::files::{self, Event, Keep, Watch, WatchError};
use ambit_process::net::{UnixListener, UnixStream};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::held::{self, Held, HoldError};
use super::ipam::MAX_NODES;
use super::jobs::Jobs;
use super::layout::{self, Node};
use super::links::{self, LinkError};
use super::mesh::Mesh;
use super::pods::{Done, Ground, Pods};
use super::process::{self, Process};
use super::programs::{ProgramError, Programs};
use super::report::{NodeStatus, Reply, Request, Status};
use super::services::ServiceKeeper;
use super::spec::{SUPERVISOR, Spec, SpecError};
use super::waypoints;
use super::world::World;
use crate::args::chain;

/// How often it looks at its processes without being told of a change.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A `local` command says what it wants at once, and in a short line.
const REQUEST_WAIT: Duration = Duration::from_secs(2);
const REQUEST_LIMIT: u64 = 4096;
/// How long programs and pods may take to end.
const END_WAIT: Duration = Duration::from_secs(5);

/// Why the supervisor could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("a local mesh has 1 to {MAX_NODES} nodes, not {asked}")]
    Nodes { asked: u8 },
}

struct Supervisor {
    ground: Ground,
    world: World,
    watch: Watch,
    pods: Pods,
    /// None in a mesh of nodes and pods only.
    programs: Option<Programs>,
    services: ServiceKeeper,
    _held: Held,
    jobs: Jobs,
}

/// Runs a mesh until SIGTERM.
pub(crate) async fn supervise(mesh: Mesh) -> Result<(), SuperviseError> {
    let here = |path: PathBuf| move |source| SuperviseError::Io { path, source };
    let record = mesh.process(SUPERVISOR);
    let own = Process::own().ok_or_else(|| io::Error::other("no /proc"));
    own.and_then(|own| own.record(&record)).map_err(here(record))?;
    let spec = Spec::read(&mesh)?;
    let mut end = signal(SignalKind::terminate()).map_err(here("SIGTERM".into()))?;
    let mut child = signal(SignalKind::child()).map_err(here("SIGCHLD".into()))?;
    let listener = UnixListener::bind(mesh.control()).map_err(here(mesh.control()))?;
    let mut supervisor = Supervisor::new(mesh, spec)?;
    supervisor.run(&listener, &mut end, &mut child).await;
    supervisor.end().await;
    Ok(())
}

impl Supervisor {
    fn new(mesh: Mesh, mut spec: Spec) -> Result<Self, SuperviseError> {
        if spec.nodes == 0 || spec.nodes > MAX_NODES {
            return Err(SuperviseError::Nodes { asked: spec.nodes });
        }
        let held = held::hold(&mesh, &spec.bin_dir)?;
        spec.bin_dir = mesh.programs();
        let watch = files::watch(&spec.source, Some(&mesh.overlay()), Keep::Whole)?;
        let mut supervisor = Self {
            ground: Ground { overlay: Overlay::new(mesh.overlay(), "local"), nodes: Vec::new(), mesh, spec },
            world: World::default(),
            watch,
            pods: Pods::default(),
            programs: None,
            services: ServiceKeeper::default(),
            _held: held,
            jobs: Jobs::default(),
        };
        supervisor.take_events();
        supervisor.name_nodes();
        let Ground { mesh, nodes, .. } = &supervisor.ground;
        let plan = layout::plan(mesh, nodes);
        for (name, _) in &plan {
            links::make_space(&mesh.space(name))?;
        }
        for (name, steps) in &plan {
            links::furnish(&mesh.space(name), steps)?;
        }
        if !supervisor.ground.spec.bare {
            supervisor.programs = Some(Programs::new(&supervisor.ground, Instant::now())?);
        }
        Ok(supervisor)
    }

    async fn run(&mut self, listener: &UnixListener, end: &mut Signal, child: &mut Signal) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.take_events();
            self.step();
            // Every arm is cancel-safe: what is not taken now is there at the next turn.
            tokio::select! {
                _ = end.recv() => return,
                _ = child.recv() => {}
                _ = look.tick() => {}
                event = self.watch.next() => self.take(event),
                done = self.jobs.finished() => self.finished(done),
                Ok((stream, _)) = listener.accept() => self.converse(stream).await,
            }
        }
    }

    fn step(&mut self) {
        let now = Instant::now();
        if let Some(programs) = &mut self.programs {
            programs.tend(&self.ground, &mut self.pods, now);
        }
        if self.world.complete {
            if let Some(programs) = &mut self.programs {
                programs.tend_waypoints(&self.ground, &self.world, &self.pods, now);
            }
            self.pods.reconcile(&self.ground, &self.world, &mut self.jobs, now);
            self.services.tend(&self.ground, &self.world, now);
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.watch.ready() {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        if let Event::Fault(fault) = &event {
            tracing::warn!("{fault}");
        }
        self.world.take(event);
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(done) => self.pods.finished(&self.ground, done, Instant::now()),
            Err(error) => tracing::error!(error = error.to_string(), "a thread was lost"),
        }
    }

    /// The nodes of the manifests, in the order of their names, and as many more as were asked for.
    fn name_nodes(&mut self) {
        let mut names: Vec<String> = self.world.nodes().map(str::to_owned).collect();
        let mut more = (1..=MAX_NODES).map(|number| format!("node-{number}"));
        while names.len() < usize::from(self.ground.spec.nodes) {
            let Some(name) = more.next() else { break };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for (number, name) in (1..=MAX_NODES).zip(names) {
            let node = Node { name, number };
            let addresses: Vec<_> = node
                .addresses()
                .iter()
                .map(|net| json!({ "type": "InternalIP", "address": net.addr() }))
                .collect();
            let status =
                json!({ "addresses": addresses, "conditions": [{ "type": "Ready", "status": "True" }] });
            let object = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": node.name, "labels": { "kubernetes.io/hostname": node.name } },
                "spec": { "podCIDRs": node.pods() },
                "status": status,
            });
            let reference = ambit_cluster::ObjectRef::new(ambit_cluster::Kind::Node, "", &node.name);
            let written = if self.world.nodes().any(|known| known == node.name) {
                self.ground.overlay.patch(&reference, json!({ "status": status }))
            } else {
                self.ground.overlay.put(object).map(|_| ())
            };
            if let Err(error) = written {
                tracing::warn!(error = chain(&error), "node not written");
            }
            self.ground.nodes.push(node);
        }
    }

    async fn converse(&mut self, mut stream: UnixStream) {
        let mut line = String::new();
        let mut reader = BufReader::new((&mut stream).take(REQUEST_LIMIT));
        let read = tokio::time::timeout(REQUEST_WAIT, reader.read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(_))) {
            return;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(request) => self.answer(request),
            Err(error) => Reply::Refused(error.to_string()),
        };
        if let Ok(mut text) = serde_json::to_vec(&reply) {
            text.push(b'\n');
            // The command may have been given up in the meantime.
            let _unheard = tokio::time::timeout(REQUEST_WAIT, stream.write_all(&text)).await;
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        let now = Instant::now();
        if request == Request::Status {
            return Reply::Status(self.status());
        }
        let Some(programs) = &mut self.programs else {
            return Reply::Refused("this mesh was started without programs (--bare)".to_owned());
        };
        let done = match request {
            Request::Status => Ok(()),
            Request::Kill(component) => programs.kill(&self.ground, &component),
            Request::Start(component) => programs.start(&component, now),
            Request::Overlap(node) => programs.overlap(&self.ground, &mut self.pods, &node, now),
            Request::Retire(node) => {
                programs.retire(&node);
                Ok(())
            }
        };
        match done {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Refused(chain(&error)),
        }
    }

    fn status(&self) -> Status {
        let node = |node: &Node| NodeStatus {
            name: node.name.clone(),
            addresses: node.addresses().iter().map(|net| net.addr()).collect(),
            space: self.ground.mesh.space(&node.space()),
        };
        Status {
            loaded: self.world.complete,
            nodes: self.ground.nodes.iter().map(node).collect(),
            components: self.programs.as_ref().map(|p| p.status(&self.ground)).unwrap_or_default(),
            pods: self.pods.status(&self.ground, &self.world),
            waypoints: self.programs.as_ref().map(|p| p.waypoints().status(&self.world)).unwrap_or_default(),
            routes: waypoints::routes(&self.world),
            faults: self.watch.faults().iter().map(ToString::to_string).collect(),
        }
    }

    /// Pods first, then the programs that carried them.
    async fn end(mut self) {
        let until = tokio::time::Instant::now() + END_WAIT;
        while !self.pods.is_empty() {
            self.pods.leave_all(&self.ground, &mut self.jobs, Instant::now());
            match tokio::time::timeout_at(until, self.jobs.finished()).await {
                Ok(done) => self.finished(done),
                Err(_) => break,
            }
        }
        if let Some(programs) = &self.programs {
            process::end(&programs.processes(), END_WAIT);
        }
    }
}
