//! Captured connections out of a pod (15001, `ztunnel.md` 4): plan, dial, copy. Owns the tries: an endpoint that
//! does not take the connection is replaced by another before the application notices. Where a flow goes is
//! `model::route`'s; a refusal always closes the connection, nothing is ever sent in plaintext instead. The same tries are
//! made for strangers that `led` leads to a waypoint.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::dial::DialError;
use ambit_hbone::head::{Baggage, Connect, Forwarded, Opened, Trace};
use ambit_hbone::pool::{Carried, Key, OpenError, Pool, PoolSettings, RelayError, Through};
use ambit_hbone::pump;
use ambit_model::address::HopAddr;
use ambit_model::balance::Pick;
use ambit_model::name::{Identity, Label, WorkloadUid};
use ambit_model::route::{Direct, Flow, Hints, Plan, Refusal, Relayed, Tunnelled, plan_led, plan_with};
use ambit_model::workload::GatewayRef;
use ambit_process::clock::{Instant, now};
use ambit_process::net::{TcpStream, lookup_host};
use ambit_process::stop::Stop;
use http::StatusCode;
use tokio::time::timeout;

use crate::captured;
use crate::ledger::Outbound;
use crate::metrics::Reporter;
use crate::outcome::Outcome;
use crate::pod::{Lane, Shared};
use crate::record::{self, ClientSide, Parties, Party, Record, refuse_early};

/// Endpoints tried for one connection; more would only hide that a service is down.
const TRIES: usize = 3;

/// How long a connection waits for a proxy that has gone to come back: a container that has crashed runs again after
/// a second or so, and nothing of what the application sends is lost meanwhile.
const RETURN_WAIT: Duration = Duration::from_secs(2);
/// Between two tries of it, the first and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MOST: Duration = Duration::from_millis(160);

/// A name server gets this long.
const NAME_WAIT: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) enum Asking<'a> {
    /// The pod's application.
    Application,
    /// Somebody who has proven nothing, on the way to the pod's waypoint.
    Stranger(&'a GatewayRef),
}

/// What came of the tries.
pub(crate) enum Reached {
    Tunnel(Tunnelled, Box<Carried>),
    Relay(Relayed, Box<Carried>),
    Direct(Direct, TcpStream),
    Nowhere(Option<Plan>, Outcome),
}

/// The tunnels of one pod from one thread.
pub(crate) fn pool(shared: &Shared) -> Pool {
    let settings = PoolSettings {
        streams_per_tunnel: shared.settings.streams_per_tunnel,
        idle: shared.settings.tunnel_idle,
        idle_tunnels: shared.settings.idle_tunnels,
        windows: shared.settings.windows,
        ..PoolSettings::default()
    };
    Pool::new(shared.vault.clone(), settings, &Stop::new())
}

/// Serves one captured connection to its end.
pub(crate) async fn serve(lane: Arc<Lane>, stream: TcpStream) {
    let began = now();
    // Gone before we looked: there is nobody to tell of it.
    let Ok((client, dst)) = captured::ends(&lane, &stream) else { return };
    match captured::local(&lane).await {
        Ok(source) => Box::pin(carry(&lane, stream, Flow { source, client, dst }, began)).await,
        Err(early) => {
            let ends = (client.socket(), dst.socket());
            refuse_early(&lane.shared.metrics, Reporter::Source, ends, early.label(), &early);
        }
    }
}

async fn carry(lane: &Arc<Lane>, stream: TcpStream, flow: Flow, began: Instant) {
    let reached = Box::pin(reach(lane, &flow, Asking::Application)).await;
    let metrics = &lane.shared.metrics;
    match reached {
        Reached::Tunnel(to, carried) => {
            let record = Record::open(metrics, tunnelled(&flow, &to), began);
            let mut seat = lane.page.note(noted(&flow, to.hop, "HBONE"));
            let meter = ClientSide(Arc::clone(record.counts()));
            let ended = pump::tunnel(stream, carried.stream, &meter, seat.cut()).await;
            record.close(&Outcome::of_pump(ended, None));
        }
        Reached::Relay(to, carried) => {
            let Carried { stream: far, answer, peer } = *carried;
            let record = Record::open(metrics, relayed(&flow, &to, answer, peer), began);
            let mut seat = lane.page.note(noted(&flow, to.outer.hop, "DOUBLEHBONE"));
            let meter = ClientSide(Arc::clone(record.counts()));
            let ended = pump::tunnel(stream, far, &meter, seat.cut()).await;
            record.close(&Outcome::of_pump(ended, None));
        }
        Reached::Direct(to, far) => {
            let record = Record::open(metrics, direct(&flow, &to), began);
            let mut seat = lane.page.note(noted(&flow, to.hop, "TCP"));
            let meter = ClientSide(Arc::clone(record.counts()));
            let ended = pump::plain(stream, far, &meter, seat.cut()).await;
            record.close(&Outcome::of_pump(ended, None));
        }
        Reached::Nowhere(plan, outcome) => {
            let parties = match &plan {
                Some(Plan::Tunnel(to) | Plan::ViaWaypoint(to)) => tunnelled(&flow, to),
                Some(Plan::ViaGateway(to)) => tunnelled(&flow, &to.outer),
                Some(Plan::Direct(to)) => direct(&flow, to),
                None => direct(
                    &flow,
                    &Direct { hop: HopAddr::new(flow.dst.socket()), destination: None, service: None },
                ),
            };
            Record::open(metrics, parties, began).close(&outcome);
        }
    }
}

