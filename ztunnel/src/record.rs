//! What is said of a connection: one access line at its end, and its counters (`ztunnel.md` 11.1, 11.2).
//! Owns the keys, the labels and the words. What happened is told to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ambit_hbone::head::Baggage;
use ambit_hbone::pump::Meter;
use ambit_model::address::Authority;
use ambit_model::name::{Identity, Label};
use ambit_model::service::Service;
use ambit_model::workload::Workload;
use ambit_process::clock::Instant;
use ambit_proxy::side::Side;
use prometheus_client::metrics::counter::Counter;
use tracing::{debug, error, info, warn};

use crate::metrics::{Metrics, RefusedLabels, Reporter, ResolvedLabels, TrafficLabels};
use crate::outcome::Outcome;

/// Everything about a connection that is known when it begins.
#[derive(Debug, Clone)]
pub struct Parties {
    /// Which end we are.
    pub reporter: Reporter,
    /// The client's address.
    pub from: SocketAddr,
    /// The client.
    pub source: Party,
    /// The server, or the waypoint on the way.
    pub destination: Party,
    /// Where the bytes go: the tunnel's far end, or the server.
    pub to: SocketAddr,
    /// What the tunnel was asked for.
    pub authority: Option<Authority>,
    /// The service that was addressed.
    pub service: Option<Arc<Service>>,
    /// Whether both proved who they are.
    pub secured: bool,
}

/// One end.
#[derive(Debug, Clone, Default)]
pub struct Party {
    /// As the world knows it.
    pub workload: Option<Arc<Workload>>,
    /// As the peer told of it.
    pub told: Option<Baggage>,
    /// Who it proved to be, or for a destination must be.
    pub identity: Option<Identity>,
}

/// Bytes, counted as they flow: looked up once per connection.
#[derive(Debug)]
pub struct Counts {
    received: Counter,
    sent: Counter,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

/// Counts for a copy whose accepted side is the client's application.
#[derive(Debug)]
pub struct ClientSide(pub Arc<Counts>);

/// Counts for a copy whose near side is the server's application.
#[derive(Debug)]
pub struct ServerSide(pub Arc<Counts>);

impl Meter for ClientSide {
    fn app_sent(&self, bytes: usize) {
        self.0.to_server(bytes);
    }
    fn app_received(&self, bytes: usize) {
        self.0.to_client(bytes);
    }
}

impl Meter for ServerSide {
    fn app_sent(&self, bytes: usize) {
        self.0.to_client(bytes);
    }
    fn app_received(&self, bytes: usize) {
        self.0.to_server(bytes);
    }
}

impl Counts {
    /// Bytes went from client to server.
    fn to_server(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.to_server.fetch_add(bytes, Ordering::Relaxed);
        self.received.inc_by(bytes);
    }

    /// Bytes went from server to client.
    fn to_client(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.to_client.fetch_add(bytes, Ordering::Relaxed);
        self.sent.inc_by(bytes);
    }
}

/// A connection's record. Closed exactly once: by word, or as drained when it is dropped.
pub struct Record {
    metrics: Metrics,
    parties: Parties,
    labels: TrafficLabels,
    counts: Arc<Counts>,
    began: Instant,
    closed: bool,
}

impl Record {
    /// Begins the record of a connection that was accepted at `began`, and counts it as opened.
    #[must_use]
    pub fn open(metrics: &Metrics, parties: Parties, began: Instant) -> Self {
        let labels = labels(&parties);
        metrics.opened.get_or_create(&labels).inc();
        let counts = Arc::new(Counts {
            received: metrics.received.get_or_create(&labels).clone(),
            sent: metrics.sent.get_or_create(&labels).clone(),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        });
        let this = Self { metrics: metrics.clone(), parties, labels, counts, began, closed: false };
        this.say_opened();
        this
    }

    /// Where bytes are counted.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Ends the record.
    pub fn close(mut self, outcome: &Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: &Outcome) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.labels.flags = outcome.flags();
        self.metrics.closed.get_or_create(&self.labels).inc();
        if outcome.flags() != "-" {
            self.metrics.failed.get_or_create(&self.labels).inc();
        }
        self.say_closed(outcome);
    }

    fn say_opened(&self) {
        let s = self.shown();
        debug!(target: "access", {
            src.addr = %self.parties.from, src.workload = s.source, src.namespace = s.source_namespace,
            src.identity = s.source_identity, src.cluster = s.source_cluster,
            dst.addr = %self.parties.to, dst.hbone_addr = s.authority, dst.service = s.service,
            dst.workload = s.destination, dst.namespace = s.destination_namespace,
            dst.identity = s.destination_identity, dst.cluster = s.destination_cluster,
            direction = s.direction
        }, "connection opened");
    }

    fn say_closed(&self, outcome: &Outcome) {
        let s = self.shown();
        let (to_server, to_client) =
            (self.counts.to_server.load(Ordering::Relaxed), self.counts.to_client.load(Ordering::Relaxed));
        // Seen from our own application: what it sent, what it got.
        let (sent, received) = match self.parties.reporter {
            Reporter::Source => (to_server, to_client),
            Reporter::Destination => (to_client, to_server),
        };
        let duration = format!("{}ms", self.began.elapsed().as_millis());
        macro_rules! line {
            ($level:ident $(, error = $error:expr)?) => {
                $level!(target: "access", {
                    src.addr = %self.parties.from, src.workload = s.source, src.namespace = s.source_namespace,
                    src.identity = s.source_identity, src.cluster = s.source_cluster,
                    dst.addr = %self.parties.to, dst.hbone_addr = s.authority, dst.service = s.service,
                    dst.workload = s.destination, dst.namespace = s.destination_namespace,
                    dst.identity = s.destination_identity, dst.cluster = s.destination_cluster,
                    direction = s.direction, bytes_sent = sent, bytes_recv = received, duration = duration
                    $(, error = $error)?
                }, "connection complete")
            };
        }
        match outcome.error() {
            None => line!(info),
            Some(text) => line!(error, error = text),
        }
    }

