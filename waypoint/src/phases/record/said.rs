//! What is said of what is told of one request (`waypoint.md` 4.6), held from its beginning to its end: what changes in
//! between is for the next one. Owns which of its headers are kept for conditions, and what conditions see of it. What
//! is said is `ambit_model::telemetry`'s.

use ambit_model::name::Label;
use ambit_model::snapshot::Snapshot;
use ambit_model::telemetry::{Attribute, Facts, Levels, Metric, Sink, TracingSaid, Value};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Record;
use crate::metrics::RequestLabels;
use crate::stream::Inbound;

/// Headers of one request that are kept for conditions.
const HEADERS: usize = 16;

/// What is said, and what it is about.
pub(super) struct Said {
    levels: Levels,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What is said of a request with these headers; none where nobody has a say.
pub(super) fn begin(world: &Snapshot, inbound: &Inbound, headers: &HeaderMap) -> Option<Box<Said>> {
    world.telemetry().next()?;
    let waypoint = &inbound.lane.shared.waypoint;
    let service = inbound.service().map(|it| it.key());
    let levels = world.telemetry_of((&waypoint.service.namespace, waypoint.name()), service.as_ref())?;
    let wanted = levels.filters().flat_map(|it| it.headers());
    let kept = wanted.filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    let headers = kept.take(HEADERS).collect();
    Some(Box::new(Said { levels, headers }))
}

impl Said {
    pub(super) fn tracing(&self) -> TracingSaid<'_> {
        self.levels.tracing()
    }
}

impl Record {
    /// Whether its line goes there.
    pub(super) fn is_logged(&self, to: &Sink, labels: &RequestLabels) -> bool {
        let Some(said) = self.said.as_deref() else { return *to == Sink::Log };
        said.levels.sinks().any(|it| it == to)
            && said.levels.is_logged(to, &Seen { record: self, said, labels })
    }

    /// Who else its line is for.
    pub(super) fn line_is_for(&self, labels: &RequestLabels) -> impl Iterator<Item = &Label> {
        let all = self.said.as_deref().into_iter().flat_map(|said| said.levels.sinks());
        let named = all.filter_map(|it| match it {
            Sink::Collector(name) => Some((it, name)),
            Sink::Log => None,
        });
        named.filter(|(it, _)| self.is_logged(it, labels)).map(|(_, name)| name)
    }

    /// Whether it is counted.
    pub(super) fn counts(&self, metric: Metric) -> bool {
        self.said.as_deref().is_none_or(|it| it.levels.counts(metric))
    }
}

/// What conditions see of a request.
struct Seen<'a> {
    record: &'a Record,
    said: &'a Said,
    labels: &'a RequestLabels,
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
            Attribute::Header(name) => {
                let (_, value) = self.said.headers.iter().find(|(it, _)| it == name)?;
                Value::Text(value.to_str().ok()?)
            }
            Attribute::CodeDetails => {
                let judged = record.judged.as_deref().and_then(|it| it.details.as_deref());
                Value::Text(judged.unwrap_or(record.details))
            }
            Attribute::RouteName => Value::Text(record.route.as_str()),
            // Whoever is nobody came in plaintext.
            Attribute::Mtls => Value::Bool(record.inbound.principal().is_some()),
        })
    }
}
