//! `ambit-lab`: the test cluster's program. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ambit_cluster_lab::run(ambit_cluster_lab::Arguments::parse())
}
