//! What the spans of a request say of it (`waypoint.md` 5.3): in the words of Envoy and of Istio, and the most important
//! in those of OpenTelemetry. Owns the keys; what a span is, and who is told, is `trace`'s.

use std::borrow::Cow;

use ambit_proxy::side::Side;
use http::{HeaderMap, StatusCode};

use super::Record;
use crate::metrics::RequestLabels;
use crate::trace::{Fact, Piece, Sort, count};

pub(super) type Facts = Vec<(Cow<'static, str>, Fact)>;

const SOURCE: [&str; 6] = [
    "istio.source_workload",
    "istio.source_namespace",
    "istio.source_canonical_service",
    "istio.source_canonical_revision",
    "istio.source_app",
    "istio.source_cluster_id",
];

const DESTINATION: [&str; 6] = [
    "istio.destination_workload",
    "istio.destination_namespace",
    "istio.destination_canonical_service",
    "istio.destination_canonical_revision",
    "istio.destination_app",
    "istio.destination_cluster_id",
];

impl Record {
    /// An attempt begins with these headers: they say of which trace it is.
    pub(crate) fn attempt_begins(&mut self, headers: &mut HeaderMap) {
        if let Some(traced) = &mut self.traced {
            traced.attempt(headers);
        }
    }

    /// An attempt was answered, or why not.
    pub(crate) fn attempt_ends(&mut self, came: impl FnOnce() -> Result<StatusCode, String>) {
        let Some(mut traced) = self.traced.take() else { return };
        if !traced.is_kept() {
            traced.forget_attempt();
            self.traced = Some(traced);
            return;
        }
        let came = came();
        let name = || self.operation();
        let status = came.as_ref().ok().copied();
        let facts = || {
            let mut facts = Facts::new();
            text(&mut facts, "component", "proxy");
            text(&mut facts, "http.method", self.method.as_str());
            text(&mut facts, "peer.address", self.target().unwrap_or_default());
            text(&mut facts, "server.address", self.target().unwrap_or_default());
            number(&mut facts, "http.request.resend_count", i64::from(self.attempts.saturating_sub(1)));
            if let Some(status) = status {
                number(&mut facts, "http.status_code", status.as_u16().into());
                number(&mut facts, "http.response.status_code", status.as_u16().into());
            }
            facts
        };
        let failed = match came {
            Ok(status) if !status.is_server_error() => None,
            Ok(status) => Some(format!("answered {}", status.as_u16())),
            Err(why) => Some(why),
        };
        traced.attempted(name, facts, failed);
        self.traced = Some(traced);
    }

    /// The request is over.
    pub(super) fn end_trace(&mut self, labels: &RequestLabels) {
        let Some(traced) = self.traced.take().filter(|it| it.is_kept()) else { return };
        let failed =
            (self.status >= 500 || self.status == 0 || self.flags != "-").then(|| self.details.to_owned());
        let mut facts = self.facts(labels);
        if traced.is_plain() {
            facts.retain(|(key, _)| !key.starts_with("istio."));
        }
        let (to, spans) = traced.end(self.operation(), facts, failed);
        let lane = &self.inbound.lane;
        let spans = spans.into_iter().map(Piece::Span);
        count(lane, (Sort::Spans, "queue_full"), lane.spans.offer(&to, spans));
    }

    /// What a span is called: `<host>:<port>/*`, as Istio's are.
    fn operation(&self) -> String {
        match self.inbound.service() {
            Some(service) => format!("{}:{}/*", service.hostname, self.inbound.dialled.port()),
            None => format!("{}/*", self.inbound.asked),
        }
    }

    fn facts(&self, labels: &RequestLabels) -> Facts {
        let mut facts = Facts::new();
        let shown = |value: &Option<http::HeaderValue>| {
            value.as_ref().and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned()
        };
        let host = self.uri.authority().map_or_else(|| shown(&self.told.host), ToString::to_string);
        let path = self.uri.path_and_query().map_or("/", |it| it.as_str());
        let (method, version) = (self.method.as_str(), format!("{:?}", self.version));
        let from = self.inbound.client.from.to_string();
        let url = format!("http://{host}{path}");
        let waypoint = &self.inbound.lane.shared.waypoint;
        for (key, value) in [
            ("component", "proxy"),
            ("guid:x-request-id", &shown(&self.told.request_id)),
            ("http.url", &url),
            ("http.method", method),
            ("http.protocol", &version),
            ("user_agent", &shown(&self.told.user_agent)),
            ("response_flags", self.flags),
            ("upstream_cluster", labels.ends.service[0].as_str()),
            ("peer.address", &from),
            ("istio.namespace", waypoint.service.namespace.as_str()),
            ("istio.canonical_service", waypoint.name()),
            ("istio.cluster_id", self.inbound.lane.shared.place.cluster.as_str()),
            ("http.request.method", method),
            ("url.path", self.uri.path()),
            ("server.address", labels.ends.service[0].as_str()),
            ("network.protocol.version", version.trim_start_matches("HTTP/")),
        ] {
            text(&mut facts, key, value);
        }
        for (key, value) in [
            ("http.status_code", self.status.into()),
            ("http.response.status_code", self.status.into()),
            ("request_size", whole(self.source.bytes())),
            ("response_size", whole(self.sent)),
            ("retry.count", self.attempts.saturating_sub(1).into()),
        ] {
            number(&mut facts, key, value);
        }
        if let Some(status) = labels.grpc {
            number(&mut facts, "grpc.status_code", status.into());
            text(&mut facts, "grpc.path", self.uri.path());
            text(&mut facts, "grpc.authority", &host);
        }
        ends(&mut facts, SOURCE, &labels.ends.source);
        ends(&mut facts, DESTINATION, &labels.ends.destination);
        facts
    }
}

fn ends(facts: &mut Facts, keys: [&'static str; 6], side: &Side) {
    let Side { workload, canonical, revision, namespace, principal: _, app, cluster } = side;
    for (key, value) in keys.into_iter().zip([workload, namespace, canonical, revision, app, cluster]) {
        text(facts, key, value.as_str());
    }
}

/// What is not known is left out.
pub(super) fn text(facts: &mut Facts, key: &'static str, value: &str) {
    if !value.is_empty() {
        facts.push((Cow::Borrowed(key), Fact::Text(value.to_owned())));
    }
}

pub(super) fn number(facts: &mut Facts, key: &'static str, value: i64) {
    facts.push((Cow::Borrowed(key), Fact::Number(value)));
}

pub(super) fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
