//! `ambit demo`.

use std::process::ExitCode;

use clap::Args;

/// What `ambit demo` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Leave the mesh up afterwards.
    #[arg(long)]
    keep: bool,
    /// One JSON object a step.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
