//! `ambit why`: asks the ztunnels of a mesh what they know.

use std::process::ExitCode;

use clap::Args;

use crate::args::Which;

/// What `ambit why` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    which: Which,
    /// The client: NAMESPACE/POD.
    src: String,
    /// The destination: ADDRESS:PORT or NAME:PORT.
    dst: String,
}

pub(crate) fn why(args: &WhyArgs) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
