//! The name of a local mesh and the layout of its run directory.
//! Everything a mesh makes on the machine has its place under that directory before it is made, so the
//! directory itself is the record from which `down` takes the mesh apart. Makes nothing itself.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A mesh name is part of a directory name; this is enough for a person's names and ours.
const NAME_LIMIT: usize = 40;

/// The name of a mesh: lower-case letters, digits and dashes, as a Kubernetes name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshName(String);

/// Why a text is no mesh name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no mesh name: use 1 to {NAME_LIMIT} lower-case letters, digits and dashes")]
pub(crate) struct MeshNameError {
    text: String,
}

impl FromStr for MeshName {
    type Err = MeshNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > NAME_LIMIT || text.starts_with('-') || !text.chars().all(fine) {
            return Err(MeshNameError { text: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

/// The mesh of a person who names none.
impl Default for MeshName {
    fn default() -> Self {
        Self("local".to_owned())
    }
}

impl std::fmt::Display for MeshName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where one mesh keeps everything it makes.
#[derive(Debug, Clone)]
pub(crate) struct Mesh {
    name: MeshName,
    dir: PathBuf,
}

impl Mesh {
    pub(crate) fn new(run_root: &Path, name: MeshName) -> Self {
        let dir = run_root.join(name.to_string());
        Self { name, dir }
    }

    pub(crate) fn name(&self) -> &MeshName {
        &self.name
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the mesh was asked to be: written once, by `up`.
    pub(crate) fn spec(&self) -> PathBuf {
        self.dir.join("mesh.json")
    }

    /// Where `local` commands talk to the supervisor.
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Patches and objects that the mesh, or a person by command, lays over the manifests.
    pub(crate) fn overlay(&self) -> PathBuf {
        self.dir.join("overlay")
    }

    pub(crate) fn spaces(&self) -> PathBuf {
        self.dir.join("netns")
    }

    /// The file a namespace is pinned to.
    pub(crate) fn space(&self, name: &str) -> PathBuf {
        self.spaces().join(name)
    }

    pub(crate) fn processes(&self) -> PathBuf {
        self.dir.join("proc")
    }

    /// The record of one process: empty when it is about to start, then its id and start time.
    pub(crate) fn process(&self, name: &str) -> PathBuf {
        self.processes().join(name)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Links to the programs that the supervisor holds.
    pub(crate) fn programs(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// Files of the control plane: its keys, its state.
    pub(crate) fn control_plane(&self) -> PathBuf {
        self.dir.join("control-plane")
    }

    /// What everybody in the mesh believes; there once the control plane has made it.
    pub(crate) fn root_certificate(&self) -> PathBuf {
        self.control_plane().join("state").join("root-cert.pem")
    }

    /// Sockets and credentials of one node.
    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.dir.join("node").join(node)
    }

    /// Generated files of one pod (`/etc/hosts`, `/etc/resolv.conf`).
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.dir.join("pod").join(uid)
    }

    /// Manifests of a mesh that brings its own.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// The directories every mesh has, parents first.
    pub(crate) fn skeleton(&self) -> Vec<PathBuf> {
        vec![
            self.dir.clone(),
            self.spaces(),
            self.processes(),
            self.logs(),
            self.control_plane(),
            self.dir.join("node"),
            self.dir.join("pod"),
            self.overlay(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_name_cannot_leave_its_directory() {
        for (text, fine) in
            [("local", true), ("demo-7", true), ("", false), ("-a", false), ("../x", false), ("A", false)]
        {
            assert_eq!(text.parse::<MeshName>().is_ok(), fine, "{text}");
        }
    }
}
