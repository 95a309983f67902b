//! `cargo xtask test`: the tiers, what they need, and the count at the end.
//! Owns which target belongs to which tier and the arithmetic; `tally` reads what cargo prints.

mod tally;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace::{Workspace, cargo};
use crate::{cluster, demo, docs, images, need, run};
pub(crate) use tally::Tally;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Unit,
    Conformance,
    Sim,
    Netns,
    Docs,
    Cluster,
    Peers,
}

impl Tier {
    const ALL: [Self; 7] =
        [Self::Unit, Self::Conformance, Self::Sim, Self::Netns, Self::Docs, Self::Cluster, Self::Peers];
    /// Those that run when none is named: all but the one that needs upstream's programs, a build of a quarter of an hour.
    const USUAL: [Self; 6] =
        [Self::Unit, Self::Conformance, Self::Sim, Self::Netns, Self::Docs, Self::Cluster];

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Conformance => "conformance",
            Self::Sim => "sim",
            Self::Netns => "netns",
            Self::Docs => "docs",
            Self::Cluster => "cluster",
            Self::Peers => "peers",
        }
    }

    /// The tier of an integration test target: where its name is listed, else from the word it begins with.
    fn of(target: &str) -> Self {
        let listed = LISTED.iter().find(|(name, _)| *name == target).map(|(_, tier)| *tier);
        let prefixed = |tier: &Self| target.starts_with(tier.name());
        listed.or_else(|| Self::ALL.into_iter().find(prefixed)).unwrap_or(Self::Unit)
    }
}

/// Tests whose names say something else than their tier, such as a program's own that are named after what they test.
const LISTED: [(&str, Tier); 7] = [
    ("cluster_swap", Tier::Peers),
    ("vectors", Tier::Conformance),
    ("dedicated", Tier::Netns),
    ("shared", Tier::Netns),
    ("networks", Tier::Netns),
    ("crowd", Tier::Netns),
    ("daemon", Tier::Netns),
];

/// What tests look at the machine and at programs with; also some of the tests beside code make namespaces.
const LOOKS: [&need::Tool; 4] = [&need::IPROUTE, &need::NFT, &need::IPTABLES, &need::CURL];

/// Seconds that one story may take: three times what the longest takes on two busy cores.
const STORY_LIMIT: u32 = 1200;

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let (tiers, seeds) = parse(args)?;
    need::tools(&[&need::COMPILER])?;
    let mut rows = Vec::new();
    for tier in tiers {
        eprintln!("== {} ==", tier.name());
        let begun = Instant::now();
        let tally = run_tier(workspace, tier, seeds.as_deref()).unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", tier.name());
            Tally::broken(tier.name())
        });
        rows.push((tier, tally, begun.elapsed()));
    }
    summarise(&rows)
}

fn run_tier(workspace: &Workspace, tier: Tier, seeds: Option<&str>) -> Result<Tally> {
    let targets = targets(workspace, tier);
    match tier {
        Tier::Unit => {
            need::tools(&LOOKS)?;
            let mut tally = cargo_test(workspace, unit(&targets))?;
            tally.add(cargo_test(workspace, selected(&["--doc"]))?);
            Ok(tally)
        }
        Tier::Docs => docs::run(workspace),
        Tier::Cluster => stories(workspace, &targets, &[]),
        Tier::Peers => stories(workspace, &targets, &["--peers"]),
        Tier::Conformance => cargo_test(workspace, integration(&targets)?),
        Tier::Sim => {
            let mut test = integration(&targets)?;
            if let Some(seeds) = seeds {
                test.env("AMBIT_SIM_SEEDS", seeds);
            }
            cargo_test(workspace, test)
        }
        Tier::Netns => {
            need::root("the netns tier")?;
            need::tools(&[LOOKS.as_slice(), &[&need::FAKETIME, &need::H2LOAD]].concat())?;
            need::kernel()?;
            demo::programs_of_tests(workspace)?;
            let mut test = integration(&targets)?;
            // One at a time: these tests measure waits, and two meshes on two cores disturb each other.
            test.args(["--", "--test-threads=1"]);
            cargo_test(workspace, test)
        }
    }
}