    fn shown(&self) -> Shown<'_> {
        let Parties { source, destination, service, authority, secured, .. } = &self.parties;
        let identity =
            |party: &Party| if *secured { party.identity.as_ref().map(Identity::to_string) } else { None };
        Shown {
            source: source.shown_name(),
            source_namespace: source.shown_namespace(),
            source_identity: identity(source),
            source_cluster: source.shown_cluster(),
            destination: destination.shown_name(),
            destination_namespace: destination.shown_namespace(),
            destination_identity: identity(destination),
            destination_cluster: destination.shown_cluster(),
            authority: authority.as_ref().map(tracing::field::display),
            service: service.as_ref().map(|service| service.hostname.as_str()),
            direction: match self.parties.reporter {
                Reporter::Source => "outbound",
                Reporter::Destination => "inbound",
            },
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(&Outcome::Drained);
    }
}

/// A workload's name was resolved for a connection of `source`.
pub fn resolved(metrics: &Metrics, source: &Arc<Workload>, hostname: &Label) {
    let party = Party { workload: Some(Arc::clone(source)), ..Party::default() };
    let labels = ResolvedLabels { source: party.side(None), hostname: hostname.clone() };
    metrics.on_demand_dns.get_or_create(&labels).inc();
}

/// A connection that ended before there was anything to record: one line with little in it, and a count.
pub fn refuse_early(
    metrics: &Metrics,
    reporter: Reporter,
    (from, to): (SocketAddr, SocketAddr),
    reason: &'static str,
    why: &dyn std::error::Error,
) {
    metrics.refused_early.get_or_create(&RefusedLabels { reporter, reason }).inc();
    let direction = if reporter == Reporter::Source { "outbound" } else { "inbound" };
    let error = crate::outcome::chain(why);
    warn!(target: "access", { src.addr = %from, dst.addr = %to, direction = direction, error = error }, "connection failed");
}

/// The values of a line; absent ones are left out of it.
struct Shown<'a> {
    source: Option<&'a str>,
    source_namespace: Option<&'a str>,
    source_identity: Option<String>,
    source_cluster: Option<&'a str>,
    destination: Option<&'a str>,
    destination_namespace: Option<&'a str>,
    destination_identity: Option<String>,
    destination_cluster: Option<&'a str>,
    authority: Option<tracing::field::DisplayValue<&'a Authority>>,
    service: Option<&'a str>,
    direction: &'static str,
}

impl Party {
    fn shown_name(&self) -> Option<&str> {
        let known =
            self.workload.as_ref().map(|w| if w.name.is_empty() { &w.canonical_name } else { &w.name });
        filled(known.map(Label::as_str).or_else(|| self.told.as_ref().map(told_name)))
    }

    fn shown_namespace(&self) -> Option<&str> {
        let known = self.workload.as_ref().map(|w| w.namespace.as_str());
        known.or_else(|| filled(self.told.as_ref().map(|t| t.namespace.as_str())))
    }

    fn shown_cluster(&self) -> Option<&str> {
        let known = self.workload.as_ref().map(|w| w.cluster.as_str()).filter(|c| !c.is_empty());
        known.or_else(|| filled(self.told.as_ref().map(|t| t.cluster.as_str())))
    }

    fn side(&self, principal: Option<&Identity>) -> Side {
        let principal = principal.map(|identity| Label::from(identity.to_string())).unwrap_or_default();
        match (&self.workload, &self.told) {
            (Some(known), _) => Side::of(known, principal),
            (None, Some(told)) => Side {
                workload: told_name(told).into(),
                canonical: told.service.as_str().into(),
                revision: told.revision.as_str().into(),
                namespace: told.namespace.as_str().into(),
                app: told_name(told).into(),
                cluster: told.cluster.as_str().into(),
                principal,
            },
            (None, None) => Side { principal, ..Side::default() },
        }
    }

    fn place(&self) -> Option<[Label; 2]> {
        match (&self.workload, &self.told) {
            (Some(known), _) => Some([known.locality.region.clone(), known.locality.zone.clone()]),
            (None, Some(told)) => Some([told.region.as_str().into(), told.zone.as_str().into()]),
            (None, None) => None,
        }
    }
}

fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn told_name(told: &Baggage) -> &str {
    told.workload.as_ref().map_or("", |(_, name)| name)
}

fn labels(parties: &Parties) -> TrafficLabels {
    let Parties { reporter, source, destination, service, secured, .. } = parties;
    let proven = if *secured { source.identity.as_ref() } else { None };
    let service = service.as_ref().map(|service| {
        [Label::from(service.hostname.as_str()), service.namespace.as_str().into(), service.name.clone()]
    });
    let (from, to) = (source.place(), destination.place());
    let places = (from.is_some() || to.is_some()).then(|| {
        let ([a, b], [c, d]) = (from.unwrap_or_default(), to.unwrap_or_default());
        [a, b, c, d]
    });
    TrafficLabels {
        reporter: *reporter,
        source: source.side(proven),
        destination: destination.side(destination.identity.as_ref()),
        service: service.unwrap_or_default(),
        flags: "-",
        secured: *secured,
        places,
    }
}
