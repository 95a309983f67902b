//! The measurement: captured HTTP between two pods, beside no proxy at all, in the same run, in turns.
//! Owns the order and the marks; load and server are processes of their own, in the pods.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ambit_kit::{eventually, pause};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::meter::{self, Machine};
use crate::pods::{CLIENT, Pair, SERVER};
use crate::report::{Mark, Series, TAKEN};

/// Processor time of both ztunnels for one request on an open connection. On a machine that is shared, the same code
/// was seen to take a fifth more than on a quiet one.
const CPU: Mark = Mark { name: "CPU of both proxies, µs/request", most: 25.0, tolerance: 0.2 };
/// Memory of both ztunnels. It does not depend on what else runs.
const MEMORY: Mark = Mark { name: "memory of both proxies, MB", most: 20.0, tolerance: 0.0 };

/// How to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rounds; each measures both ways, so that a change of the machine meets both.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of an answer's body.
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Requests a second, open loop; 0: closed loop, as many as go.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Traffic threads of each ztunnel.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A new connection for each request instead of open ones.
    #[arg(long)]
    fresh: bool,
    /// The ztunnel to measure; without, the one built beside this program.
    #[arg(long)]
    ztunnel: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Fail when a mark is missed by more than its tolerance. The marks are for the load that is the default.
    #[arg(long, conflicts_with_all = ["fresh", "rate", "connections", "body", "threads"])]
    check: bool,
}

#[derive(Default)]
struct Way {
    rate: Series,
    p50: Series,
    p99: Series,
    cpu: Series,
    switches: Series,
    taken: Series,
}

