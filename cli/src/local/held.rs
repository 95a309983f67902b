//! The programs of a mesh, held open for as long as its supervisor lives: a build that replaces them on disk
//! changes nothing for a mesh that runs. Owns the directory of links under which everyone finds them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::mesh::Mesh;
use super::programs::BINARIES;

/// Open programs. Their links lead nowhere once this is dropped.
#[derive(Debug)]
pub(super) struct Held(
    #[expect(dead_code, reason = "an open file is what keeps a replaced program there")] Vec<File>,
);

/// Why a program could not be held.
#[derive(Debug, thiserror::Error)]
#[error("cannot hold {path}")]
pub(crate) struct HoldError {
    path: PathBuf,
    source: io::Error,
}

/// The command itself: pods run its small programs.
const AMBIT: &str = "ambit";

/// Opens what is in `bin_dir` and links to it in the mesh's own directory.
pub(super) fn hold(mesh: &Mesh, bin_dir: &Path) -> Result<Held, HoldError> {
    let links = mesh.programs();
    fs::create_dir_all(&links).map_err(|source| HoldError { path: links.clone(), source })?;
    let mut open = Vec::new();
    for name in BINARIES.into_iter().chain([AMBIT]) {
        let beside = bin_dir.join(name);
        let path = match name {
            AMBIT if !beside.exists() => PathBuf::from("/proc/self/exe"),
            // A mesh of nodes and pods only needs none of them.
            _ if !beside.exists() => continue,
            _ => beside,
        };
        let held = File::open(&path).and_then(|file| {
            // WHY by process and descriptor: this leads to the very file that was opened, also when its name
            // means another one by now, or none.
            symlink(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()), links.join(name))?;
            Ok(file)
        });
        open.push(held.map_err(|source| HoldError { path, source })?);
    }
    Ok(Held(open))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn script(path: &Path, text: &str) {
        fs::copy(text, path).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_program_that_is_replaced_on_disk_stays_what_it_was_for_the_mesh() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, mesh) = (dir.path().join("bin"), Mesh::new(dir.path(), "m".parse().unwrap()));
        fs::create_dir_all(&bin).unwrap();
        let ztunnel = bin.join("ztunnel");
        script(&ztunnel, "/bin/true");
        let held = hold(&mesh, &bin).unwrap();
        let run = || Command::new(mesh.programs().join("ztunnel")).status();
        assert!(run().unwrap().success());
        fs::remove_file(&ztunnel).unwrap();
        assert!(run().unwrap().success(), "as while a linker writes");
        script(&ztunnel, "/bin/false");
        assert!(run().unwrap().success(), "as after it");
        drop(held);
        assert!(run().is_err(), "nothing is held any more");
    }
}
