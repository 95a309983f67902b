//! `cargo xtask COMMAND`: checks and chores of the repository.
//! Owns only the entry; the commands and their help are in `commands`.

mod bench;
mod cluster;
mod commands;
mod conformance;
mod crds;
mod demo;
mod docs;
mod fuzz;
mod images;
mod lint;
mod need;
mod run;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match commands::dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
