//! What clears up after a test that is killed: a process beside it, which takes the cluster down when the test is gone.
//! Owns that process, on both sides. How a cluster is taken down is `up`'s.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::enter;
use crate::layout::Layout;
use crate::spec::Spec;
use crate::up;
use crate::wait::wait;

/// A test counts as ended a moment after its files are closed.
const OWNER_WAIT: Duration = Duration::from_secs(60);

/// The test's side: dropped by a test that has taken its cluster down itself.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Starts it, before there is anything to take down.
    pub fn start(layout: &Layout) -> Result<Self> {
        let mut guard = Command::new(enter::beside("ambit-lab")?);
        guard.arg("--state-dir").arg(layout.root()).args(["--name", layout.name(), "guard"]);
        // A group of its own: what ends the test with its group leaves this.
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).current_dir("/");
        guard.spawn().map(Self).context("a cluster's guard does not start")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It does nothing before the test ends, so it can be ended at any moment.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// `ambit-lab guard`: waits until whoever has the other end of its input is gone, and takes down what was left.
pub fn watch(layout: &Layout) -> Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let is_left =
        wait("the end of who brought the cluster up", OWNER_WAIT, &[], || match Spec::read(layout) {
            Ok(spec) if !spec.is_abandoned() => bail!("it runs"),
            found => Ok(found.is_ok()),
        })?;
    if !is_left {
        return Ok(());
    }
    eprintln!("cluster {} was left by a test that ended, and is taken down", layout.name());
    up::down(layout)
}