/// Plans and dials, also again after a while if the far proxy is away for a moment, or has not heard yet what we have,
/// or the other way round.
pub(crate) async fn reach(lane: &Lane, flow: &Flow, asking: Asking<'_>) -> Reached {
    let (until, mut pause) = (now() + RETURN_WAIT, PAUSE_FIRST);
    loop {
        let reached = Box::pin(reach_now(lane, flow, asking)).await;
        let may_change = match &reached {
            Reached::Nowhere(plan, Outcome::Open(error)) => {
                error.is_of_absence() || is_of_another_view(plan.as_ref(), error)
            }
            _ => false,
        };
        if !may_change || now() + pause >= until {
            return reached;
        }
        // Spread, for all of a node's connections have found this out at the same time.
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

/// Whether a waypoint does not serve what we were told that it does: traffic has been moved to it, or from it, and one of
/// us has not heard of it yet.
fn is_of_another_view(plan: Option<&Plan>, error: &OpenError) -> bool {
    matches!(
        (plan, error),
        (Some(Plan::ViaWaypoint(_)), OpenError::Refused { status: StatusCode::NOT_FOUND })
    )
}

/// Plans and dials, also to another endpoint where that helps.
async fn reach_now(lane: &Lane, flow: &Flow, asking: Asking<'_>) -> Reached {
    let mut hints = Hints::default();
    let mut failed: Option<(Plan, Outcome)> = None;
    for attempt in 1.. {
        let world = lane.shared.world.load();
        let planned = match asking {
            Asking::Application => plan_with(&world, flow, &hints, &mut Chance),
            Asking::Stranger(to) => plan_led(&world, flow, to, &hints, &mut Chance),
        };
        drop(world);
        let plan = match (planned, failed.take()) {
            (Ok(plan), _) => plan,
            (Err(Refusal::NameNeeded { hostname }), former) if !hints.names.contains_key(&hostname) => {
                hints.names.insert(hostname.clone(), resolve(lane, flow, &hostname).await);
                failed = former;
                continue;
            }
            // Nothing else is left to try: the failure says more than that.
            (Err(_), Some((plan, outcome))) => return Reached::Nowhere(Some(plan), outcome),
            (Err(refusal), None) => return Reached::Nowhere(None, Outcome::NoWay(refusal)),
        };
        let outcome = match &plan {
            Plan::Tunnel(to) | Plan::ViaWaypoint(to) => {
                match Box::pin(open(lane, flow, (to, asking))).await {
                    Ok(carried) => return Reached::Tunnel(to.clone(), Box::new(carried)),
                    Err(error) => Outcome::Open(error),
                }
            }
            Plan::Direct(to) => match lane.sockets.connect(to.hop.socket(), None).await {
                Ok(far) => return Reached::Direct(to.clone(), far),
                Err(error) => Outcome::Connect(error),
            },
            Plan::ViaGateway(to) => match Box::pin(open_through(lane, flow, to)).await {
                Ok(carried) => return Reached::Relay(to.clone(), Box::new(carried)),
                Err(error) => Outcome::Relay(error),
            },
        };
        let Some(avoid) = replaceable(&plan, &outcome, asking).filter(|_| attempt < TRIES) else {
            return Reached::Nowhere(Some(plan), outcome);
        };
        hints.avoid.push(avoid);
        failed = Some((plan, outcome));
    }
    Reached::Nowhere(None, Outcome::Connect(io::ErrorKind::HostUnreachable.into()))
}

/// The endpoint that another one may stand in for: one of a service, that was never reached. Nothing of what the
/// application sends leaves us before the far end says yes, so another one misses nothing.
fn replaceable(plan: &Plan, outcome: &Outcome, asking: Asking<'_>) -> Option<WorkloadUid> {
    let unreached = match outcome {
        Outcome::Connect(_) => true,
        // The endpoint's own proxy has found that its application, or the pod, is no more: it ends before all have
        // heard of it. A waypoint that says so speaks for all of its endpoints.
        Outcome::Open(
            OpenError::Refused { status: StatusCode::SERVICE_UNAVAILABLE } | OpenError::Broken(_),
        ) => {
            matches!(plan, Plan::Tunnel(_))
        }
        // What fails behind a gateway was the gateway's choice, and would be the next one's too.
        Outcome::Open(OpenError::Dial(error))
        | Outcome::Relay(RelayError::Gateway(OpenError::Dial(error))) => {
            !matches!(**error, DialError::Certificate { .. } | DialError::Closed | DialError::Full { .. })
        }
        _ => false,
    };
    match plan {
        // Another gateway of the same service, or else another endpoint than those behind this gateway.
        Plan::ViaGateway(to) if unreached => {
            let instead = if to.gateway.is_some() { &to.outer.destination } else { &to.destination };
            Some(instead.uid.clone())
        }
        // A stranger asks for no service, and any replica of the waypoint will do.
        Plan::Tunnel(to) | Plan::ViaWaypoint(to)
            if unreached && (to.service.is_some() || matches!(asking, Asking::Stranger(_))) =>
        {
            Some(to.destination.uid.clone())
        }
        Plan::Direct(Direct { destination: Some(workload), service: Some(_), .. }) if unreached => {
            Some(workload.uid.clone())
        }
        _ => None,
    }
}

async fn open(
    lane: &Lane,
    flow: &Flow,
    (to, asking): (&Tunnelled, Asking<'_>),
) -> Result<Carried, OpenError> {
    let (sockets, hop) = (Arc::clone(&lane.sockets), to.hop.socket());
    let connect = || sockets.connect(hop, None);
    lane.pool.open(&key(flow, to), &head(flow, to, asking), connect).await
}

/// A tunnel inside a tunnel: the gateway is asked for the service, and whoever answers behind it once more.
async fn open_through(lane: &Lane, flow: &Flow, to: &Relayed) -> Result<Carried, RelayError> {
    let (key, outer) = (key(flow, &to.outer), head(flow, &to.outer, Asking::Application));
    let inner = Connect { network: Some(lane.shared.network.clone()), ..outer.clone() };
    let through = Through { key: &key, outer: &outer, expect: to.expect.clone().into(), inner: &inner };
    let (sockets, hop) = (Arc::clone(&lane.sockets), to.outer.hop.socket());
    let connect = || sockets.connect(hop, None);
    lane.pool.open_through(&through, connect).await
}

fn key(flow: &Flow, to: &Tunnelled) -> Key {
    Key { source: flow.source.identity(), source_ip: None, hop: to.hop, expect: to.expect.clone().into() }
}

fn head(flow: &Flow, to: &Tunnelled, asking: Asking<'_>) -> Connect {
    let for_stranger = matches!(asking, Asking::Stranger(_));
    Connect {
        authority: to.authority.clone(),
        // Nothing of a stranger is known but where it is.
        baggage: if for_stranger { Baggage::default() } else { Baggage::of(&flow.source) },
        forwarded: Some(Forwarded {
            client: Some(flow.client.socket()),
            host: to.service.as_ref().map(|service| service.hostname.to_string()),
        }),
        trace: Some(Trace::random()),
        network: None,
        for_stranger,
    }
}

/// What a workload's name resolves to, in our own namespace; nothing when there is no answer.
async fn resolve(lane: &Lane, flow: &Flow, hostname: &Label) -> Vec<std::net::IpAddr> {
    let Shared { metrics, settings, .. } = &*lane.shared;
    record::resolved(metrics, &flow.source, hostname);
    match timeout(NAME_WAIT, lookup_host((hostname.as_str(), 0))).await {
        Ok(Ok(found)) => found
            .map(|address| address.ip().to_canonical())
            .filter(|ip| settings.ipv6 || ip.is_ipv4())
            .collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn tunnelled(flow: &Flow, to: &Tunnelled) -> Parties {
    Parties {
        reporter: Reporter::Source,
        from: flow.client.socket(),
        source: source(flow),
        destination: Party {
            workload: Some(Arc::clone(&to.destination)),
            told: None,
            identity: Some(to.destination.identity()),
        },
        to: to.hop.socket(),
        authority: Some(to.authority.clone()),
        service: to.service.clone(),
        secured: true,
    }
}

/// Who is at the far end of a relayed connection is what it said and proved itself: our own record of it may stand
/// for many.
fn relayed(flow: &Flow, to: &Relayed, answer: Opened, peer: Identity) -> Parties {
    let known = if answer.baggage.is_some() { None } else { Some(Arc::clone(&to.destination)) };
    let destination = Party { workload: known, told: answer.baggage, identity: Some(peer) };
    Parties { destination, ..tunnelled(flow, &to.outer) }
}

fn direct(flow: &Flow, to: &Direct) -> Parties {
    Parties {
        reporter: Reporter::Source,
        from: flow.client.socket(),
        source: source(flow),
        destination: Party {
            workload: to.destination.clone(),
            told: None,
            identity: to.destination.as_ref().map(|workload| workload.identity()),
        },
        to: to.hop.socket(),
        authority: None,
        service: to.service.clone(),
        secured: false,
    }
}

fn source(flow: &Flow) -> Party {
    Party { workload: Some(Arc::clone(&flow.source)), told: None, identity: Some(flow.source.identity()) }
}

fn noted(flow: &Flow, hop: HopAddr, protocol: &'static str) -> Outbound {
    Outbound { from: flow.client, to: flow.dst, hop: hop.socket(), protocol }
}

/// Chance, as `model::balance` asks for it.
pub(crate) struct Chance;

impl Pick for Chance {
    fn below(&mut self, limit: u64) -> u64 {
        fastrand::u64(..limit)
    }
}
