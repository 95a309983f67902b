//! What people and probes ask over plain HTTP: readiness, subscribers, faults, resources, metrics.

use std::sync::Arc;

use ambit_cluster::Fault;
use ambit_process::admin::{Body, answer, text};
use ambit_process::observe::{self, Registry};
use ambit_process::ready::Readiness;
use ambit_xds::library::Library;
use ambit_xds::server::{StreamView, Streams};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::dump;
use crate::metrics::Metrics;

/// What is shown.
#[derive(Clone)]
pub struct Shown {
    /// Whether everything is there.
    pub ready: Readiness,
    /// Live subscribers.
    pub streams: Streams,
    /// What is wrong with the manifests.
    pub faults: watch::Receiver<Arc<Vec<Fault>>>,
    /// What is published.
    pub library: watch::Receiver<Arc<Library>>,
    /// The metrics' registry.
    pub registry: Arc<Registry>,
    /// The metrics.
    pub metrics: Metrics,
}

impl Shown {
    /// Answers on the HTTP address.
    #[must_use]
    pub fn http<B>(&self, request: &Request<B>) -> Response<Body> {
        match request.uri().path() {
            "/ready" | "/healthz/ready" => self.readiness(),
            "/debug/syncz" => as_json(&self.streams.view().iter().map(stream).collect()),
            "/debug/faults" => as_json(&self.faults.borrow().iter().map(|fault| fault.to_string()).collect()),
            "/debug/ambientz" => as_json(&dump::resources(&self.library.borrow(), None).into()),
            _ => text(
                StatusCode::NOT_FOUND,
                "not here; /ready, /debug/syncz, /debug/faults and /debug/ambientz are\n",
            ),
        }
    }

    /// Answers on the monitoring address.
    #[must_use]
    pub fn monitoring<B>(&self, request: &Request<B>) -> Response<Body> {
        match request.uri().path() {
            "/metrics" => {
                self.metrics.streams(self.streams.len());
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                answer(StatusCode::OK, kind, observe::encode(&self.registry))
            }
            // Here too: probes come from the node, the other address is this pod's own.
            "/ready" => self.readiness(),
            "/version" => text(StatusCode::OK, concat!(env!("CARGO_PKG_VERSION"), "\n")),
            _ => text(StatusCode::NOT_FOUND, "not here; /metrics, /ready and /version are\n"),
        }
    }

    fn readiness(&self) -> Response<Body> {
        let pending = self.ready.pending();
        if pending.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready, pending: {}\n", pending.join(", ")))
    }
}

fn stream(view: &StreamView) -> Value {
    let kinds = view.types.iter().map(|(kind, it)| {
        json!({
            "type": kind.url(),
            "sent": it.sent,
            "answered": it.answered,
            "unanswered": it.unanswered,
            "acks": it.acks,
            "nacks": it.nacks,
            "stale": it.stale,
            "refused": it.refused.as_ref().map(|nack| &nack.text),
        })
    });
    json!({
        "stream": view.stream,
        "node": view.node,
        "identity": view.caller.identity.as_ref().map(ToString::to_string),
        "peer": view.caller.peer,
        "ageSeconds": view.age().as_secs(),
        "inStep": view.is_in_step(),
        "types": kinds.collect::<Vec<_>>(),
    })
}

fn as_json(value: &Value) -> Response<Body> {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n"))
}
