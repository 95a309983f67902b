//! From settings to a running program and back: builds the parts, starts them in order, ends them in order.
//! Owns wiring only; what each part does is its own.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::observe::{Logs, Registry, init_logs};
use ambit_process::ready::Readiness;
use ambit_process::start::{Runtimes, keep_only_used_code_after};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_process::usage;
use ambit_proxy::course::{Heard, Synced, follow, heed_signals};
use ambit_proxy::ports::{self, PortError};
use ambit_proxy::unproven::Unproven;
use ambit_proxy::{discovery, terms};
use ambit_tls::vault::Vault;
use ambit_wire::local::{self, LocalError};
use ambit_wire::node_link::PodInfo;
use ambit_xds::pump::{Apply, Pump};
use bytes::Bytes;
use http::Request;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::admin::Admin;
use crate::board::{Board, PodShown};
use crate::config::{Config, LocalWorld, Mode};
use crate::dns::{Names, Resolvers};
use crate::enrol::Shown;
use crate::enrol::driver::Driver;
use crate::feed::{BATCHES, Feed, Warm};
use crate::ledger::Ledger;
use crate::metrics::{Certificates, Metrics, Process, Revoked};
use crate::pod::{Running, Shared, StartError};
use crate::sockets::{InNamespace, Sockets, SocketsError};
use crate::world;

/// Heaps of the program: traffic threads mostly use what they keep for themselves, and pods that come and go take their
/// memory from where others have freed it.
const HEAPS: u8 = 1;

