//! What the daemon tells over HTTP: metrics, and whether it and the node are ready. Owns the words alone.
//!
//! Ready is who can answer the plugin, where it is to be installed: the cluster has been read, the plugin is in place. A ztunnel is not waited for. Rollouts wait for the
//! daemon to be ready on one node before they go on to the next, and ztunnel's may wait for the daemon's: each waiting
//! for the other would stop both. What a node needs before pods are sent to it is another question, with its own
//! answer: `/readyz/mesh` also wants a ztunnel that was told of everybody, and nobody left waiting.

use std::sync::Arc;

use ambit_process::admin::{Body, text};
use ambit_process::scrape;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::node::enrol::Ground;
use crate::node::view::View;

/// Answers; clones share everything.
#[derive(Clone)]
pub(crate) struct Teller {
    pub(crate) ground: Arc<Ground>,
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) registry: Arc<Registry>,
}

impl Teller {
    pub(crate) fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        match request.uri().path() {
            "/metrics" => {
                let connected = self.ground.link.connected();
                self.ground.metrics.connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
                scrape::answer(&self.registry, request.headers())
            }
            "/healthz" => text(StatusCode::OK, "alive\n"),
            "/readyz" => readiness(&self.own()),
            "/readyz/mesh" => readiness(&[self.own(), self.mesh()].concat()),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    /// What the daemon itself waits for.
    fn own(&self) -> Vec<&'static str> {
        let view = !self.views.borrow().complete;
        let install = !self.ground.installed.is_good();
        [view.then_some("view"), install.then_some("install")].into_iter().flatten().collect()
    }

    /// What pods of this node wait for.
    fn mesh(&self) -> Vec<&'static str> {
        let ztunnel = self.ground.link.connected() == 0;
        let pods = self.ground.metrics.pending.get() > 0;
        [ztunnel.then_some("ztunnel"), pods.then_some("pods")].into_iter().flatten().collect()
    }
}

fn readiness(pending: &[&str]) -> Response<Body> {
    if pending.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready, pending: {}\n", pending.join(", ")))
}
