//! From settings to a running program and back: builds the parts, starts them in order, ends them in order
//! (`waypoint.md` 6.5). Owns wiring only; what each part does is its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::route::HBONE_PORT;
use ambit_process::clock::now;
use ambit_process::net::TcpListener;
use ambit_process::observe::{Registry, init_logs};
use ambit_process::ready::Readiness;
use ambit_process::start::Runtimes;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_process::usage;
use ambit_proxy::course::{Heard, Synced, follow, heed_signals};
use ambit_proxy::ports::{self, PortError};
use ambit_proxy::unproven::Unproven;
use ambit_proxy::world::{self, World, Writer};
use ambit_proxy::{discovery, terms};
use ambit_wire::convert::ResourceType;
use ambit_xds::pump::{Apply, Pump};
use bytes::Bytes;
use http::Request;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::accept::listen;
use crate::admin::Admin;
use crate::config::Config;
use crate::keys::Rings;
use crate::lane::{Lane, Shared};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pressure::{self, Memory};
use crate::rebalance::Rebalance;
use crate::trace;
use crate::upstream::{Groups, Names, Vitals, ask_all};

/// What ends by itself after a stop gets this long.
const END_WAIT: Duration = Duration::from_secs(1);
/// How often connections are looked through for those that nobody uses.
const SWEEP_EACH: Duration = Duration::from_secs(15);
/// Batches under way; the subscription waits for each, so there is never more than one.
const BATCHES: usize = 1;

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Threads or event queues are not to be had.
    #[error("cannot start the runtimes")]
    Runtimes(#[source] io::Error),
    /// The tunnels' port is taken, or the machine lets nobody listen.
    #[error("cannot listen on {at}; another process may hold the port: see `ss -ltnp`")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A port of our own is taken.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Runs until a signal or `/quitquitquit`, and through the drain.
///
/// # Errors
/// When a part does not start.
pub fn run(config: Config) -> Result<(), RunError> {
    let logs = init_logs(&config.log);
    match ambit_sys::limits::raise_open_files() {
        Ok(most) => info!(descriptors = most, threads = config.threads, "waypoint starts"),
        Err(error) => warn!(%error, "the limit on descriptors stays as it is"),
    }
    let runtimes = Runtimes::start("waypoint", config.threads).map_err(RunError::Runtimes)?;
    let outcome = runtimes.run(main(config, &runtimes));
    drop(runtimes);
    logs.flush();
    outcome
}

async fn main(config: Config, runtimes: &Runtimes) -> Result<(), RunError> {
    // Two stops: the first begins the drain, the second ends what the drain itself needs.
    let (stop, end) = (Stop::new(), Stop::new());
    let mut until_end = Tasks::new(&end);
    let readiness = Readiness::new();
    heed_signals(stop.clone(), &mut until_end);
    let metrics = Metrics::default();
    let (world, writer) = world::empty(config.place.node.clone());
    let vault = config.control.credentials.clone().vault(&mut until_end);
    terms::follow_revocations(&config.terms, &mut until_end);
    vault.prepare(config.identity.clone()).await;
    let (tell, synced) = watch::channel(false);
    let (keys, keeper) = Rings::new(config.keys.clone());
    let known = world.clone();
    until_end.spawn("keys", move |stop| keeper.run(known, stop));
    let shared = Arc::new(Shared {
        world: world.clone(),
        vault: vault.clone(),
        metrics: metrics.clone(),
        unproven: Unproven::default(),
        waypoint: config.waypoint.clone(),
        pod: config.pod.clone(),
        identity: config.identity.clone(),
        groups: Groups::default(),
        vitals: Vitals::default(),
        names: Names::new(config.outside.clone()),
        roots: config.roots.clone(),
        place: config.place.clone(),
        windows: config.windows,
        drain: config.drain,
        limits: Limits::default(),
        keys,
        idle: config.idle,
        silence: config.silence,
        tell_client: config.tell_client,
        rebalance: rebalance(&config, &world, &synced, &mut until_end),
        requests: (config.requests / config.threads).max(1),
        memory: measured(&mut until_end),
        synced,
    });
    let mut registry = Registry::default();
    usage::register(&mut registry);
    metrics.register(&mut registry, &config.mesh_version);
    let admin = Admin { config: config.clone(), world, vault: vault.clone(), stop: stop.clone() };
    let show = move |request: &Request<Bytes>| admin.answer(request);
    let at = (config.ports, config.ipv6);
    ports::serve(at, show, Arc::new(registry), readiness.clone(), &mut until_end).await?;
    let synced = Synced { gate: readiness.gate("world"), tell };
    let heard = Heard { synced, vault, ended: metrics.xds_ended };
    subscribe(&config, writer, heard, &mut until_end);
    let accepting = Stop::new();
    let tunnels = serve(&config, &shared, runtimes, &accepting)?;
    let gate = readiness.gate("proxy");
    gate.set(true);
    stop.stopped().await;
    // Who sends us traffic learns it from the control plane, which learns it from this.
    gate.set(false);
    drained(&config, tunnels, &accepting).await;
    until_end.drain(END_WAIT).await;
    Ok(())
}

/// Takes new work for as long as it may still come, then ends what is open in time.
async fn drained(config: &Config, tunnels: Tasks, accepting: &Stop) {
    sleep(config.grace).await;
    accepting.stop();
    // Each listener ends its own connections in time; this is for what does not.
    let drained = tunnels.finish(config.drain + END_WAIT, END_WAIT).await;
    info!(aborted = drained.aborted, "drained");
}

/// How much of our memory is in use.
fn measured(tasks: &mut Tasks) -> Memory {
    let memory = Memory::default();
    let measured = memory.clone();
    tasks.spawn("memory", move |stop| measured.measure(stop));
    memory
}

/// When clients move to replicas that come.
fn rebalance(config: &Config, world: &World, synced: &watch::Receiver<bool>, tasks: &mut Tasks) -> Rebalance {
    let (rebalance, keeper) = Rebalance::new(config.rebalance);
    let (known, synced) = ((world.clone(), config.waypoint.clone()), synced.clone());
    tasks.spawn("rebalance", move |stop| keeper.run(known, synced, stop));
    rebalance
}

/// Takes tunnels on every thread, from one listener: whichever thread is free takes the next.
fn serve(
    config: &Config,
    shared: &Arc<Shared>,
    runtimes: &Runtimes,
    accepting: &Stop,
) -> Result<Tasks, RunError> {
    let listener = bind(config)?;
    let mut tasks = Tasks::new(&Stop::new());
    for (at, thread) in runtimes.traffic().iter().enumerate() {
        let mine = listener.try_clone().and_then(|mine| thread.enter(|| TcpListener::from_std(mine)));
        let mine = mine.map_err(RunError::Runtimes)?;
        let lane = Arc::new(Lane::new(Arc::clone(shared)));
        let accepting = accepting.clone();
        if at == 0 {
            // One asks for all: endpoints are asked once, not once by each thread.
            lane.crew.add("health checks", ask_all(Arc::clone(&lane)));
        }
        tasks.spawn_on(thread, "accept", move |stop| keep(mine, lane, accepting, stop));
    }
    Ok(tasks)
}

/// Where we are told; else on all addresses, on those of IPv4 alone where the machine has no IPv6.
fn bind(config: &Config) -> Result<StdListener, RunError> {
    let any = if config.ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let at = SocketAddr::new(config.listen.unwrap_or(any), HBONE_PORT);
    let bound = match StdListener::bind(at) {
        Err(error) if config.listen.is_none() && error.kind() != io::ErrorKind::AddrInUse => {
            StdListener::bind((Ipv4Addr::UNSPECIFIED, HBONE_PORT))
        }
        bound => bound,
    };
    let listener = bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|source| RunError::Listen { at, source })
}