/// Stories on clusters of their own, one at a time.
fn stories(workspace: &Workspace, targets: &[String], programs: &[&str]) -> Result<Tally> {
    need::root("a tier of clusters")?;
    cluster::tools()?;
    need::tools(&[&need::PROMETHEUS])?;
    demo::programs_of_tests(workspace)?;
    // Nodes are given what a user installs: the static plugin, in an image.
    images::build_plugin(workspace)?;
    // What clusters are made of is built before a story's time begins.
    cluster::build(workspace, programs)?;
    let mut test = integration(targets)?;
    test.args(["--", "--test-threads=1", "--nocapture"]);
    // A story that hangs is ended, and the others have their turn. What it leaves is cleared up beside it.
    let machine = std::env::consts::ARCH.to_uppercase();
    let runner = format!("CARGO_TARGET_{machine}_UNKNOWN_LINUX_GNU_RUNNER");
    test.env(runner, format!("timeout --kill-after=10 {STORY_LIMIT}"));
    // Where an error was made is of no use beside what it says.
    test.env("RUST_BACKTRACE", "0").env("RUST_LIB_BACKTRACE", "0");
    cargo_test(workspace, test)
}

fn parse(args: &[String]) -> Result<(Vec<Tier>, Option<String>)> {
    let (mut tiers, mut seeds) = (Vec::new(), None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--seeds" {
            seeds = Some(rest.next().context("--seeds wants a number")?.clone());
        } else if let Some(tier) = Tier::ALL.into_iter().find(|tier| tier.name() == arg) {
            tiers.push(tier);
        } else {
            bail!("no tier `{arg}`; there are: {}", Tier::ALL.map(Tier::name).join(", "));
        }
    }
    Ok((if tiers.is_empty() { Tier::USUAL.to_vec() } else { tiers }, seeds))
}

fn targets(workspace: &Workspace, tier: Tier) -> Vec<String> {
    let all = workspace.packages.iter().flat_map(|package| &package.targets);
    all.filter(|target| target.kind == "test" && Tier::of(&target.name) == tier)
        .map(|target| target.name.clone())
        .collect()
}

/// The whole workspace is always selected, so that features and thus compiled dependencies are the same.
fn selected(what: &[&str]) -> Command {
    let mut test = cargo();
    test.args(["test", "--workspace", "--no-fail-fast"]).args(what);
    test
}

fn unit(targets: &[String]) -> Command {
    let mut test = selected(&["--lib", "--bins"]);
    targets.iter().for_each(|target| {
        test.args(["--test", target]);
    });
    test
}

fn integration(targets: &[String]) -> Result<Command> {
    ensure!(!targets.is_empty(), "this tier has no test target");
    let mut test = selected(&[]);
    targets.iter().for_each(|target| {
        test.args(["--test", target]);
    });
    Ok(test)
}

/// Runs it, passing its output on, and counts what it reports.
fn cargo_test(workspace: &Workspace, mut test: Command) -> Result<Tally> {
    eprintln!("$ {}", run::line(&test));
    let mut child = test.current_dir(&workspace.root).stdout(Stdio::piped()).spawn()?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.unwrap_or_default();
            println!("{line}");
            tally.read(&line);
        }
    }
    let status = child.wait()?;
    // A target that does not build, or dies before its summary, is a failure nobody counted.
    if !status.success() && tally.failed() == 0 {
        tally.add(Tally::broken(&run::line(&test)));
    }
    Ok(tally)
}

fn summarise(rows: &[(Tier, Tally, Duration)]) -> Result<()> {
    let mut total = Tally::default();
    println!("\n{:12} {:>7} {:>7} {:>8} {:>8}", "tier", "passed", "failed", "ignored", "seconds");
    for (tier, tally, took) in rows {
        println!(
            "{:12} {:>7} {:>7} {:>8} {:>8.1}",
            tier.name(),
            tally.passed,
            tally.failed(),
            tally.ignored,
            took.as_secs_f64()
        );
        total.add(tally.clone());
    }
    for name in &total.failures {
        println!("failed: {name}");
    }
    for reason in &total.reasons {
        println!("why: {reason}");
    }
    println!("{} passed, {} failed", total.passed, total.failed());
    ensure!(total.failed() == 0, "tests failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_belongs_to_the_tier_its_name_begins_with() {
        let cases = [
            ("netns_demo", Tier::Netns),
            ("sim", Tier::Sim),
            ("conformance", Tier::Conformance),
            ("vectors", Tier::Conformance),
            ("golden", Tier::Unit),
            ("cluster_smoke", Tier::Cluster),
            ("cluster_swap", Tier::Peers),
        ];
        for (target, tier) in cases {
            assert_eq!(Tier::of(target), tier, "{target}");
        }
    }

    #[test]
    fn without_a_tier_the_usual_run_and_an_unknown_one_is_refused() {
        assert_eq!(parse(&[]).unwrap().0, Tier::USUAL);
        let named = parse(&["sim".to_owned(), "--seeds".to_owned(), "7".to_owned()]).unwrap();
        assert_eq!(named, (vec![Tier::Sim], Some("7".to_owned())));
        assert!(parse(&["smoke".to_owned()]).is_err());
    }
}
