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

/// What a build of a program is told, so that it finds done what tests have compiled. That one test's name is among
/// what is built is what counts: only then cargo gives dependencies the features that tests ask for, too, and with
/// others it would compile most of them a second time.
pub(crate) const AS_TESTS_DO: [&str; 2] = ["--test", "netns"];

/// Builds all programs as tests use them.
pub(crate) fn programs_of_tests(workspace: &Workspace) -> Result<()> {
    run::shown(built(workspace).args(AS_TESTS_DO))
}

/// Builds all programs as users do.
fn programs(workspace: &Workspace) -> Result<()> {
    run::shown(&mut built(workspace))
}

/// The whole workspace is selected on purpose: cargo unifies features over what is selected, and a narrower choice would
/// compile shared dependencies a second time.
fn built(workspace: &Workspace) -> Command {
    let mut build = cargo();
    build.args(["build", "--workspace", "--bins"]).current_dir(&workspace.root);
    build
}
