//! The control plane's program.

use ambit_istiod_lite::config::{Cli, Command, Dump, Run};
use ambit_istiod_lite::{dump, run};
use ambit_process::config::{Env, Faults};
use ambit_process::observe::{LogConfig, init_logs};
use ambit_process::start::Runtimes;
use anyhow::Context;
use clap::Parser;

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(config) => serve(*config),
        Command::Dump(config) => print(&config),
    }
}

fn serve(config: Run) -> anyhow::Result<()> {
    let mut faults = Faults::new();
    let logs = LogConfig::read(&Env, &mut faults, "ambit_istiod_lite::");
    let _logs = init_logs(&faults.into_result(logs)?);
    let runtimes = Runtimes::start("istiod-lite", 1)?;
    Ok(runtimes.run(run::until_signal(config, runtimes.traffic().first()))?)
}

fn print(config: &Dump) -> anyhow::Result<()> {
    let source = config.cluster.source.as_deref().context("name a directory of manifests (--source)")?;
    let overlay = config.cluster.overlay(source);
    let node = config.node.as_deref();
    let dump = dump::dump(source, Some(&overlay), node, config.cluster.mesh())?;
    dump.faults.iter().for_each(|fault| eprintln!("{fault}"));
    println!("{}", serde_json::to_string_pretty(&dump.resources)?);
    Ok(())
}
