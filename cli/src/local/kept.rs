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
    restarts: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Running {
        child: Child,
        since: Instant,
    },
    /// To be started at this time, after this pause.
    Due {
        at: Instant,
        pause: Duration,
    },
    /// Told to stay away.
    Stopped,
    /// Ended for good.
    Over(ExitStatus),
}

impl Kept {
    /// To be started at the next look.
    pub(crate) fn new(launch: Launch, restart: Restart, now: Instant) -> Self {
        Self { launch, restart, restarts: 0, state: State::Due { at: now, pause: FIRST_PAUSE } }
    }

    /// Looks at the process; starts it when it is due. Returns the end it has come to since the last look.
    pub(crate) fn tend(&mut self, mesh: &Mesh, now: Instant) -> Result<Option<ExitStatus>, LaunchError> {
        match &mut self.state {
            State::Running { child, since } => {
                let Ok(Some(status)) = child.try_wait() else { return Ok(None) };
                let steady = now.saturating_duration_since(*since) >= STEADY;
                forget(mesh, &self.launch.name);
                let again = match self.restart {
                    Restart::Always => true,
                    Restart::OnFailure => !status.success(),
                    Restart::Never => false,
                };
                let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.restarts.min(10));
                let pause = if steady { FIRST_PAUSE } else { doubled.min(LONGEST_PAUSE) };
                self.state = if again { State::Due { at: now + pause, pause } } else { State::Over(status) };
                self.restarts = if steady { 1 } else { self.restarts.saturating_add(1) };
                Ok(Some(status))
            }
            State::Due { at, pause } if *at <= now => {
                let pause = (*pause * 2).min(LONGEST_PAUSE);
                match launch(mesh, &self.launch) {
                    Ok(child) => self.state = State::Running { child, since: now },
                    Err(error) => {
                        self.state = State::Due { at: now + pause, pause };
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
            self.state = State::Due { at: now, pause: FIRST_PAUSE };
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
