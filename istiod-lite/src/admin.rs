//! What people and probes ask over plain HTTP: readiness, subscribers, faults, resources, metrics.
//! Owns who may look: readiness and metrics are anybody's, all else only this machine's, or the mesh's own accounts'.

use std::sync::Arc;

use ambit_cluster::Fault;
use ambit_process::admin::{Body, answer, text};
use ambit_process::observe::Registry;
use ambit_process::ready::Readiness;
use ambit_process::{clock, scrape};
use ambit_xds::library::Library;
use ambit_xds::server::{StreamView, Streams};
use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::metadata::MetadataMap;

use crate::ca::callers::Callers;
use crate::ca::token::TokenError;
use crate::dump;
use crate::metrics::Metrics;

/// What is shown.
#[derive(Clone)]
pub struct Shown {
    /// Whether everything is there.
    pub ready: Readiness,
    /// Who may look at the mesh; none: whoever reaches the address, which is this machine's own.
    pub guard: Option<Arc<Guard>>,
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

/// Lets in who proves to be an account of the control plane's namespace.
pub struct Guard {
    /// Who proves callers.
    pub callers: Arc<Callers>,
    /// The namespace.
    pub namespace: String,
}

impl Guard {
    async fn refusal(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let headers = MetadataMap::from_headers(headers.clone());
        let namespace = &self.namespace;
        match Box::pin(self.callers.bearer(&headers, clock::now_system())).await {
            Ok(bearer) if bearer.identity.namespace.as_str() == namespace => None,
            Ok(_) => Some(text(StatusCode::FORBIDDEN, format!("only accounts of {namespace} may look\n"))),
            Err(TokenError::Unreviewed(_) | TokenError::Busy) => {
                Some(text(StatusCode::SERVICE_UNAVAILABLE, "callers cannot be authenticated now\n"))
            }
            Err(_) => {
                let said =
                    format!("send the token of an account of {namespace}: Authorization: Bearer ...\n");
                let mut refusal = text(StatusCode::UNAUTHORIZED, said);
                refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                Some(refusal)
            }
        }
    }
}

/// What there is below `/debug`.
const DEBUG: [&str; 4] = ["/debug/ambientz", "/debug/faults", "/debug/list", "/debug/syncz"];

impl Shown {
    /// Answers on the HTTP address.
    pub async fn http(self, request: Request<Bytes>) -> Response<Body> {
        let path = request.uri().path();
        let looks = path == "/debug" || path.starts_with("/debug/");
        if let Some(guard) = self.guard.as_ref().filter(|_| looks)
            && let Some(refusal) = guard.refusal(request.headers()).await
        {
            return refusal;
        }
        match path {
            "/debug" | "/debug/list" => as_json(&json!(DEBUG)),
            "/ready" | "/healthz/ready" => self.readiness(),
            "/debug/syncz" => as_json(&self.streams.view().iter().map(stream).collect()),
            "/debug/faults" => as_json(&self.faults.borrow().iter().map(|fault| fault.to_string()).collect()),
            "/debug/ambientz" => as_json(&dump::sorted(&self.library.borrow())),
            _ => text(StatusCode::NOT_FOUND, format!("not here; /ready, {} are\n", DEBUG.join(", "))),
        }
    }

    /// Answers on the monitoring address.
    #[must_use]
    pub fn monitoring<B>(&self, request: &Request<B>) -> Response<Body> {
        match request.uri().path() {
            "/metrics" => {
                self.metrics.streams(&self.streams.versions(), &self.streams.totals());
                self.metrics.services(dump::services(&self.library.borrow()));
                self.metrics.time(clock::now_system());
                scrape::answer(&self.registry, request.headers())
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
            // The same as the one answered last: what is in force is not what was sent.
            "refusedGeneration": it.refused.as_ref().map(|nack| nack.generation),
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
