//! The discovery service over gRPC: one publisher per stream, fed by the newest library.
//! Owns admission and the record of live streams. Decides nothing about content (`publisher`); who may call is the
//! owner's to say (`Admit`). A stream needs no task of its own: it advances when the transport wants its next
//! message, so a slow subscriber holds back only itself, and gets the newest state when it catches up.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ambit_model::name::Identity;
use ambit_process::stop::Stop;
use ambit_wire::limits;
use ambit_wire::pb::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ambit_wire::pb::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node,
};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming};
use tracing::{debug, info};

use self::door::Door;
use self::streams::Registration;
pub use self::streams::{StreamView, Streams, Totals, TypeView};
use crate::library::Library;
use crate::publisher::{Action, Publisher, Refusal, metadata};

mod door;
mod streams;

/// Streams at the same time: a mesh of 5,000 nodes, twice over while they move between two control planes.
const STREAMS: usize = 10_000;

/// Who called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The proven identity; none on a port that asks for no proof.
    pub identity: Option<Identity>,
    /// Where the call came from.
    pub peer: Option<SocketAddr>,
}

/// Says whether a call is admitted, from its headers and its connection.
pub type Admit = Arc<dyn Fn(&MetadataMap, &Extensions) -> Result<Caller, Status> + Send + Sync>;

/// The service.
pub struct Ads {
    library: watch::Receiver<Arc<Library>>,
    admit: Admit,
    stop: Stop,
    streams: Streams,
    door: Arc<Door>,
    next_stream: AtomicU64,
}

impl Ads {
    /// A service that publishes the newest library. Its streams end when `stop` is pulled.
    #[must_use]
    pub fn new(library: watch::Receiver<Arc<Library>>, admit: Admit, stop: Stop) -> Self {
        Self {
            library,
            admit,
            stop,
            streams: Streams::default(),
            door: Arc::default(),
            next_stream: AtomicU64::new(1),
        }
    }

    /// The same streams' record under another admission: one service per port.
    #[must_use]
    pub fn admitting(&self, admit: Admit) -> Self {
        Self {
            library: self.library.clone(),
            admit,
            stop: self.stop.clone(),
            streams: self.streams.clone(),
            door: Arc::clone(&self.door),
            // Odd and even would do for two ports; far apart does for any.
            next_stream: AtomicU64::new(self.next_stream.load(Ordering::Relaxed) + (1 << 32)),
        }
    }

    /// What is known of live streams, for people.
    #[must_use]
    pub fn streams(&self) -> Streams {
        self.streams.clone()
    }

    /// The service as tonic serves it.
    #[must_use]
    pub fn into_service(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(limits::DISCOVERY_REQUEST)
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = BoxStream<'static, Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta discovery is served; use DeltaAggregatedResources"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let caller = (self.admit)(request.metadata(), request.extensions())?;
        // After admission: strangers use up nobody's turn.
        self.door.enter().await?;
        if self.streams.len() >= STREAMS {
            return Err(Status::resource_exhausted(format!("{STREAMS} streams are open; try again later")));
        }
        let stream = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let mut library = self.library.clone();
        let newest = Arc::clone(&library.borrow_and_update());
        let talk = Talk {
            publisher: Publisher::new(stream, newest),
            requests: request.into_inner(),
            library,
            queue: VecDeque::new(),
            wake: None,
            registration: self.streams.register(stream, caller.clone()),
            caller,
            stop: self.stop.clone(),
        };
        let responses = unfold(Some(talk), |talk| async {
            let mut talk = talk?;
            match talk.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(talk))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(responses.boxed()))
    }
}

/// One stream.
struct Talk {
    publisher: Publisher,
    requests: Streaming<DeltaDiscoveryRequest>,
    library: watch::Receiver<Arc<Library>>,
    queue: VecDeque<DeltaDiscoveryResponse>,
    wake: Option<Instant>,
    registration: Registration,
    caller: Caller,
    stop: Stop,
}

impl Talk {
    /// The next response; none when the subscriber has closed the stream. Called again only after the transport has
    /// taken the former one: a newer library is looked at only when everything due was sent.
    async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        loop {
            if let Some(response) = self.queue.pop_front() {
                return Ok(Some(response));
            }
            // All arms are cancel-safe: what was not taken stays.
            let actions = tokio::select! {
                () = self.stop.stopped() => return Err(Status::unavailable("the control plane stops")),
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.on_request(request)?,
                    Ok(None) => return Ok(None),
                    Err(status) => {
                        debug!(target: "xds", %status, "stream lost");
                        return Ok(None);
                    }
                },
                changed = self.library.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane stops"))?;
                    let newest = Arc::clone(&self.library.borrow_and_update());
                    self.publisher.on_library(newest)
                }
                () = sleep_until(self.wake) => {
                    self.wake = None;
                    self.publisher.on_time(now())
                }
            };
            self.obey(actions);
            self.registration.update(&self.publisher);
        }
    }

    fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<Vec<Action>, Status> {
        if self.publisher.node().is_none()
            && let Some(node) = &request.node
        {
            vouch(&self.caller, node)?;
            info!(target: "xds", node = node.id, peer = ?self.caller.peer, "subscriber");
        }
        if let Some(error) = &request.error_detail {
            let text = limits::shortened(&error.message, limits::NACK_TEXT);
            info!(target: "xds", kind = request.type_url, nonce = request.response_nonce, text, "refused by subscriber");
        }
        self.publisher.on_request(request, now()).map_err(|refusal| match refusal {
            Refusal::NoNode | Refusal::NodeId { .. } => Status::invalid_argument(refusal.to_string()),
            Refusal::TooManyNames { .. } => Status::resource_exhausted(refusal.to_string()),
        })
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(response) => self.queue.push_back(*response),
                Action::WakeAt(until) => self.wake = Some(until),
            }
        }
    }
}

/// A caller speaks for itself only: its namespace, and its account where given, are those it proved.
fn vouch(caller: &Caller, node: &Node) -> Result<(), Status> {
    let Some(identity) = &caller.identity else { return Ok(()) };
    let from_domain = node.id.split('~').nth(3).and_then(|domain| domain.split('.').next());
    let namespace = metadata(node, "NAMESPACE").or(from_domain).unwrap_or_default();
    if namespace != identity.namespace.as_str() {
        let text = format!("node is of namespace {namespace:?}, the caller is {identity}");
        return Err(Status::permission_denied(text));
    }
    match metadata(node, "SERVICE_ACCOUNT") {
        Some(account) if account != identity.service_account.as_str() => Err(Status::permission_denied(
            format!("node is of account {account:?}, the caller is {identity}"),
        )),
        _ => Ok(()),
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
