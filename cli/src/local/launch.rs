//! Starts one process of a mesh through `ambit enter`: recorded, in its namespace, its output in a log file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::mesh::Mesh;

/// What to start, and how it sees the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Names the record; one process at a time has it.
    pub(crate) name: String,
    /// Names the log file; processes may share it.
    pub(crate) log: String,
    /// The namespace it lives in.
    pub(crate) space: PathBuf,
    /// What it sees as `/etc/hosts` and `/etc/resolv.conf`, if not the machine's own.
    pub(crate) hosts: Option<PathBuf>,
    pub(crate) resolv: Option<PathBuf>,
    pub(crate) command: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Whether it inherits the supervisor's environment (programs) or none of it (containers).
    pub(crate) inherit_env: bool,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("cannot write {path}")]
    Record { path: PathBuf, source: io::Error },
    #[error("cannot start {name}")]
    Spawn { name: String, source: io::Error },
}

/// The command that becomes it. The record is on disk before the process is there.
pub(crate) fn prepare(mesh: &Mesh, launch: &Launch) -> Result<Command, LaunchError> {
    let record = mesh.process(&launch.name);
    File::create(&record)
        .and_then(|file| file.sync_all())
        .map_err(|source| LaunchError::Record { path: record.clone(), source })?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("enter").arg("--record").arg(&record).arg("--netns").arg(&launch.space);
    if let Some(hosts) = &launch.hosts {
        command.arg("--hosts").arg(hosts);
    }
    if let Some(resolv) = &launch.resolv {
        command.arg("--resolv").arg(resolv);
    }
    command.arg("--").args(&launch.command);
    if !launch.inherit_env {
        command.env_clear();
    }
    command.envs(launch.env.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

/// Starts it, its output in its log.
pub(crate) fn launch(mesh: &Mesh, launch: &Launch) -> Result<Child, LaunchError> {
    let path = mesh.log(&launch.log);
    let log = File::options().create(true).append(true).open(&path);
    let log = log.map_err(|source| LaunchError::Record { path, source })?;
    let mut command = prepare(mesh, launch)?;
    let spawned =
        log.try_clone().and_then(|errors| command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn());
    spawned.map_err(|source| {
        // Nothing runs under this record.
        let _unused = fs::remove_file(mesh.process(&launch.name));
        LaunchError::Spawn { name: launch.name.clone(), source }
    })
}
