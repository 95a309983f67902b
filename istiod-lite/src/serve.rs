//! The gRPC listeners: discovery in the clear, discovery and certificates over TLS. What is said on them is `xds`'s and
//! `ca`'s, what is shown there `shown`'s.

mod https;
mod shown;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_process::clock;
use ambit_process::net::{TcpListener, TcpSocket, TcpStream};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::Caller as Peer;
use ambit_wire::pb::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use ambit_xds::server::{Admit, Ads, Caller, Discovery};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpConnectInfo;
use tracing::{info, warn};

use crate::ca::Authority;
use crate::ca::callers::{self, Callers};
use crate::publish::Waypoints;

pub use https::serve as https;
pub use shown::{Files, Serving, ServingError};

/// Handshakes at the same time: nodes that all come back at once wait their turn in the kernel's queue.
const HANDSHAKES: usize = 128;

/// Connections that wait in the kernel's queue, which is also what Linux takes at most unless told. Beyond it they
/// are reset: a mesh of a thousand nodes that all come back at once fills the customary 1,024.
const BACKLOG: u32 = 4096;

/// After a failed accept (mostly: no file descriptors left) wait before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections still speaking at a stop may finish within this.
const DRAIN: Duration = Duration::from_secs(2);

/// As upstream: ping idle clients, and give up on those that do not answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WAIT: Duration = Duration::from_secs(10);

/// What a caller may send ahead of what is read, in one call and on its connection. Requests are small, but for what
/// a subscriber has when it comes back: megabytes, of a thousand of them at once, which wait outside until it is
/// their turn.
const CALL_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Calls on one connection: a node's stream and a certificate request for each of its pods.
const CALLS_PER_CONNECTION: u32 = 1024;

/// Admits those who were proven to be one of these accounts (`<namespace>/<name>`; `*`: anybody who was proven), or the
/// account of a waypoint.
/// Whoever reads discovery reads where everything is and what is allowed to whom, which is not any pod's business.
#[must_use]
pub fn proven(readers: Vec<String>, waypoints: watch::Receiver<Waypoints>) -> Admit {
    Arc::new(move |_, extensions| {
        let bearer = callers::proven(extensions)?;
        let account = format!("{}/{}", bearer.identity.namespace, bearer.identity.service_account);
        let named = readers.iter().any(|reader| *reader == account || reader == "*");
        if !named && !waypoints.borrow().accounts.contains(&account) {
            info!(target: "serve", identity = %bearer.identity, "may not read the mesh");
            let message = format!("{account} may not read the mesh; name it with --reader if it should");
            return Err(Status::permission_denied(message));
        }
        let peer = extensions.get::<Peer>().and_then(|peer| peer.0);
        Ok(Caller { identity: Some(bearer.identity), peer })
    })
}

/// Admits the accounts of a namespace: that of the control plane, whose people look after it.
#[must_use]
pub fn of_namespace(namespace: String) -> Admit {
    Arc::new(move |_, extensions| {
        let bearer = callers::proven(extensions)?;
        if bearer.identity.namespace.as_str() != namespace {
            info!(target: "serve", identity = %bearer.identity, "may not see who subscribes");
            return Err(Status::permission_denied(format!("only accounts of {namespace} may look")));
        }
        Ok(Caller { identity: Some(bearer.identity), peer: None })
    })
}

/// Admits whoever reaches the listener.
#[must_use]
pub fn anybody() -> Admit {
    Arc::new(|_, extensions| {
        let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        Ok(Caller { identity: None, peer })
    })
}

