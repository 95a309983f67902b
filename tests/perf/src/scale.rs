//! The control plane beside a large cluster: how long until every node knows everything, what changes cost, how soon
//! they arrive, how much memory it takes, and what it is like when all nodes come back at once.
//! Owns the order and the marks. istiod-lite is a process of its own; its API server and its clients are this one.

pub mod answer;
pub mod cluster;
pub mod crowd;
pub mod said;
pub mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_process::stop::Stop;
use anyhow::{Context as _, Result, ensure};
use tokio::task::{JoinSet, LocalSet};

use crate::meter::{self, Machine};
use crate::report::{Mark, TAKEN};
use crate::scale::cluster::{Cluster, Shape};
use crate::scale::crowd::Board;
use crate::scale::said::Said;
use crate::scale::server::Server;

const SYNCED: Mark = Mark { name: "from the start until all are in step, s", most: 60.0, tolerance: 0.0 };
const LAG: Mark = Mark { name: "from a change until it arrived, p99, ms", most: 100.0, tolerance: 0.0 };
const CPU: Mark = Mark { name: "processor with changes, cores", most: 1.0, tolerance: 0.0 };
const MEMORY: Mark = Mark { name: "resident memory at its peak, MB", most: 1500.0, tolerance: 0.0 };
const RESENT: Mark =
    Mark { name: "resources sent to those who came back, of those that changed", most: 1.0, tolerance: 0.0 };
const CALM: Mark = Mark { name: "from coming back until all are in step, s", most: 10.0, tolerance: 0.0 };

const TRUTH: Mark =
    Mark { name: "subscribers and responses its metrics are wrong by", most: 0.0, tolerance: 0.0 };

/// Longer than any mark: who waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(240);

/// How to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Pods.
    #[arg(long, default_value_t = 50_000)]
    pods: usize,
    /// Nodes.
    #[arg(long, default_value_t = 1_000)]
    nodes: usize,
    /// Services.
    #[arg(long, default_value_t = 1_000)]
    services: usize,
    /// Namespaces.
    #[arg(long, default_value_t = 50)]
    namespaces: usize,
    /// Clients of discovery.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Changes a second.
    #[arg(long, default_value_t = 50)]
    changes: usize,
    /// Seconds of changes.
    #[arg(long, default_value_t = 20)]
    seconds: usize,
    /// Pods that change while all clients are away.
    #[arg(long, default_value_t = 20)]
    away: usize,
    /// The control plane to measure; without, the one built beside this program.
    #[arg(long)]
    istiod: Option<PathBuf>,
    /// Fail when a mark is missed. The marks are for the sizes that are the default.
    #[arg(long)]
    check: bool,
}

/// Ends the measured process whatever happens.
struct Measured(Child);

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures and prints.
///
/// # Errors
/// When something does not come about, or a mark is missed and that was to be checked.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { pods, nodes, services, namespaces: spaces, .. } = *arguments;
    let churn = arguments.changes * arguments.seconds + arguments.away;
    ensure!(churn <= pods, "{churn} pods are to change, and there are {pods}");
    ensure!([pods, nodes, services, spaces, arguments.clients].iter().all(|it| *it > 0), "nothing of a kind");
    let cluster = Arc::new(Cluster::new(Shape { pods, nodes, services, spaces }));
    let stop = Stop::new();
    let (told, kubeconfig) = std::sync::mpsc::sync_channel(1);
    let (serving, until) = (Arc::clone(&cluster), stop.clone());
    let server = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let server = Server::open(serving).await?;
            told.send(server.kubeconfig().to_owned())?;
            server.run(until).await;
            Ok(())
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let story = Story { arguments, cluster, missed: Vec::new() };
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig.recv()?)?;
    let told = LocalSet::new().block_on(&runtime, story.tell(folder.path()));
    stop.stop();
    server.join().map_err(|_| anyhow::anyhow!("the API server panicked"))??;
    let missed = told?;
    ensure!(!arguments.check || missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

struct Story<'a> {
    arguments: &'a Arguments,
    cluster: Arc<Cluster>,
    missed: Vec<String>,
}

