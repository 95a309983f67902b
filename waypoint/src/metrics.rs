//! Every metric of the waypoint, declared (`waypoint.md` 5.1). Owns names and labels, which are closed: kinds, status
//! codes, and names of mesh objects; but for those that somebody wants otherwise (`relabelled`). Who counts what is
//! `phases::record`'s and the callers'.

mod recent;
mod relabelled;

use std::fmt;
use std::sync::Arc;

use ambit_hbone::head::Baggage;
use ambit_model::name::{Identity, Label};
use ambit_model::service::Service;
use ambit_process::observe::Registry;
use ambit_proxy::side::{Reason, Side, put};
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

pub(crate) use self::recent::Recent;
pub(crate) use self::relabelled::{Apart, Change, Labelled};

/// Upper bounds of milliseconds and of bytes, as dashboards know them.
const BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6,
    3.6e6,
];

type Spread = Family<RequestLabels, Histogram, fn() -> Histogram>;

/// All counters and gauges. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    /// Requests that are over.
    pub requests: Family<RequestLabels, Counter>,
    /// How long they took.
    pub duration: Spread,
    /// Bytes of their bodies.
    pub request_bytes: Spread,
    /// Bytes of the answers' bodies.
    pub response_bytes: Spread,
    /// Messages of gRPC in requests.
    pub request_messages: Family<RequestLabels, Counter>,
    /// Messages of gRPC in answers.
    pub response_messages: Family<RequestLabels, Counter>,
    /// Connections begun that are not HTTP.
    pub opened: Family<ConnectionLabels, Counter>,
    /// Those that ended.
    pub closed: Family<ConnectionLabels, Counter>,
    /// Their bytes from client to server.
    pub received: Family<ConnectionLabels, Counter>,
    /// Their bytes from server to client.
    pub sent: Family<ConnectionLabels, Counter>,
    /// What was refused before a request or a connection was there to be recorded.
    pub refused: Family<Reason, Counter>,
    /// Connections to ports that do not say what is spoken there, by what was heard.
    pub heard: Family<Reason, Counter>,
    /// Questions whether requests may come in, to those who say.
    pub asked: Family<AskedLabels, Counter>,
    /// Requests that limits were looked at for.
    pub limits: Family<LimitLabels, Counter>,
    /// Requests that went by processors.
    pub processed: Family<ProcessedLabels, Counter>,
    /// Requests and connections for which there was no room, as their service's traffic policy has it.
    pub overflows: Family<Governed, Counter>,
    /// Endpoints that were left out for a while.
    pub ejections: Family<Governed, Counter>,
    /// Requests that were given to a second endpoint, and how many of those it answered first.
    pub hedges: Family<Governed, Counter>,
    /// What was left out, refused or ended because there was too much to do.
    pub overload: Family<Reason, Counter>,
    /// Threads on which a rung of the ladder is in force.
    pub rungs: Family<Rung, Gauge>,
    /// Tunnels that are open.
    pub tunnels: Gauge,
    /// Spans of requests, by what became of them.
    pub spans: Family<Reason, Counter>,
    /// Lines of access logs that collectors are told, by what became of them.
    pub lines_told: Family<Reason, Counter>,
    /// Streams of discovery that ended.
    pub xds_ended: Family<Reason, Counter>,
    /// Values of labels that are not of our making.
    pub(crate) apart: Apart,
}

impl Default for Metrics {
    fn default() -> Self {
        let spread = || Spread::new_with_constructor(|| Histogram::new(BUCKETS));
        Self {
            requests: Family::default(),
            duration: spread(),
            request_bytes: spread(),
            response_bytes: spread(),
            request_messages: Family::default(),
            response_messages: Family::default(),
            opened: Family::default(),
            closed: Family::default(),
            received: Family::default(),
            sent: Family::default(),
            refused: Family::default(),
            heard: Family::default(),
            overflows: Family::default(),
            ejections: Family::default(),
            hedges: Family::default(),
            asked: Family::default(),
            limits: Family::default(),
            processed: Family::default(),
            overload: Family::default(),
            rungs: Family::default(),
            tunnels: Gauge::default(),
            spans: Family::default(),
            lines_told: Family::default(),
            xds_ended: Family::default(),
            apart: Apart::default(),
        }
    }
}

