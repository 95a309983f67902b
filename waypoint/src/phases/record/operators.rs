//! The line of a request as somebody asks for it, with operators as Envoy has them (`waypoint.md` 5.2). Owns what each is for
//! a request; how lines are written is `ambit_model::operator`'s.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ambit_model::operator::{End, Field, Known, Seen, Shown};
use ambit_model::telemetry::{Facts, Sink};
use ambit_model::trace::TraceId;
use ambit_process::clock::now_system;
use ambit_process::observe::AS_IT_IS;
use http::HeaderName;
use tracing::info;

use super::super::kept::shown;
use super::Record;
use super::said::{self, Said, protocol};
use crate::metrics::RequestLabels;

const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

impl Said {
    /// Writes the lines that somebody asks for in a form of theirs; whether there is to be one in our own.
    pub(super) fn write(&self, facts: &impl Facts, seen: &impl Seen) -> bool {
        let mut own = self.is_logged(&Sink::Log, facts);
        for (sink, format) in &self.lines {
            if !self.is_logged(sink, facts) {
                continue;
            }
            let Some(format) = format else {
                // Of a form that is not known yet, or no longer, a line in another is better than none.
                own = true;
                continue;
            };
            let line = format.line(seen);
            info!(name: AS_IT_IS, target: "access", "{line}");
        }
        own
    }
}

impl Record {
    /// Writes the lines that somebody asks for; whether there is to be one in our own form.
    pub(super) fn say_as_asked(&self, labels: &RequestLabels, trace: Option<TraceId>) -> bool {
        let Some(said) = self.said.as_deref() else { return true };
        said.write(&said::Seen { record: self, said, labels }, &Over { record: self, said, labels, trace })
    }
}

/// A request that is over.
struct Over<'a> {
    record: &'a Record,
    said: &'a Said,
    labels: &'a RequestLabels,
    trace: Option<TraceId>,
}

impl Over<'_> {
    /// How long it took until an endpoint had answered.
    fn answered(&self) -> Option<Duration> {
        let record = self.record;
        Some(record.sent_at.saturating_duration_since(record.began) + record.service_time?)
    }
}

impl Seen for Over<'_> {
    fn known(&self, of: Known) -> Option<Shown<'_>> {
        let (record, ends) = (self.record, &self.labels.ends);
        let text = |it: &'static str| Shown::Text(Cow::Borrowed(it));
        let millis = |it: Duration| Shown::Number(u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let judged = record.judged.as_deref().and_then(|it| it.details.as_deref());
        Some(match of {
            Known::Protocol => text(protocol(record.version)),
            Known::Code => Shown::Number(record.status.into()),
            Known::CodeDetails => Shown::Text(Cow::Borrowed(judged.unwrap_or(record.details))),
            Known::Flags => text(record.flags),
            Known::Received => Shown::Number(record.source.bytes()),
            Known::Sent => Shown::Number(record.sent),
            Known::Duration => millis(record.began.elapsed()),
            Known::Answered => millis(self.answered()?),
            Known::Passed => millis(record.began.elapsed().saturating_sub(self.answered()?)),
            Known::Endpoint => Shown::Text(Cow::Borrowed(record.target()?)),
            Known::Service => Shown::Text(Cow::Borrowed(ends.service[0].as_str())),
            Known::Attempts => Shown::Number(record.attempts.into()),
            Known::Failure => {
                let failure = record.failure.as_deref().filter(|_| record.flags.contains("UF"));
                Shown::Text(Cow::Borrowed(failure?))
            }
            Known::Client => Shown::Text(Cow::Borrowed(ends.source.principal.as_str())),
            Known::Server => Shown::Text(Cow::Borrowed(ends.destination.principal.as_str())),
            Known::Route => Shown::Text(Cow::Borrowed(record.route.as_str())),
            Known::Trace => Shown::Text(self.trace?.to_string().into()),
            Known::Nothing => return None,
        })
    }

    fn request(&self, field: &Field) -> Option<Cow<'_, str>> {
        let record = self.record;
        Some(match field {
            Field::Method => Cow::Borrowed(record.method.as_str()),
            Field::Path => Cow::Borrowed(record.uri.path_and_query()?.as_str()),
            Field::Authority => match (record.uri.authority(), &record.told.host) {
                (Some(authority), _) => Cow::Borrowed(authority.as_str()),
                (None, host) => shown(host.as_ref()?),
            },
            Field::Scheme => Cow::Borrowed(record.uri.scheme_str().unwrap_or("http")),
            Field::Header(name) => shown(self.said.header(name)?),
        })
    }

    fn response(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        if let Some(value) = self.said.told.get(name) {
            return Some(shown(value));
        }
        // It is put in after all others.
        let took = self.record.service_time.filter(|_| name.as_str() == SERVICE_TIME)?;
        Some(took.as_millis().to_string().into())
    }

    fn address(&self, of: End) -> Option<SocketAddr> {
        Some(match of {
            End::Remote => self.record.inbound.client.from.socket(),
            End::Local => self.record.inbound.dialled,
        })
    }

    fn start(&self) -> SystemTime {
        let now = now_system();
        now.checked_sub(self.record.began.elapsed()).unwrap_or(now)
    }

    fn grpc(&self) -> Option<u16> {
        self.labels.grpc
    }
}
