//! The way on to an endpoint: which one, and the connection to it, in a tunnel under our own identity wherever the
//! endpoint has one. Owns what can go wrong there, and when another endpoint may be tried. `lines` keeps connections
//! that speak HTTP.

mod busy;
mod group;
mod http2;
mod lines;
mod names;
mod probe;
mod proxied;
mod secure;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::dial::DialError;
use ambit_hbone::head::{Baggage, Connect, Forwarded, Trace};
use ambit_hbone::pool::{Key, OpenError, RelayError, Through};
use ambit_model::address::{ClientAddr, HopAddr, OriginalDst};
use ambit_model::balance::{Endpoint, Pick};
use ambit_model::name::{Identity, Label};
use ambit_model::route::{
    Bound, Direct, Flow, Hints, Plan, Refusal, Relayed, Tunnelled, endpoints_of, plan_endpoint, plan_to,
    plan_workload,
};
use ambit_model::service::Service;
use ambit_model::snapshot::Snapshot;
use ambit_model::traffic::{Came, Overflow};
use ambit_model::workload::Workload;
use ambit_process::net::TcpStream;
use ambit_proxy::side::Side;
use http::StatusCode;
use tokio::time::timeout;

use crate::body::HttpError;
use crate::lane::Lane;
use crate::line::Line;
pub(crate) use busy::Busy;
pub(crate) use group::{Counted, Groups, Guide};
pub(crate) use lines::{Got, Lease, Lines};
pub(crate) use names::{Names, is_wildcard, look_up};
pub(crate) use probe::{Vitals, ask_all};
pub(crate) use proxied::Announced;
pub(crate) use secure::{Begin, Unproven};