impl Metrics {
    /// Declares everything.
    pub fn register(&self, to: &mut Registry, version: &Label) {
        let m = self.clone();
        to.register("istio_requests", "Requests that are over", m.requests);
        to.register("istio_request_duration_milliseconds", "How long requests took", m.duration);
        to.register("istio_request_bytes", "Bytes of requests' bodies", m.request_bytes);
        to.register("istio_response_bytes", "Bytes of answers' bodies", m.response_bytes);
        to.register("istio_request_messages", "Messages of gRPC in requests", m.request_messages);
        to.register("istio_response_messages", "Messages of gRPC in answers", m.response_messages);
        to.register("istio_tcp_connections_opened", "Connections opened", m.opened);
        to.register("istio_tcp_connections_closed", "Connections closed", m.closed);
        to.register("istio_tcp_received_bytes", "Bytes from client to server", m.received);
        to.register("istio_tcp_sent_bytes", "Bytes from server to client", m.sent);
        to.register("ambit_waypoint_refused", "Refused before a record (unstable)", m.refused);
        let heard = "Connections to ports that do not say what is spoken there (unstable)";
        to.register("ambit_waypoint_protocols_heard", heard, m.heard);
        let asked = "Questions to external authorizers (unstable)";
        to.register("ambit_waypoint_ext_authz", asked, m.asked);
        let limits = "Requests by what came of rate limits (unstable)";
        to.register("ambit_waypoint_rate_limits", limits, m.limits);
        let processed = "Requests that went by external processors (unstable)";
        to.register("ambit_waypoint_ext_proc", processed, m.processed);
        let overflows = "Refused, for a service's traffic policy leaves no room (unstable)";
        to.register("ambit_waypoint_overflows", overflows, m.overflows);
        let ejections = "Endpoints left out by outlier detection or health checks (unstable)";
        to.register("ambit_waypoint_ejections", ejections, m.ejections);
        let hedges = "Requests given to a second endpoint (unstable)";
        to.register("ambit_waypoint_hedges", hedges, m.hedges);
        let overload = "Left out, refused or ended because there is too much to do (unstable)";
        to.register("ambit_waypoint_overload", overload, m.overload);
        let rungs = "Threads on which a rung of the overload ladder is in force (unstable)";
        to.register("ambit_waypoint_overload_rung", rungs, m.rungs);
        to.register("ambit_waypoint_tunnels", "Tunnels that are open (unstable)", m.tunnels);
        to.register("ambit_waypoint_spans", "Spans, by what became of them (unstable)", m.spans);
        let lines = "Lines of access logs for collectors, by what became of them (unstable)";
        to.register("ambit_waypoint_log_lines", lines, m.lines_told);
        let ended = "Discovery streams that ended (unstable)";
        to.register("istio_xds_connection_terminations", ended, m.xds_ended);
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build(version.clone())).set(1);
        to.register("istio_build", "The version", build);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Build(Label);

/// Who talks to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectionLabels {
    /// The client.
    pub source: Side,
    /// The server.
    pub destination: Side,
    /// Host, namespace and name of the service.
    pub service: [Label; 3],
    /// `http`, `grpc` or `tcp`.
    pub protocol: &'static str,
    /// `response_flags`.
    pub flags: &'static str,
    /// All labels and what they say, in order of their names, where somebody wants some of them otherwise; then the rest
    /// of this, and of what it is in, is empty.
    pub others: Option<Arc<[(Label, Label)]>>,
}

impl ConnectionLabels {
    /// The labels, and what they say.
    fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let [host, namespace, name] = &self.service;
        let ends = self.source.as_source().chain(self.destination.as_destination());
        std::iter::once(("reporter", "waypoint")).chain(ends).chain([
            ("destination_service", host.as_str()),
            ("destination_service_name", name.as_str()),
            ("destination_service_namespace", namespace.as_str()),
            ("request_protocol", self.protocol),
            ("response_flags", self.flags),
            ("connection_security_policy", "mutual_tls"),
        ])
    }
}

/// A request's, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// Who talks to whom.
    pub ends: ConnectionLabels,
    /// The status code; 0 when the client left before one.
    pub code: u16,
    /// The status that gRPC gave; none for others.
    pub grpc: Option<u16>,
}

/// Who was asked about a request, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AskedLabels {
    /// Who.
    pub provider: Label,
    /// What came of it.
    pub outcome: Outcome,
}

/// Whose limit was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LimitLabels {
    /// The policy: `<namespace>/<name>`.
    pub policy: Label,
    /// Who counts: `local` or `global`.
    pub counted: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// By whose processor a request went, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProcessedLabels {
    /// The policy: `<namespace>/<name>`.
    pub policy: Label,
    /// What came of it.
    pub outcome: Processed,
}

