//! `ambit enter`: becomes a process of a mesh. Records itself, moves into a namespace, puts the mesh's
//! own `/etc/hosts` and `/etc/resolv.conf` in place, and turns into the command it was given.
//! Every process of a mesh starts through here, so none runs that `local down` does not know.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::local::{Process, SpaceError, beside_ambit, enter_space};

/// What `ambit enter` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnterArgs {
    /// Namespace to move into.
    #[arg(long)]
    pub(crate) netns: PathBuf,
    /// File to record the process in; it must exist.
    #[arg(long)]
    pub(crate) record: Option<PathBuf>,
    /// File to see as /etc/hosts.
    #[arg(long)]
    pub(crate) hosts: Option<PathBuf>,
    /// File to see as /etc/resolv.conf.
    #[arg(long)]
    pub(crate) resolv: Option<PathBuf>,
    /// Directory in which programs are looked for first.
    #[arg(long)]
    pub(crate) path_first: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// Why the command could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    #[error("the mesh is gone: no record at {path}")]
    NoRecord { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("cannot put {file} in place of {target}")]
    Mount { file: PathBuf, target: &'static str, source: io::Error },
    #[error("cannot run {program:?}")]
    Exec { program: OsString, source: io::Error },
}

impl EnterError {
    /// The exit code, as shells and container runtimes have it: what ran and failed has a code of its own, so
    /// these tell that nothing ran.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NoRecord { .. } | Self::Space(_) | Self::Mount { .. } => NOT_ENTERED,
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => NO_PROGRAM,
            Self::Exec { .. } => NOT_STARTED,
        }
    }
}

/// Exit code where the command could not even be tried.
pub(crate) const NOT_ENTERED: u8 = 125;
const NOT_STARTED: u8 = 126;
const NO_PROGRAM: u8 = 127;

/// Turns this process into the command; returns only when that fails.
pub(crate) fn become_command(args: &EnterArgs) -> EnterError {
    match prepare(args) {
        Err(error) => error,
        Ok(()) => {
            let mut words = args.command.iter();
            let program = words.next().cloned().unwrap_or_default();
            let mut command = Command::new(&program);
            if let Some(first) = &args.path_first {
                command.env("PATH", search_path(first));
            }
            let source = command.args(words).exec();
            EnterError::Exec { program, source }
        }
    }
}

fn prepare(args: &EnterArgs) -> Result<(), EnterError> {
    if let Some(path) = &args.record {
        // A group of its own: whoever ends the process ends its children with it.
        let _already_leader = nix::unistd::setsid();
        let own = Process::own().ok_or_else(|| io::Error::other("no /proc"));
        own.and_then(|own| own.record(path))
            .map_err(|source| EnterError::NoRecord { path: path.clone(), source })?;
    }
    enter_space(&args.netns)?;
    if args.hosts.is_some() || args.resolv.is_some() {
        own_mounts(args)?;
    }
    Ok(())
}

/// Where the command looks for programs: `first`, then where `ambit` itself is, then the usual places.
pub(crate) fn search_path(first: &Path) -> OsString {
    let mut path = first.as_os_str().to_owned();
    if let Ok(own) = beside_ambit() {
        path.push(":");
        path.push(own);
    }
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

fn own_mounts(args: &EnterArgs) -> Result<(), EnterError> {
    let failed = |file: &Path, target, source: nix::Error| EnterError::Mount {
        file: file.to_owned(),
        target,
        source: source.into(),
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| failed(Path::new("/"), "/", e))?;
    // WHY slave: what is unmounted outside goes away in here too; nothing done in here is seen outside.
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .map_err(|e| failed(Path::new("/"), "/", e))?;
    for (file, target) in [(&args.hosts, "/etc/hosts"), (&args.resolv, "/etc/resolv.conf")] {
        let Some(file) = file else { continue };
        // A machine without the file has nothing to cover, and no resolver that would read it.
        if Path::new(target).exists() {
            mount(Some(file), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|e| failed(file, target, e))?;
        }
    }
    Ok(())
}
