//! Files and folders as manifests come in them: which are read, how large, how deep.
//! Owns these limits. What a text means is `documents`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::fault::Wrong;

/// Largest manifest file that is read: 50 times the demo's cluster of 1,000 pods.
const LARGEST_FILE: u64 = 64 << 20;

/// Deepest folder that is looked into; links to folders are not followed.
const DEEPEST: usize = 16;

/// A file's text; none when there is no such file.
pub(super) fn text(path: &Path) -> Result<Option<String>, Wrong> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::metadata(path) {
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(Wrong::document(error.to_string(), "make the file readable")),
        Ok(about) if about.len() > LARGEST_FILE => {
            let problem = format!("{} bytes are more than is read of one file ({LARGEST_FILE})", about.len());
            return Err(Wrong::document(problem, "split it"));
        }
        Ok(about) if !about.is_file() => return Ok(None),
        Ok(_) => {}
    }
    match fs::read(path) {
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(Wrong::document(error.to_string(), "make the file readable")),
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Wrong::document("not UTF-8 text", "save it as UTF-8")),
        },
    }
}

/// `.yaml`, `.yml` and `.json`, but no hidden file: those are editors' own.
pub(super) fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    !name.starts_with(['.', '#']) && matches!(ending, "yaml" | "yml" | "json")
}

/// A folder and those in it, but no hidden ones and no links.
pub(super) fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut level = vec![root.to_owned()];
    for _ in 0..DEEPEST {
        level = level.iter().flat_map(|folder| entries(folder)).filter(|path| is_folder(path)).collect();
        found.extend(level.iter().cloned());
    }
    found
}

fn is_folder(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
    !hidden && fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}
