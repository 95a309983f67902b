//! `cargo xtask demo`: from a clone to a running mesh.
//! Owns prerequisites and the build; the story itself is `ambit demo`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::need;
use crate::run;
use crate::workspace::{Workspace, cargo};

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    // Help needs neither root nor a kernel.
    if !args.iter().any(|arg| arg == "--help" || arg == "-h") {
        need::root("the demo")?;
        need::tools(&[&need::COMPILER, &need::IPROUTE, &need::NFT])?;
        need::kernel()?;
    }
    programs(workspace)?;
    let ambit = workspace.built("debug", "ambit");
    let failed = Command::new(&ambit).arg("demo").args(args).exec();
    Err(failed).with_context(|| format!("{} does not start", ambit.display()))
}

/// Builds all programs as tests and demo use them.
///
/// The whole workspace is selected on purpose: cargo unifies features over what is selected, and a
/// narrower choice would compile shared dependencies a second time.
pub(crate) fn programs(workspace: &Workspace) -> Result<()> {
    let mut build = cargo();
    run::shown(build.args(["build", "--workspace", "--bins"]).current_dir(&workspace.root))
}
