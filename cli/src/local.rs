//! `ambit local`: nodes and pods as network namespaces on this machine.
//! The commands; the mesh itself is run by its supervisor, which they talk to.

mod change;
mod container;
mod down;
mod held;
mod hosts;
mod ipam;
mod jobs;
mod kept;
mod launch;
mod layout;
mod links;
mod logs;
mod mesh;
mod names;
mod plugin;
mod pods;
mod probe;
mod process;
mod programs;
mod report;
mod sandbox;
mod services;
mod show;
mod space;
mod spec;
mod supervisor;
mod tokens;
mod up;
mod waypoints;
mod world;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use ambit_process::config::{Env, Faults};
use ambit_process::observe::{LogConfig, init_logs};
use clap::{Args, Subcommand};

pub(crate) use self::change::{Labels, change_labels};
pub(crate) use self::down::{down, pins};
pub(crate) use self::layout::LAN;
pub(crate) use self::mesh::{Mesh, MeshName};
pub(crate) use self::process::{Process, inside_any as processes_in};
pub(crate) use self::report::{AskError, Component, PodStatus, Request, Status, ask, status};
pub(crate) use self::show::{beside_ambit, find_pod, replace_ztunnel};
pub(crate) use self::space::{SpaceError, enter as enter_space, within};
pub(crate) use self::spec::Spec;
pub(crate) use self::up::{is_ready, up};

use self::logs::LogsArgs;
use crate::args::{Which, fail};
use crate::output::Output;

/// What `ambit local` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct LocalArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: LocalCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum LocalCommand {
    /// Start a mesh from a directory of manifests, and wait until it is ready.
    Up(UpArgs),
    /// Show nodes, programs and pods.
    Status {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// As `-o json`.
        #[arg(long, hide = true, conflicts_with = "output")]
        json: bool,
    },
    /// Run a command in a pod's namespace.
    Exec {
        /// NAME or NAMESPACE/NAME.
        pod: String,
        /// Taken as kubectl takes them; the command has this terminal in any case.
        #[arg(short = 'i', long)]
        stdin: bool,
        /// As -i.
        #[arg(short = 't', long)]
        tty: bool,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Print the log of a program (istiod, cni@NODE, ztunnel@NODE), a pod, or the supervisor.
    Logs(LogsArgs),
    /// Set labels (KEY=VALUE) or remove them (KEY-).
    Label {
        /// For example namespace or pod.
        kind: String,
        /// NAME or NAMESPACE/NAME.
        object: String,
        /// KEY=VALUE or KEY-.
        #[arg(required = true)]
        labels: Vec<String>,
    },
    /// Lay the objects of a manifest over the directory.
    Apply {
        /// The manifest.
        #[arg(short = 'f', long)]
        file: PathBuf,
    },
    /// Take an object away.
    Delete {
        /// For example pod or authorizationpolicy.
        kind: String,
        /// NAME or NAMESPACE/NAME.
        object: String,
    },
    /// Print what passes between the nodes, until standard input ends: one JSON object a TCP segment.
    Wire,
    /// End a mesh; without a name also what killed demos have left.
    Down,
    /// Kill a program; it stays away until it is started.
    #[command(hide = true)]
    Kill {
        /// istiod, cni@NODE or ztunnel@NODE.
        component: Component,
    },
    /// Start a program that was killed.
    #[command(hide = true)]
    Start {
        /// istiod, cni@NODE or ztunnel@NODE.
        component: Component,
    },
    /// Start a second ztunnel on a node and let the first end when the second is ready.
    #[command(hide = true)]
    Overlap {
        /// The node.
        node: String,
    },
    /// Run a mesh in this process.
    #[command(hide = true)]
    Supervise,
}

#[derive(Debug, Clone, Args)]
struct UpArgs {
    /// The directory of manifests.
    dir: PathBuf,
    /// How many nodes.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Where the mesh's programs are; default: beside `ambit`.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Nodes and pods only: no program of the mesh, no plugin.
    #[arg(long)]
    bare: bool,
}

/// Does what was asked of `ambit local`.
pub(crate) fn run(args: LocalArgs) -> ExitCode {
    let mesh = args.which.mesh();
    let done = match args.command {
        LocalCommand::Up(up) => show::up(&mesh, &up),
        LocalCommand::Status { output, json } => {
            show::status(&mesh, if json { Output::Json } else { output })
        }
        LocalCommand::Exec { pod, command, stdin: _, tty: _ } => return show::exec(&mesh, &pod, command),
        LocalCommand::Logs(args) => logs::print(&mesh, &args),
        LocalCommand::Label { kind, object, labels } => change::label(&mesh, &kind, &object, &labels),
        LocalCommand::Apply { file } => change::apply(&mesh, &file),
        LocalCommand::Delete { kind, object } => change::delete(&mesh, &kind, &object),
        LocalCommand::Wire => show::wire(&mesh),
        LocalCommand::Down => return down_all(&args.which),
        LocalCommand::Kill { component } => show::tell(&mesh, &Request::Kill(component)),
        LocalCommand::Start { component } => show::tell(&mesh, &Request::Start(component)),
        LocalCommand::Overlap { node } => show::overlap(&mesh, &node),
        LocalCommand::Supervise => return supervise(mesh),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

/// Takes down the mesh that is meant and, where none was named, those whose owner is gone.
fn down_all(which: &Which) -> ExitCode {
    let mut gone = vec![which.mesh()];
    if which.name.is_none() {
        let abandoned = |mesh: &Mesh| Spec::read(mesh).is_ok_and(|spec| spec.is_abandoned());
        gone.extend(spec::all(&which.run_dir).into_iter().filter(abandoned));
    }
    gone.retain(|mesh| mesh.dir().exists());
    if gone.is_empty() {
        println!("mesh {} is not up; there is nothing to take down", which.mesh().name());
    }
    for mesh in &gone {
        match down(mesh) {
            Ok(()) => println!("mesh {} is down; nothing of it is left", mesh.name()),
            Err(error) => return fail(&error),
        }
    }
    ExitCode::SUCCESS
}

fn supervise(mesh: Mesh) -> ExitCode {
    let mut faults = Faults::new();
    let _logs = init_logs(&LogConfig::read(&Env, &mut faults, "ambit_cli::"));
    if let Err(error) = faults.into_result(()) {
        return fail(&error);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(supervisor::supervise(mesh));
            // A probe that still waits for an answer holds nothing up.
            runtime.shutdown_background();
            done
        }
        Err(error) => return fail(&error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}