impl Story<'_> {
    async fn tell(mut self, folder: &std::path::Path) -> Result<Vec<String>> {
        let (discovery, metrics) = free_ports()?;
        let begun = Instant::now();
        let measured = start(self.arguments, folder, discovery, metrics)?;
        let board = Rc::new(Board::new(Arc::clone(&self.cluster)));
        let mut clients = JoinSet::new();
        for number in 0..self.arguments.clients {
            clients.spawn_local(crowd::client(number, Rc::clone(&board), discovery));
        }
        let pid = measured.0.id();
        let machine = Machine::now()?;
        self.first(&board, pid, begun).await?;
        println!("{TAKEN}: {:.1}", machine.taken_since()?);
        let machine = Machine::now()?;
        self.churn(&board, pid, metrics).await?;
        println!("{TAKEN}: {:.1}", machine.taken_since()?);
        let machine = Machine::now()?;
        self.back(&board, pid).await?;
        println!("{TAKEN}: {:.1}", machine.taken_since()?);
        let (_, peak) = meter::memory(pid)?;
        self.judge(MEMORY, peak as f64 / 1000.0);
        Ok(self.missed)
    }

    async fn first(&mut self, board: &Board, pid: u32, begun: Instant) -> Result<()> {
        let Arguments { pods, services, clients, .. } = *self.arguments;
        board.connect_all(pods + services);
        self.caught_up(board).await?;
        let times = board.caught_up.borrow();
        let after = |at: Option<&Instant>| at.map_or(0.0, |at| (*at - begun).as_secs_f64());
        println!(
            "{pods} pods, {services} services, {clients} clients: the first is in step after {:.1} s, half after {:.1} s; \
             {:.0} MB sent, attempts in vain: {:?}, {:.1} s of processor (clients and API server: {:.1} s)",
            after(times.first()),
            after(times.get(times.len() / 2)),
            board.bytes.get() as f64 / 1e6,
            board.refused.borrow(),
            meter::cpu(pid)?.as_secs_f64(),
            meter::cpu(std::process::id())?.as_secs_f64(),
        );
        let last = after(times.last());
        drop(times);
        self.judge(SYNCED, last);
        println!("resident memory then: {} MB", meter::memory(pid)?.0 / 1000);
        Ok(())
    }

    async fn churn(&mut self, board: &Board, pid: u32, metrics: SocketAddr) -> Result<()> {
        let Arguments { changes, seconds, clients, .. } = *self.arguments;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let idle = meter::cpu(pid)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("processor at rest: {:.3} cores", (meter::cpu(pid)? - idle).as_secs_f64());
        board.delays.borrow_mut().clear();
        let said = Said::ask(metrics).await?;
        let own = meter::cpu(std::process::id())?;
        let queued = meter::queued(pid)?;
        let (before, begun, responses) = (meter::cpu(pid)?, Instant::now(), board.responses.get());
        let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(changes.max(1))?);
        for pod in 0..changes * seconds {
            tick.tick().await;
            self.cluster.flip(pod);
        }
        let wanted = changes * seconds * clients;
        wait(|| board.delays.borrow().len() >= wanted)
            .await
            .with_context(|| format!("{} changes arrived, of {wanted}", board.delays.borrow().len()))?;
        let (spent, took) = (meter::cpu(pid)? - before, begun.elapsed());
        let queued = (meter::queued(pid)? - queued).as_secs_f64() / took.as_secs_f64();
        let responses = board.responses.get() - responses;
        let mut delays = board.delays.borrow().clone();
        delays.sort();
        let at = |part: usize| {
            delays.get((delays.len() * part / 100).min(delays.len().saturating_sub(1))).map_or(f64::NAN, ms)
        };
        println!(
            "{changes} changes a second for {seconds} s: {responses} responses, {:.1} µs each, p50 {:.1} ms, most {:.1} ms; \
             ready to run and not run: {:.0} % of the time (clients: {:.2} cores)",
            spent.as_secs_f64() * 1e6 / responses.max(1) as f64,
            at(50),
            at(100),
            queued * 100.0,
            (meter::cpu(std::process::id())? - own).as_secs_f64() / took.as_secs_f64(),
        );
        self.judge(LAG, at(99));
        self.judge(CPU, spent.as_secs_f64() / took.as_secs_f64());
        self.believe(&said, &Said::ask(metrics).await?, responses);
        println!("resident memory then: {} MB", meter::memory(pid)?.0 / 1000);
        Ok(())
    }

    /// Beside what came out: what the control plane says of it.
    fn believe(&mut self, before: &Said, now: &Said, responses: usize) {
        let since = |metric: &str| now.sum(metric) - before.sum(metric);
        let (subscribers, pushes) = (now.sum("pilot_xds"), since("pilot_xds_pushes"));
        let within = |histogram| {
            let bound = now.within(before, histogram, 0.99);
            bound.map_or("?".to_owned(), |bound| format!("{} ms", bound * 1e3))
        };
        println!(
            "its metrics: {subscribers} subscribers, {pushes} responses; 99 % of changes sent within {} of being heard of, \
             taken up by a stream within {}; {} publications",
            within("pilot_proxy_convergence_time"),
            within("pilot_proxy_queue_time"),
            since("publications_total"),
        );
        let wrong = (subscribers - self.arguments.clients as f64).abs() + (pushes - responses as f64).abs();
        self.judge(TRUTH, wrong);
    }

    async fn back(&mut self, board: &Board, pid: u32) -> Result<()> {
        let Arguments { changes, seconds, away, clients, .. } = *self.arguments;
        board.drop_all();
        for pod in 0..away {
            self.cluster.flip(changes * seconds + pod);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let own = meter::cpu(std::process::id())?;
        let (before, begun) = (meter::cpu(pid)?, Instant::now());
        board.connect_all(away);
        self.caught_up(board).await?;
        let took = begun.elapsed().as_secs_f64();
        println!(
            "all came back after {away} changes: attempts in vain: {:?}, {:.1} s of processor (clients: {:.1} s)",
            board.refused.borrow(),
            (meter::cpu(pid)? - before).as_secs_f64(),
            (meter::cpu(std::process::id())? - own).as_secs_f64(),
        );
        self.judge(RESENT, board.resources.get() as f64 / (away * clients).max(1) as f64);
        self.judge(CALM, took);
        Ok(())
    }

    async fn caught_up(&self, board: &Board) -> Result<()> {
        let clients = self.arguments.clients;
        wait(|| board.caught_up.borrow().len() >= clients)
            .await
            .with_context(|| format!("{} of {clients} clients are in step", board.caught_up.borrow().len()))
    }

    fn judge(&mut self, mark: Mark, have: f64) {
        println!("{}", mark.shown(have));
        self.missed.extend(mark.failure(have));
    }
}