/// What ends by itself after a stop gets this long.
const END_WAIT: Duration = Duration::from_secs(1);

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Threads or event queues are not to be had.
    #[error("cannot start the runtimes")]
    Runtimes(#[source] io::Error),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// The local file does not read.
    #[error("cannot read {path}; LOCAL_XDS_PATH names the file")]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The local file says something wrong.
    #[error("the local workloads, services and policies do not hold")]
    Local(#[from] LocalError),
    /// A port of our own is taken.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The one workload of dedicated mode cannot be served.
    #[error("the workload cannot be served")]
    Workload(#[from] StartError),
    /// Shared mode lacks a right that it needs.
    #[error("shared mode needs the capabilities NET_ADMIN and SYS_ADMIN: run as root")]
    Rights(#[source] SocketsError),
}

/// Runs until a signal or `/quitquitquit`, and through the drain.
///
/// # Errors
/// When a part does not start.
pub fn run(config: Config) -> Result<(), RunError> {
    ambit_sys::heap::share_among_threads(HEAPS);
    let narrowly = ambit_sys::pages::map_narrowly();
    let logs = init_logs(&config.log);
    debug!(bytes = narrowly, "code comes into memory as it is used");
    match ambit_sys::limits::raise_open_files() {
        Ok(most) => info!(descriptors = most, threads = config.threads, "ztunnel starts"),
        Err(error) => warn!(%error, "the limit on descriptors stays as it is"),
    }
    let runtimes = Runtimes::start("ztunnel", config.threads).map_err(RunError::Runtimes)?;
    let outcome = runtimes.run(main(config, &runtimes, logs.clone()));
    drop(runtimes);
    logs.flush();
    outcome
}

async fn main(config: Config, runtimes: &Runtimes, logs: Logs) -> Result<(), RunError> {
    // Two stops: the first begins the drain, the second ends what the drain itself needs.
    let (stop, end) = (Stop::new(), Stop::new());
    let mut until_end = Tasks::new(&end);
    let mut until_stop = Tasks::new(&stop);
    heed_signals(stop.clone(), &mut until_end);
    let board = Board::default();
    release_unused(board.clone(), &mut until_end);
    let readiness = Readiness::new();
    let metrics = Metrics::default();
    let (world, writer) = world::empty(config.node.clone());
    let vault = config.control.credentials.clone().vault(&mut until_end);
    terms::follow_revocations(&config.terms, &mut until_end);
    let ledger = Ledger::new(config.policy_wait);
    let warm = warm(&config, &vault);
    let mut feed = Feed::new(writer, ledger.clone(), metrics.clone(), warm);
    let local = local_world(&config, &mut feed).await?;
    let (tell_synced, synced) = watch::channel(false);
    let shared = Arc::new(Shared {
        world: world.clone(),
        vault: vault.clone(),
        ledger,
        unproven: Unproven::default(),
        metrics: metrics.clone(),
        settings: config.traffic.clone(),
        names: names(&config, &mut until_end),
        network: config.network.clone(),
        log_decisions: config.log_decisions,
        policy_wait: config.policy_wait,
        synced,
        threads: runtimes.traffic().into(),
        drain: config.drain,
    });
    let certificates = Certificates(vault.clone());
    let admin = Admin {
        config: config.clone(),
        world,
        local,
        vault,
        board: board.clone(),
        logs: logs.clone(),
        stop: stop.clone(),
    };
    let registry =
        registry(&config, &metrics, Process { traffic: runtimes.traffic().into(), log: logs }, certificates);
    let show = move |request: &Request<Bytes>| admin.answer(request);
    let at = (config.ports, config.traffic.ipv6);
    ports::serve(at, show, registry, readiness.clone(), &mut until_stop).await?;
    let gate = readiness.gate("state manager");
    let heard = Heard {
        synced: Synced { gate, tell: tell_synced },
        vault: shared.vault.clone(),
        ended: metrics.xds_ended,
    };
    subscribe(&config, feed, heard, &mut until_end);
    serve(&config, &shared, &readiness, board, &stop).await?;
    info!("drained");
    until_stop.drain(END_WAIT).await;
    until_end.drain(END_WAIT).await;
    Ok(())
}

/// Also after pods have come and gone: certificates are asked for, tunnels opened, listeners bound.
fn release_unused(board: Board, tasks: &mut Tasks) {
    tasks.spawn("pages", |stop| async move {
        let release = ambit_sys::pages::release_unused;
        if let Err(error) = keep_only_used_code_after(stop, || board.changed(), release).await {
            warn!(%error, "code that is not in use stays resident");
        }
    });
}

/// Carries until stopped, then drains.
async fn serve(
    config: &Config,
    shared: &Arc<Shared>,
    readiness: &Readiness,
    board: Board,
    stop: &Stop,
) -> Result<(), RunError> {
    match &config.mode {
        Mode::Dedicated(pod) => {
            let running = dedicated(shared, pod)?;
            readiness.gate("proxy").set(true);
            let uid = format!("{}/{}", pod.namespace, pod.name);
            board.post(vec![PodShown {
                uid,
                info: pod.clone(),
                state: Shown::Up,
                pages: running.pages().to_vec(),
            }]);
            stop.stopped().await;
            running.finish(shared.drain).await;
        }
        Mode::Shared { link, reuse_port } => {
            self_test(shared)?;
            let gate = readiness.gate("workload proxy manager");
            Driver::new(link.clone(), *reuse_port, Arc::clone(shared), gate, board).run(stop.clone()).await;
        }
    }
    Ok(())
}

fn dedicated(shared: &Arc<Shared>, pod: &PodInfo) -> Result<Running, RunError> {
    // Without sharing first: another process on these ports must be noticed, not joined.
    let alone = InNamespace::new(None, &shared.settings, false);
    for port in ambit_model::route::RESERVED_PORTS.into_iter().filter(|_| shared.settings.carry) {
        alone.listen(port).map_err(|source| StartError::Listen { port, source })?;
    }
    for at in shared.names.iter().flat_map(|names| &names.at).filter(|at| at.is_ipv4()) {
        alone.listen_names(*at).map_err(|source| StartError::Listen { port: at.port(), source })?;
    }
    let sockets: Arc<dyn Sockets> = Arc::new(InNamespace::new(None, &shared.settings, true));
    Ok(Running::start(shared, pod, &sockets)?)
}

/// Finds out now what would otherwise fail for every pod.
fn self_test(shared: &Shared) -> Result<(), RunError> {
    let home = ambit_sys::netns::Netns::current().map_err(|e| RunError::Rights(e.into()))?;
    home.run_on_thread(|| ()).map_err(|e| RunError::Rights(e.into()))?;
    let sockets = InNamespace::new(None, &shared.settings, false);
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    sockets.outgoing(nowhere, None).map(drop).map_err(RunError::Rights)
}

fn registry(
    config: &Config,
    metrics: &Metrics,
    process: Process,
    certificates: Certificates,
) -> Arc<Registry> {
    let mut registry = Registry::default();
    usage::register(&mut registry);
    if let Some(lists) = config.terms.revoked.clone() {
        registry.register_collector(Box::new(Revoked(lists)));
    }
    registry.register_collector(Box::new(process));
    registry.register_collector(Box::new(certificates));
    metrics.register(&mut registry, &config.mesh_version, matches!(config.mode, Mode::Shared { .. }));
    Arc::new(registry)
}

/// How names are answered, with whom to ask for those that are not ours.
fn names(config: &Config, tasks: &mut Tasks) -> Option<Arc<Names>> {
    config.names.as_ref()?;
    let resolvers = Arc::new(Resolvers::open());
    let names = Names::new(config, Arc::clone(&resolvers));
    tasks.spawn("resolvers", move |stop| async move { resolvers.follow(stop).await });
    names
}

fn warm(config: &Config, vault: &Vault) -> Option<Warm> {
    let shared = matches!(config.mode, Mode::Shared { .. });
    let wanted = shared && config.traffic.carry && !config.node.is_empty();
    wanted.then(|| Warm { vault: vault.clone(), node: config.node.clone(), asked: BTreeSet::new() })
}

/// Brings the local file into force, and returns it as dumps show it.
async fn local_world(config: &Config, feed: &mut Feed) -> Result<serde_json::Value, RunError> {
    let given = match &config.control.local {
        None => String::new(),
        Some(LocalWorld::Inline(text)) => text.clone(),
        Some(LocalWorld::File(path)) => std::fs::read_to_string(path)
            .map_err(|source| RunError::LocalFile { path: path.clone(), source })?,
    };
    let delta = local::parse(&given)?;
    let alone = ambit_model::snapshot::Snapshot::default().with(&delta);
    if !delta.is_empty() {
        feed.apply(&delta).await;
    }
    let local::Dump { workloads, services, policies, .. } = local::dump(&alone);
    Ok(serde_json::json!({ "workloads": workloads, "services": services, "policies": policies }))
}

fn subscribe(config: &Config, feed: Feed, heard: Heard, tasks: &mut Tasks) {
    let Some(settings) = discovery::settings(&config.control) else {
        heard.synced.now();
        // Kept alive, so that the world's readers go on waiting for what a file did not say.
        tasks.spawn("world", move |stop| async move {
            stop.stopped().await;
            drop((feed, heard));
        });
        return;
    };
    let (batches, received) = mpsc::channel::<Apply>(BATCHES);
    let (pump, handle) = Pump::new(settings, batches);
    tasks.spawn("world", move |stop| feed.run(received, stop));
    tasks.spawn("discovery", move |stop| pump.run(stop));
    tasks.spawn("progress", move |stop| follow(handle.progress, heard, stop));
}
