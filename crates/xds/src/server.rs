//! The discovery service over gRPC: one publisher per stream, fed by the newest library.
//! Owns admission and the record of live streams. Decides nothing about content (`publisher`); who may call is the
//! owner's to say (`Admit`). A stream needs no task of its own: it advances when the transport wants its next
//! piece (`talk`), so a slow subscriber holds back only itself, and gets the newest state when it catches up.
//! Frames are made here and not by tonic's codec, which copies each message for each subscriber.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use ambit_model::name::Identity;
use ambit_process::stop::Stop;
use futures_util::future::{Ready, ready};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use self::answers::Answers as _;
use self::codec::Requests;
use self::door::Door;
pub use self::notes::{Note, Notes};
pub use self::rows::Rows;
use self::shown::Look;
pub use self::streams::{StreamView, Streams, Totals, TypeView};
use self::talk::{Starts, Talk};
use crate::library::Library;
use crate::publisher::Publisher;

mod answers;
mod codec;
mod door;
mod notes;
mod rows;
mod shown;
mod streams;
mod talk;

/// The only method that is served, and the other one of the protocol.
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const STATE_OF_THE_WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

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
    /// Where streams are told of newer libraries, dealt out to them in turn.
    rows: Vec<watch::Receiver<Arc<Library>>>,
    admit: Admit,
    stop: Stop,
    streams: Streams,
    door: Arc<Door>,
    starts: Arc<Starts>,
    notes: Notes,
    /// Who may see who subscribes, and who says so; none: nobody.
    shown: Option<(Admit, String)>,
    next_stream: AtomicU64,
}

impl Ads {
    /// A service that publishes the newest library. Its streams end when `stop` is pulled.
    #[must_use]
    pub fn new(library: watch::Receiver<Arc<Library>>, admit: Admit, stop: Stop) -> Self {
        Self {
            rows: vec![library],
            admit,
            stop,
            streams: Streams::default(),
            door: Arc::default(),
            starts: Arc::default(),
            notes: Notes::default(),
            shown: None,
            next_stream: AtomicU64::new(1),
        }
    }

    /// Its streams, and those of services that are made from it, are told a row after the other.
    #[must_use]
    pub fn told_in(self, rows: &Rows) -> Self {
        Self { rows: rows.receivers(), ..self }
    }

    /// Says what happens on its streams, and on those of services that are made from it.
    #[must_use]
    pub fn noting(self, notes: Notes) -> Self {
        Self { notes, ..self }
    }

    /// The same streams' record under another admission: one service per port.
    #[must_use]
    pub fn admitting(&self, admit: Admit) -> Self {
        Self {
            rows: self.rows.clone(),
            admit,
            stop: self.stop.clone(),
            streams: self.streams.clone(),
            door: Arc::clone(&self.door),
            starts: Arc::clone(&self.starts),
            notes: self.notes.clone(),
            shown: None,
            // Odd and even would do for two ports; far apart does for any.
            next_stream: AtomicU64::new(self.next_stream.load(Ordering::Relaxed) + (1 << 32)),
        }
    }

    /// Shows who subscribes to whoever is admitted by this, in the name of `called`: JSON of component, name, version.
    #[must_use]
    pub fn shown_to(self, admit: Admit, called: String) -> Self {
        Self { shown: Some((admit, called)), ..self }
    }

    /// What is known of live streams, for people.
    #[must_use]
    pub fn streams(&self) -> Streams {
        self.streams.clone()
    }

    /// The service as tonic serves it.
    #[must_use]
    pub fn into_service(self) -> Discovery {
        Discovery(Arc::new(self))
    }

    fn answer(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        match request.uri().path() {
            DELTA => {}
            STATE_OF_THE_WORLD => return self.show(request),
            _ => return Err(Status::unimplemented("no such method")),
        }
        let (head, body) = request.into_parts();
        let caller = (self.admit)(&MetadataMap::from_headers(head.headers), &head.extensions)?;
        if self.streams.len() >= STREAMS {
            return Err(Status::resource_exhausted(format!("{STREAMS} streams are open; try again later")));
        }
        let stream = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let row = usize::try_from(stream).unwrap_or_default() % self.rows.len().max(1);
        let library = self.rows.get(row).cloned();
        let mut library = library.ok_or_else(|| Status::unavailable("nobody is told of anything"))?;
        let newest = Arc::clone(&library.borrow_and_update());
        let talk = Talk::new(
            Publisher::new(stream, newest).proven(caller.identity.clone()),
            Requests::new(body),
            library,
            self.streams.register(stream, caller.clone()),
            caller,
        );
        let talk = talk.through(Arc::clone(&self.door), Arc::clone(&self.starts)).noting(self.notes.clone());
        Ok(answered(talk.into_body(self.stop.clone())))
    }

    fn show(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let Some((admit, called)) = &self.shown else {
            let text = "only delta discovery is served; use DeltaAggregatedResources";
            return Err(Status::unimplemented(text));
        };
        let (head, body) = request.into_parts();
        admit(&MetadataMap::from_headers(head.headers), &head.extensions)?;
        let look = Look::new(body, self.streams.clone(), called.clone());
        Ok(answered(look.into_body(self.stop.clone())))
    }
}

fn answered(body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    let content = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content);
    response
}

/// The service. Clones are the same service.
#[derive(Clone)]
pub struct Discovery(Arc<Ads>);

impl Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        ready(Ok(self.0.answer(request).unwrap_or_else(Status::into_http)))
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
