//! The `ambit` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ambit_cli::run(ambit_cli::Cli::parse())
}