/// Longer than any healthy network needs, shorter than people wait.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Why an endpoint gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no tunnel to it, or its end of it says no.
    #[error("no way through the tunnel")]
    Open(#[from] OpenError),
    /// The same by way of another network's gateway.
    #[error("no way through the gateway")]
    Relay(#[from] RelayError),
    /// It does not accept.
    #[error("the endpoint does not accept")]
    Connect(#[source] io::Error),
    /// What was said of how to go there cannot be honoured.
    #[error("nothing is sent there: {0}")]
    Closed(String),
    /// It accepts, and TLS does not begin.
    #[error("TLS to the endpoint does not begin")]
    Unproven(#[from] Unproven),
    /// It accepts, and does not speak HTTP.
    #[error("the endpoint does not speak HTTP")]
    Handshake(#[source] HttpError),
    /// The connection broke before anything of the request was sent.
    #[error("the connection broke before the request was sent")]
    Unsent(#[source] HttpError),
    /// The connection broke before an answer came.
    #[error("the connection broke before the answer")]
    Lost {
        /// What broke.
        source: HttpError,
    },
    /// Its answer is none that everybody reads alike.
    #[error("the endpoint's answer is malformed")]
    Malformed(#[source] Malformed),
    /// Its service's traffic policy leaves no room for it.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// One attempt took longer than it may.
    #[error("no answer within {limit:?}")]
    Slow {
        /// How long was waited.
        limit: Duration,
    },
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// It cannot be read.
    #[error("the answer cannot be read")]
    Unread(#[source] HttpError),
    /// A length, and a coding that says it again; or one that we cannot undo.
    #[error("where the answer ends is not certain")]
    Framing,
    /// Interim answers, and no end of them.
    #[error("more is said before the answer than anybody needs")]
    Flood,
}

impl From<HttpError> for Failure {
    /// What became of a request that was sent.
    fn from(source: HttpError) -> Self {
        if source.is_malformed() { Self::Malformed(Malformed::Unread(source)) } else { Self::Lost { source } }
    }
}

impl Failure {
    /// Flags, details, and the reason in the words that people search for.
    pub(crate) fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Open(_)
            | Self::Relay(_)
            | Self::Connect(_)
            | Self::Closed(_)
            | Self::Unproven(_)
            | Self::Handshake(_) => (
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
                "remote connection failure",
            ),
            Self::Lost { source } if source.is_refused() => {
                ("UR", "upstream_reset_before_response_started{remote_reset}", "remote reset")
            }
            Self::Unsent(_) | Self::Lost { .. } => (
                "UC",
                "upstream_reset_before_response_started{connection_termination}",
                "connection termination",
            ),
            Self::Overflow(_) => ("UO", "upstream_reset_before_response_started{overflow}", "overflow"),
            Self::Malformed(_) => {
                ("UPE", "upstream_reset_before_response_started{protocol_error}", "protocol error")
            }
            Self::Slow { .. } => ("UT", "upstream_per_try_timeout", "connection timeout"),
        }
    }

    /// Whether no endpoint has seen anything of the request, so that another may be given it.
    pub(crate) fn is_unseen(&self) -> bool {
        match self {
            // Policy speaks for all endpoints, and our own certificate is missing for all.
            Self::Open(error) => match error {
                OpenError::Refused { status } => *status == StatusCode::SERVICE_UNAVAILABLE,
                OpenError::Dial(error) => {
                    !matches!(**error, DialError::Certificate { .. } | DialError::Closed)
                }
                OpenError::Head(_) => false,
                OpenError::Silent { .. } | OpenError::Broken(_) => true,
            },
            // Those who vouch are missing for all of them.
            Self::Unproven(error) => matches!(error, Unproven::Proof { .. }),
            Self::Relay(_) | Self::Connect(_) | Self::Handshake(_) | Self::Unsent(_) => true,
            Self::Lost { source } => source.is_refused(),
            Self::Malformed(_) | Self::Slow { .. } | Self::Overflow(_) | Self::Closed(_) => false,
        }
    }

    /// What it says of the endpoint; nothing, if it is about something else.
    pub(crate) fn came(&self) -> Option<Came> {
        match self {
            Self::Slow { .. } => Some(Came::Late),
            Self::Malformed(_) => Some(Came::Status(502)),
            Self::Overflow(_) => None,
            Self::Lost { .. } => Some(Came::Nothing),
            unseen => unseen.is_unseen().then_some(Came::Nothing),
        }
    }

    /// What the tunnel's far end answered, if that was it.
    pub(crate) fn connect_status(&self) -> Option<u16> {
        match self {
            Self::Open(OpenError::Refused { status }) => Some(status.as_u16()),
            _ => None,
        }
    }
}

/// Whom a connection leads to.
#[derive(Clone)]
pub(crate) struct Met {
    /// The endpoint, where it is one we know.
    pub(crate) workload: Option<Arc<Workload>>,
    /// Where it listens.
    pub(crate) target: Label,
    /// Who it has proven to be; empty without a tunnel.
    pub(crate) principal: Label,
    /// All that as records show it.
    pub(crate) side: Option<Side>,
}

impl Met {
    fn new(workload: Option<Arc<Workload>>, target: &impl ToString, principal: Label) -> Self {
        let side = workload.as_ref().map(|workload| Side::of(workload, principal.clone()));
        Self { workload, target: target.to_string().into(), principal, side }
    }
}

/// Plans the way to an endpoint of what was asked for.
pub(crate) async fn plan(lane: &Lane, to: &Bound, hints: &mut Hints) -> Result<Plan, Refusal> {
    plan_by(lane, to, hints, &By { guide: Guide::of(lane, to).as_ref(), ..By::default() }).await
}

/// What a way is planned by.
#[derive(Default)]
pub(crate) struct By<'a> {
    /// How the service's traffic is handled.
    pub(crate) guide: Option<&'a Guide>,
    /// What the request says of the endpoint that it belongs to.
    pub(crate) hash: Option<u64>,
    /// The address that the client asked for, if it is a client's.
    pub(crate) asked: Option<IpAddr>,
}

/// The same, by what is said of it.
pub(crate) async fn plan_by(
    lane: &Lane,
    to: &Bound,
    hints: &mut Hints,
    by: &By<'_>,
) -> Result<Plan, Refusal> {
    let By { guide, hash, .. } = *by;
    loop {
        let world = lane.shared.world.load();
        let planned = match to {
            Bound::Service { service, port, .. } if service.is_passed_through() => {
                passed_on(lane, service, *port, by.asked)
            }
            Bound::Service { service, port, .. } => {
                let flow = flow(lane, &world, service, *port);
                let kept = kept(&world, &flow, (service, guide), hints);
                match (kept, guide) {
                    (Some(it), _) => plan_to(&world, &flow, (service, it), hints, &mut Chance),
                    (None, None) => {
                        plan_endpoint(&world, &flow, service, hints, &mut busy::Known(&lane.busy))
                    }
                    (None, Some(guide)) => endpoints_of(&world, &flow, service, hints)
                        .and_then(|all| guide.choose(&flow.source, all, (hash, hints.left())))
                        .and_then(|it| plan_to(&world, &flow, (service, it), hints, &mut Chance)),
                }
            }
            Bound::Workload { workload, target } => {
                let (source, client) = (lane.shared.own(&world), ClientAddr::new(lane.shared.address()));
                let flow = Flow { source, client, dst: OriginalDst::new(*target) };
                Ok(plan_workload(&world, &flow, workload, &mut Chance))
            }
        };
        match planned {
            Err(Refusal::NameNeeded { hostname }) if !hints.names.contains_key(&hostname) => {
                let found = Box::pin(resolve(lane, &hostname)).await;
                hints.names.insert(hostname, found);
            }
            planned => return planned,
        }
    }
}

/// From us to a service's port.
fn flow(lane: &Lane, world: &Snapshot, service: &Service, port: u16) -> Flow {
    let (address, client) = (lane.shared.address(), ClientAddr::new(lane.shared.address()));
    let vip = service.vips.iter().map(|vip| vip.ip).find(|ip| ip.is_ipv4() == address.is_ipv4());
    let dst = OriginalDst::new(SocketAddr::new(vip.unwrap_or_else(|| address.ip()), port));
    Flow { source: lane.shared.own(world), client, dst }
}

/// To a service whose endpoints are whoever is asked for (`waypoint.md` 1.14): to the address that the client asked for,
/// if it is one of the service's, else to the service's own.
fn passed_on(lane: &Lane, service: &Arc<Service>, port: u16, asked: Option<IpAddr>) -> Result<Plan, Refusal> {
    let is_its = |ip: &IpAddr| {
        service.vips.iter().any(|vip| vip.ip == *ip)
            || service.ranges.iter().any(|range| range.range.contains(ip))
    };
    let alike = |ip: &IpAddr| ip.is_ipv4() == lane.shared.address().is_ipv4();
    let own = || service.vips.iter().map(|vip| vip.ip);
    let ip = asked.filter(is_its).or_else(|| own().find(alike)).or_else(|| own().next());
    let ip = ip.ok_or_else(|| Refusal::AddressNeeded { service: service.key() })?;
    let (hop, service) = (HopAddr::new(SocketAddr::new(ip, port)), Some(Arc::clone(service)));
    Ok(Plan::Direct(Direct { hop, destination: None, service }))
}

/// The endpoint that a session stays with, as long as it may be chosen.
fn kept(
    world: &Snapshot,
    flow: &Flow,
    (service, guide): (&Arc<Service>, Option<&Guide>),
    hints: &Hints,
) -> Option<Endpoint> {
    let uid = hints.stay.as_ref()?;
    let all = endpoints_of(world, flow, service, hints).ok()?;
    let kept = all.into_iter().find(|it| it.workload.uid == *uid)?;
    guide.is_none_or(|guide| guide.keep_to(&kept)).then_some(kept)
}

/// The endpoints that a request to a service's port may go to, in this world.
pub(crate) fn candidates(lane: &Lane, world: &Snapshot, to: &Bound) -> Vec<Endpoint> {
    let Bound::Service { service, port, subset } = to else { return Vec::new() };
    let all = endpoints_of(world, &flow(lane, world, service, *port), service, &Hints::default());
    let mut all = all.unwrap_or_default();
    if let Some(name) = subset {
        let traffic = world.traffic_of(&service.key());
        let members = traffic.and_then(|it| it.of(*port, Some(name.as_str()))?.1);
        all.retain(|it| members.is_some_and(|members| members.contains(&it.workload.uid)));
    }
    all
}

/// Chance, as `model::balance` asks for it.
pub(crate) struct Chance;

impl Pick for Chance {
    fn below(&mut self, limit: u64) -> u64 {
        fastrand::u64(..limit)
    }
}

/// What a workload's name resolves to; nothing when there is no answer. A wildcard's is looked up before (`look_up`).
async fn resolve(lane: &Lane, hostname: &Label) -> Vec<IpAddr> {
    if is_wildcard(hostname.as_str()) {
        return Vec::new();
    }
    lane.shared.names.resolve(hostname.as_str()).await.to_vec()
}

/// The endpoint of a plan, which another may stand in for.
pub(crate) fn endpoint(plan: &Plan) -> Option<&Arc<Workload>> {
    match plan {
        Plan::Tunnel(to) | Plan::ViaWaypoint(to) => Some(&to.destination),
        Plan::ViaGateway(to) => Some(&to.destination),
        Plan::Direct(to) => to.destination.as_ref(),
    }
}

/// How long a connection may take to be there.
fn patience(guide: Option<&Guide>) -> Duration {
    guide.and_then(Guide::limits).and_then(|it| it.connect).unwrap_or(CONNECT_WAIT)
}

/// Connects as planned. `client` is for whom, as far as only one connection is meant.
pub(crate) async fn connect(
    lane: &Lane,
    plan: &Plan,
    (client, guide): (Option<SocketAddr>, Option<&Guide>),
) -> Result<(Line, Met), Failure> {
    let patience = patience(guide);
    match plan {
        Plan::Tunnel(to) | Plan::ViaWaypoint(to) => Box::pin(tunnel(lane, to, client, patience)).await,
        Plan::ViaGateway(to) => Box::pin(relay(lane, to, client, patience)).await,
        Plan::Direct(Direct { hop, destination, .. }) => {
            let tcp = dial(hop.socket(), patience).await.map_err(Failure::Connect)?;
            Ok((tcp.into(), Met::new(destination.clone(), hop, Label::default())))
        }
    }
}

async fn tunnel(
    lane: &Lane,
    to: &Tunnelled,
    client: Option<SocketAddr>,
    patience: Duration,
) -> Result<(Line, Met), Failure> {
    let key = key(lane, to.hop, &to.expect);
    let head = head(lane, to, client);
    let hop = to.hop.socket();
    let carried = lane.tunnels.open(&key, &head, move || dial(hop, patience)).await?;
    let principal = carried.peer.to_string().into();
    let met = Met::new(Some(Arc::clone(&to.destination)), &to.authority, principal);
    Ok((carried.stream.into(), met))
}

/// A tunnel inside a tunnel: the gateway is asked for the service, and whoever answers behind it once more.
async fn relay(
    lane: &Lane,
    to: &Relayed,
    client: Option<SocketAddr>,
    patience: Duration,
) -> Result<(Line, Met), Failure> {
    let outer = head(lane, &to.outer, client);
    let inner = Connect { network: Some(lane.shared.place.network.clone()), ..outer.clone() };
    let key = key(lane, to.outer.hop, &to.outer.expect);
    let through = Through { key: &key, outer: &outer, expect: to.expect.clone().into(), inner: &inner };
    let hop = to.outer.hop.socket();
    let carried = lane.tunnels.open_through(&through, move || dial(hop, patience)).await?;
    let principal = carried.peer.to_string().into();
    let met = Met::new(Some(Arc::clone(&to.destination)), &to.outer.authority, principal);
    Ok((carried.stream.into(), met))
}

fn key(lane: &Lane, hop: HopAddr, expect: &[Identity]) -> Key {
    Key { source: lane.shared.identity.clone(), source_ip: None, hop, expect: expect.into() }
}

fn head(lane: &Lane, to: &Tunnelled, client: Option<SocketAddr>) -> Connect {
    let host = |service: &Arc<Service>| service.hostname.to_string();
    Connect {
        authority: to.authority.clone(),
        // Requests of many clients follow on one connection: what we say of ourselves is true of all.
        baggage: Baggage::of(&lane.shared.own(&lane.shared.world.load())),
        forwarded: Some(Forwarded { client, host: to.service.as_ref().map(host) }),
        trace: Some(Trace::random()),
        network: None,
        for_stranger: false,
    }
}

async fn dial(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let tcp = match timeout(patience, TcpStream::connect(to)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
