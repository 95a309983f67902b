//! Puts the parts together and runs them until stopped.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_cluster::Source;
use ambit_process::admin::Limits;
use ambit_process::net::TcpListener;
use ambit_process::observe::Registry;
use ambit_process::ready::Readiness;
use ambit_process::start::Traffic;
use ambit_process::stop::{self, Stop};
use ambit_process::tasks::Tasks;
use ambit_process::{admin as http_shell, usage};
use ambit_tls::configs::control_plane::Speaks;
use ambit_xds::library::Library;
use ambit_xds::server::{Ads, Rows};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::admin::{Guard, Shown};
use crate::admit;
use crate::ca::callers::Callers;
use crate::ca::here::Here;
use crate::ca::keeper::KeeperError;
use crate::ca::{Ask, Authority, Settings};
use crate::catalog::Catalog;
use crate::config::Run;
use crate::index::World;
use crate::metrics::Metrics;
use crate::origin::{Inside, Origin, OriginError};
use crate::publish::{Feed, Told, Waypoints};
use crate::serve::{self, Both, ListenError, Serving, ServingError};
use crate::waiting;

/// Certificate requests that wait to be looked at; the next one is refused and tried again by its caller.
const ASKS: usize = 256;

/// What API servers may ask at once. A body holds an object as it is and as it is to be, and etcd keeps none above
/// 1.5 MiB.
const ADMISSION: Limits = Limits {
    head_wait: Duration::from_secs(30),
    body_wait: Duration::from_secs(5),
    body_bytes: (3 << 20) + (64 << 10),
    connections: 32,
};

/// What is under way at a stop may finish within this.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Where the cluster is read from.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// What certificates are signed with.
    #[error(transparent)]
    Signer(#[from] KeeperError),
    /// The serving certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Runs until SIGTERM or SIGINT; subscribers are told on a thread of their own.
///
/// # Errors
/// When it cannot start.
pub async fn until_signal(config: Run, telling: Option<&Traffic>) -> Result<(), StartError> {
    let stop = Stop::new();
    let mut signals = Tasks::new(&Stop::new());
    let pulled = stop.clone();
    signals.spawn("signals", |_| async move {
        if let Err(error) = stop::on_signals(pulled).await {
            warn!(error = %error, "signals are not handled; SIGKILL ends this program");
        }
    });
    // Cancel-safe: what was opened so far is closed, and nothing runs yet.
    let plane = tokio::select! {
        () = stop.stopped() => return Ok(()),
        plane = ControlPlane::open(config) => plane?,
    };
    Box::pin(plane.telling_on(telling).run(stop)).await;
    Ok(())
}

/// Where it listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Discovery in the clear.
    pub plain: SocketAddr,
    /// Discovery and certificates over TLS.
    pub secure: SocketAddr,
    /// Readiness and dumps.
    pub http: SocketAddr,
    /// Metrics.
    pub monitoring: SocketAddr,
    /// Admission of objects.
    pub https: Option<SocketAddr>,
}

/// The listeners.
struct Doors {
    plain: TcpListener,
    secure: TcpListener,
    http: TcpListener,
    monitoring: TcpListener,
    https: Option<TcpListener>,
}

impl Doors {
    fn open(config: &Run) -> Result<Self, ListenError> {
        let https = match config.https() {
            Some(address) => Some(serve::listen(address)?),
            None => None,
        };
        Ok(Self {
            https,
            plain: serve::listen(config.grpc_addr)?,
            secure: serve::listen(config.secure_grpc_addr)?,
            http: serve::listen(config.http_addr)?,
            monitoring: serve::listen(config.monitoring_addr)?,
        })
    }

    /// As given, but with the ports that the system chose where none was.
    fn addresses(&self) -> Result<Addresses, ListenError> {
        Ok(Addresses {
            plain: serve::bound(&self.plain)?,
            secure: serve::bound(&self.secure)?,
            http: serve::bound(&self.http)?,
            monitoring: serve::bound(&self.monitoring)?,
            https: self.https.as_ref().map(serve::bound).transpose()?,
        })
    }
}

/// What the cluster has to say before anything can be opened; without its API server that may be long in coming.
async fn found(config: &Run, metrics: &Metrics) -> Result<(Origin, Here), StartError> {
    let origin = Box::pin(Origin::open(config)).await?;
    let domain = origin.trust.domain();
    let here = Box::pin(Here::open(config, domain, origin.inside.as_ref(), metrics)).await?;
    Ok((origin, here))
}

/// How it names itself to those who look, in upstream's form.
fn called(config: &Run) -> String {
    let info = serde_json::json!({"version": env!("CARGO_PKG_VERSION")});
    serde_json::json!({"Component": "istiod", "ID": config.kubernetes.pod_name, "Info": info}).to_string()
}

/// Everything, wired but not running.
pub struct ControlPlane {
    addresses: Addresses,
    doors: Doors,
    source: Source,
    inside: Option<Inside>,
    feed: Feed,
    asks: mpsc::Receiver<Ask>,
    library: watch::Receiver<Arc<Library>>,
    waypoints: watch::Receiver<Waypoints>,
    here: Here,
    serving: Serving,
    hooks_serving: Serving,
    readers: Vec<String>,
    namespace: String,
    called: String,
    guard: Option<Arc<Guard>>,
    authority: Option<Authority>,
    callers: Arc<Callers>,
    faults: watch::Receiver<Arc<Vec<ambit_cluster::Fault>>>,
    readiness: Readiness,
    registry: Arc<Registry>,
    metrics: Metrics,
    telling: Option<Traffic>,
}

