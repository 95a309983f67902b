//! What a program needs beside itself: the shared libraries that the machine's own loader would give it.
//! Owns asking the loader; an image puts what it names at the same places.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why it is not known what a program needs.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The program, or a library of it, cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// `ldd` does not start.
    #[error("cannot ask which libraries a program needs: `ldd` (package libc-bin) does not start")]
    Ldd(#[source] io::Error),
    /// A library is not on this machine.
    #[error("{program} needs {library}, which this machine does not have")]
    Missing {
        /// Who needs it.
        program: PathBuf,
        /// What is needed.
        library: String,
    },
}

/// Every library of the program, by the path at which it is looked for.
pub(crate) fn libraries(program: &Path) -> Result<Vec<PathBuf>, ProgramError> {
    let listed = Command::new("ldd").arg(program).env("LC_ALL", "C").output().map_err(ProgramError::Ldd)?;
    // A static program is none for `ldd`: it fails, and there is nothing to add.
    parse(&String::from_utf8_lossy(&listed.stdout))
        .map_err(|library| ProgramError::Missing { program: program.to_owned(), library })
}

/// Lines of `ldd`: `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)` of the loader, `NAME (ADDRESS)` of what the kernel
/// maps, `NAME => not found`.
fn parse(listed: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in listed.lines() {
        let line = line.trim();
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        if let Some(path) = place.split(" (").next().filter(|path| path.starts_with('/')) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path_and_one_that_is_missing_is_named() {
        let listed =
            "\tlinux-vdso.so.1 (0x7ff)\n\tlibm.so.6 => /lib/libm.so.6 (0x7fa)\n\t/lib64/ld.so.2 (0x7fb)\n";
        assert_eq!(parse(listed), Ok(vec!["/lib/libm.so.6".into(), "/lib64/ld.so.2".into()]));
        assert_eq!(parse("\tstatically linked\n"), Ok(vec![]));
        assert_eq!(parse("\tlibx.so => not found\n"), Err("libx.so".to_owned()));
    }
}
