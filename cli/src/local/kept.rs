//! A process that is kept running: started, noticed when it ends, started again after a pause.

use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::launch::{Launch, LaunchError, launch};
use super::mesh::Mesh;
use super::process::Process;

/// The first pause; it doubles with each restart in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After so long a run, the next pause is the first again.
const STEADY: Duration = Duration::from_secs(10);

/// What to do when the process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

/// One process, in whatever state it is.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) launch: Launch,
    restart: Restart,
    /// How often it was started, and how often of these because it had ended.
    starts: u32,
    restarts: u32,
    /// Ends in a row, each soon after its start.
    hasty: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Running {
        child: Child,
        since: Instant,
        /// Asked to end; killed at this time if it does not.
        end_by: Option<Instant>,
    },
    /// To be started at this time, after this pause.
    Due { at: Instant, pause: Duration, again: bool },
    /// Told to stay away.
    Stopped,
    /// Ended for good.
    Over(ExitStatus),
}

impl Kept {
    /// To be started at the next look.
    pub(crate) fn new(launch: Launch, restart: Restart, now: Instant) -> Self {
        let state = State::Due { at: now, pause: FIRST_PAUSE, again: false };
        Self { launch, restart, starts: 0, restarts: 0, hasty: 0, state }
    }

    /// Looks at the process; starts it when it is due. Returns the end it has come to since the last look.
    pub(crate) fn tend(&mut self, mesh: &Mesh, now: Instant) -> Result<Option<ExitStatus>, LaunchError> {
        match &mut self.state {
            State::Running { child, since, end_by } => {
                let Ok(Some(status)) = child.try_wait() else {
                    if end_by.is_some_and(|by| by <= now) {
                        self.signal(Signal::SIGKILL);
                    }
                    return Ok(None);
                };
                let steady = now.saturating_duration_since(*since) >= STEADY;
                forget(mesh, &self.launch.name);
                let again = match self.restart {
                    Restart::Always => true,
                    Restart::OnFailure => !status.success(),
                    Restart::Never => false,
                };
                self.hasty = if steady { 0 } else { self.hasty.saturating_add(1) };
                let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.hasty.saturating_sub(1).min(10));
                let pause = doubled.min(LONGEST_PAUSE);
                let due = State::Due { at: now + pause, pause, again: true };
                self.state = if again { due } else { State::Over(status) };
                Ok(Some(status))
            }
            State::Due { at, pause, again } if *at <= now => {
                let (pause, again) = ((*pause * 2).min(LONGEST_PAUSE), *again);
                match launch(mesh, &self.launch) {
                    Ok(child) => {
                        self.state = State::Running { child, since: now, end_by: None };
                        self.starts = self.starts.saturating_add(1);
                        self.restarts = self.restarts.saturating_add(again.into());
                    }
                    Err(error) => {
                        self.state = State::Due { at: now + pause, pause, again };
                        return Err(error);
                    }
                }
                Ok(None)
            }
            State::Due { .. } | State::Stopped | State::Over(_) => Ok(None),
        }
    }

    /// Ends it without a warning; it stays away.
    pub(crate) fn kill(&mut self, mesh: &Mesh) {
        self.signal(Signal::SIGKILL);
        if let State::Running { child, .. } = &mut self.state {
            // A killed child ends; the wait is for the kernel alone.
            let _ended = child.wait();
            forget(mesh, &self.launch.name);
        }
        self.state = State::Stopped;
    }

    /// Asks it to end, and insists after `grace`; what comes then is up to its restart policy.
    pub(crate) fn fail(&mut self, now: Instant, grace: Duration) {
        if let State::Running { end_by: end_by @ None, .. } = &mut self.state {
            *end_by = Some(now + grace);
            self.signal(Signal::SIGTERM);
        }
    }

    /// Asks it to end; it is not started again.
    pub(crate) fn retire(&mut self) {
        self.restart = Restart::Never;
        self.signal(Signal::SIGTERM);
        if let State::Due { .. } = self.state {
            self.state = State::Stopped;
        }
    }

    /// Starts it at the next look, if it does not run.
    pub(crate) fn start(&mut self, now: Instant) {
        if let State::Stopped | State::Over(_) = self.state {
            self.state = State::Due { at: now, pause: FIRST_PAUSE, again: false };
        }
    }

    pub(crate) fn process(&self) -> Option<Process> {
        self.pid().and_then(|pid| Process::find(i32::try_from(pid).ok()?))
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Running { child, .. } => Some(child.id()),
            State::Due { .. } | State::Stopped | State::Over(_) => None,
        }
    }

    /// Tells one run from the next.
    pub(crate) fn starts(&self) -> u32 {
        self.starts
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// How it ended, if it will not run again.
    pub(crate) fn over(&self) -> Option<ExitStatus> {
        match self.state {
            State::Over(status) => Some(status),
            State::Running { .. } | State::Due { .. } | State::Stopped => None,
        }
    }

    pub(crate) fn log(&self, mesh: &Mesh) -> PathBuf {
        mesh.log(&self.launch.log)
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.process() {
            process.signal(signal);
        }
    }
}

fn forget(mesh: &Mesh, name: &str) {
    // The process is gone; a record left over names nobody.
    let _unused = std::fs::remove_file(mesh.process(name));
}
