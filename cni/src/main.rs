//! The node daemon's program.

use std::ffi::OsString;
use std::io::Write;

use ambit_cni::config::Config;
use ambit_cni::node::run;
use ambit_cni::uninstall::{Uninstall, uninstall};
use ambit_process::config::{Env, Faults};
use ambit_process::observe::{LogConfig, init_logs};
use ambit_process::start::Runtimes;
use ambit_process::stop::Stop;
use ambit_sys::heap::share_among_threads;
use ambit_sys::pages::map_narrowly;
use clap::Parser;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args_os();
    if words.nth(1).is_some_and(|word| word == "uninstall") {
        let name = OsString::from("ambit-cni-node uninstall");
        let removed = uninstall(&Uninstall::parse_from(std::iter::once(name).chain(words)))?;
        return Ok(writeln!(std::io::stdout(), "{}", removed.lines.join("\n"))?);
    }
    // `run` may be said, as of the mesh's other programs.
    let said = std::env::args_os().enumerate().filter(|(at, word)| *at != 1 || word != "run");
    let config = Config::parse_from(said.map(|(_, word)| word));
    let mut faults = Faults::new();
    // What one thread has freed serves the others, instead of a heap for each that is kept.
    share_among_threads(1);
    let logs = LogConfig::read(&Env, &mut faults, "ambit_cni::");
    let logs = faults.into_result(logs)?;
    let _logs = init_logs(&logs);
    map_narrowly();
    let runtimes = Runtimes::start("cni", 0)?;
    Ok(runtimes.run(run(config, Stop::new()))?)
}
