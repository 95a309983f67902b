//! The API server of a large cluster: lists and watches of what there are many of come from the cluster's numbers,
//! everything else goes on to the kit's fake server, which knows how objects are made, patched and leased.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ambit_kit::fake_api::FakeApi;
use ambit_process::net::{TcpListener, TcpStream};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::scale::cluster::{Cluster, Many};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// The server of what there are few of.
struct Few {
    at: SocketAddr,
    /// Connections to it.
    ways: Mutex<Tasks>,
    _fake: FakeApi,
}

impl Few {
    fn ways(&self) -> MutexGuard<'_, Tasks> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until stopped.
pub struct Server {
    kubeconfig: String,
    listener: TcpListener,
    cluster: Arc<Cluster>,
    few: Arc<Few>,
}

impl Server {
    /// Listens on a port of the system's choice.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn open(cluster: Arc<Cluster>) -> Result<Self> {
        let fake = FakeApi::start().await;
        let config = fake.kubeconfig();
        let read: Value = serde_json::from_str(&config)?;
        let url = read.pointer("/clusters/0/cluster/server").and_then(Value::as_str).context("a server")?;
        let at = url.trim_start_matches("http://").parse()?;
        let few = Arc::new(Few { at, ways: Mutex::new(Tasks::new(&Stop::new())), _fake: fake });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let kubeconfig = config.replace(url, &format!("http://{}", listener.local_addr()?));
        Ok(Self { kubeconfig, listener, cluster, few })
    }

    /// The text of a kubeconfig for it.
    #[must_use]
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Answers until stopped.
    pub async fn run(self, stop: Stop) {
        let Self { listener, cluster, few, .. } = self;
        let mut connections = Tasks::new(&stop);
        loop {
            // Both arms are cancel-safe: a connection not yet taken stays in the kernel's queue.
            let tcp = tokio::select! {
                () = stop.stopped() => break,
                tcp = listener.accept() => tcp,
            };
            let Ok((tcp, _)) = tcp else { break };
            // Small pieces at once; a socket that refuses this still works.
            let _ = tcp.set_nodelay(true);
            let (cluster, few) = (Arc::clone(&cluster), Arc::clone(&few));
            connections.spawn("connection", move |_| async move {
                let service =
                    service_fn(move |request| answer(Arc::clone(&cluster), Arc::clone(&few), request));
                drop(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await);
            });
        }
    }
}

async fn answer(
    cluster: Arc<Cluster>,
    few: Arc<Few>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let many = Many::at(request.uri().path()).filter(|_| request.method() == Method::GET);
    let Some(kind) = many else {
        // The caller reads a connection that ends as what it is: a server that is not there.
        return Ok(pass_on(&few, request).await.unwrap_or_else(|_| {
            let mut response = Response::new(whole(String::new()));
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            response
        }));
    };
    let query = request.uri().query().unwrap_or_default();
    let value = |key: &str| {
        let pairs = query.split('&').filter_map(|it| it.split_once('='));
        pairs.into_iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<usize>().ok())
    };
    if query.contains("watch=true") {
        return Ok(Response::new(follow(cluster, kind, value("resourceVersion").unwrap_or_default())));
    }
    let (from, limit) = (value("continue").unwrap_or_default(), value("limit").unwrap_or(usize::MAX / 2));
    Ok(Response::new(whole(cluster.page(kind, from, limit))))
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

fn follow(cluster: Arc<Cluster>, kind: Many, since: usize) -> Body {
    let news = cluster.news();
    let lines = stream::unfold((cluster, news, since), move |(cluster, mut news, since)| async move {
        loop {
            let (lines, reached) = cluster.since(kind, since);
            if !lines.is_empty() {
                let text = Bytes::from(lines.concat());
                return Some((Ok(Frame::data(text)), (cluster, news, reached)));
            }
            news.changed().await.ok()?;
        }
    });
    StreamBody::new(lines).boxed_unsync()
}

async fn pass_on(few: &Few, request: Request<Incoming>) -> Result<Response<Body>> {
    let tcp = TcpStream::connect(few.at).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    few.ways().spawn("way", |_| async move { drop(connection.await) });
    Ok(sender.send_request(request).await?.map(|body| body.boxed_unsync()))
}
