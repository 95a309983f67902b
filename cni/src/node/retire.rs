//! The mesh leaves this node: every pod is let out in order, and nothing is put back. Asked over a socket that only the
//! node's root may use, by `ambit-cni-node uninstall`.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_process::admin::{Body, answer, text};
use ambit_wire::node_link::PodUid;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::node::desk::Ask;
use crate::node::enrol::Ground;
use crate::node::keeper::Order;
use crate::node::link::chain;
use crate::node::view::View;

/// Answers the node's root; clones share everything.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) ground: Arc<Ground>,
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) asks: mpsc::Sender<Ask>,
}

impl Control {
    pub(crate) async fn answer(self, request: Request<Bytes>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/retire") => self.retire().await,
            (_, "/retire") => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    async fn retire(&self) -> Response<Body> {
        let (left, remaining) = self.let_out().await;
        let status = if remaining.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({ "left": left, "remaining": remaining });
        answer(status, "application/json", format!("{body}\n"))
    }

    /// Lets every pod out: how many left, and who did not and why. Each has its own keeper, so that one that cannot
    /// leave holds up no other.
    pub(crate) async fn let_out(&self) -> (usize, Vec<String>) {
        info!("the mesh leaves this node");
        self.ground.retired.send_replace(true);
        // From here on the plugin is put back no more.
        self.ground.installed.at_rest().await;
        let mut waiting = Vec::new();
        for uid in self.pods() {
            let (reply, left) = oneshot::channel();
            if self.asks.send((uid.clone(), Order::Leave { reply })).await.is_ok() {
                waiting.push((uid, left));
            }
        }
        let (mut left, mut remaining) = (0, Vec::new());
        for (uid, answer) in waiting {
            match answer.await {
                Ok(Ok(())) => left += 1,
                Ok(Err(error)) => remaining.push(format!("{uid}: {}", chain(&error))),
                Err(_) => remaining.push(format!("{uid}: its keeper is busy")),
            }
        }
        for pod in &remaining {
            warn!(pod, "a pod has not left the mesh");
        }
        (left, remaining)
    }

    /// Everybody who may be in: the cluster's pods, and those whose objects went before them.
    fn pods(&self) -> BTreeSet<PodUid> {
        let view = Arc::clone(&self.views.borrow());
        let known = view.pods.values().filter_map(|pod| PodUid::new(&pod.metadata.uid).ok());
        known.chain(self.ground.records.list().unwrap_or_default().into_keys()).collect()
    }
}
