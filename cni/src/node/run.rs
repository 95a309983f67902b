//! Wiring: makes the parts, starts them in order, ends them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ambit_process::net::{TcpListener, UnixListener};
use ambit_process::start::keep_only_used_code;
use ambit_process::stop::{Stop, on_signals};
use ambit_process::tasks::Tasks;
use ambit_process::{admin, usage};
use ambit_sys::netns::{Netns, NetnsError};
use ambit_sys::pass::SeqPacketListener;
use prometheus_client::registry::Registry;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{info, warn};

use crate::apply::{ApplyError, usable_families};
use crate::config::Config;
use crate::install::keep::{State, keep};
use crate::metrics::Metrics;
use crate::node::desk::{Ask, Desk};
use crate::node::ending::{End, Ending};
use crate::node::enrol::{Ground, HANDS};
use crate::node::events::Events;
use crate::node::find::Finder;
use crate::node::link::{Link, chain, watched};
use crate::node::notes::Notes;
use crate::node::origin::{Origin, OriginError};
use crate::node::probes::{Place, Probes};
use crate::node::retire::Control;
use crate::node::sandbox::Records;
use crate::node::subject::NodeWide;
use crate::node::tell::Teller;
use crate::node::view::{self, View};
use crate::node::want::Criteria;
use crate::rules::{Families, NodeRules};

/// Plugins that may ask at once: all pods that a node can have may be started together and wait, and ztunnel's own is
/// not to wait behind them. The desk takes their questions as they come.
const PLUGINS: usize = 1024;

/// What is going on may take this long to end.
const DRAIN: Duration = Duration::from_secs(3);

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster cannot be read.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// A file, folder or socket cannot be made.
    #[error("cannot use {}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The node's own namespace cannot be read.
    #[error("cannot look at network namespaces; run as root")]
    Netns(#[from] NetnsError),
    /// The node's rules would do nothing here.
    #[error(
        "this pod has a network of its own; give it the node's (hostNetwork), or set ALLOW_SWITCH_TO_HOST_NS=true"
    )]
    OwnNetwork,
    /// The node's rules cannot be installed.
    #[error("cannot install the node's rules")]
    Rules(#[from] ApplyError),
    /// The address for metrics is taken.
    #[error("cannot listen on {at}; choose another with --admin-addr")]
    Admin {
        /// The address.
        at: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs until `stop`, or a signal.
///
/// # Errors
/// When something it needs is missing at the start.
pub async fn run(config: Config, stop: Stop) -> Result<(), RunError> {
    let mut registry = Registry::default();
    usage::register(&mut registry);
    let metrics = Metrics::new(&mut registry);
    let sockets = Sockets::bind(&config)?;
    let Origin { source, notes, client, herald } = Box::pin(Origin::open(&config)).await?;
    let (records, recorded) =
        Records::open(config.run_dir.join("pods")).map_err(at(&config.run_dir.join("pods")))?;
    let ground = Arc::new(ground(&config, (metrics, records, notes))?);
    ground.probes.audit().await?;
    let admin = bind_admin(&config).await?;

    let (ending, asked_to_end) = (Ending::new(&config, client), Stop::new());
    let mut tasks = Tasks::new(&stop);
    let pulled = asked_to_end.clone();
    tasks.spawn("signals", move |stop| end_on_signals(pulled, stop));
    herald.into_iter().for_each(|herald| tasks.spawn("events of pods", move |stop| herald.run(stop)));
    let looking = ending.clone();
    tasks.spawn("daemon set", move |stop| looking.look(stop));
    tasks.spawn("pages", release_unused);
    let (publish, views) = watch::channel(Arc::new(View::default()));
    let node = config.node_name.clone();
    tasks.spawn("view", move |stop| view::follow(source, node, publish, stop));
    let (asks, asked) = mpsc::channel(PLUGINS);
    let criteria = criteria(&config);
    let events = Events {
        ground: Arc::clone(&ground),
        views: views.clone(),
        asks: asks.clone(),
        criteria: Arc::new(criteria.clone()),
    };
    // Questions are taken from now on; they wait for the view.
    let plugin = sockets.plugin;
    tasks.spawn("events", move |stop| {
        let limits = admin::Limits { connections: PLUGINS, ..admin::Limits::default() };
        admin::serve_within(limits, plugin, move |ask| events.clone().answer(ask), stop)
    });
    if let Some(listener) = admin {
        let teller =
            Teller { ground: Arc::clone(&ground), views: views.clone(), registry: Arc::new(registry) };
        let serve = move |ask| std::future::ready(teller.answer(&ask));
        tasks.spawn("admin", move |stop| admin::serve(listener, serve, stop));
    }
    let control = Control { ground: Arc::clone(&ground), views: views.clone(), asks };
    let listener = sockets.control;
    let door = control.clone();
    tasks.spawn("control", move |stop| admin::serve(listener, move |ask| door.clone().answer(ask), stop));
    let desk = Desk::new(Arc::clone(&ground), criteria, recorded, &stop);
    let (told, zds) = (views.clone(), sockets.zds);
    tasks.spawn("desk", move |stop| serve(desk, told, (asked, zds), stop));
    if let Some(site) = config.site() {
        let ground = Arc::clone(&ground);
        tasks.spawn("install", move |stop| keep(site, ground, stop));
    }
    tasks.spawn("audit", move |stop| audit(ground, views, stop));
    let end = end(&stop, &asked_to_end, (&ending, &control)).await;
    tasks.drain(DRAIN).await;
    if end == End::ForGood {
        Ending::clear(&config).await;
    }
    Ok(())
}

/// Nobody is told anything before the whole cluster was read: then pods get their keepers, and ztunnel its roster.
async fn serve(
    mut desk: Desk,
    mut views: watch::Receiver<Arc<View>>,
    (asked, zds): (mpsc::Receiver<Ask>, AsyncFd<SeqPacketListener>),
    stop: Stop,
) {
    let complete = tokio::select! {
        () = stop.stopped() => return,
        complete = views.wait_for(|view| view.complete) => complete.map(|view| Arc::clone(&view)),
    };
    let Ok(view) = complete else { return };
    desk.begin(&view);
    info!(pods = view.pods.len(), "ready");
    let link = desk.link();
    tokio::join!(desk.run(views, asked, stop.clone()), link.serve(zds, stop));
}

/// Waits until the daemon is stopped, or asked to end, which may take the pods along.
async fn end(stop: &Stop, asked: &Stop, (ending, control): (&Ending, &Control)) -> End {
    // Both arms are cancel-safe.
    tokio::select! {
        () = stop.stopped() => return End::Kept,
        () = asked.stopped() => {}
    }
    let end = ending.decide().await;
    if end == End::ForGood {
        ending.let_out(control).await;
    }
    stop.stop();
    end
}

async fn end_on_signals(pulled: Stop, stop: Stop) {
    tokio::select! {
        () = stop.stopped() => {}
        Err(error) = on_signals(pulled) => warn!(%error, "cannot listen to signals"),
    }
}

async fn release_unused(stop: Stop) {
    if let Err(error) = keep_only_used_code(stop, ambit_sys::pages::release_unused).await {
        warn!(%error, "code that is not in use stays resident");
    }
}

/// The sockets that others connect to.
struct Sockets {
    plugin: UnixListener,
    control: UnixListener,
    zds: AsyncFd<SeqPacketListener>,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self, RunError> {
        let (run_dir, zds, plugin) = (&config.run_dir, config.zds_socket(), config.event_socket());
        fs::create_dir_all(run_dir).map_err(at(run_dir))?;
        let listener = SeqPacketListener::bind(&zds).and_then(watched).map_err(at(&zds))?;
        // This one first: whoever takes the mesh off the node sees by it that a daemon runs.
        let control = bind(&config.control_socket())?;
        let events = bind(&plugin)?;
        for socket in [&plugin, &zds] {
            // Whoever may see the folder may ask: the runtime, its plugins and ztunnel run as different users.
            fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).map_err(at(socket))?;
        }
        Ok(Self { plugin: events, control, zds: listener })
    }
}

/// Binds in place of what a daemon before us left. Only our own user may use it until more is allowed.
fn bind(socket: &Path) -> Result<UnixListener, RunError> {
    match fs::remove_file(socket) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(RunError::Path { path: socket.into(), source });
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(at(socket))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(at(socket))?;
    Ok(listener)
}

/// The network namespace of the node's first process, where it is to be entered.
fn node_netns(config: &Config) -> Result<Option<Arc<Netns>>, RunError> {
    let (own, first) = (Netns::current()?, config.proc_dir.join("1/ns/net"));
    let is_pod = config.source.is_none() && config.kubernetes.kubeconfig.is_none();
    if !config.kubernetes.allow_switch_to_host_ns && !is_pod {
        return Ok(None);
    }
    let node = Netns::open(&first)?;
    match (node.id() == own.id(), config.kubernetes.allow_switch_to_host_ns) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(Arc::new(node))),
        (false, false) => Err(RunError::OwnNetwork),
    }
}

