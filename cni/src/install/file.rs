//! Files that others read at any moment and that must survive a power cut: whole or not there, never half.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::install::plan::{File, Folder, Step};

/// A configuration is some kilobytes; anything larger is none.
const CONFIGURATION: u64 = 1 << 20;

/// Marks a file that is being written; no runtime reads this ending.
const UNFINISHED: &str = ".ambit-tmp";

/// Reads all files of a folder that could be configurations. What is not readable is not there for a runtime either.
pub(super) fn read(folder: &Path) -> io::Result<Folder> {
    let mut all = Folder::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if !meta.is_file() || meta.len() > CONFIGURATION || name.ends_with(UNFINISHED) {
            continue;
        }
        if let Ok(bytes) = fs::read(entry.path()) {
            all.insert(name, File { bytes, mode: meta.mode() & 0o7777 });
        }
    }
    Ok(all)
}

/// Does one step in a folder.
pub(super) fn act(folder: &Path, step: &Step) -> io::Result<()> {
    match step {
        Step::Write(name, file) => write(folder, name, &file.bytes, file.mode),
        Step::Remove(name) => {
            match fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            sync(folder)
        }
    }
}

/// Puts a file in place at once: written aside, on disk, compared, renamed, and the folder on disk too.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let aside = folder.join(format!("{name}{UNFINISHED}"));
    // Left by a crash; it may be anybody's and of any mode.
    let _ = fs::remove_file(&aside);
    let written = write_aside(&aside, bytes, mode).and_then(|()| fs::rename(&aside, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written?;
    sync(folder)
}

fn write_aside(aside: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(aside)?;
    file.write_all(bytes)?;
    // Beyond what the mask of the process allows.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    if fs::read(aside)? == bytes { Ok(()) } else { Err(io::Error::other("what was read back differs")) }
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
