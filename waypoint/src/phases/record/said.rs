//! What is said of what is told of one request or connection (`waypoint.md` 4.6), held from its beginning to its end: what changes in
//! between is for the next one. Owns which of its headers are kept for conditions and labels, and what those see of it.
//! What is said is `ambit_model::telemetry`'s.

use std::borrow::Cow;
use std::sync::Arc;

use ambit_model::name::Label;
use ambit_model::operator::LineFormat;
use ambit_model::snapshot::Snapshot;
use ambit_model::telemetry::{
    Attribute, Facts, Levels, Metric, ProxyHeader, Relabel, Server, Sink, TracingSaid, UNKNOWN, Value,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::super::kept::Kept;
use super::Record;
use crate::metrics::{Apart, Change, Labelled, RequestLabels};
use crate::stream::Inbound;

/// What is said, and what it is about.
pub(super) struct Said {
    levels: Levels,
    /// Whether labels of counters are otherwise than usual.
    relabels: bool,
    headers: Kept,
    /// Lines that somebody wants in a form of theirs; none: that is not known.
    pub(super) lines: Vec<(Sink, Option<Arc<LineFormat>>)>,
    /// Headers of the answer that those are made of.
    pub(super) told: Kept,
}

/// What is said of a request with these headers; none where nobody has a say.
pub(super) fn begin(world: &Snapshot, inbound: &Inbound, headers: &HeaderMap) -> Option<Box<Said>> {
    world.telemetry().next()?;
    let waypoint = &inbound.lane.shared.waypoint;
    let service = inbound.service().map(|it| it.key());
    let levels = world.telemetry_of((&waypoint.service.namespace, waypoint.name()), service.as_ref())?;
    let form = |name: &Label| world.provider(name.as_str()).and_then(|it| it.log()).map(Arc::clone);
    let lines = levels.sinks().filter_map(|sink| match sink {
        Sink::File(name) => Some((sink.clone(), form(name))),
        Sink::Log | Sink::Collector(_) => None,
    });
    let lines: Vec<_> = lines.collect();
    let of_labels = levels.formulas().flat_map(|it| it.headers());
    let of_lines = lines.iter().filter_map(|(_, form)| form.as_deref()).flat_map(LineFormat::request_headers);
    let wanted = levels.filters().flat_map(|it| it.headers()).chain(of_labels).chain(of_lines);
    let headers = Kept::of(headers, wanted);
    Some(Box::new(Said { relabels: levels.relabels(), levels, headers, lines, told: Kept::default() }))
}

impl Record {
    /// Whether it is told in headers.
    pub(crate) fn tells(&self, what: ProxyHeader) -> bool {
        let said = self.said.as_deref().and_then(|it| it.levels.tells(what));
        let usual = || what.is_usual() || what == ProxyHeader::Client && self.lane().shared.tell_client;
        said.unwrap_or_else(usual)
    }

    /// What answers say in `server`; nothing: as usual.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.said.as_deref().and_then(|it| it.levels.server())
    }
}

impl Said {
    pub(super) fn tracing(&self) -> TracingSaid<'_> {
        self.levels.tracing()
    }

    /// A header of the request, if it was kept.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// The client is answered with these headers.
    pub(super) fn answered(&mut self, headers: &HeaderMap) {
        let forms = self.lines.iter().filter_map(|(_, form)| form.as_deref());
        self.told = Kept::of(headers, forms.flat_map(LineFormat::response_headers));
    }

    /// Whether a line goes there.
    pub(super) fn is_logged(&self, to: &Sink, facts: &impl Facts) -> bool {
        self.levels.sinks().any(|it| it == to) && self.levels.is_logged(to, facts)
    }

    /// Who else a line is for.
    pub(super) fn collectors(&self, facts: &impl Facts) -> Vec<Label> {
        let named = self.levels.sinks().filter_map(|it| match it {
            Sink::Collector(name) => Some((it, name)),
            Sink::Log | Sink::File(_) => None,
        });
        named.filter(|(it, _)| self.is_logged(it, facts)).map(|(_, name)| name.clone()).collect()
    }

    /// Whether counters are otherwise than usual.
    pub(super) fn changes_counters(&self) -> bool {
        self.levels.changes_counters()
    }

    /// Whether it is counted.
    pub(super) fn counts(&self, metric: Metric) -> bool {
        self.levels.counts(metric)
    }

    /// The labels of one counter, which are the usual ones where nobody wants them otherwise.
    pub(super) fn labels_of<'a, L: Labelled>(
        &self,
        metric: Metric,
        labels: &'a L,
        (facts, apart): (&impl Facts, &Apart),
    ) -> Cow<'a, L> {
        if !self.relabels {
            return Cow::Borrowed(labels);
        }
        let value = |to: &Relabel| match to {
            Relabel::Removed => None,
            Relabel::Set(formula) => Some(formula.value(facts).map_or_else(|| UNKNOWN.into(), Label::from)),
        };
        let changes = self.levels.labels(metric).into_iter().map(|(name, to)| (name.clone(), value(to)));
        let mut changes: Vec<Change> = changes.collect();
        if changes.is_empty() {
            return Cow::Borrowed(labels);
        }
        apart.limit(&mut changes);
        Cow::Owned(labels.with(&changes))
    }
}

