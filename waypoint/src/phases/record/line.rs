//! The line of a request for those who collect lines (`waypoint.md` 5.2). Owns its keys, which are those of the line in the
//! program's own log; who is told is said by `said`, and how by `trace`.

use ambit_model::name::Label;
use ambit_model::trace::TraceId;
use ambit_process::clock::now_system;
use http::HeaderValue;

use super::Record;
use super::spans::{Facts, number, text, whole};
use crate::lane::Lane;
use crate::metrics::RequestLabels;
use crate::trace::{Line, Piece, Sort, count};

/// Tells those of a line, beside what it is about.
pub(super) fn tell(lane: &Lane, to: &[Label], line: impl FnOnce() -> Line) {
    if !to.is_empty() {
        let line = line();
        count(lane, (Sort::Lines, "queue_full"), lane.spans.offer(to, [Piece::Line(line)]));
    }
}

impl Record {
    /// Tells them of it.
    pub(super) fn tell_line(&self, labels: &RequestLabels, trace: Option<TraceId>) {
        let line = || Line { at: now_system(), what: "request complete", trace, facts: self.line(labels) };
        tell(&self.inbound.lane, &self.line_is_for(labels), line);
    }

    fn line(&self, labels: &RequestLabels) -> Facts {
        let shown = |value: &Option<HeaderValue>| {
            value.as_ref().and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned()
        };
        let host = self.uri.authority().map_or_else(|| shown(&self.told.host), ToString::to_string);
        let judged = self.judged.as_deref();
        let ends = &labels.ends;
        let principal = self.inbound.principal().map(|it| it.to_string()).unwrap_or_default();
        let mut facts = Facts::new();
        for (key, value) in [
            ("method", self.method.as_str()),
            ("path", self.uri.path_and_query().map_or("", |it| it.as_str())),
            ("protocol", &format!("{:?}", self.version)),
            ("response_flags", self.flags),
            ("response_code_details", judged.and_then(|it| it.details.as_deref()).unwrap_or(self.details)),
            ("policy", judged.and_then(|it| it.policy.as_deref()).unwrap_or_default()),
            ("x_forwarded_for", &shown(&self.told.forwarded_for)),
            ("user_agent", &shown(&self.told.user_agent)),
            ("request_id", &shown(&self.told.request_id)),
            ("authority", &host),
            ("upstream_host", self.target().unwrap_or_default()),
            ("upstream_cluster", ends.service[0].as_str()),
            ("route_name", self.route.as_str()),
            ("downstream_local_address", &self.inbound.asked.to_string()),
            ("downstream_remote_address", &self.inbound.client.from.to_string()),
            ("source_principal", &principal),
            ("source_workload", ends.source.workload.as_str()),
            ("destination_principal", ends.destination.principal.as_str()),
            ("destination_workload", ends.destination.workload.as_str()),
            ("error", self.failure.as_deref().unwrap_or_default()),
        ] {
            text(&mut facts, key, value);
        }
        let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        for (key, value) in [
            ("response_code", self.status.into()),
            ("bytes_received", whole(self.source.bytes())),
            ("bytes_sent", whole(self.sent)),
            ("duration", millis(self.began.elapsed())),
            ("upstream_attempts", self.attempts.into()),
        ] {
            number(&mut facts, key, value);
        }
        if let Some(took) = self.service_time {
            number(&mut facts, "upstream_service_time", millis(took));
        }
        if let Some(status) = labels.grpc {
            number(&mut facts, "grpc_status", status.into());
        }
        facts
    }
}
