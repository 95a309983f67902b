//! What is said of a connection that is not HTTP (`waypoint.md` 5.1, 5.2): one line at its end, and its counters, as those
//! want them who have a say (4.6). Owns the keys of the line, and what conditions, labels and forms see of a connection.

use std::borrow::Cow;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ambit_model::name::Label;
use ambit_model::operator::{self, End, Field, Known, Shown};
use ambit_model::telemetry::{self, Attribute, Metric, Value};
use ambit_process::clock::{Instant, now_system};
use http::{HeaderMap, HeaderName};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tracing::{Level, enabled, info};

use super::line;
use super::said::{self, Said};
use super::spans::{Facts, number, text, whole};
use crate::idle::Idle;
use crate::metered::{Metered, Passed};
use crate::metrics::ConnectionLabels;
use crate::stream::Inbound;
use crate::trace::Line;
use crate::upstream::Met;

/// A connection's record.
pub(crate) struct Connection<'a> {
    inbound: &'a Inbound,
    labels: ConnectionLabels,
    target: Option<Label>,
    passed: Arc<Passed>,
    began: Instant,
    failure: Option<String>,
    /// What somebody has to say of it.
    said: Option<Box<Said>>,
}

impl<'a> Connection<'a> {
    /// Of one that has reached an endpoint, or none.
    pub(crate) fn new(inbound: &'a Inbound, met: Option<&Met>, began: Instant) -> Self {
        let labels = ConnectionLabels {
            source: inbound.source.clone(),
            destination: met.and_then(|met| met.side.clone()).unwrap_or_default(),
            service: inbound.names.clone(),
            protocol: "tcp",
            flags: "-",
            others: None,
        };
        let shared = &inbound.lane.shared;
        let said = said::begin(&shared.world.load(), inbound, &HeaderMap::new());
        let target = met.map(|met| met.target.clone());
        let new = Self { inbound, labels, target, passed: Arc::default(), began, failure: None, said };
        new.counter(Metric::Opened, &shared.metrics.opened).inc();
        new
    }

    /// The client's side of it, whose bytes count.
    pub(crate) fn metered<S>(&self, io: S, idle: Idle) -> Metered<S> {
        let metrics = &self.inbound.lane.shared.metrics;
        let received = self.counter(Metric::Received, &metrics.received);
        let counters = (received, self.counter(Metric::Sent, &metrics.sent));
        Metered { io, passed: Arc::clone(&self.passed), counters, idle }
    }

    /// It has ended.
    pub(crate) fn close(mut self, flags: &'static str, why: Option<&dyn Error>) {
        self.labels.flags = flags;
        self.failure = why.map(ambit_proxy::fault::chain);
        let lane = &self.inbound.lane;
        self.counter(Metric::Closed, &lane.shared.metrics.closed).inc();
        if let Some(said) = &self.said {
            let line =
                || Line { at: now_system(), what: "connection complete", trace: None, facts: self.facts() };
            line::tell(lane, &said.collectors(&self), line);
        }
        if enabled!(target: "access", Level::INFO)
            && self.said.as_deref().is_none_or(|said| said.write(&self, &self))
        {
            self.say();
        }
    }

    /// One of its counters, as it would be now; where it is not kept, one that nobody sees.
    fn counter(&self, metric: Metric, family: &Family<ConnectionLabels, Counter>) -> Counter {
        let Some(said) = self.said.as_deref() else { return family.get_or_create(&self.labels).clone() };
        if !said.counts(metric) {
            return Counter::default();
        }
        let apart = &self.inbound.lane.shared.metrics.apart;
        family.get_or_create(&said.labels_of(metric, &self.labels, (self, apart))).clone()
    }

    /// Its line for those who collect lines.
    fn facts(&self) -> Facts {
        let (labels, (to_server, to_client)) = (&self.labels, self.passed.bytes());
        let principal = self.inbound.principal().map(|it| it.to_string()).unwrap_or_default();
        let mut facts = Facts::new();
        for (key, value) in [
            ("protocol", labels.protocol),
            ("response_flags", labels.flags),
            ("upstream_host", self.target.as_ref().map(Label::as_str).unwrap_or_default()),
            ("upstream_cluster", labels.service[0].as_str()),
            ("downstream_local_address", &self.inbound.asked.to_string()),
            ("downstream_remote_address", &self.inbound.client.from.to_string()),
            ("source_principal", &principal),
            ("source_workload", labels.source.workload.as_str()),
            ("destination_principal", labels.destination.principal.as_str()),
            ("destination_workload", labels.destination.workload.as_str()),
            ("error", self.failure.as_deref().unwrap_or_default()),
        ] {
            text(&mut facts, key, value);
        }
        let millis = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        for (key, value) in
            [("bytes_received", whole(to_server)), ("bytes_sent", whole(to_client)), ("duration", millis)]
        {
            number(&mut facts, key, value);
        }
        facts
    }

