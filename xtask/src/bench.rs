//! `cargo xtask bench` and `perf`: the measurements, by name.
//! Owns the list; each benchmark is a program of the crate it measures and prints its own numbers.

use std::process::Command;

use anyhow::{Result, bail};

use crate::need;
use crate::run;
use crate::workspace::{Workspace, cargo};

struct Bench {
    name: &'static str,
    measures: &'static str,
    package: &'static str,
    example: &'static str,
    root: bool,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "pump",
        measures: "bytes and CPU through one HBONE tunnel",
        package: "ambit-hbone",
        example: "pump_bench",
        root: false,
    },
    Bench {
        name: "add",
        measures: "plugin ADD of an eligible pod, 100 pods, 8 at a time",
        package: "ambit-cni",
        example: "add_bench",
        root: true,
    },
    Bench {
        name: "scale",
        measures: "istiod-lite with 1,000 pods: start to first push, memory",
        package: "ambit-istiod-lite",
        example: "scale",
        root: false,
    },
    Bench {
        name: "policy-lag",
        measures: "policy file change to first refused connection, 100 changes",
        package: "ambit-perf",
        example: "policy_lag",
        root: true,
    },
];

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        for bench in BENCHES {
            println!("  {:12} {}", bench.name, bench.measures);
        }
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("no benchmark `{name}`; `cargo xtask bench` lists them");
    };
    if !has_example(workspace, bench) {
        bail!("benchmark `{name}` is not built yet: {} has no example {}", bench.package, bench.example);
    }
    if bench.root {
        need::root("this benchmark")?;
        programs(workspace)?;
    }
    let mut command = cargo();
    command.args(["run", "--release", "--package", bench.package, "--example", bench.example, "--"]);
    run::shown(command.args(rest).current_dir(&workspace.root))
}

pub(crate) fn perf(workspace: &Workspace, args: &[String]) -> Result<()> {
    if !args.iter().any(|arg| arg == "--help" || arg == "-h") {
        need::root("the measurement")?;
        need::tools(&[&need::COMPILER, &need::IPROUTE, &need::NFT])?;
        programs(workspace)?;
    }
    let mut build = cargo();
    build.args(["build", "--release", "--package", "ambit-perf", "--bins"]);
    run::shown(build.current_dir(&workspace.root))?;
    run::shown(Command::new(workspace.built("release", "ambit-perf")).args(args).current_dir(&workspace.root))
}

fn programs(workspace: &Workspace) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--bins", "-p", "ambit-ztunnel", "-p", "ambit-istiod-lite"]);
    build.args(["-p", "ambit-cni", "-p", "ambit-cni-plugin", "-p", "ambit-cli"]);
    run::shown(build.current_dir(&workspace.root))
}

fn has_example(workspace: &Workspace, bench: &Bench) -> bool {
    let package = workspace.packages.iter().find(|package| package.name == bench.package);
    package.is_some_and(|package| {
        package.targets.iter().any(|target| target.kind == "example" && target.name == bench.example)
    })
}
