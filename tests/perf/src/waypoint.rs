//! `cargo xtask perf waypoint`: what a waypoint costs between two ztunnels, beside none and beside a peer that does the
//! same job, in the same run, in turns. Owns the order and the marks.

mod changes;
mod envoy;
mod stage;
mod upload;
mod world;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ambit_kit::eventually;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::meter::{self, Machine};
use crate::pods::{Place, SERVER};
use crate::report::{Mark, Series, TAKEN};
use stage::{Programs, Stage};
use world::{OURS, PEER, SERVICE};

const START: Mark = Mark { name: "memory at the start, MB", most: 15.0, tolerance: 0.0 };
const SHARE: f64 = 0.6;
const LATE: f64 = 0.7;
const SMALL: f64 = 0.25;

/// How to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Who is measured beside us.
    #[arg(long, value_enum)]
    peer: Option<Peer>,
    /// The peer's program, if it is elsewhere than where its installation puts it.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Seconds of each round.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Rounds; each measures every way.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Traffic threads of each proxy.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Traffic, Part::Upload, Part::Changes, Part::Routes])]
    parts: Vec<Part>,
    /// Megabytes of the upload.
    #[arg(long, default_value_t = 1024)]
    megabytes: u64,
    /// How often a route is changed, to see how soon that is in force.
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Routes that are added one by one under load.
    #[arg(long, default_value_t = 3_000)]
    added: usize,
    /// Requests a second meanwhile.
    #[arg(long, default_value_t = 1_000)]
    meanwhile: u32,
    /// Fail when a mark is missed.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    Envoy,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What requests cost.
    Traffic,
    /// What one large body costs.
    Upload,
    /// How soon a changed route is in force, and what becomes of requests while many are added.
    Changes,
    /// What many routes cost.
    Routes,
}

/// A way that requests take, and what was measured of it.
struct Way {
    name: &'static str,
    through: Option<Place>,
    /// At 16 and at 64 connections, as many requests as go.
    busy: [Busy; 2],
    /// 2,000 requests a second.
    paced: Series,
    /// What the machine's host took of each round.
    taken: Series,
}

