//! The listeners of one pod, on one of the traffic threads, from binding to the last connection.
//! Owns accepting, and the limits and ends of it. What is done with a connection is `inbound`'s, `plaintext`'s
//! and `outbound`'s; which thread takes it is `deal`'s, and there it stays.

mod deal;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::pool::Pool;
use ambit_model::name::Network;
use ambit_process::net::{TcpListener, TcpStream};
use ambit_process::start::Traffic;
use ambit_process::stop::Stop;
use ambit_process::tasks::{Drained, Tasks};
use ambit_proxy::unproven::Unproven;
use ambit_sys::socket::Listening;
use ambit_tls::vault::Vault;
use ambit_wire::node_link::PodInfo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{Instrument, debug, info_span, warn};

use crate::config;
use crate::ledger::{Ledger, Page};
use crate::metrics::{Metrics, Reporter};
use crate::sockets::{Sockets, SocketsError};
use crate::world::World;
use crate::{dns, inbound, outbound, plaintext};
use deal::{Deal, Place};

/// What all pods share.
pub struct Shared {
    /// The known world.
    pub world: World,
    /// Certificates.
    pub vault: Vault,
    /// Live connections.
    pub ledger: Ledger,
    /// Handshakes under way.
    pub unproven: Unproven,
    /// Counters.
    pub metrics: Metrics,
    /// How traffic is carried.
    pub settings: config::Traffic,
    /// How names are answered; none: they are not.
    pub names: Option<Arc<dns::Names>>,
    /// Our network.
    pub network: Network,
    /// Whether policy decisions are logged at info.
    pub log_decisions: bool,
    /// How long a connection waits for a policy that is chosen for its workload but not known yet.
    pub policy_wait: Duration,
    /// Becomes true when the world is known for the first time; nothing is accepted before.
    pub synced: watch::Receiver<bool>,
    /// The traffic threads.
    pub threads: Arc<[Traffic]>,
    /// How long connections may go on after a stop.
    pub drain: Duration,
}

/// One pod on one thread.
pub struct Lane {
    /// What all pods share.
    pub shared: Arc<Shared>,
    /// The thread.
    pub thread: Traffic,
    /// Whose traffic it is.
    pub pod: Arc<PodInfo>,
    /// The pod's sockets.
    pub sockets: Arc<dyn Sockets>,
    /// The pod's connections on this thread.
    pub page: Arc<Page>,
    /// The pod's tunnels from this thread.
    pub pool: Pool,
    /// Applications are shown their clients' addresses.
    pub borrow_source: bool,
}

/// How long a local workload may be unknown: a pod starts before the control plane has heard of it.
pub const LOCAL_WAIT: Duration = Duration::from_secs(5);

/// How long a certificate may take on the way of a connection.
pub const CREDENTIAL_WAIT: Duration = Duration::from_secs(10);

/// Connections of one listener; below any limit on descriptors that a node proxy is given.
const OPEN: usize = 50_000;

/// Between the request to end and the abort: long enough for a record to be written.
const GRACE: Duration = Duration::from_millis(500);

/// After a failed accept (mostly: no file descriptors left) wait before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The three ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tunnels,
    Plaintext,
    Outbound,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tunnels, Self::Plaintext, Self::Outbound];

    fn port(self) -> u16 {
        match self {
            Self::Tunnels => ambit_model::route::HBONE_PORT,
            Self::Plaintext => 15006,
            Self::Outbound => 15001,
        }
    }

    fn reporter(self) -> Reporter {
        match self {
            Self::Tunnels | Self::Plaintext => Reporter::Destination,
            Self::Outbound => Reporter::Source,
        }
    }
}

/// Why a pod is not served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be made.
    #[error("cannot listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: SocketsError,
    },
    /// A listener could not be handed to its thread.
    #[error("cannot serve port {port}")]
    Register {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
}

/// A pod that is served.
pub struct Running {
    accepting: Stop,
    tasks: Tasks,
    lanes: Vec<Arc<Page>>,
}

impl Running {
    /// Binds every listener, then serves.
    ///
    /// # Errors
    /// When any listener cannot be bound; then none is.
    pub fn start(
        shared: &Arc<Shared>,
        pod: &PodInfo,
        sockets: &Arc<dyn Sockets>,
    ) -> Result<Self, StartError> {
        let pod = Arc::new(pod.clone());
        let mut this = Self { tasks: Tasks::new(&Stop::new()), accepting: Stop::new(), lanes: Vec::new() };
        // Pods spread over the threads, and each takes one that has little to do.
        let Some(home) = shared.threads.iter().min_by_key(|thread| thread.tasks_alive()) else {
            return Ok(this);
        };
        let listeners = if shared.settings.carry { bind(sockets.as_ref(), home)? } else { Vec::new() };
        let names = dns::bind(shared, sockets.as_ref(), home)?;
        if shared.settings.carry {
            this.carry(home, listeners, (shared, &pod, sockets));
        }
        if let Some(names) = names {
            dns::serve(names, (shared, &pod, sockets), (&mut this.tasks, home, &this.accepting));
        }
        Ok(this)
    }

    /// The pod's connections, by thread.
    #[must_use]
    pub fn pages(&self) -> &[Arc<Page>] {
        &self.lanes
    }