impl ControlPlane {
    /// Opens files, keys and listeners.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub async fn open(config: Run) -> Result<Self, StartError> {
        let mut registry = Registry::default();
        usage::register(&mut registry);
        let metrics = Metrics::registered(&mut registry);
        if config.given.signs {
            metrics.register_ends(&mut registry);
        }
        let found = waiting::shown(config.monitoring_addr, found(&config, &metrics));
        let (Origin { trust, source, writer, callers, inside }, here) = Box::pin(found).await?;
        let callers = Arc::new(callers);
        let doors = Doors::open(&config)?;
        let namespace = config.namespace().to_owned();
        let guard = (!config.http_addr.ip().is_loopback())
            .then(|| Guard { callers: Arc::clone(&callers), namespace: namespace.clone() });
        if !config.grpc_addr.ip().is_loopback() {
            warn!(address = %config.grpc_addr, "whoever reaches the address without TLS may read the whole mesh");
        }
        let readiness = Readiness::new();
        let (library_in, library) = watch::channel(Arc::new(Library::default()));
        let (faults_in, faults) = watch::channel(Arc::new(Vec::new()));
        let (asks_in, asks) = mpsc::channel(ASKS);
        let gate = readiness.gate("publish");
        let (waypoints_in, waypoints) = watch::channel(Waypoints::default());
        let told = Told {
            library: library_in,
            faults: faults_in,
            gate,
            waypoints: waypoints_in,
            metrics: metrics.clone(),
        };
        let settings = Settings { trust_domain: trust.domain(), trusted: config.trusted.clone() };
        Ok(Self {
            addresses: doors.addresses()?,
            doors,
            source,
            inside,
            feed: Feed::new(Catalog::new(World::new(config.mesh(trust))), told, writer, config.ranges()),
            asks,
            library,
            waypoints,
            serving: here.serving(&config, Speaks::Grpc)?,
            hooks_serving: here.serving(&config, Speaks::Http)?,
            readers: config.readers(),
            namespace,
            called: called(&config),
            guard: guard.map(Arc::new),
            authority: here.keeper().map(|keeper| {
                Authority::new(settings, keeper.newest(), Arc::clone(&callers), asks_in, metrics.clone())
            }),
            here,
            callers,
            faults,
            readiness,
            registry: Arc::new(registry),
            metrics,
            telling: None,
        })
    }

    /// Tells subscribers on this thread. A thousand of them are a long line: what comes from the cluster, and who asks
    /// whether we are well, must not stand at its end.
    #[must_use]
    pub fn telling_on(self, thread: Option<&Traffic>) -> Self {
        Self { telling: thread.cloned(), ..self }
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Runs until stopped.
    pub async fn run(self, stop: Stop) {
        let mut tasks = Tasks::new(&stop);
        info!(addresses = ?self.addresses, "started");
        self.start(&mut tasks);
        stop.stopped().await;
        tasks.drain(DRAIN).await;
    }

    fn start(self, tasks: &mut Tasks) {
        let Self { doors, source, feed, asks, library, here, serving, authority, callers, faults, .. } = self;
        let rows = Rows::new(&library.borrow());
        let told = rows.last().unwrap_or_else(|| library.clone());
        let open = Ads::new(told.clone(), serve::anybody(), tasks.stop().clone()).told_in(&rows);
        let open = open.noting(self.metrics.times().notes());
        let closed = open.admitting(serve::proven(self.readers, self.waypoints.clone()));
        let closed = closed.shown_to(serve::of_namespace(self.namespace), self.called);
        let both = Both::new(closed, authority, callers);
        let shown = Shown {
            ready: self.readiness,
            guard: self.guard,
            streams: open.streams(),
            faults,
            library: library.clone(),
            registry: self.registry,
            metrics: self.metrics,
        };
        let start = |inside: Inside| inside.start(tasks, (here.told(), self.waypoints), &shown.metrics);
        let feed = match self.inside.and_then(start) {
            Some(overlays) => feed.overlaid(overlays),
            None => feed,
        };
        here.start(tasks);
        let feed = feed.telling(open.streams());
        tasks.spawn("publish", |stop| feed.run(source, asks, stop));
        let telling = self.telling.as_ref();
        on(telling, tasks, "news", |_| rows.follow(library));
        // Nobody is answered before everything that is there has been read: half a mesh is worse than none.
        let mut first = told.clone();
        on(telling, tasks, "plain", |stop| async move {
            if first.changed().await.is_ok() {
                serve::plain(doors.plain, open, stop).await;
            }
        });
        let mut first = told;
        on(telling, tasks, "secure", |stop| async move {
            if first.changed().await.is_ok() {
                Box::pin(serve::secure(doors.secure, serving, both, stop)).await;
            }
        });
        let answers = shown.clone();
        if let Some(listener) = doors.https {
            let (serving, metrics) = (self.hooks_serving, shown.metrics.clone());
            let answer = move |request| admit::respond(request, metrics.clone());
            let limits = ADMISSION;
            tasks.spawn("admission", move |stop| serve::https(listener, serving, limits, answer, stop));
        }
        tasks.spawn("http", |stop| {
            http_shell::serve(doors.http, move |request| answers.clone().http(request), stop)
        });
        tasks.spawn("monitoring", |stop| {
            http_shell::serve(doors.monitoring, move |request| ready(shown.monitoring(&request)), stop)
        });
    }
}

/// Starts a task on a thread of its own kind, if there is one.
fn on<F, Fut>(thread: Option<&Traffic>, tasks: &mut Tasks, name: &'static str, task: F)
where
    F: FnOnce(Stop) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    match thread {
        Some(thread) => tasks.spawn_on(thread, name, task),
        None => tasks.spawn(name, task),
    }
}
