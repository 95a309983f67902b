//! One request for a stream of a tunnel: what it is for, whether it is ours to serve, and what is spoken there
//! (`waypoint.md` 1.3), and who asks: the tunnel's other end, or a stranger whom that one leads here. Owns that order;
//! HTTP is `inner`'s, everything else `opaque`'s.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use ambit_hbone::accept::Arrival;
use ambit_hbone::head::{Connect, HeadError, Opened, Refusal};
use ambit_model::address::{Authority, ClientAddr, NetworkAddress, OriginalDst};
use ambit_model::http_route::{Opening, Table};
use ambit_model::name::{Identity, Label, Namespace, Network};
use ambit_model::request_policy::Target;
use ambit_model::route::{Asker, Bound, NotBound, NotLed, asker, bound};
use ambit_model::service::{AppProtocol, Service};
use ambit_model::snapshot::Snapshot;
use ambit_model::traffic::Ends;
use ambit_model::workload::Workload;
use ambit_process::stop::Stop;
use ambit_proxy::side::{Reason, Side};
use tracing::field::{DisplayValue, display};
use tracing::warn;

use crate::idle::Idle;
use crate::lane::Lane;
use crate::line::Line;
use crate::metrics::{Recent, names, told};
use crate::phases::route::protocol_of;
use crate::pressure::{self, Measure};
use crate::room::Share;
use crate::sniff::{Spoken, sniff};
use crate::{inner, opaque};

/// Who opened the tunnel. What is asked for is asked by an [`Asker`], who may be another.
pub(crate) struct Caller {
    /// Who it proved to be.
    pub(crate) peer: Identity,
    /// Where it is.
    pub(crate) from: ClientAddr,
    /// Its part of the requests under way.
    pub(crate) share: Arc<Share>,
}

/// One open stream: who asks, and for what.
pub(crate) struct Inbound {
    pub(crate) lane: Arc<Lane>,
    pub(crate) caller: Arc<Caller>,
    /// The client.
    pub(crate) client: Asker,
    /// The client, as records show it.
    pub(crate) source: Side,
    /// The client's workload, if it has proven to be the one that has its address.
    workload: Option<Arc<Workload>>,
    /// What was dialled.
    pub(crate) asked: String,
    pub(crate) bound: Bound,
    /// The service, as records show it.
    pub(crate) names: [Label; 3],
    /// Counters of its last requests.
    pub(crate) recent: Recent,
    /// The same as an address; of a name, the first of its service's.
    pub(crate) dialled: SocketAddr,
    /// Whose policies it comes under.
    pub(crate) targets: Vec<Target>,
    /// The server that was asked for with TLS, once it was heard.
    server: OnceLock<Box<str>>,
}

