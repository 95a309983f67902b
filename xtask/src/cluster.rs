//! `cargo xtask cluster`: a real Kubernetes on this machine.
//! Owns prerequisites and the build; what is done is `ambit-lab`'s, in tests/cluster.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::need::{self, Tool};
use crate::workspace::{Workspace, cargo};
use crate::{demo, run};

/// What nodes and the control plane are made of, beside what is built from Go modules. A tool that is not on the
/// path is named by its file.
const TOOLS: [Tool; 12] = [
    need::IPROUTE,
    need::NFT,
    need::COMPILER,
    Tool { program: "etcd", package: "etcd-server" },
    Tool { program: "containerd", package: "containerd" },
    Tool { program: "runc", package: "runc" },
    Tool { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
    Tool { program: "conntrack", package: "conntrack" },
    Tool { program: "ipset", package: "ipset" },
    Tool { program: "iptables", package: "iptables" },
    Tool { program: "curl", package: "curl" },
    Tool { program: "pkill", package: "procps" },
];

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let lab = workspace.built("debug", "ambit-lab");
    let brings_up = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "up" || arg == "build");
    // Once a cluster is up, a question to it does not wait for a build.
    if brings_up || !lab.is_file() {
        need::root("a cluster")?;
        tools()?;
        run::shown(&mut programs(workspace))?;
    }
    let failed = Command::new(&lab).args(args).exec();
    Err(failed).with_context(|| format!("{} does not start", lab.display()))
}

/// Makes sure everything is there that a cluster is made of.
pub(crate) fn tools() -> Result<()> {
    need::tools(&TOOLS.each_ref())
}

/// Builds what clusters are made of from Go modules, where it is not there yet; `more` goes to `ambit-lab build`.
pub(crate) fn build(workspace: &Workspace, more: &[&str]) -> Result<()> {
    run::shown(Command::new(workspace.built("debug", "ambit-lab")).arg("build").args(more))
}

/// The cluster's own program, and the one that runs in its pods.
fn programs(workspace: &Workspace) -> Command {
    let mut build = cargo();
    build.args(["build", "--workspace", "--bin", "ambit-lab", "--bin", "ambit"]).args(demo::AS_TESTS_DO);
    build.current_dir(&workspace.root);
    build
}
