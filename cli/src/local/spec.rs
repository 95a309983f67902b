//! What a mesh was asked to be, as `up` writes it down for the supervisor and for everyone after it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mesh::Mesh;
use super::process::Process;

/// The order of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The directory of manifests.
    pub(crate) source: PathBuf,
    pub(crate) nodes: u8,
    /// Where the programs are.
    pub(crate) bin_dir: PathBuf,
    /// Nodes and pods only: no program of the mesh runs, no plugin is called.
    pub(crate) bare: bool,
    /// Whoever the mesh belongs to; when that process is gone, `down` takes the mesh away.
    pub(crate) owner: Option<Process>,
}

/// Why the order could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}")]
pub(crate) struct SpecError {
    path: PathBuf,
    source: io::Error,
}

impl Spec {
    pub(crate) fn write(&self, mesh: &Mesh) -> Result<(), SpecError> {
        let path = mesh.spec();
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other);
        text.and_then(|text| fs::write(&path, text)).map_err(|source| SpecError { path, source })
    }

    pub(crate) fn read(mesh: &Mesh) -> Result<Self, SpecError> {
        let path = mesh.spec();
        let read = fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
        read.map_err(|source| SpecError { path, source })
    }

    /// Whether the mesh belongs to a process that is no more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.owner.is_some_and(|owner| !owner.is_alive())
    }
}

/// The names of the supervisor's process record and log.
pub(crate) const SUPERVISOR: &str = "supervisor";

/// The supervisor of a mesh, if it lives.
pub(crate) fn supervisor(mesh: &Mesh) -> Option<Process> {
    Process::recorded(&mesh.process(SUPERVISOR)).filter(|process| process.is_alive())
}

/// Every mesh below a run root, alive or not.
pub(crate) fn all(run_root: &Path) -> Vec<Mesh> {
    let Ok(entries) = fs::read_dir(run_root) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(|name| Mesh::new(run_root, name))
        .collect()
}
