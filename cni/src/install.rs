//! Our plugin on the node: its program in the runtime's folder, and its entry in the runtime's configuration
//! (`cni.md` 6). Owns one pass over both, and their removal. When to pass is `keep`'s; what to write is `plan`'s.
//!
//! There is no credential to install: the plugin asks the daemon, not the cluster.

mod file;
pub(crate) mod keep;
pub mod list;
pub mod plan;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use plan::{Plan, Way};

/// Where and how the plugin is installed.
#[derive(Debug, Clone)]
pub struct Site {
    /// The runtime's folder of configurations.
    pub net_dir: PathBuf,
    /// The runtime's folder of plugins.
    pub bin_dir: PathBuf,
    /// The plugin's program, to be copied.
    pub program: PathBuf,
    /// How its entry gets in.
    pub way: Way,
    /// The entry.
    pub entry: Value,
    /// Permissions of configurations that were not there before.
    pub mode: u32,
}

/// What the entry tells the plugin.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// Where it finds the daemon.
    pub run_dir: &'a Path,
    /// Where the daemon's own pods are.
    pub pod_namespace: &'a str,
    /// Namespaces it need not ask about.
    pub excluded: Vec<String>,
}

/// Why the plugin is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The program was not copied.
    #[error("cannot copy the plugin {} into {}; is the folder writable, and the platform's own?", from.display(), into.display())]
    Program {
        /// The program.
        from: PathBuf,
        /// The folder.
        into: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration was not changed.
    #[error("cannot configure the plugin in {}; is the folder writable, and the platform's own?", folder.display())]
    Configuration {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// All was as it should be.
    Valid,
    /// Something was put right.
    Changed,
    /// There is no network configuration to get into yet.
    NoPrimary,
}

/// The plugin's entry.
#[must_use]
pub fn entry(told: &Told<'_>) -> Value {
    json!({
        "type": list::TYPE,
        "cni_agent_run_dir": told.run_dir,
        "pod_namespace": told.pod_namespace,
        "exclude_namespaces": told.excluded,
    })
}

impl Site {
    /// Brings program and configuration to what they should be. The program first: a runtime that is told of a plugin
    /// it does not have starts no pods at all.
    ///
    /// # Errors
    /// When a folder cannot be read or written.
    pub fn pass(&self) -> Result<Pass, InstallError> {
        let copied = self.copy_program().map_err(|source| InstallError::Program {
            from: self.program.clone(),
            into: self.bin_dir.clone(),
            source,
        })?;
        let failed = |source| InstallError::Configuration { folder: self.net_dir.clone(), source };
        let folder = file::read(&self.net_dir).map_err(failed)?;
        let steps = match plan::install(&folder, &self.way, &self.entry, self.mode) {
            Plan::Do(steps) => steps,
            Plan::NoPrimary => return Ok(Pass::NoPrimary),
        };
        for step in &steps {
            file::act(&self.net_dir, step).map_err(failed)?;
        }
        Ok(if copied || !steps.is_empty() { Pass::Changed } else { Pass::Valid })
    }

    fn copy_program(&self) -> io::Result<bool> {
        /// Whoever runs the runtime runs its plugins.
        const MODE: u32 = 0o755;
        let bytes = fs::read(&self.program)?;
        if fs::read(self.bin_dir.join(list::TYPE)).is_ok_and(|there| there == bytes) {
            return Ok(false);
        }
        file::write(&self.bin_dir, list::TYPE, &bytes, MODE).map(|()| true)
    }
}

/// Takes the plugin off the node: out of the configuration first, then its program. Nothing there is success.
///
/// # Errors
/// When a folder cannot be read or written.
pub fn remove(net_dir: &Path, bin_dir: Option<&Path>, own: Option<&str>) -> Result<(), InstallError> {
    let failed = |source| InstallError::Configuration { folder: net_dir.into(), source };
    let folder = match file::read(net_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => plan::Folder::new(),
        other => other.map_err(failed)?,
    };
    for step in plan::remove(&folder, own) {
        file::act(net_dir, &step).map_err(failed)?;
    }
    let Some(bin_dir) = bin_dir else { return Ok(()) };
    let program = bin_dir.join(list::TYPE);
    match fs::remove_file(&program) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::Program { from: program, into: bin_dir.into(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