/// Why a stream is not opened.
#[derive(Debug, thiserror::Error)]
enum NotOpened {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    NotBound(#[from] NotBound),
    #[error(transparent)]
    NotLed(#[from] NotLed),
}

impl Inbound {
    pub(crate) fn service(&self) -> Option<&Arc<Service>> {
        service_of(&self.bound)
    }

    /// The server that is asked for with TLS, if that was listened for and there is one.
    pub(crate) fn server(&self) -> Option<&str> {
        self.server.get().map(AsRef::as_ref)
    }

    /// Keeps which server is asked for: the first one that was heard.
    pub(crate) fn heard(&self, server: Option<Box<str>>) {
        if let Some(server) = server {
            self.server.get_or_init(|| server);
        }
    }

    /// For whom a connection to an endpoint is made.
    pub(crate) fn ends(&self) -> Ends {
        Ends { client: self.client.from, asked: OriginalDst::new(self.dialled) }
    }

    /// Where the client is at home, if it is anybody.
    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        self.client.identity.as_ref().map(|client| &client.namespace)
    }

    /// The routes that what it asks for comes under.
    pub(crate) fn table_in<'w>(&self, world: &'w Snapshot) -> Option<&'w Arc<Table>> {
        let Bound::Service { service, port, .. } = &self.bound else { return None };
        world.tables_of(&service.key())?.table(*port, self.namespace())
    }

    /// The workload that asks as it is now, where any route looks at it.
    pub(crate) fn source_in<'w>(&'w self, world: &'w Snapshot, table: &Table) -> Option<&'w Workload> {
        let workload = self.workload.as_ref().filter(|_| table.asks_for_labels())?;
        Some(world.workload(&workload.uid).unwrap_or(workload))
    }

    /// The connection, as routes see it.
    pub(crate) fn opening<'w>(&'w self, world: &'w Snapshot, table: &Table) -> Opening<'w> {
        Opening {
            port: self.dialled.port(),
            to: self.dialled.ip(),
            client: self.client.from.ip(),
            from: self.namespace(),
            source: self.source_in(world, table),
        }
    }

    /// How a stream is opened: whoever leads a stranger is to know that it was understood.
    pub(crate) fn opened(&self) -> Opened {
        Opened { baggage: None, for_stranger: self.client.identity.is_none() }
    }

    /// Who asks, for records.
    pub(crate) fn principal(&self) -> Option<DisplayValue<&Identity>> {
        self.client.identity.as_ref().map(display)
    }

    /// How long a body may stand still.
    pub(crate) fn idle(&self) -> Idle {
        Idle::new(self.lane.shared.idle)
    }

    /// What the port says is spoken there.
    pub(crate) fn protocol(&self) -> AppProtocol {
        match &self.bound {
            Bound::Service { .. } => protocol_of(&self.bound),
            Bound::Workload { workload, target } => self.protocol_at(workload, target.port()),
        }
    }

    /// The same of a workload's own port: HTTP where every service in front of it says so. Then a client may be silent
    /// for as long as it likes before it asks; else it is the guess of who listens for a moment.
    fn protocol_at(&self, workload: &Workload, port: u16) -> AppProtocol {
        let world = self.lane.shared.world.load();
        let mut said = workload.services.iter().flat_map(|(key, ports)| {
            let of = world.service(key);
            let here = ports.iter().filter(|(_, target)| **target == port);
            here.map(move |(port, _)| of.and_then(|it| it.ports.get(port)).map(|it| it.protocol))
        });
        let first = said.next().flatten().unwrap_or(AppProtocol::Unknown);
        let all = first.is_http() && said.all(|other| other.is_some_and(AppProtocol::is_http));
        if all { first } else { AppProtocol::Unknown }
    }
}

fn service_of(bound: &Bound) -> Option<&Arc<Service>> {
    match bound {
        Bound::Service { service, .. } => Some(service),
        Bound::Workload { .. } => None,
    }
}

/// Serves one stream to its end.
pub(crate) async fn serve(lane: Arc<Lane>, caller: Arc<Caller>, arrival: Arrival, accepting: Stop) {
    if pressure::takes(&lane, Measure::RefuseTunnel) {
        return arrival.refuse(Refusal::Unavailable);
    }
    match admit(&lane, &caller, &arrival) {
        Ok(inbound) => Box::pin(open(Arc::new(inbound), arrival, accepting)).await,
        Err(why) => {
            let (refusal, label) = match &why {
                NotOpened::Head(_) => (Refusal::Bad, "bad_request"),
                NotOpened::NotLed(_) => (Refusal::Bad, "stranger_not_believed"),
                NotOpened::NotBound(_) => (Refusal::Elsewhere, "target_not_ours"),
            };
            lane.shared.metrics.refused.get_or_create(&Reason(label)).inc();
            let error = ambit_proxy::fault::chain(&why);
            let (from, peer) = (caller.from, &caller.peer);
            warn!(target: "access", { src.addr = %from, src.identity = %peer, error = error }, "connection refused");
            arrival.refuse(refusal);
        }
    }
}

