//! The first process of a node: makes its file system, starts its programs, starts them again when they end, and
//! reaps whatever loses its parent. Never ends by itself once the programs run.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

use super::settings::{PATH, Program, Texts, programs};
use super::{Node, root};
use crate::layout::Layout;
use crate::spec::Spec;
use crate::wait::pause;

/// Between the end of a program and its next start.
const PAUSE: Duration = Duration::from_secs(1);

/// containerd opens its socket within a second on a quiet machine.
const SOCKET_WAIT: Duration = Duration::from_secs(60);

/// Becomes the node. The caller is the first process of a new process namespace, in the node's control group and
/// network.
pub fn run(layout: &Layout, name: &str) -> Result<()> {
    let spec = Spec::read(layout)?;
    let number = Node::find(layout, &spec, name)?.number;
    let texts = Texts::read(layout, &spec, number)?;
    // From here on the node's group is the root of its groups, and nobody sees its mounts.
    unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS)
        .context("namespaces for groups and mounts")?;
    root::enter(layout, name, &spec.kube)?;
    fs::write("/proc/sys/kernel/hostname", name).context("the host name")?;
    texts.write(&spec, number)?;
    fs::create_dir_all("/var/log/lab")?;
    keep(&programs(&spec, number))
}

fn keep(programs: &[Program]) -> Result<()> {
    let mut running: HashMap<Pid, &Program> = HashMap::new();
    for program in programs {
        running.insert(start(program)?, program);
        until_socket();
    }
    loop {
        // With no child at all it fails; one is always about to be started.
        let ended = match wait() {
            Ok(WaitStatus::Exited(pid, code)) => (pid, format!("status {code}")),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal.to_string()),
            _ => continue,
        };
        let Some(program) = running.remove(&ended.0) else { continue };
        eprintln!("{} has ended with {} and is started again", program.name, ended.1);
        pause(PAUSE);
        running.insert(start(program)?, program);
    }
}

/// The kubelet ends when containerd does not answer yet. Should it never answer, that is seen in the logs of both.
fn until_socket() {
    let socket = Path::new("/run/containerd/containerd.sock");
    let until = Instant::now() + SOCKET_WAIT;
    while !socket.exists() && Instant::now() < until {
        pause(Duration::from_millis(50));
    }
}

fn start(program: &Program) -> Result<Pid> {
    let path = Path::new("/var/log/lab").join(format!("{}.log", program.name));
    let log =
        File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    let mut command = Command::new(program.name);
    command.args(&program.arguments).env_clear().env("PATH", PATH).env("HOME", "/root");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("{} does not start", program.name))?;
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}