    /// Its line in our own form.
    fn say(&self) {
        let (inbound, labels, (to_server, to_client)) = (self.inbound, &self.labels, self.passed.bytes());
        let filled = |label: &Label| Some(label.to_string()).filter(|text| !text.is_empty());
        let duration = format!("{}ms", self.began.elapsed().as_millis());
        info!(target: "access", {
            protocol = labels.protocol,
            response_flags = labels.flags,
            bytes_received = to_server,
            bytes_sent = to_client,
            duration = duration,
            upstream_host = self.target.as_ref().map(Label::as_str),
            upstream_cluster = filled(&labels.service[0]),
            downstream_local_address = inbound.asked,
            downstream_remote_address = %inbound.client.from,
            source_principal = inbound.principal(),
            source_workload = filled(&labels.source.workload),
            destination_principal = filled(&labels.destination.principal),
            destination_workload = filled(&labels.destination.workload),
            error = self.failure.as_deref(),
        }, "connection complete");
    }
}

impl telemetry::Facts for Connection<'_> {
    fn value(&self, of: &Attribute) -> Option<Value<'_>> {
        let number = |it: u64| Value::Number(i64::try_from(it).unwrap_or(i64::MAX));
        Some(match of {
            Attribute::RequestSize => number(self.passed.bytes().0),
            Attribute::ResponseSize => number(self.passed.bytes().1),
            Attribute::RequestDuration => Value::Time(self.began.elapsed()),
            // Whoever is nobody came in plaintext.
            Attribute::Mtls => Value::Bool(self.inbound.principal().is_some()),
            Attribute::Peer => {
                let principal = self.labels.source.principal.as_str();
                Value::Text(Some(principal).filter(|it| !it.is_empty())?)
            }
            Attribute::Port => number(self.inbound.dialled.port().into()),
            Attribute::Endpoint => Value::Text(self.target.as_ref().map(Label::as_str)?),
            // Those are of requests.
            _ => return None,
        })
    }
}

impl operator::Seen for Connection<'_> {
    fn known(&self, of: Known) -> Option<Shown<'_>> {
        let labels = &self.labels;
        let text = |it: &'static str| Shown::Text(Cow::Borrowed(it));
        let named = |it: &'_ str| (!it.is_empty()).then(|| Shown::Text(it.to_owned().into()));
        Some(match of {
            // As Envoy has it where there is no answer.
            Known::Code => Shown::Number(0),
            Known::Flags => text(labels.flags),
            Known::Received => Shown::Number(self.passed.bytes().0),
            Known::Sent => Shown::Number(self.passed.bytes().1),
            Known::Duration => {
                Shown::Number(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
            }
            Known::Endpoint => return named(self.target.as_ref().map(Label::as_str)?),
            Known::Service => return named(labels.service[0].as_str()),
            Known::Failure => {
                let failure = self.failure.as_deref().filter(|_| labels.flags.contains("UF"));
                return named(failure?);
            }
            Known::Client => return named(labels.source.principal.as_str()),
            Known::Server => return named(labels.destination.principal.as_str()),
            // Those are of requests.
            Known::Protocol
            | Known::CodeDetails
            | Known::Answered
            | Known::Passed
            | Known::Attempts
            | Known::Route
            | Known::Trace
            | Known::Nothing => return None,
        })
    }

    fn request(&self, _field: &Field) -> Option<Cow<'_, str>> {
        None
    }

    fn response(&self, _name: &HeaderName) -> Option<Cow<'_, str>> {
        None
    }

    fn address(&self, of: End) -> Option<SocketAddr> {
        Some(match of {
            End::Remote => self.inbound.client.from.socket(),
            End::Local => self.inbound.dialled,
        })
    }

    fn start(&self) -> SystemTime {
        let now = now_system();
        now.checked_sub(self.began.elapsed()).unwrap_or(now)
    }

    fn grpc(&self) -> Option<u16> {
        None
    }
}
