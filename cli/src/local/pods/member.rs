//! One container of a pod: its process, and what its probes say of the present run.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::Question;
use crate::local::container::Container;
use crate::local::kept::Kept;
use crate::local::launch::LaunchError;
use crate::local::mesh::Mesh;
use crate::local::probe::{Health, Probe, ProbeKind, Probes, Verdict};
use crate::local::process::Process;
use crate::local::report::ContainerStatus;

/// How long a container may take to end when asked.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// A container that is kept.
pub(super) struct Member {
    name: String,
    probes: Probes,
    kept: Kept,
    health: Health,
    /// Which run the health is of.
    run: u32,
}

impl Member {
    pub(super) fn new(container: &Container, kept: Kept, now: Instant) -> Self {
        let health = Health::new(&container.probes, now);
        Self { name: container.name.clone(), probes: container.probes.clone(), kept, health, run: 0 }
    }

    /// Looks at the process; a new run begins with a health of its own.
    pub(super) fn tend(&mut self, mesh: &Mesh, now: Instant) -> Result<(), LaunchError> {
        let ended = self.kept.tend(mesh, now)?;
        if let Some(status) = ended {
            tracing::info!(process = self.kept.launch.name, status = %status, "container ended");
        }
        if self.run != self.kept.starts() {
            self.run = self.kept.starts();
            self.health = Health::new(&self.probes, now);
        }
        Ok(())
    }

    /// The probes to be asked now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(u32, ProbeKind, Probe)> {
        if self.kept.pid().is_none() {
            return Vec::new();
        }
        let run = self.run;
        self.health.due(now).into_iter().map(|(kind, probe)| (run, kind, probe)).collect()
    }

    pub(super) fn answered(&mut self, about: Question, answer: Result<(), String>, now: Instant) {
        if about.run != self.run {
            return;
        }
        if self.health.take(about.kind, answer) == Verdict::Kill {
            let why = self.health.why().unwrap_or_default();
            tracing::warn!(process = self.kept.launch.name, why, "container is ended: a probe failed");
            self.kept.fail(now, GRACE);
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.kept.pid().is_some() && self.health.is_ready()
    }

    /// Why it is not as it should be.
    pub(super) fn why(&self, mesh: &Mesh) -> Option<String> {
        match self.kept.pid() {
            None if self.kept.over().is_none() => Some(format!("see {}", self.kept.log(mesh).display())),
            None => None,
            Some(_) => self.health.why(),
        }
    }

    /// How it ended, if it will not run again.
    pub(super) fn over(&self) -> Option<ExitStatus> {
        self.kept.over()
    }

    /// Waits to be started again.
    pub(super) fn is_away(&self) -> bool {
        self.kept.pid().is_none() && self.kept.over().is_none()
    }

    pub(super) fn process(&self) -> Option<Process> {
        self.kept.process()
    }

    pub(super) fn kill(&mut self, mesh: &Mesh) {
        self.kept.kill(mesh);
    }

    pub(super) fn status(&self, mesh: &Mesh) -> ContainerStatus {
        ContainerStatus {
            name: self.name.clone(),
            pid: self.kept.pid(),
            ready: self.is_ready(),
            restarts: self.kept.restarts(),
            log: self.kept.log(mesh),
        }
    }
}