/// Serves one thread to its end.
async fn keep(listener: TcpListener, lane: Arc<Lane>, accepting: Stop, stop: Stop) {
    lane.crew.add("spans", trace::tell(Arc::clone(&lane)));
    let mut serving = Box::pin(listen(listener, Arc::clone(&lane), accepting, stop));
    let mut watching = pin!(pressure::watch(&lane));
    loop {
        // Cancel-safe: what serves or watches keeps its own state.
        tokio::select! {
            () = &mut serving => break,
            never = &mut watching => match never {},
            () = sleep(SWEEP_EACH) => lane.lines.sweep(now()),
        }
    }
    lane.spans.close();
    lane.crew.end(END_WAIT).await;
}

fn subscribe(config: &Config, writer: Writer, heard: Heard, tasks: &mut Tasks) {
    let Some(settings) = discovery::settings(&config.control) else {
        warn!("discovery is switched off: nothing will be served");
        return;
    };
    let (batches, received) = mpsc::channel::<Apply>(BATCHES);
    let (pump, handle) = Pump::new(settings, batches);
    let pump = pump.asking(&ResourceType::ALL);
    tasks.spawn("world", move |stop| feed(writer, received, stop));
    tasks.spawn("discovery", move |stop| pump.run(stop));
    tasks.spawn("progress", move |stop| follow(handle.progress, heard, stop));
}

/// Brings what discovery tells into force. A request that has begun keeps the world it began with.
async fn feed(mut writer: Writer, mut batches: mpsc::Receiver<Apply>, stop: Stop) {
    loop {
        // Cancel-safe: a batch not taken stays in the queue.
        let next = tokio::select! {
            () = stop.stopped() => return,
            next = batches.recv() => next,
        };
        let Some(Apply { batch, done }) = next else { return };
        writer.apply(&batch.delta);
        // The subscription may have ended meanwhile; then nobody waits for the word.
        let _ = done.send(());
    }
}
