//! What requests need on their way: the world, our identity, tunnels and connections of one thread.
//! Owns nothing that happens; lanes share no locks with each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::Windows;
use ambit_hbone::pool::{Pool, PoolSettings};
use ambit_model::name::{Identity, Label, NodeName};
use ambit_model::route::Waypoint;
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Health, Locality, Tunnel, Workload, WorkloadKind};
use ambit_process::stop::Stop;
use ambit_proxy::place::Place;
use ambit_proxy::unproven::Unproven;
use ambit_proxy::world::World;
use ambit_tls::configs::control_plane::RootSource;
use ambit_tls::vault::Vault;
use ambit_wire::node_link::PodInfo;
use tokio::sync::watch;

use crate::accept::TUNNELS;
use crate::believed::Believed;
use crate::crew::Crew;
use crate::keys::Rings;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pressure::{Memory, Pressure};
use crate::rebalance::Rebalance;
use crate::room::Room;
use crate::room::count::Count;
use crate::trace::Spans;
use crate::upstream::{Busy, Groups, Lines, Names, Vitals};

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) vault: Vault,
    pub(crate) metrics: Metrics,
    pub(crate) unproven: Unproven,
    pub(crate) waypoint: Waypoint,
    pub(crate) pod: PodInfo,
    pub(crate) identity: Identity,
    /// What is known of the endpoints of services whose traffic is handled in a way of its own.
    pub(crate) groups: Groups,
    /// Which endpoints do not answer well when they are asked how they are.
    pub(crate) vitals: Vitals,
    /// Where hosts outside of the mesh are.
    pub(crate) names: Names,
    /// Who vouches for servers outside of the mesh, where nobody else was named.
    pub(crate) roots: RootSource,
    pub(crate) place: Place,
    pub(crate) windows: Windows,
    pub(crate) drain: Duration,
    /// How many requests each may still send.
    pub(crate) limits: Limits,
    /// Keys of those who issue tokens.
    pub(crate) keys: Arc<Rings>,
    /// How long a body may stand still; none: any time.
    pub(crate) idle: Option<Duration>,
    /// Who says nothing for this long waits for the other side to begin, as databases and mail do.
    pub(crate) silence: Duration,
    /// Whether applications are told who asks.
    pub(crate) tell_client: bool,
    /// When connections of clients are to be opened anew.
    pub(crate) rebalance: Rebalance,
    /// Requests that each thread may have under way.
    pub(crate) requests: usize,
    /// How much of our memory is in use.
    pub(crate) memory: Memory,
    /// Nothing is accepted before the world is known.
    pub(crate) synced: watch::Receiver<bool>,
}

/// What one thread has for itself.
pub(crate) struct Lane {
    pub(crate) shared: Arc<Shared>,
    /// Tunnels to endpoints.
    pub(crate) tunnels: Pool,
    /// HTTP connections to endpoints, inside tunnels or plain.
    pub(crate) lines: Lines,
    /// Requests under way to endpoints of services of which nothing was said.
    pub(crate) busy: Busy,
    /// Keeps those connections going.
    pub(crate) crew: Crew,
    /// Tokens that were found good.
    pub(crate) believed: Believed,
    /// Copies of requests under way.
    pub(crate) copies: Count,
    /// Calls of our own under way.
    pub(crate) calls: Count,
    /// Spans of requests that collectors are told of.
    pub(crate) spans: Spans,
    /// Requests under way from clients.
    pub(crate) room: Room,
    /// Whether there is more to do than can be done.
    pub(crate) pressure: Pressure,
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let settings = PoolSettings { windows: shared.windows, ..PoolSettings::default() };
        // Not ended by the stop: requests that are open may still need a tunnel.
        let tunnels = Pool::new(shared.vault.clone(), settings, &Stop::new());
        let room = Room::new(shared.requests, TUNNELS);
        let (lines, crew, copies) = (Lines::default(), Crew::new(), Count::default());
        let (believed, calls) = (Believed::default(), Count::default());
        let spans = Spans::default();
        let (busy, pressure) = (Busy::default(), Pressure::default());
        Self { shared, tunnels, lines, busy, crew, believed, copies, calls, spans, room, pressure }
    }
}

impl Shared {
    /// The workload that we are. Until the control plane has told of it, what we know of it ourselves.
    pub(crate) fn own(&self, world: &Snapshot) -> Arc<Workload> {
        let (namespace, account) = (&self.pod.namespace, &self.pod.service_account);
        let name = self.pod.name.as_str();
        let known = world.local_workload(&NodeName::default(), namespace, account, name);
        known.unwrap_or_else(|| Arc::new(self.unlisted()))
    }

    /// Our address, as far as it matters; its family does.
    pub(crate) fn address(&self) -> SocketAddr {
        let own = self.waypoint.addresses.first().map(|address| address.ip);
        SocketAddr::new(own.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0)
    }

    fn unlisted(&self) -> Workload {
        let name: Label = self.pod.name.as_str().into();
        Workload {
            uid: format!("{}//Pod/{}/{name}", self.place.cluster, self.pod.namespace).into(),
            namespace: self.pod.namespace.clone(),
            addresses: self.waypoint.addresses.iter().map(|address| address.ip).collect(),
            hostname: Label::default(),
            network: self.place.network.clone(),
            tunnel: Tunnel::Hbone,
            native_tunnel: true,
            trust_domain: self.identity.trust_domain.clone(),
            service_account: self.pod.service_account.clone(),
            waypoint: None,
            network_gateway: None,
            node: self.place.node.clone(),
            canonical_name: name.clone(),
            canonical_revision: Label::default(),
            kind: WorkloadKind::Pod,
            workload_name: name.clone(),
            application_tunnel: None,
            services: Default::default(),
            policies: Vec::new(),
            health: Health::Healthy,
            cluster: self.place.cluster.clone(),
            locality: Locality::default(),
            host_network: false,
            capacity: 1,
            labels: Default::default(),
            name,
        }
    }
}
