//! Somebody who is asked whether requests may come in, behind a tunnel or without one: says what a test tells it to, and
//! keeps what it was asked. Its messages are written and looked at byte by byte, so that nobody agrees with himself.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use ambit_hbone::accept::accept;
use ambit_hbone::head::Opened;
use ambit_hbone::nested::Nested;
use ambit_process::net::TcpListener;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::backend::Spawn;
use crate::scene::Scene;

/// What it says.
#[derive(Clone)]
pub(crate) enum Says {
    /// This message of gRPC.
    Message(Vec<u8>),
    /// These bytes where gRPC has messages.
    Bytes(&'static [u8]),
    /// That the call failed.
    Failed,
    /// This, in HTTP.
    Http(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Nothing.
    Nothing,
}

/// One question.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The one who is asked.
pub(crate) struct Authorizer {
    says: Mutex<Says>,
    asked: Mutex<Vec<Question>>,
}

impl Authorizer {
    pub(crate) fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Question> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Starts one at `ip`: behind a tunnel as `account`, or where everybody hears it.
pub(crate) async fn authorizer(
    scene: &mut Scene,
    account: Option<&str>,
    (ip, http2): (&str, bool),
) -> Arc<Authorizer> {
    let state = Arc::new(Authorizer { says: Mutex::new(Says::Nothing), asked: Mutex::default() });
    let shared = Arc::clone(&state);
    listen(scene, account, ip, move |stream| serve(stream, http2, Arc::clone(&shared))).await;
    state
}

/// What is spoken over: a tunnel's stream, or a connection.
pub(crate) trait Spoken: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Spoken for T {}

/// Serves whoever comes to `ip`: behind a tunnel as `account`, or where everybody is heard.
pub(crate) async fn listen<F: Future<Output = ()> + Send + 'static>(
    scene: &mut Scene,
    account: Option<&str>,
    ip: &str,
    serve: impl Fn(Box<dyn Spoken>) -> F + Clone + Send + Sync + 'static,
) {
    let port = if account.is_some() { 15008 } else { 8080 };
    let listener = TcpListener::bind((ip, port)).await.unwrap();
    let tls = match account {
        Some(account) => Some(scene.accepting(account).await),
        None => None,
    };
    scene.tasks.spawn("listener", move |stop| async move {
        let mut connections = Tasks::new(&stop);
        loop {
            let tcp = tokio::select! {
                taken = listener.accept() => taken.unwrap().0,
                () = stop.stopped() => return,
            };
            let (tls, serve) = (tls.clone(), serve.clone());
            connections.spawn("connection", |stop| async move {
                let Some(tls) = tls else { return serve(Box::new(tcp)).await };
                let Ok(accepted) = accept(tcp, tls, Scene::windows()).await else { return };
                let mut streams = Tasks::new(&Stop::new());
                let take = |arrival: ambit_hbone::accept::Arrival| {
                    let stream = Nested::new(arrival.open(&Opened::default()).unwrap());
                    let served = serve(Box::new(stream));
                    streams.spawn("stream", |_| served);
                };
                accepted.serve(stop, take).await;
                while streams.one_ended().await {}
            });
        }
    });
}

async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    state: Arc<Authorizer>,
) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, &state).await) }
    });
    let io = TokioIo::new(io);
    // How a client leaves is the test's to look at.
    if http2 {
        drop(hyper::server::conn::http2::Builder::new(Spawn).serve_connection(io, service).await);
    } else {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
    }
}

async fn answer(request: Request<Incoming>, state: &Authorizer) -> Response<BoxBody<Bytes, Infallible>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let line = format!("{} {}", parts.method, parts.uri);
    state.asked.lock().unwrap().push(Question { line, headers: parts.headers, body });
    let says = state.says.lock().unwrap().clone();
    let grpc = |bytes: Vec<u8>, status: &'static str| {
        let trailers = [("grpc-status".parse().unwrap(), status.parse().unwrap())].into_iter().collect();
        let frames = [Ok(Frame::data(Bytes::from(bytes))), Ok(Frame::trailers(trailers))];
        let mut answer = Response::new(StreamBody::new(tokio_stream::iter(frames)).boxed());
        answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        answer
    };
    match says {
        Says::Message(message) => {
            let mut framed = vec![0];
            framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            framed.extend(message);
            grpc(framed, "0")
        }
        Says::Bytes(bytes) => grpc(bytes.to_vec(), "0"),
        Says::Failed => grpc(Vec::new(), "14"),
        Says::Http(status, headers, body) => {
            let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())).boxed());
            *answer.status_mut() = status.try_into().unwrap();
            for (name, value) in headers {
                let name: http::HeaderName = name.parse().unwrap();
                answer.headers_mut().append(name, value.parse().unwrap());
            }
            answer
        }
        Says::Nothing => std::future::pending().await,
    }
}

/// A field of a message that has a length: its number, its length, what is in it.
pub(crate) fn field(number: u8, of: impl AsRef<[u8]>) -> Vec<u8> {
    let of = of.as_ref();
    let mut all = vec![number << 3 | 2, u8::try_from(of.len()).unwrap()];
    all.extend(of);
    all
}

/// A field with a small number in it.
pub(crate) fn number(field: u8, of: u8) -> Vec<u8> {
    vec![field << 3, of]
}

/// A header of an answer.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    field(1, [field(1, name), field(2, value)].concat())
}

/// A yes with more to it.
pub(crate) fn yes(more: &[Vec<u8>]) -> Says {
    Says::Message([field(1, []), field(3, more.concat())].concat())
}

/// A no with more to it.
pub(crate) fn no(more: &[Vec<u8>]) -> Says {
    Says::Message([field(1, number(1, 7)), field(2, more.concat())].concat())
}

impl Question {
    /// Whether these bytes are somewhere in it.
    pub(crate) fn holds(&self, part: impl AsRef<[u8]>) -> bool {
        let part = part.as_ref();
        self.body.windows(part.len()).any(|it| it == part)
    }
}