fn ms(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

async fn wait(until: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !until() {
        ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Two that are not the same: both are held until both are known.
fn free_ports() -> Result<(SocketAddr, SocketAddr)> {
    let free = || std::net::TcpListener::bind(("127.0.0.1", 0));
    let (one, other) = (free()?, free()?);
    Ok((one.local_addr()?, other.local_addr()?))
}

fn start(
    arguments: &Arguments,
    folder: &std::path::Path,
    discovery: SocketAddr,
    metrics: SocketAddr,
) -> Result<Measured> {
    let beside = std::env::current_exe()?.with_file_name("istiod-lite");
    let istiod = arguments.istiod.as_ref().unwrap_or(&beside);
    ensure!(istiod.exists(), "no {}: build it, or name it with --istiod", istiod.display());
    let (any, discovery, metrics) = ("127.0.0.1:0", discovery.to_string(), metrics.to_string());
    let child = Command::new(istiod)
        .arg("run")
        .arg("--kubeconfig")
        .arg(folder.join("kubeconfig"))
        .arg("--state")
        .arg(folder.join("state"))
        .args(["--grpc-addr", &discovery, "--secure-grpc-addr", any, "--http-addr", any])
        .args(["--monitoring-addr", &metrics, "--https-addr", any])
        .stdout(Stdio::from(std::fs::File::create(folder.join("log"))?))
        .stderr(Stdio::inherit())
        .spawn()?;
    Ok(Measured(child))
}