#[derive(Default)]
struct Busy {
    rate: Series,
    cpu: Series,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be set up, a request fails, or a mark is missed and that is asked for.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = programs(arguments)?;
    let mut stage = Stage::new()?;
    stage.start(&programs, arguments.threads)?;
    let me = std::env::current_exe()?;
    let _server = stage.server.spawn(&me, &["serve", "--at", &format!("{}:8080", SERVER.ip)])?;
    let mut ways = vec![Way::new("no waypoint", None), Way::new("ambit", Some(OURS))];
    let mut start = vec![megabytes(&stage, OURS)?];
    if let Some(envoy) = &programs.envoy {
        stage.start_peer(envoy, (arguments.threads, 0))?;
        start.push(megabytes(&stage, PEER)?);
        ways.push(Way::new("envoy", Some(PEER)));
    }
    for way in &ways {
        stage.lead_through(way.through)?;
        let first = eventually(Duration::from_secs(20), || load(&stage, &["--seconds", "0.01"]).map(drop));
        first.with_context(|| way.through.map(|place| stage.log(place)).unwrap_or_default())?;
    }
    let missed = measure(arguments, &stage, (&mut ways, &start))?;
    ensure!(!arguments.check || missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

/// Measures what was asked for; returns what misses its mark.
fn measure(arguments: &Arguments, stage: &Stage, (ways, start): (&mut [Way], &[f64])) -> Result<Vec<String>> {
    let is_asked = |part: Part| arguments.parts.contains(&part);
    let mut missed = Vec::new();
    // First: memory that others have needed and left would be there for it.
    if is_asked(Part::Upload) {
        missed.extend(upload::measure(stage, arguments.megabytes)?);
    }
    if is_asked(Part::Traffic) {
        for _ in 0..arguments.rounds {
            ways.iter_mut().try_for_each(|way| round(arguments, stage, way))?;
        }
        missed.extend(traffic(ways, start));
    }
    if is_asked(Part::Changes) {
        missed.extend(changes::effect(stage, arguments.changes)?);
        missed.extend(changes::added(stage, (arguments.added, arguments.meanwhile))?);
    }
    if is_asked(Part::Routes) {
        missed.extend(changes::many(stage)?);
    }
    Ok(missed)
}

impl Way {
    fn new(name: &'static str, through: Option<Place>) -> Self {
        let (paced, taken) = (Series::default(), Series::default());
        Self { name, through, busy: Default::default(), paced, taken }
    }
}

fn programs(arguments: &Arguments) -> Result<Programs> {
    let beside = |name: &str, package: &str| -> Result<PathBuf> {
        let program = std::env::current_exe()?.with_file_name(name);
        ensure!(
            program.exists(),
            "no {}: build it with `cargo build --release -p {package}`",
            program.display()
        );
        Ok(program)
    };
    let wanted = arguments.peer.is_some();
    Ok(Programs {
        ztunnel: beside("ztunnel", "ambit-ztunnel")?,
        waypoint: beside("ambit-waypoint", "ambit-waypoint")?,
        envoy: wanted.then(|| envoy::program(arguments.envoy.as_deref())).transpose()?,
    })
}

fn round(arguments: &Arguments, stage: &Stage, way: &mut Way) -> Result<()> {
    stage.lead_through(way.through)?;
    let machine = Machine::now()?;
    let seconds = arguments.seconds.to_string();
    for (busy, connections) in way.busy.iter_mut().zip(["16", "64"]) {
        load(stage, &["--seconds", "0.5", "--connections", connections])?;
        let before = spent(stage, way.through)?;
        let told = load(stage, &["--seconds", &seconds, "--connections", connections])?;
        let cpu = spent(stage, way.through)?.saturating_sub(before);
        let requests = number(&told, "requests")?;
        busy.rate.push(requests / number(&told, "seconds")?);
        busy.cpu.push(cpu.as_secs_f64() * 1e6 / requests);
        let past = way.through.is_some() && cpu < Duration::from_millis(50);
        ensure!(!past, "{} used {cpu:?}: the traffic went past it", way.name);
    }
    load(stage, &["--seconds", "0.5", "--rate", "2000"])?;
    let told = load(stage, &["--seconds", &seconds, "--rate", "2000"])?;
    way.paced.push(number(&told, "p99_us")?);
    way.taken.push(machine.taken_since()?);
    Ok(())
}

fn number(told: &Value, key: &str) -> Result<f64> {
    told.get(key).and_then(Value::as_f64).context("the load told something else")
}

fn load(stage: &Stage, arguments: &[&str]) -> Result<Value> {
    let me = std::env::current_exe()?;
    let mut command = stage.client.inside(&me);
    command.args(["load", "--to", &format!("{SERVICE}:80")]).args(arguments);
    let output = command.stderr(Stdio::piped()).output()?;
    ensure!(output.status.success(), "load: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn spent(stage: &Stage, through: Option<Place>) -> Result<Duration> {
    through.map_or(Ok(Duration::ZERO), |place| meter::cpu(stage.process(place)?))
}

fn megabytes(stage: &Stage, place: Place) -> Result<f64> {
    Ok(meter::memory(stage.process(place)?)?.0 as f64 / 1024.0)
}

/// Prints what was measured of traffic, and returns what misses its mark.
fn traffic(ways: &[Way], start: &[f64]) -> Vec<String> {
    print!("{:44}", "");
    ways.iter().for_each(|way| print!(" {:>24}", way.name));
    println!();
    let row = |name: &str, of: &dyn Fn(&Way) -> String| {
        print!("{name:44}");
        ways.iter().for_each(|way| print!(" {:>24}", of(way)));
        println!();
    };
    for (index, connections) in [16, 64].into_iter().enumerate() {
        let series = |way: &Way, of: fn(&Busy) -> &Series| {
            way.busy.get(index).map(|busy| of(busy).shown()).unwrap_or_default()
        };
        row(&format!("requests/s, {connections} connections"), &|way| series(way, |busy| &busy.rate));
        row(&format!("CPU of the waypoint, µs/request, {connections}"), &|way| {
            series(way, |busy| &busy.cpu)
        });
    }
    row("p99 at 2,000 requests/s, µs", &|way| way.paced.shown());
    row(TAKEN, &|way| way.taken.shown());
    let mut missed: Vec<String> = start.first().and_then(|ours| START.failure(*ours)).into_iter().collect();
    start.first().iter().for_each(|ours| println!("{}", START.shown(**ours)));
    let [none, ours, peer] = ways else { return missed };
    let added = |way: &Way| way.paced.median() - none.paced.median();
    let cpu = |way: &Way, index: usize| way.busy.get(index).map_or(f64::NAN, |busy| busy.cpu.median());
    let memory = |index: usize| start.get(index).copied().unwrap_or(f64::NAN);
    for (name, have, beside, most) in [
        ("CPU per request at 16 connections", cpu(ours, 0), cpu(peer, 0), SHARE),
        ("CPU per request at 64 connections", cpu(ours, 1), cpu(peer, 1), SHARE),
        ("added p99 at 2,000 requests/s", added(ours), added(peer), LATE),
        ("memory at the start", memory(0), memory(1), SMALL),
    ] {
        let part = part_of(have, beside);
        let word = if part <= most { "meets" } else { "misses" };
        let line = format!("{name}: {part:.2} of {}'s {word} its mark of {most}", peer.name);
        println!("{line}");
        missed.extend((word == "misses").then_some(line));
    }
    missed
}

/// Which part of what the peer needs we need. No number, which meets no mark, when the peer seems to need nothing: the
/// machine's speed then changed by more than what is measured.
fn part_of(ours: f64, peer: f64) -> f64 {
    if peer > 0.0 { ours / peer } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_seems_to_need_nothing_lets_no_mark_be_met() {
        assert!((part_of(50.0, 100.0) - 0.5).abs() < f64::EPSILON);
        assert!(part_of(-50.0, -40.0).is_nan() && part_of(-50.0, 0.0).is_nan());
    }
}
