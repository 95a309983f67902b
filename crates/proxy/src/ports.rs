//! Our own ports: admin 15000, metrics 15020, readiness 15021. Owns where they are bound.
//! What the first answers is each proxy's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ambit_process::admin::{self, Body, text};
use ambit_process::net::TcpListener;
use ambit_process::observe::Registry;
use ambit_process::ready::Readiness;
use ambit_process::scrape;
use ambit_process::tasks::Tasks;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tracing::debug;

/// Our own ports that may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Dumps and the log's level, on loopback.
    pub admin: u16,
    /// Metrics.
    pub stats: u16,
    /// Whether readiness is asked for.
    pub readiness: u16,
}

/// Why one of our own ports is not served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {at}; another process may hold the port: see `ss -ltnp`")]
pub struct PortError {
    at: SocketAddr,
    source: io::Error,
}

/// Serves all three until the tasks are stopped.
///
/// # Errors
/// When a port is taken.
pub async fn serve(
    (at, ipv6): (Ports, bool),
    show: impl Fn(&Request<Bytes>) -> Response<Body> + Send + Sync + 'static,
    registry: Arc<Registry>,
    readiness: Readiness,
    tasks: &mut Tasks,
) -> Result<(), PortError> {
    let show = Arc::new(show);
    let mut local = vec![bind(IpAddr::V4(Ipv4Addr::LOCALHOST), at.admin).await?];
    match bind(IpAddr::V6(Ipv6Addr::LOCALHOST), at.admin).await {
        Ok(listener) if ipv6 => local.push(listener),
        Ok(_) => {}
        Err(error) => debug!(%error, "the admin port is served on IPv4 only"),
    }
    for listener in local {
        let show = Arc::clone(&show);
        let answer = move |request: Request<Bytes>| std::future::ready(show(&request));
        tasks.spawn("admin", move |stop| admin::serve(listener, answer, stop));
    }
    let listener = anywhere(ipv6, at.stats).await?;
    let answer = move |request: Request<Bytes>| std::future::ready(metrics(&registry, &request));
    tasks.spawn("metrics", move |stop| admin::serve(listener, answer, stop));
    let listener = anywhere(ipv6, at.readiness).await?;
    let answer = move |request: Request<Bytes>| std::future::ready(readiness.answer(&request));
    tasks.spawn("readiness", move |stop| admin::serve(listener, answer, stop));
    Ok(())
}

/// Answers the metrics port.
#[must_use]
pub fn metrics<B>(registry: &Registry, request: &Request<B>) -> Response<Body> {
    if !matches!(request.uri().path(), "/metrics" | "/stats/prometheus") {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    scrape::answer(registry, request.headers())
}

/// On all addresses; on IPv4 alone where the machine has no IPv6.
async fn anywhere(ipv6: bool, port: u16) -> Result<TcpListener, PortError> {
    if ipv6 {
        match bind(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).await {
            Err(error) if error.source.kind() != io::ErrorKind::AddrInUse => {
                debug!(%error, "served on IPv4 only");
            }
            bound => return bound,
        }
    }
    bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).await
}

async fn bind(ip: IpAddr, port: u16) -> Result<TcpListener, PortError> {
    let at = SocketAddr::new(ip, port);
    TcpListener::bind(at).await.map_err(|source| PortError { at, source })
}
