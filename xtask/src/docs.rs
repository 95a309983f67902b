//! The commands in the documentation, run as a reader would run them.
//! Owns which documents, and what is around their commands; how they are found and judged is `ambit-transcript`'s.
//!
//! Run are blocks marked `console run`. The shell stands in an empty directory, with the built programs on its path.
//! What needs a cluster is marked `console cluster`, and run by the tier of the cluster.

use std::path::Path;
use std::process::Command;

use ambit_transcript::Step;
use anyhow::{Context as _, Result, ensure};

use crate::test::Tally;
use crate::workspace::Workspace;
use crate::{demo, need};

pub(crate) fn run(workspace: &Workspace) -> Result<Tally> {
    need::root("the docs tier")?;
    need::tools(&[&need::IPROUTE, &need::NFT])?;
    demo::programs_of_tests(workspace)?;
    let mut files = vec![workspace.root.join("README.md")];
    for entry in std::fs::read_dir(workspace.root.join("docs"))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let mut tally = Tally::default();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let steps = ambit_transcript::steps(&text, "console run");
        if !steps.is_empty() {
            tally.add(run_file(workspace, &file, &steps)?);
        }
    }
    ensure!(tally.passed + tally.failed() > 0, "no document has a block marked `console run`");
    Ok(tally)
}

/// Runs one document in one shell.
fn run_file(workspace: &Workspace, file: &Path, steps: &[Step]) -> Result<Tally> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = workspace.target.join("docs").join(&name);
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let programs = workspace.target.join("debug");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)))?;
    let mut shell = Command::new("timeout");
    shell
        .args(["300", "bash", "-c"])
        .env("PATH", path)
        .env("AMBIT", &workspace.root)
        .env("AMBIT_RUN_DIR", dir.join("run"))
        .current_dir(&dir);
    // A mesh that a failed document leaves behind is taken down, whatever happened.
    let before = "trap 'ambit local down >/dev/null 2>&1' EXIT";
    let mut tally = Tally::default();
    for verdict in ambit_transcript::run(&name, steps, shell, before)? {
        println!("docs {} ... {}", verdict.what, verdict.complaint.as_deref().unwrap_or("ok"));
        if verdict.complaint.is_some() {
            println!("{}", verdict.seen);
        }
        tally.count(&verdict.what, verdict.complaint.is_none());
    }
    Ok(tally)
}
