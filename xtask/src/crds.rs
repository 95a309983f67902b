//! `cargo xtask crds`: the resource definitions of the chart `base`, made from the types that are read.
//! Owns where they are and who is asked; the types are in crates/cluster.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::run;
use crate::workspace::{Workspace, cargo};

/// Where the chart has them.
const FOLDER: &str = "deploy/helm/base/files/crds";
/// How the writer ends when files are behind.
const BEHIND: i32 = 2;

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    match args {
        [] => write(workspace),
        [flag] if flag == "--check" => {
            let behind = check(workspace)?;
            behind.iter().for_each(|line| println!("{line}"));
            ensure!(behind.is_empty(), "{} files are behind", behind.len());
            Ok(())
        }
        _ => bail!("crds takes --check or nothing"),
    }
}

/// Writes those files anew that are behind.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    run::shown(&mut writer(workspace, &[]))
}

/// A complaint for each file that is not what the types say.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut command = writer(workspace, &["--check"]);
    let output = command.output()?;
    ensure!(
        output.status.success() || output.status.code() == Some(BEHIND),
        "`{}`: {}",
        run::line(&command),
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(said.lines().map(|file| format!("{file}: not what the types say; `cargo xtask crds`")).collect())
}

fn writer(workspace: &Workspace, args: &[&str]) -> Command {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "-p", "ambit-cluster", "--example", "definitions", "--", FOLDER])
        .args(args);
    command.current_dir(&workspace.root);
    command
}
