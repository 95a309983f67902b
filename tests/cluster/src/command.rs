//! `ambit-lab`, which `cargo xtask cluster` runs: what can be asked for, and what does it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::layout::Layout;
use crate::node::{self, Node};
use crate::plane::Component;
use crate::spec::{Spec, Wish};
use crate::{Lab, binaries, conformance, enter, guard, kubectl, lab, numbers, up};

/// A real Kubernetes of a few nodes in namespaces of this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask cluster", disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Args)]
struct Which {
    /// Which cluster; several may be up at the same time.
    #[arg(long, default_value = "lab")]
    name: String,
    /// Where clusters keep what they make: on a disk, not on a layer of a container.
    #[arg(long, default_value = lab::STATE)]
    state_dir: PathBuf,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Build the programs that are not in the cache yet: a quarter of an hour the first time.
    Build {
        /// Also upstream's programs, for stories that mix parts.
        #[arg(long)]
        peers: bool,
        /// Also the Gateway API's own tests.
        #[arg(long)]
        conformance: bool,
    },
    /// Bring the cluster up.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
    },
    /// Take the cluster down; nothing of it is left.
    Down,
    /// Show what runs.
    Status,
    /// Run a command on a node.
    Exec {
        /// n1, n2, …
        node: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run `kubectl` as the cluster's administrator.
    Kubectl {
        /// As `kubectl` takes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run Helm as the cluster's administrator.
    Helm {
        /// As `helm` takes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// End a node as a power failure does.
    Crash {
        /// n1, n2, …
        node: String,
    },
    /// Crash a node, where it is up, and start it.
    Reboot {
        /// n1, n2, …
        node: String,
    },
    /// End a part of the control plane without a warning.
    Kill {
        /// For example kube-apiserver.
        component: Component,
    },
    /// Start a part of the control plane that was killed.
    Start {
        /// For example kube-apiserver.
        component: Component,
    },
    /// Give every node the images in these tars.
    Import {
        /// Written by `cargo xtask images`, for example.
        #[arg(required = true)]
        tars: Vec<PathBuf>,
    },
    /// Bring a cluster up, measure what the mesh costs in it and how fast it is, and take it down.
    Numbers,
    /// Run the Gateway API's own tests of meshes, on a cluster that is brought up for them and taken down.
    Conformance(conformance::Asked),
    /// Become a process of the cluster.
    #[command(hide = true)]
    Enter {
        #[arg(long)]
        record: PathBuf,
        #[arg(long)]
        cgroup: String,
        #[arg(long)]
        netns: PathBuf,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Take the cluster down when whoever started this has ended.
    #[command(hide = true)]
    Guard,
    /// Start a node's first process.
    #[command(hide = true)]
    NodeBoot { node: String },
    /// Be a node's first process.
    #[command(hide = true)]
    NodeInit { node: String },
}

/// Does what was asked.
pub fn run(arguments: Arguments) -> ExitCode {
    let layout = Layout::new(&arguments.which.state_dir, &arguments.which.name);
    match answer(&layout, arguments.what) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn answer(layout: &Layout, what: What) -> Result<ExitCode> {
    let node = |name: &str| -> Result<Node> { Node::find(layout, &Spec::read(layout)?, name) };
    match what {
        What::Build { peers, conformance } => {
            let built = binaries::build(&binaries::cache())?;
            println!("{}\n{}\n{}", built.kube.display(), built.coredns.display(), built.helm.display());
            if peers {
                println!("{}", binaries::upstream()?.pilot.display());
            }
            if conformance {
                println!("{}", binaries::suite()?.tests.display());
            }
        }
        What::Up { nodes } => {
            up::up(layout, (nodes, Wish::default()), None, &mut |step| println!("{step}"))?;
            import_built(layout)?;
            println!("{}", ready(layout)?);
        }
        What::Down if !layout.dir().exists() => println!("cluster {} is not up", layout.name()),
        What::Down => {
            up::down(layout)?;
            println!("cluster {} is down; nothing of it is left", layout.name());
        }
        What::Status => print!("{}", up::status(layout)?),
        What::Exec { node: name, command } => {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            return hand_over(node(&name)?.command(&words)?);
        }
        What::Kubectl { arguments } => {
            let mut command = kubectl::command(layout, &Spec::read(layout)?);
            command.args(arguments);
            return hand_over(command);
        }
        What::Helm { arguments } => return hand_over(Lab::attach(layout)?.helm_command(&arguments)?),
        What::Crash { node: name } => node(&name)?.crash()?,
        What::Reboot { node } => Lab::attach(layout)?.reboot(&node)?,
        What::Kill { component } => Lab::attach(layout)?.kill(component)?,
        What::Start { component } => Lab::attach(layout)?.start(component)?,
        What::Import { tars } => tars.iter().try_for_each(|tar| Lab::attach(layout)?.import_image(tar))?,
        What::Enter { record, cgroup, netns, command } => {
            enter::become_program(&record, &cgroup, &netns, &command)?;
        }
        What::Guard => guard::watch(layout)?,
        What::Numbers => numbers::run()?,
        What::Conformance(asked) => conformance::run(layout, &asked)?,
        What::NodeBoot { node } => node::boot(layout, &node)?,
        What::NodeInit { node } => node::init::run(layout, &node)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn hand_over(mut command: std::process::Command) -> Result<ExitCode> {
    let status = command.status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Gives nodes the images that `cargo xtask images` has made, where it has.
fn import_built(layout: &Layout) -> Result<()> {
    let images = programs()?.parent().map(|target| target.join("images"));
    let entries = images.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let tars: Vec<_> =
        entries.map(|it| it.path()).filter(|it| it.extension().is_some_and(|end| end == "tar")).collect();
    let lab = Lab::attach(layout)?;
    tars.iter().try_for_each(|tar| lab.import_image(tar))?;
    match tars.len() {
        0 => println!(
            "         without images of the mesh: cargo xtask images, cargo xtask cluster import target/images/*.tar"
        ),
        count => println!("         nodes have {count} images of the mesh"),
    }
    Ok(())
}

/// Where this program is, with `ambit` beside it.
fn programs() -> Result<PathBuf> {
    let ambit = enter::beside("ambit")?;
    Ok(ambit.parent().map(Path::to_path_buf).unwrap_or_default())
}

/// What a person types next: programs on the path, and where documents find this repository.
fn ready(layout: &Layout) -> Result<String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    Ok(format!(
        "cluster {} is up\n  export KUBECONFIG={} AMBIT={} PATH={}:{}:$PATH\n  kubectl get pods -A",
        layout.name(),
        layout.kubeconfig("admin").display(),
        repository.display(),
        layout.bin().display(),
        programs()?.display(),
    ))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
        for line in [
            "x --name a up --nodes 3",
            "x exec n1 -- ip -br addr",
            "x kubectl -n kube-system get pods -o wide",
            "x kill kube-apiserver",
        ] {
            Arguments::try_parse_from(line.split(' ')).unwrap();
        }
        assert!(Arguments::try_parse_from(["x", "kill", "kubelet"]).is_err());
    }
}
