//! `cargo xtask perf waypoint`: what a waypoint costs between two ztunnels, beside none and beside a peer that does the
//! same job, in the same run, in turns. Owns the order and the marks.

mod envoy;
mod stage;
mod world;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ambit_kit::eventually;
use ambit_model::delta::{Change, Delta};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::meter;
use crate::pods::{Place, SERVER};
use crate::report::{Mark, Series};
use stage::{Programs, Stage};
use world::{OURS, PEER, SERVICE, route};

const START: Mark = Mark { name: "memory at the start, MB", most: 15.0, tolerance: 0.0 };
const ROUTES: Mark = Mark { name: "memory with 5,000 routes, MB", most: 60.0, tolerance: 0.0 };
const LOADED: Mark = Mark { name: "40,000 routes in force after, s", most: 2.0, tolerance: 0.5 };
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
    /// Leave out the numbers about many routes.
    #[arg(long)]
    traffic_only: bool,
    /// Fail when a mark is missed.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    Envoy,
}

/// A way that requests take, and what was measured of it.
struct Way {
    name: &'static str,
    through: Option<Place>,
    /// At 16 and at 64 connections, as many requests as go.
    busy: [Busy; 2],
    /// 2,000 requests a second.
    paced: Series,
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
    for _ in 0..arguments.rounds {
        for way in &mut ways {
            round(arguments, &stage, way)?;
        }
    }
    let mut missed = traffic(&ways, &start);
    if !arguments.traffic_only {
        missed.extend(routes(&stage)?);
    }
    ensure!(!arguments.check || missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

impl Way {
    fn new(name: &'static str, through: Option<Place>) -> Self {
        Self { name, through, busy: Default::default(), paced: Series::default() }
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
    let mut missed: Vec<String> = start.first().and_then(|ours| START.failure(*ours)).into_iter().collect();
    start.first().iter().for_each(|ours| println!("{}", START.shown(**ours)));
    let [none, ours, peer] = ways else { return missed };
    let added = |way: &Way| way.paced.median() - none.paced.median();
    let cpu = |way: &Way, index: usize| way.busy.get(index).map_or(f64::NAN, |busy| busy.cpu.median());
    let memory = |index: usize| start.get(index).copied().unwrap_or(f64::NAN);
    for (name, part, most) in [
        ("CPU per request at 16 connections", cpu(ours, 0) / cpu(peer, 0), SHARE),
        ("CPU per request at 64 connections", cpu(ours, 1) / cpu(peer, 1), SHARE),
        ("added p99 at 2,000 requests/s", added(ours) / added(peer), LATE),
        ("memory at the start", memory(0) / memory(1), SMALL),
    ] {
        let word = if part <= most { "meets" } else { "misses" };
        let line = format!("{name}: {part:.2} of {}'s {word} its mark of {most}", peer.name);
        println!("{line}");
        missed.extend((word == "misses").then_some(line));
    }
    missed
}

/// Many routes: memory, time until they are in force, and nothing lost meanwhile.
fn routes(stage: &Stage) -> Result<Vec<String>> {
    stage.lead_through(Some(OURS))?;
    let some = |numbers: std::ops::Range<usize>| -> Result<Delta> {
        numbers
            .map(|n| route(&format!("r{n}"), &format!("/r{n}"), None))
            .collect::<Result<Vec<Change>>>()
            .map(|all| all.into_iter().collect())
    };
    stage.tell_ours(&some(0..5_000)?)?;
    let held = megabytes(stage, OURS)?;
    println!("{}", ROUTES.shown(held));
    let rest = some(5_000..40_000)?;
    let begin = Instant::now();
    stage.tell_ours(&rest)?;
    let took = begin.elapsed().as_secs_f64();
    println!("{}", LOADED.shown(took));
    println!("memory with 40,000 routes: {:.1} MB", megabytes(stage, OURS)?);
    load(stage, &["--seconds", "0.5"])?;
    Ok([ROUTES.failure(held), LOADED.failure(took)].into_iter().flatten().collect())
}
