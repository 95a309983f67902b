//! Plain HTTP over TLS with our own serving certificate: for the API server, which calls webhooks.
//! Owns that a slow handshake holds up nobody else's. What is answered is the handler's.

use std::future::Future;
use std::io;
use std::sync::Arc;

use ambit_process::admin::{self, Accept, Body, Limits};
use ambit_process::clock;
use ambit_process::net::TcpListener;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::Served;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tracing::debug;

use super::{DRAIN, HANDSHAKES, Serving, next};

/// Connections whose handshake is done.
struct Shaken(Mutex<mpsc::Receiver<io::Result<Served>>>);

impl Accept for Shaken {
    type Io = Served;

    /// Cancel-safe: what is received is returned at once.
    async fn accept(&self) -> io::Result<Served> {
        match self.0.lock().await.recv().await {
            Some(stream) => stream,
            // Whoever accepts has stopped; so will whoever waits here.
            None => std::future::pending().await,
        }
    }
}

/// Serves until stopped.
pub async fn serve<H, Fut>(listener: TcpListener, serving: Serving, limits: Limits, handler: H, stop: Stop)
where
    H: Fn(Request<Bytes>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    // A connection without a place is not taken before there is one.
    let (connections, shaken) = mpsc::channel(1);
    let mut tasks = Tasks::new(&stop);
    tasks.spawn("accept", move |stop| handshakes(listener, serving, connections, stop));
    admin::serve_within(limits, Shaken(Mutex::new(shaken)), handler, stop).await;
    tasks.drain(DRAIN).await;
}

/// Takes connections and shakes hands, many at a time, until stopped or nobody takes them on.
pub(super) async fn handshakes(
    listener: TcpListener,
    mut serving: Serving,
    connections: mpsc::Sender<io::Result<Served>>,
    stop: Stop,
) {
    let mut open = Tasks::new(&stop);
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(tcp) = next(&listener, &stop).await else { break };
        let (config, connections) = (serving.config(clock::now_system()), connections.clone());
        open.spawn("handshake", move |_| async move {
            match Served::accept(config, tcp).await {
                // The server ends with the program only; then nobody misses the connection.
                Ok(stream) => drop(connections.send(Ok(stream)).await),
                Err(error) => debug!(target: "serve", error = %error, "handshake failed"),
            }
            drop(slot);
        });
    }
    open.drain(std::time::Duration::ZERO).await;
}
