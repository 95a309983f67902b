//! `ambit local down`: takes a mesh apart from what its run directory says, whoever is still alive to help.
//! Every step may be repeated and may find its work done: a `down` that was killed is followed by another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::mesh::Mesh;
use super::process::{self, Process};
use super::space::{self, SpaceError};
use super::spec::supervisor;

/// How long the supervisor may take to end its pods and programs in order.
const ORDERLY_WAIT: Duration = Duration::from_secs(12);
/// How long processes may take that nobody ended in order.
const SHORT_WAIT: Duration = Duration::from_millis(500);
/// Rounds of looking for processes: one that was just being started shows up in the next round.
const ROUNDS: usize = 5;

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownError {
    #[error("taking a mesh down needs root: run this with sudo")]
    NotRoot,
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("process {told} does not end")]
    Process { told: String },
    #[error("cannot remove {path}")]
    Remove { path: PathBuf, source: io::Error },
}

/// Takes the mesh down; nothing of it is left when this is `Ok`.
pub(crate) fn down(mesh: &Mesh) -> Result<(), DownError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DownError::NotRoot);
    }
    if let Some(supervisor) = supervisor(mesh) {
        // It alone, not its group: the programs are ended by it, in order.
        supervisor.signal(Signal::SIGTERM);
        process::end(&[supervisor], ORDERLY_WAIT);
    }
    // From here on nothing new is recorded: `ambit enter` finds its record gone and starts nothing.
    let recorded = recorded(mesh);
    remove_tree(&mesh.processes())?;
    let pins = pins(mesh);
    for _ in 0..ROUNDS {
        let mut left = process::inside(&pins);
        left.extend(recorded.iter().copied().filter(|process| process.is_alive()));
        if left.is_empty() {
            break;
        }
        process::end(&left, SHORT_WAIT);
    }
    if let Some(stuck) = process::inside(&pins).first() {
        return Err(DownError::Process { told: stuck.told() });
    }
    for pin in &pins {
        space::remove(pin)?;
    }
    remove_tree(mesh.dir())?;
    if let Some(root) = mesh.dir().parent() {
        // Other meshes may live there.
        let _others = fs::remove_dir(root);
    }
    Ok(())
}

/// The files all namespaces of the mesh are pinned to.
pub(crate) fn pins(mesh: &Mesh) -> Vec<PathBuf> {
    files(&mesh.spaces())
}

fn recorded(mesh: &Mesh) -> Vec<Process> {
    files(&mesh.processes()).iter().filter_map(|path| Process::recorded(path)).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn remove_tree(path: &Path) -> Result<(), DownError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DownError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