fn admit(lane: &Arc<Lane>, caller: &Arc<Caller>, arrival: &Arrival) -> Result<Inbound, NotOpened> {
    let head = arrival.head().map_err(Clone::clone)?;
    let world = lane.shared.world.load();
    let bound = bound(&world, &lane.shared.waypoint, &head.authority, &caller.peer.namespace)?;
    let stranger = head.for_stranger.then(|| head.forwarded.as_ref().and_then(|said| said.client));
    let client = asker(&bound, (&caller.peer, caller.from), stranger)?;
    let workload = workload(lane, &client, head);
    Ok(Inbound {
        source: source(&client, (head, workload.as_ref())),
        workload: workload.filter(|_| client.identity.is_some()),
        asked: head.authority.to_string(),
        dialled: dialled(&head.authority, &bound),
        targets: lane.shared.waypoint.targets(&bound),
        lane: Arc::clone(lane),
        caller: Arc::clone(caller),
        client,
        names: names(service_of(&bound).map(AsRef::as_ref)),
        bound,
        recent: Recent::default(),
        server: OnceLock::new(),
    })
}

fn dialled(asked: &Authority, bound: &Bound) -> SocketAddr {
    match (asked, bound) {
        (Authority::Address(address), _) => *address,
        (_, Bound::Workload { target, .. }) => *target,
        (_, Bound::Service { service, port, .. }) => {
            let ip = service.vips.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |vip| vip.ip);
            SocketAddr::new(ip, *port)
        }
    }
}

/// The client as the world knows it, if the address is its own; of a stranger nobody knows whether it is.
fn workload(lane: &Lane, client: &Asker, head: &Connect) -> Option<Arc<Workload>> {
    let shared = &lane.shared;
    let own = |network: &Network| network.as_str().eq_ignore_ascii_case(shared.place.network.as_str());
    let world = shared.world.load();
    let address = NetworkAddress::new(shared.place.network.clone(), client.from.ip());
    let here = head.network.as_ref().is_none_or(own);
    let known = world.workload_by_address(&address).filter(|_| here);
    let is_own = |it: &&Arc<Workload>| client.identity.as_ref().is_none_or(|own| it.identity() == *own);
    known.filter(is_own).map(Arc::clone)
}

/// The same for records; else as it tells of itself, of which a stranger nothing does.
fn source(client: &Asker, (head, known): (&Connect, Option<&Arc<Workload>>)) -> Side {
    let name = client.identity.as_ref().map(|it| Label::from(it.to_string())).unwrap_or_default();
    match (known, &client.identity) {
        (Some(workload), _) => Side::of(workload, name),
        (None, Some(identity)) => told(&head.baggage, identity),
        (None, None) => Side::default(),
    }
}

async fn open(inbound: Arc<Inbound>, arrival: Arrival, accepting: Stop) {
    let table = inbound.table_in(&inbound.lane.shared.world.load()).map(Arc::clone);
    if let Some(table) = table.as_ref().filter(|table| table.kind().is_of_connections()) {
        return opaque::lead(&inbound, arrival, Some(table)).await;
    }
    let spoken = match inbound.protocol() {
        AppProtocol::Tcp | AppProtocol::Tls => {
            return opaque::lead(&inbound, arrival, table.as_deref()).await;
        }
        spoken => spoken,
    };
    // The client may be gone, and then there is nobody to tell.
    let Ok(stream) = arrival.open(&inbound.opened()) else { return };
    let mut line = Line::from(stream);
    // Who only has to wait a moment to be heard as something else than HTTP would go around the routes.
    let of_requests = table.as_ref().is_some_and(|it| it.is_of_requests());
    let guessed = spoken == AppProtocol::Unknown && !of_requests;
    let patience = if guessed { inbound.lane.shared.silence } else { inner::IDLE };
    let heard = sniff(&mut line, patience).await;
    if let Ok(heard) = &heard
        && spoken == AppProtocol::Unknown
    {
        inbound.lane.shared.metrics.heard.get_or_create(&Reason(heard.as_str())).inc();
    }
    match heard {
        Ok(Spoken::Other | Spoken::Nothing) if spoken == AppProtocol::Unknown => {
            opaque::follow(&inbound, line, table.as_deref()).await;
        }
        // What is no HTTP on a port of HTTP is answered as HTTP/1.1 answers what it cannot read.
        Ok(Spoken::Other | Spoken::Nothing | Spoken::Http1) => {
            inner::serve_http1(inbound, line, accepting).await
        }
        Ok(Spoken::Http2) => inner::http2::serve(inbound, line, accepting).await,
        Err(_) => {}
    }
}