/// Serves discovery in the clear until stopped.
pub async fn plain(listener: TcpListener, ads: Ads, stop: Stop) {
    let (connections, incoming) = mpsc::channel(HANDSHAKES);
    let mut tasks = Tasks::new(&stop);
    tasks.spawn("accept", move |stop| async move {
        while let Some(tcp) = next(&listener, &stop).await {
            // Small messages at once; a socket that refuses this still works.
            let _ = tcp.set_nodelay(true);
            if connections.send(Ok::<_, io::Error>(tcp)).await.is_err() {
                return;
            }
        }
    });
    let incoming = ReceiverStream::new(incoming);
    let ads = ads.into_service();
    let served = Box::pin(server().serve_with_incoming_shutdown(ads, incoming, stop.stopped())).await;
    ended("plain", served);
    tasks.drain(DRAIN).await;
}

/// Serves discovery and certificates over TLS until stopped.
pub async fn secure(listener: TcpListener, serving: Serving, both: Both, stop: Stop) {
    let (connections, incoming) = mpsc::channel(HANDSHAKES);
    let mut tasks = Tasks::new(&stop);
    tasks.spawn("accept", move |stop| https::handshakes(listener, serving, connections, stop));
    let incoming = ReceiverStream::new(incoming);
    let served = Box::pin(server().serve_with_incoming_shutdown(both, incoming, stop.stopped())).await;
    ended("secure", served);
    tasks.drain(DRAIN).await;
}

/// Discovery and certificates, if they are signed here, behind one address. The router that tonic offers would bring a second web framework.
#[derive(Clone)]
pub struct Both {
    ads: Discovery,
    ca: Option<IstioCertificateServiceServer<Authority>>,
    callers: Arc<Callers>,
}

impl Both {
    /// Both services. Callers of discovery are proven here, once a stream; the authority proves its own.
    #[must_use]
    pub fn new(ads: Ads, ca: Option<Authority>, callers: Arc<Callers>) -> Self {
        Self { ads: ads.into_service(), ca: ca.map(Authority::into_service), callers }
    }
}

impl Service<http::Request<Body>> for Both {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // What neither knows is answered by discovery: unimplemented.
        if request.uri().path().starts_with("/istio.v1.auth.IstioCertificateService/")
            && let Some(ca) = &mut self.ca
        {
            return ca.call(request);
        }
        let (mut ads, callers) = (self.ads.clone(), Arc::clone(&self.callers));
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let headers = MetadataMap::from_headers(head.headers.clone());
            head.extensions.insert(callers.prove(&headers, clock::now_system()).await);
            ads.call(http::Request::from_parts(head, body)).await
        })
    }
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PONG_WAIT))
        .max_concurrent_streams(Some(CALLS_PER_CONNECTION))
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

fn ended(name: &'static str, served: Result<(), tonic::transport::Error>) {
    if let Err(error) = served {
        warn!(target: "serve", listener = name, error = %error, "listener ended");
    }
}

/// The next connection; none once stopped.
async fn next(listener: &TcpListener, stop: &Stop) -> Option<TcpStream> {
    loop {
        // Both arms are cancel-safe: a connection not yet taken stays in the kernel's queue.
        let taken = tokio::select! {
            () = stop.stopped() => return None,
            taken = listener.accept() => taken,
        };
        match taken {
            Ok((tcp, _)) => return Some(tcp),
            Err(error) => {
                warn!(target: "serve", error = %error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Opens a listener.
///
/// # Errors
/// When the address cannot be had.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As a listener has it that is bound at once: what is still closing does not keep the port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| ListenError { address, source })
}

/// Where a listener listens.
///
/// # Errors
/// When the system does not say.
pub fn bound(listener: &TcpListener) -> Result<SocketAddr, ListenError> {
    let unknown = SocketAddr::from(([0; 4], 0));
    listener.local_addr().map_err(|source| ListenError { address: unknown, source })
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; stop what uses it, or choose another address")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_nodes_than_a_thousand_may_come_at_once_before_any_is_let_in() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = bound(&listener).unwrap();
        for number in 0..1500 {
            // It stays in the queue though its client is gone again.
            let came = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(30));
            assert!(came.is_ok(), "{number}: {came:?}");
        }
    }
}
