//! Becoming a process of a cluster: recorded, in its control group and namespace, before the program starts.
//! Everything outside of nodes starts through here, so nothing runs that taking the cluster down does not find.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ambit_sys::netns::Netns;
use anyhow::{Context as _, Result, bail, ensure};

use crate::cgroup;
use crate::layout::Layout;
use crate::process::Process;

/// Starts a program of a host in the background. Its record and its log have `name`.
pub fn start(layout: &Layout, host: &str, name: &str, program: &Command) -> Result<Child> {
    let log = layout.log(name);
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let log =
        File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
    ensure!(layout.records().is_dir(), "cluster {} is not up", layout.name());
    let record = layout.record(name);
    File::create(&record).with_context(|| record.display().to_string())?;
    let mut enter = Command::new(layout.helper());
    enter.arg("enter").arg("--record").arg(record).arg("--cgroup").arg(layout.host_cgroup(host));
    enter.arg("--netns").arg(layout.pin(host)).arg("--").arg(program.get_program()).args(program.get_args());
    enter.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: what interrupts the caller leaves the cluster alone.
    enter.process_group(0).current_dir("/");
    enter.spawn().with_context(|| format!("{name} does not start"))
}

/// Turns this process into the program; returns only when that fails.
pub fn become_program(record: &Path, group: &str, netns: &Path, command: &[String]) -> Result<()> {
    let own = Process::own().context("no /proc")?;
    own.record(record).context("the cluster is gone")?;
    cgroup::join(group)?;
    Netns::open(netns)?.enter_for_good()?;
    let Some((program, arguments)) = command.split_first() else { bail!("no program was named") };
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("{program} does not start"))
}

/// Keeps `ambit-lab`, this program or the one beside the tests that use the library, with the cluster: a build that
/// replaces it meanwhile does not disturb what is up.
pub fn keep_helper(layout: &Layout) -> Result<()> {
    let own = std::env::current_exe()?;
    let from =
        if own.file_name().is_some_and(|name| name == "ambit-lab") { own } else { beside("ambit-lab")? };
    std::fs::copy(&from, layout.helper()).with_context(|| format!("cannot keep {}", from.display())).map(drop)
}

/// A program that cargo built beside this one.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Tests lie in `deps`, one below the programs.
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: run `cargo build --workspace --bins`"))
}
