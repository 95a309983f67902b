//! The commands, their help, and which function does each.
//! Owns the table and nothing else; parsing of a command's own arguments is in its file.

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use crate::{bench, cluster, conformance, crds, demo, fuzz, images, lint, test, tidy};

struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    help: &'static str,
    run: fn(&Workspace, &[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "demo",
        usage: "demo [ARGS]",
        about: "build the programs and watch a mesh work on this machine (root)",
        help: "Checks what is needed, builds the programs and runs `ambit demo ARGS`.\n\
               ARGS go to `ambit demo` as they are: try `cargo xtask demo --keep`.",
        run: demo::run,
    },
    Command {
        name: "test",
        usage: "test [TIER…] [--seeds N]",
        about: "run the tests; all tiers but one when none is named",
        help: "Tiers:\n  \
               unit         libraries, programs, documentation examples; some of crates/sys and cni need root\n  \
               conformance  recorded clusters, decoded and compared; needs nothing\n  \
               sim          control plane and nodes on a simulated network; needs nothing\n  \
               netns        real sockets in network namespaces; needs root\n  \
               docs         the commands in README.md and docs/ marked `console run`; needs root\n  \
               cluster      a real Kubernetes; needs root and Go\n  \
               peers        the same beside upstream's programs, which are built; runs only when it is named\n\
               A test target belongs to the tier its name begins with (`netns_demo.rs`), else to unit.\n\
               --seeds N sets AMBIT_SIM_SEEDS for the sim tier.\n\
               The last line is `N passed, N failed`; a tier that does not build counts as one failure.",
        run: test::run,
    },
    Command {
        name: "cluster",
        usage: "cluster COMMAND [ARGS]",
        about: "a real Kubernetes of two nodes on this machine (root, Go)",
        help: "up, down, status, exec NODE -- CMD, kubectl ARGS, helm ARGS, crash NODE, reboot NODE, import TAR…:\n\
               `cargo xtask cluster --help` asks `ambit-lab`, which lists all. See docs/cluster.md.",
        run: cluster::run,
    },
    Command {
        name: "conformance",
        usage: "conformance [--test NAME]",
        about: "the Gateway API's own tests of meshes, on a real cluster (root, Go)",
        help: "Builds the programs and the suite, brings a cluster up, runs every test of meshes that the suite has and\n\
               one of ours, takes the cluster down, and writes reports to deploy/conformance. Exits with 1 unless all\n\
               have passed. See docs/conformance.md.\n\
               --test NAME        this test alone; no report is written\n\
               --out DIR          write reports there instead",
        run: conformance::run,
    },
    Command {
        name: "images",
        usage: "images [OPTIONS]",
        about: "our programs as container images, one tar each",
        help: "Builds the programs and writes target/images/NAME.tar for ztunnel, istiod-lite, cni and ambit: for\n\
               `ctr images import`, `docker load`, `podman load`. The same programs make the same bytes.\n\
               --out DIR          write there instead\n\
               --registry NAME    first part of the images' names, `localhost/ambit` unless told\n\
               --tag TAG          last part of their names, the version unless told\n\
               --debug            the debug build, for tests",
        run: images::run,
    },
    Command {
        name: "lint",
        usage: "lint",
        about: "formatting, clippy, tidy, dependency rules",
        help: "Runs `cargo fmt --check`, `cargo clippy` with warnings denied, `tidy`, and `cargo deny check`.\n\
               Installs cargo-deny when it is missing. All four run even when one fails.",
        run: lint::run,
    },
    Command {
        name: "tidy",
        usage: "tidy [--write]",
        about: "sizes, headers, who may know whom, generated reference",
        help: "Checks what no compiler checks: file sizes and headers, the tables of ARCHITECTURE.md against\n\
               the manifests, words that are not allowed, docs/reference.md against the code, and the resource\n\
               definitions of the charts against the types.\n\
               --write writes the reference and the definitions anew instead of comparing them.",
        run: tidy::run,
    },
    Command {
        name: "crds",
        usage: "crds [--check]",
        about: "resource definitions of Istio's kinds, from the types that are read",
        help: "Writes deploy/helm/base/files/crds anew from the types in crates/cluster/src/kinds.\n\
               --check says which files are behind instead, as `tidy` does.",
        run: crds::run,
    },
    Command {
        name: "fuzz",
        usage: "fuzz [TARGET…] [--seconds N]",
        about: "feed random bytes to the parsers (nightly Rust)",
        help: "Runs each target of fuzz/ (or those named) for N seconds, 60 unless told.\n\
               Installs nightly Rust and cargo-fuzz when they are missing.",
        run: fuzz::run,
    },
    Command {
        name: "perf",
        usage: "perf [--check] [ARGS]",
        about: "CPU, memory and latency of two ztunnels beside no proxy (root, release build)",
        help: "Builds release programs and runs the measurement of tests/perf; its own `--help` lists ARGS.\n\
               `perf waypoint --peer envoy` measures a waypoint between them, beside Envoy at the same job.\n\
               --check exits with 1 when a mark is missed (CPU: by more than a fifth).",
        run: bench::perf,
    },
    Command {
        name: "scale",
        usage: "scale [--check] [ARGS]",
        about: "the control plane beside 50,000 pods and 1,000 node proxies (release build)",
        help: "Builds release programs and runs `ambit-perf scale`; its own `--help` lists ARGS: --pods, --nodes,\n\
               --services, --clients, --changes, --seconds. --check exits with 1 when a mark is missed.",
        run: bench::scale,
    },
    Command {
        name: "bench",
        usage: "bench NAME [ARGS]",
        about: "run one benchmark by name; without a name, list them",
        help: "Builds the benchmark in release and runs it with ARGS. `cargo xtask bench` lists the names.",
        run: bench::run,
    },
];

/// Runs the command the arguments name, or prints help.
pub(crate) fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        print_overview();
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print_overview();
        return Ok(());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        bail!("no command `{name}`; `cargo xtask help` lists them");
    };
    // `demo`, `cluster`, `perf`, `scale` and `bench NAME` have programs behind them with a help text of their own.
    let passes_on = matches!(command.name, "demo" | "cluster" | "perf" | "scale")
        || (command.name == "bench" && rest.len() > 1);
    if !passes_on && rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("cargo xtask {}\n\n{}.\n\n{}", command.usage, command.about, command.help);
        return Ok(());
    }
    (command.run)(&Workspace::load()?, rest)
}

fn print_overview() {
    println!("cargo xtask COMMAND\n");
    for command in COMMANDS {
        println!("  {:30} {}", command.usage, command.about);
    }
    println!("\n`cargo xtask COMMAND --help` says more.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_refused_by_name() {
        let refused = dispatch(&["dmeo".to_owned()]).unwrap_err();
        assert!(refused.to_string().contains("dmeo"), "{refused}");
    }

    #[test]
    fn every_command_has_help_that_says_more_than_its_summary() {
        for command in COMMANDS {
            assert!(command.help.len() > command.about.len(), "{}", command.name);
            assert!(command.usage.starts_with(command.name), "{}", command.name);
        }
    }
}