    /// Closes listeners and connections at once.
    pub async fn stop(self) -> Drained {
        self.accepting.stop();
        self.tasks.drain(GRACE * 2).await
    }

    /// Closes the listeners, and lets connections go on for `limit`.
    pub async fn finish(self, limit: Duration) -> Drained {
        self.accepting.stop();
        self.tasks.finish(limit + GRACE, GRACE * 2).await
    }

    fn carry(
        &mut self,
        home: &Traffic,
        listeners: Vec<Bound>,
        (shared, pod, sockets): (&Arc<Shared>, &Arc<PodInfo>, &Arc<dyn Sockets>),
    ) {
        let borrow_source = listeners.iter().all(|bound| bound.transparent);
        let lane = |thread: &Traffic| {
            Arc::new(Lane {
                shared: Arc::clone(shared),
                thread: thread.clone(),
                pod: Arc::clone(pod),
                sockets: Arc::clone(sockets),
                page: shared.ledger.page(),
                pool: outbound::pool(shared),
                borrow_source,
            })
        };
        let others = shared.threads.iter().filter(|thread| thread.number() != home.number());
        let (first, others) = (lane(home), others.map(lane).collect::<Vec<_>>());
        self.lanes = std::iter::once(&first).chain(&others).map(|lane| Arc::clone(&lane.page)).collect();
        for bound in listeners {
            let (accepting, deal) = (self.accepting.clone(), Deal::new(&first, &others));
            let span = info_span!("proxy", wl = %format_args!("{}/{}", pod.namespace, pod.name));
            self.tasks
                .spawn_on(home, "accept", move |stop| accept(bound, deal, accepting, stop).instrument(span));
        }
    }
}

struct Bound {
    way: Way,
    listener: TcpListener,
    transparent: bool,
}

fn bind(sockets: &dyn Sockets, thread: &Traffic) -> Result<Vec<Bound>, StartError> {
    let mut all = Vec::new();
    for way in Way::ALL {
        let port = way.port();
        let Listening { socket, transparent } =
            sockets.listen(port).map_err(|source| StartError::Listen { port, source })?;
        let listener = thread
            .enter(|| TcpListener::from_std(socket))
            .map_err(|source| StartError::Register { port, source })?;
        all.push(Bound { way, listener, transparent });
    }
    Ok(all)
}

async fn accept(bound: Bound, deal: Deal, accepting: Stop, stop: Stop) {
    let shared = deal.shared();
    let mut synced = shared.synced.clone();
    // Cancel-safe: nothing is taken from the kernel's queue before the world is known.
    tokio::select! {
        () = accepting.stopped() => return,
        _ = synced.wait_for(|known| *known) => {}
    }
    let mut open = Tasks::new(&stop);
    loop {
        // Both arms are cancel-safe: a connection not yet taken stays in the kernel's queue.
        tokio::select! {
            () = accepting.stopped() => break,
            taken = bound.listener.accept() => match taken {
                Ok((stream, _)) => begin(bound.way, &deal, &accepting, (&mut open, stream)),
                Err(error) => {
                    warn!(port = bound.way.port(), %error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
        if open.len() >= OPEN {
            open.one_ended().await;
        }
    }
    // What has connected before the stop is served: closing a listener resets what still waits in its queue.
    while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(1), bound.listener.accept()).await {
        begin(bound.way, &deal, &accepting, (&mut open, stream));
    }
    drop(bound);
    let left = open.len();
    // The stop cuts this short: it is pulled when the pod has gone.
    let ended = tokio::select! {
        () = stop.stopped() => true,
        () = tokio::time::sleep(shared.drain) => true,
        () = all_ended(&mut open) => false,
    };
    if !ended {
        return;
    }
    deal.end();
    let drained = open.drain(GRACE).await;
    debug!(left, finished = drained.finished, aborted = drained.aborted, "listener drained");
}

async fn all_ended(open: &mut Tasks) {
    while open.one_ended().await {}
}

fn begin(way: Way, deal: &Deal, accepting: &Stop, (open, stream): (&mut Tasks, TcpStream)) {
    let (stream, lane, place) = match deal.out(stream) {
        Ok(dealt) => dealt,
        Err(error) => return debug!(port = way.port(), %error, "a connection is lost"),
    };
    let counted = Counted::new(lane.shared.metrics.sockets.get_or_create(&way.reporter()).clone(), place);
    let (thread, accepting) = (lane.thread.clone(), accepting.clone());
    // Each way has a task of its own: none keeps room for what another needs. A connection does not look at the stop
    // itself: the page cuts it, which costs nothing while bytes flow.
    match way {
        Way::Tunnels => open.spawn_on(&thread, "connection", |_| async move {
            let _counted = counted;
            inbound::serve(lane, stream, accepting).await;
        }),
        Way::Plaintext => open.spawn_on(&thread, "connection", |_| async move {
            let _counted = counted;
            plaintext::serve(lane, stream).await;
        }),
        Way::Outbound => open.spawn_on(&thread, "connection", |_| async move {
            let _counted = counted;
            outbound::serve(lane, stream).await;
        }),
    }
}

/// One in a gauge and in its lane, also when its task is aborted.
struct Counted {
    gauge: Gauge,
    _place: Place,
}

impl Counted {
    fn new(gauge: Gauge, place: Place) -> Self {
        gauge.inc();
        Self { gauge, _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests;
