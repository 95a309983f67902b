//! A node, from outside: started, crashed, rebooted, entered.
//! A node is a process that is the first of its own process namespace, with mounts, a host name, a network and a
//! control group of its own (`init`, `root`). When it is killed, everything in it ends: that is a crash.

pub mod init;
mod root;
mod settings;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};

use crate::cgroup;
use crate::enter;
use crate::layout::{Layout, Slot, node_name};
use crate::net;
use crate::process::{self, Process};
use crate::spec::Spec;
use crate::wait::wait;

/// The first process makes its mounts and starts containerd within this time.
const BOOT_WAIT: Duration = Duration::from_secs(120);
/// After a crash the kernel ends what ran and takes the mounts away.
const CRASH_WAIT: Duration = Duration::from_secs(60);

/// Seconds a command on a node may take, where the caller waits for its end.
const EXEC_LIMIT: &str = "120";

/// One node of a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    layout: Layout,
    slot: Slot,
    number: u8,
}

impl Node {
    /// The node of this name.
    pub fn find(layout: &Layout, spec: &Spec, name: &str) -> Result<Self> {
        let found = spec.each_node().find(|(_, one)| one == name);
        let Some((number, _)) = found else {
            let names: Vec<String> = spec.each_node().map(|(_, name)| name).collect();
            bail!("no node is called {name}; there are {}", names.join(", "));
        };
        Ok(Self { layout: layout.clone(), slot: spec.slot, number })
    }

    /// Its name.
    pub fn name(&self) -> String {
        node_name(self.number)
    }

    /// Its address.
    pub fn address(&self) -> std::net::Ipv4Addr {
        self.slot.node(self.number)
    }

    /// Its first process, while it is up.
    pub fn process(&self) -> Option<Process> {
        Process::recorded(&self.layout.record(&self.name())).filter(|process| process.is_alive())
    }

    /// Starts it: a new network and an empty `/run`; its disk is as it was.
    pub fn start(&self, spec: &Spec) -> Result<()> {
        let name = self.name();
        ensure!(self.process().is_none(), "{name} is up already");
        net::attach(&self.layout, spec, &name, self.address())?;
        let mut boot = Command::new(self.layout.helper());
        boot.arg("--state-dir").arg(self.layout.root()).args(["--name", self.layout.name()]);
        boot.args(["node-boot", &name]);
        // It ends as soon as the node's first process is there, and the record is then that process's.
        let mut child = enter::start(&self.layout, &name, &name, &boot)?;
        let ended = wait(&format!("{name}'s first process"), BOOT_WAIT, &[self.layout.log(&name)], || {
            child.try_wait()?.context("it is still being started")
        })?;
        ensure!(ended.success(), "{name} does not start: {}", crate::wait::tail(&self.layout.log(&name)));
        wait(&format!("{name}'s containerd"), BOOT_WAIT, &self.logs(), || {
            ensure!(self.process().is_some(), "its first process has ended");
            self.exec(&["ctr", "version"]).map(drop)
        })
    }

    /// Ends it as a power failure does.
    pub fn crash(&self) -> Result<()> {
        let name = self.name();
        let Some(first) = self.process() else { bail!("{name} is not up") };
        // Off the network at the same moment: nobody says goodbye to anybody.
        first.kill();
        net::detach(&self.layout, &name)?;
        wait(&format!("{name} to end"), CRASH_WAIT, &[], || {
            let left = process::end(&cgroup::members(&self.layout.host_cgroup(&name))?, Duration::ZERO);
            ensure!(left.is_empty(), "{} processes are left", left.len());
            Ok(())
        })?;
        // Else its next kubelet looks for a container in each of them, for seconds.
        cgroup::clear(&self.layout.host_cgroup(&name))
    }

    /// A crash, and a start after it.
    pub fn reboot(&self, spec: &Spec) -> Result<()> {
        if self.process().is_some() {
            self.crash()?;
        }
        self.start(spec)
    }

    /// A command that runs inside when the caller starts it.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let Some(first) = self.process() else { bail!("{} is not up", self.name()) };
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(first.pid().to_string());
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]).args(arguments);
        command.env("PATH", settings::PATH);
        Ok(command)
    }

    /// As [`Node::command`], ended when it takes too long.
    fn limited(&self, arguments: &[&str]) -> Result<Command> {
        let inner = self.command(arguments)?;
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", EXEC_LIMIT]).arg(inner.get_program()).args(inner.get_args());
        command.env("PATH", settings::PATH);
        Ok(command)
    }

    /// Runs a command inside to its end, at most two minutes; returns what it printed.
    pub fn exec(&self, arguments: &[&str]) -> Result<String> {
        let output = self.limited(arguments)?.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let words = arguments.join(" ");
        ensure!(
            output.status.code() != Some(124),
            "{}: {words}: not done within {EXEC_LIMIT} s",
            self.name()
        );
        ensure!(output.status.success(), "{}: {words}: {}", self.name(), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives it the image in this tar, under the name it has there.
    pub fn import_image(&self, tar: &Path) -> Result<()> {
        let file = File::open(tar).with_context(|| tar.display().to_string())?;
        let mut import = self.limited(&["ctr", "-n", "k8s.io", "images", "import", "-"])?;
        let output = import.stdin(file).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: importing {}: {}", self.name(), tar.display(), said.trim());
        Ok(())
    }

    /// A file inside, as it is now.
    pub fn read(&self, path: &str) -> Result<String> {
        self.exec(&["cat", path])
    }

    /// Writes a file inside.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let mut tee = self.limited(&["tee", path])?;
        let mut child = tee.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            std::io::Write::write_all(&mut input, text.as_bytes())?;
        }
        let mut said = String::new();
        if let Some(mut errors) = child.stderr.take() {
            errors.read_to_string(&mut said)?;
        }
        ensure!(child.wait()?.success(), "{}: writing {path}: {}", self.name(), said.trim());
        Ok(())
    }

    /// The network namespace of a pod that runs on it, by the pod's address.
    pub fn pod_network(&self, address: &str) -> Result<PathBuf> {
        let look = format!(
            "for it in /run/netns/*; do nsenter --net=$it ip -4 -o addr show dev eth0 2>/dev/null | \
             grep -q ' {address}/' && basename $it; done; true"
        );
        let said = self.exec(&["sh", "-c", &look])?;
        let name = said.lines().next().with_context(|| format!("{} has no pod {address}", self.name()))?;
        let first = self.process().with_context(|| format!("{} is not up", self.name()))?;
        Ok(PathBuf::from(format!("/proc/{}/root/run/netns/{name}", first.pid())))
    }

    /// What it and its programs have printed.
    pub fn logs(&self) -> Vec<PathBuf> {
        let name = self.name();
        let inside = ["containerd", "kubelet"].map(|program| self.layout.node_log(&name, program));
        std::iter::once(self.layout.log(&name)).chain(inside).collect()
    }
}

/// `ambit-lab node-boot`: starts the node's first process in namespaces of its own, and writes it down.
pub fn boot(layout: &Layout, name: &str) -> Result<()> {
    let mut first = Command::new(layout.helper());
    first.arg("--state-dir").arg(layout.root()).args(["--name", layout.name(), "node-init", name]);
    let apart = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(apart).context("cannot make a node's namespaces")?;
    let mut child = first.spawn()?;
    let Some(found) = Process::find(i32::try_from(child.id())?) else {
        bail!("the node's first process has ended: {:?}", child.try_wait());
    };
    found.record(&layout.record(name)).context("the cluster is gone")
}