fn ground(config: &Config, (metrics, records, notes): (Metrics, Records, Notes)) -> Result<Ground, RunError> {
    let families = if config.disable_ipv6 { Families::V4 } else { usable_families() };
    let (own, netns) = (Netns::current()?.id(), node_netns(config)?);
    let home = netns.as_ref().map_or(own, |it| it.id());
    let boot = config.proc_dir.join("sys/kernel/random/boot_id");
    let boot = fs::read_to_string(&boot).map_err(at(&boot))?.trim().to_owned();
    Ok(Ground {
        link: Link::new(),
        probes: Probes::new(
            NodeRules { families, prober: config.probe_uid, pods: None },
            Place { proc_dir: config.proc_dir.clone(), netns },
        ),
        notes,
        records,
        metrics,
        node: NodeWide { families, dns: config.dns_capture },
        seen: config.kubernetes.clone(),
        home,
        boot,
        installed: State::new(config.site().is_some()),
        retired: watch::Sender::new(false),
        finder: Finder::new(config.proc_dir.clone(), own),
        leave_wait: config.leave_wait(),
        audit: config.audit(),
        hands: Semaphore::new(HANDS),
    })
}

fn criteria(config: &Config) -> Criteria {
    Criteria {
        excluded: config.excluded().into_iter().collect(),
        system_namespace: config.system_namespace.clone(),
        selectors: config.enablement_selector.0.clone(),
    }
}

async fn bind_admin(config: &Config) -> Result<Option<TcpListener>, RunError> {
    let Some(at) = config.admin_addr.0 else { return Ok(None) };
    TcpListener::bind(at).await.map(Some).map_err(|source| RunError::Admin { at, source })
}

/// Keeps the node's own rules and sets as they should be.
async fn audit(ground: Arc<Ground>, views: watch::Receiver<Arc<View>>, stop: Stop) {
    loop {
        let was_complete = views.borrow().complete;
        // Both arms are cancel-safe.
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(ground.audit) => {}
        }
        if *ground.retired.borrow() {
            return;
        }
        if was_complete {
            // Every pod's keeper has had its time to say what it wants.
            ground.probes.settle();
        }
        match ground.probes.audit().await {
            Ok(crate::apply::Change::Made) => {
                warn!("the node's rules were changed by somebody and are repaired")
            }
            Ok(crate::apply::Change::None) => {}
            Err(error) => warn!(error = %chain(&error), "cannot keep the node's rules"),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::Path { path, source }
}
