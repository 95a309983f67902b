//! `cargo xtask bench`, `perf` and `scale`: the measurements, by name.
//! Owns the list; each benchmark is a program of the crate it measures and prints its own numbers.

use std::process::Command;

use anyhow::{Result, bail};

use crate::cluster;
use crate::images;
use crate::need;
use crate::run;
use crate::workspace::{Workspace, cargo};

struct Bench {
    name: &'static str,
    measures: &'static str,
    package: &'static str,
    made: Made,
    root: bool,
}

/// What of a package measures.
#[derive(Clone, Copy)]
enum Made {
    Example(&'static str),
    /// A test that is ignored unless named, since it prints numbers instead of judging them.
    Test(&'static str),
    /// The same of a package's own tests.
    Own(&'static str),
    /// `ambit-lab numbers`, on a cluster that it brings up and takes down.
    Lab,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "pump",
        measures: "bytes and CPU through one HBONE tunnel",
        package: "ambit-hbone",
        made: Made::Example("pump_bench"),
        root: false,
    },
    Bench {
        name: "add",
        measures: "plugin ADD of an eligible pod, 100 pods, 8 at a time",
        package: "ambit-cni",
        made: Made::Example("add_bench"),
        root: true,
    },
    Bench {
        name: "scale",
        measures: "istiod-lite with 1,000 pods: start to first push, memory",
        package: "ambit-istiod-lite",
        made: Made::Example("scale"),
        root: false,
    },
    Bench {
        name: "policy-lag",
        measures: "policy file change to first refused connection, 100 changes",
        package: "ambit-tests",
        made: Made::Test("numbers_of_a_policy_change"),
        root: true,
    },
    Bench {
        name: "route-lag",
        measures: "route file change to the first request through a waypoint that goes by it, 200 changes",
        package: "ambit-tests",
        made: Made::Test("numbers_of_a_route_change"),
        root: true,
    },
    Bench {
        name: "plugin",
        measures: "the same calls of the plugin in a live mesh, with istiod-lite and ztunnels",
        package: "ambit-tests",
        made: Made::Test("numbers_of_plugin_calls"),
        root: true,
    },
    Bench {
        name: "routes",
        measures: "the rule of a request among 5,000 routes; 40,000 routes until they are known",
        package: "ambit-model",
        made: Made::Example("routes"),
        root: false,
    },
    Bench {
        name: "requests",
        measures: "a request judged by 1,000 rules of policies",
        package: "ambit-model",
        made: Made::Example("request_policies"),
        root: false,
    },
    Bench {
        name: "tokens",
        measures: "a token of a request read and checked (ES256), its issuer's keys at hand",
        package: "ambit-jwt",
        made: Made::Example("tokens"),
        root: false,
    },
    Bench {
        name: "remembered",
        measures: "a token that a waypoint has checked before",
        package: "ambit-waypoint",
        made: Made::Own("numbers_of_a_remembered_token"),
        root: false,
    },
    Bench {
        name: "cluster",
        measures: "on a real Kubernetes: 50 pods enrolled, a policy enforced, pods started, memory",
        package: "ambit-cluster-lab",
        made: Made::Lab,
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
    if bench.root {
        need::root("this benchmark")?;
        programs(workspace)?;
    }
    let mut command = cargo();
    match bench.made {
        Made::Example(example) => {
            command.args(["run", "--release", "--package", bench.package, "--example", example, "--"]);
        }
        Made::Test(test) => {
            command.args(["test", "--release", "--package", bench.package, "--test", "netns", test, "--"]);
            command.args(["--ignored", "--nocapture"]);
        }
        Made::Own(test) => {
            command.args(["test", "--release", "--package", bench.package, "--lib", test, "--"]);
            command.args(["--ignored", "--nocapture"]);
        }
        Made::Lab => {
            cluster::tools()?;
            images::build_plugin(workspace)?;
            command.args([
                "run",
                "--release",
                "--package",
                bench.package,
                "--bin",
                "ambit-lab",
                "--",
                "numbers",
            ]);
        }
    }
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

pub(crate) fn scale(workspace: &Workspace, args: &[String]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--bins", "--package", "ambit-perf", "--package", "ambit-istiod-lite"]);
    run::shown(build.current_dir(&workspace.root))?;
    let mut measure = Command::new(workspace.built("release", "ambit-perf"));
    run::shown(measure.arg("scale").args(args).current_dir(&workspace.root))
}

fn programs(workspace: &Workspace) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--bins", "-p", "ambit-ztunnel", "-p", "ambit-istiod-lite"]);
    build.args(["-p", "ambit-cni", "-p", "ambit-cni-plugin", "-p", "ambit-cli", "-p", "ambit-waypoint"]);
    run::shown(build.current_dir(&workspace.root))
}
