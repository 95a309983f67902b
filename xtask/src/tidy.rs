//! `cargo xtask tidy`: the house rules no compiler checks.
//! Owns the list of checks and how a complaint is printed; each check is a file.

mod edges;
mod maps;
mod reference;
mod rights;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::crds;
use crate::workspace::Workspace;

/// A source file of the repository, read once for all checks.
struct Source {
    /// Relative to the repository, with forward slashes.
    path: String,
    text: String,
}

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let write = match args {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => bail!("tidy takes --write or nothing"),
    };
    let sources = sources(&workspace.root)?;
    let mut complaints = text::check(&sources);
    complaints.extend(edges::check(workspace)?);
    complaints.extend(maps::check(&workspace.root, &sources)?);
    complaints.extend(rights::check(&workspace.root)?);
    complaints.extend(reference::check(workspace, &sources, write)?);
    if write {
        crds::write(workspace)?;
    } else {
        complaints.extend(crds::check(workspace)?);
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    ensure!(complaints.is_empty(), "{} complaints", complaints.len());
    println!("tidy: {} files are clean", sources.len());
    Ok(())
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    open.push(entry.path());
                }
            } else if name.ends_with(".rs") {
                let path = entry.path();
                let text = std::fs::read_to_string(&path)?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}