/// Measures and prints.
///
/// # Errors
/// When the pods cannot be set up, or a request fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    stay_on_interrupt()?;
    let me = std::env::current_exe()?;
    let beside = me.with_file_name("ztunnel");
    let ztunnel = arguments.ztunnel.as_ref().unwrap_or(&beside);
    ensure!(
        ztunnel.exists(),
        "no {}: build it with `cargo build --release -p ambit-ztunnel`",
        ztunnel.display()
    );
    let mut pair = Pair::new()?;
    pair.start(ztunnel, arguments.threads)?;
    let at = format!("{}:8080", SERVER.ip);
    let body = arguments.body.to_string();
    let _server = pair.server.spawn(&me, &["serve", "--at", &at, "--body", &body])?;
    eventually(Duration::from_secs(5), || load(arguments, &pair, "0.01").map(drop))?;
    let (mut plain, mut meshed) = (Way::default(), Way::default());
    let idle = memory_mb(&pair)?;
    for _ in 0..arguments.rounds {
        pair.redirect(false)?;
        round(arguments, &pair, &mut plain)?;
        pair.redirect(true)?;
        let outcome = round(arguments, &pair, &mut meshed);
        let log =
            || format!("{}{}", pair.log(CLIENT).unwrap_or_default(), pair.log(SERVER).unwrap_or_default());
        outcome.with_context(log)?;
    }
    let used: f64 = meshed.cpu.median();
    ensure!(used > 1.0, "the proxies used {used:.2} µs a request: the traffic went past them");
    let loaded = memory_mb(&pair)?;
    print(arguments, &plain, &meshed, (idle, loaded));
    let missed: Vec<_> = [CPU.failure(used), MEMORY.failure(loaded)].into_iter().flatten().collect();
    ensure!(!arguments.check || missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

fn round(arguments: &Arguments, pair: &Pair, way: &mut Way) -> Result<()> {
    // Tunnels open and caches fill before anything counts.
    load(arguments, pair, "0.5")?;
    let machine = Machine::now()?;
    let before = (meters(pair, meter::cpu)?, meters(pair, |pid| Ok(meter::switches(pid)?.0))?);
    let told = load(arguments, pair, &arguments.seconds.to_string())?;
    way.taken.push(machine.taken_since()?);
    let after = (meters(pair, meter::cpu)?, meters(pair, |pid| Ok(meter::switches(pid)?.0))?);
    let number = |key: &str| told.get(key).and_then(Value::as_f64).context("the load told something else");
    let requests = number("requests")?;
    let spent: Duration = after.0.iter().sum::<Duration>().saturating_sub(before.0.iter().sum());
    way.rate.push(requests / number("seconds")?);
    way.p50.push(number("p50_us")?);
    way.p99.push(number("p99_us")?);
    way.cpu.push(spent.as_secs_f64() * 1e6 / requests);
    let switched = after.1.iter().sum::<u64>() - before.1.iter().sum::<u64>();
    way.switches.push(switched as f64 / requests);
    Ok(())
}

fn load(arguments: &Arguments, pair: &Pair, seconds: &str) -> Result<Value> {
    let me = std::env::current_exe()?;
    let mut command = pair.client.inside(&me);
    command.args(["load", "--to", &format!("{}:8080", SERVER.ip), "--seconds", seconds]);
    command.args([
        "--connections",
        &arguments.connections.to_string(),
        "--rate",
        &arguments.rate.to_string(),
    ]);
    command.args(arguments.fresh.then_some("--fresh"));
    let output = command.stderr(Stdio::piped()).output()?;
    ensure!(output.status.success(), "load: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn meters<T>(pair: &Pair, read: impl Fn(u32) -> Result<T>) -> Result<Vec<T>> {
    let pids = [pair.client.ztunnel(), pair.server.ztunnel()];
    pids.into_iter().map(|pid| read(pid.context("no ztunnel")?)).collect()
}

fn memory_mb(pair: &Pair) -> Result<f64> {
    let kilobytes: u64 = meters(pair, |pid| Ok(meter::memory(pid)?.0))?.iter().sum();
    Ok(kilobytes as f64 / 1024.0)
}

fn print(arguments: &Arguments, plain: &Way, meshed: &Way, memory: (f64, f64)) {
    let (idle, loaded) = memory;
    if arguments.json {
        let way = |way: &Way| {
            json!({"rps": way.rate.median(), "p50_us": way.p50.median(), "p99_us": way.p99.median(),
                   "cpu_us_per_request": way.cpu.median(), "switches_per_request": way.switches.median(),
                   "taken_by_host_percent": way.taken.median()})
        };
        println!(
            "{}",
            json!({"plain": way(plain), "mesh": way(meshed), "rss_mb_idle": idle, "rss_mb": loaded})
        );
        return;
    }
    let kind = if arguments.fresh { "a connection per request" } else { "open connections" };
    println!(
        "{} connections ({kind}), {} B answers, {} rounds of {} s, median (range)",
        arguments.connections, arguments.body, arguments.rounds, arguments.seconds
    );
    println!("{:34} {:>26} {:>26}", "", "no proxy", "two ztunnels");
    let rows = [
        ("requests per second", &plain.rate, &meshed.rate),
        ("latency p50, µs", &plain.p50, &meshed.p50),
        ("latency p99, µs", &plain.p99, &meshed.p99),
        ("CPU of both proxies, µs/request", &plain.cpu, &meshed.cpu),
        ("waits of both proxies per request", &plain.switches, &meshed.switches),
        (TAKEN, &plain.taken, &meshed.taken),
    ];
    for (name, plain, meshed) in rows {
        println!("{name:34} {:>26} {:>26}", plain.shown(), meshed.shown());
    }
    if !arguments.fresh {
        println!("{}", CPU.shown(meshed.cpu.median()));
    }
    println!("memory of both proxies before load: {idle:.1} MB");
    println!("{}", MEMORY.shown(loaded));
}

/// An interrupt from the terminal reaches load and server too; their end ends us, with everything cleared up.
fn stay_on_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
        runtime.block_on(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    })?;
    // The handler must be there before anything is made that would need clearing up.
    pause(Duration::from_millis(20));
    Ok(())
}