/// What comes of going by a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Processed {
    /// It went on as the processor says.
    Processed,
    /// The processor answered it.
    Answered,
    /// There was no answer; the request was refused.
    Failed,
    /// There was no answer; the request went on.
    FailedOpen,
}

impl Processed {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::FailedOpen => "failed_open",
        }
    }
}

/// What comes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A yes.
    Allowed,
    /// A no.
    Denied,
    /// Neither; the request was refused.
    Failed,
    /// Neither; the request was let in.
    FailedOpen,
}

impl Outcome {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::FailedOpen => "failed_open",
        }
    }
}

/// A client that the world does not know, by what it told; who it is, it has proven.
#[must_use]
pub fn told(told: &Baggage, who: &Identity) -> Side {
    let workload: Label = told.workload.as_ref().map_or("", |(_, name)| name).into();
    Side {
        canonical: told.service.as_str().into(),
        revision: told.revision.as_str().into(),
        namespace: who.namespace.as_str().into(),
        app: workload.clone(),
        cluster: told.cluster.as_str().into(),
        principal: who.to_string().into(),
        workload,
    }
}

/// Host, namespace and name of a service.
#[must_use]
pub fn names(service: Option<&Service>) -> [Label; 3] {
    service.map_or_else(Default::default, |s| {
        [s.hostname.as_str().into(), s.namespace.as_str().into(), s.name.clone()]
    })
}

impl EncodeLabelSet for ConnectionLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Some(others) = &self.others else {
            return self.all().try_for_each(|(name, value)| put(e, name, value));
        };
        let mut all = others.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.try_for_each(|label| label.encode(e.encode_label()))
    }
}

impl EncodeLabelSet for AskedLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "provider", self.provider.as_str())?;
        put(e, "outcome", self.outcome.as_str())
    }
}

impl EncodeLabelSet for LimitLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "policy", self.policy.as_str())?;
        put(e, "counted", self.counted)?;
        put(e, "outcome", self.outcome.as_str())
    }
}

impl EncodeLabelSet for ProcessedLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "policy", self.policy.as_str())?;
        put(e, "outcome", self.outcome.as_str())
    }
}

/// One of the overload ladder, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rung(pub u8);

impl EncodeLabelSet for Rung {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "rung", &self.0.to_string())
    }
}

/// Something that a service's traffic policy did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Governed {
    /// Host, namespace and name of the service.
    pub service: [Label; 3],
    /// What there was too much of, or why.
    pub reason: &'static str,
}

impl EncodeLabelSet for Governed {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let [host, namespace, name] = &self.service;
        put(e, "destination_service", host.as_str())?;
        put(e, "destination_service_name", name.as_str())?;
        put(e, "destination_service_namespace", namespace.as_str())?;
        put(e, "reason", self.reason)
    }
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        EncodeLabelSet::encode(&self.ends, e)?;
        if self.ends.others.is_some() {
            return Ok(());
        }
        put(e, "response_code", &self.code.to_string())?;
        let grpc = self.grpc.map(|status| status.to_string()).unwrap_or_default();
        ("grpc_response_status", grpc.as_str()).encode(e.encode_label())
    }
}

impl EncodeLabelSet for Build {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "component", "waypoint")?;
        put(e, "tag", self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requests_series_says_who_asked_whom_and_how_it_went() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry, &"1.0".into());
        let ends = ConnectionLabels {
            source: Side {
                workload: "web".into(),
                principal: "spiffe://td/ns/a/sa/b".into(),
                ..Side::default()
            },
            destination: Side::default(),
            service: ["cart.shop.svc".into(), "shop".into(), "cart".into()],
            protocol: "http",
            flags: "-",
            others: None,
        };
        metrics.requests.get_or_create(&RequestLabels { ends, code: 200, grpc: None }).inc();
        let text = ambit_process::observe::encode(&registry);
        let line = text.lines().find(|l| l.starts_with("istio_requests_total{")).unwrap();
        for part in [
            "reporter=\"waypoint\",source_workload=\"web\"",
            "source_principal=\"spiffe://td/ns/a/sa/b\"",
            "destination_workload=\"unknown\"",
            "destination_service=\"cart.shop.svc\"",
            "response_code=\"200\"",
            "grpc_response_status=\"\"",
            "connection_security_policy=\"mutual_tls\"",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