impl Record {
    /// Who else its line is for.
    pub(super) fn line_is_for(&self, labels: &RequestLabels) -> Vec<Label> {
        let said = self.said.as_deref();
        said.map_or_else(Vec::new, |said| said.collectors(&Seen { record: self, said, labels }))
    }

    /// Whether it is counted.
    pub(super) fn counts(&self, metric: Metric) -> bool {
        self.said.as_deref().is_none_or(|it| it.counts(metric))
    }

    /// The labels of one counter.
    pub(super) fn labels_of<'a>(&self, metric: Metric, labels: &'a RequestLabels) -> Cow<'a, RequestLabels> {
        let Some(said) = self.said.as_deref() else { return Cow::Borrowed(labels) };
        let apart = &self.inbound.lane.shared.metrics.apart;
        said.labels_of(metric, labels, (&Seen { record: self, said, labels }, apart))
    }
}

/// As Envoy calls it.
pub(crate) const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// What conditions and labels see of a request.
pub(super) struct Seen<'a> {
    pub(super) record: &'a Record,
    pub(super) said: &'a Said,
    pub(super) labels: &'a RequestLabels,
}

impl Facts for Seen<'_> {
    fn value(&self, of: &Attribute) -> Option<Value<'_>> {
        let record = self.record;
        let number = |it: u64| Value::Number(i64::try_from(it).unwrap_or(i64::MAX));
        Some(match of {
            Attribute::ResponseCode => number(record.status.into()),
            Attribute::GrpcStatus => number(self.labels.grpc?.into()),
            Attribute::ResponseSize => number(record.sent),
            Attribute::RequestSize => number(record.source.bytes()),
            Attribute::RequestDuration => Value::Time(record.began.elapsed()),
            Attribute::BackendLatency => Value::Time(record.service_time?),
            Attribute::Method => Value::Text(record.method.as_str()),
            Attribute::Path => Value::Text(record.uri.path_and_query()?.as_str()),
            Attribute::UrlPath => Value::Text(record.uri.path()),
            Attribute::Host => match (record.uri.authority(), &record.told.host) {
                (Some(authority), _) => Value::Text(authority.as_str()),
                (None, host) => Value::Text(host.as_ref()?.to_str().ok()?),
            },
            Attribute::Header(name) => Value::Text(self.said.header(name)?.to_str().ok()?),
            Attribute::CodeDetails => {
                let judged = record.judged.as_deref().and_then(|it| it.details.as_deref());
                Value::Text(judged.unwrap_or(record.details))
            }
            Attribute::RouteName => Value::Text(record.route.as_str()),
            // Whoever is nobody came in plaintext.
            Attribute::Mtls => Value::Bool(record.inbound.principal().is_some()),
            Attribute::Peer => {
                let principal = self.labels.ends.source.principal.as_str();
                Value::Text(Some(principal).filter(|it| !it.is_empty())?)
            }
            Attribute::Protocol => Value::Text(protocol(record.version)),
            Attribute::Query => Value::Text(record.uri.query()?),
            Attribute::Port => number(record.inbound.dialled.port().into()),
            Attribute::Endpoint => Value::Text(record.target()?),
        })
    }
}
