//! An API server on loopback that lists, pages, watches and patches like the real one, and fails as it is told to.
//! Owns HTTP and the tricks; what it holds is `store`'s. Also compiled into the kit, for the programs' tests.

mod store;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ambit_process::net::TcpListener;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use store::Place;
use store::{Answer, Query, Store};

type Streamed = StreamBody<BoxStream<'static, std::io::Result<Frame<Bytes>>>>;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Trick {
    /// This status with a `Status` object.
    Refuse(u16),
    /// 404 as a server says it that does not know the path.
    NoSuchPath,
    /// No answer at all.
    Hang,
    /// The answer begins after a while.
    Slow(Duration),
    /// The answer is cut in the middle.
    Cut,
    /// This answer, whatever it is.
    Say(String),
}

/// A running server. Dropped, it is gone.
pub struct FakeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Option<Tasks>,
}

struct Shared {
    state: Mutex<State>,
    /// Counted up with each change, and with each cut.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    store: Store,
    /// What goes wrong, for requests whose line contains the text, and how often.
    tricks: Vec<(String, Trick, usize)>,
    asked: Vec<String>,
    /// Watches begun before are cut.
    cuts: u64,
}

impl FakeApi {
    /// A server that knows all paths and holds nothing.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), news: watch::channel(0).0 });
        let mut fake = Self { address, shared, tasks: None };
        fake.serve(listener);
        fake
    }

    fn serve(&mut self, listener: TcpListener) {
        let mut tasks = Tasks::new(&Stop::new());
        let shared = Arc::clone(&self.shared);
        tasks.spawn("fake api", |stop| async move {
            let mut connections = Tasks::new(&stop);
            while let Ok((tcp, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn("connection", |_| async move {
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    drop(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await);
                });
            }
        });
        self.tasks = Some(tasks);
    }

    /// The text of a kubeconfig for it.
    pub fn kubeconfig(&self) -> String {
        let cluster = json!({"name": "fake", "cluster": {"server": format!("http://{}", self.address)}});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake", "clusters": [cluster],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "users": [{"name": "fake", "user": {"token": "fake"}}],
        })
        .to_string()
    }

    /// The connections break and nobody listens any more, until `rise`.
    pub fn fall(&mut self) {
        self.tasks = None;
    }

    /// Listens again where it did.
    pub async fn rise(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// Puts an object into a collection like `/api/v1/pods`.
    pub fn put(&self, collection: &str, object: Value) {
        self.state().store.put(collection, object);
        self.tell();
    }

    /// Takes an object out of a collection.
    pub fn remove(&self, collection: &str, namespace: &str, name: &str) {
        self.state().store.remove(&Place::new(collection, namespace, name));
        self.tell();
    }

    /// An object as it is now.
    pub fn object(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().store.object(&Place::new(collection, namespace, name))
    }

    /// All objects of a collection as they are now.
    pub fn all(&self, collection: &str) -> Vec<Value> {
        self.state().store.all(collection)
    }

    /// The path of a collection is not known any more, as when its definition was deleted; or known again.
    pub fn serve_collection(&self, collection: &str, is_served: bool) {
        self.state().store.serve(collection, is_served);
        self.cut();
    }

    /// The token is that of this status (of a `TokenReview`).
    pub fn token(&self, token: &str, status: Value) {
        self.state().store.tokens.insert(token.into(), status);
    }

    /// The next requests whose line (`GET /path?query`) contains the text go wrong, so many times.
    pub fn trick(&self, text: &str, trick: Trick, times: usize) {
        self.state().tricks.push((text.into(), trick, times));
    }

    /// All goes well again.
    pub fn behave(&self) {
        self.state().tricks.clear();
    }

    /// History is forgotten: who asks for changes since before is told that the version has expired.
    pub fn compact(&self) {
        self.state().store.compact();
    }

    /// All watches end in the middle of whatever they were about to say.
    pub fn cut(&self) {
        self.state().cuts += 1;
        self.tell();
    }

    /// Sends a bookmark on all watches.
    pub fn bookmark(&self) {
        self.state().store.bookmark();
        self.tell();
    }

    /// The lines of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    fn tell(&self) {
        self.shared.news.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl State {
    fn trick(&mut self, line: &str) -> Option<Trick> {
        let (_, trick, left) =
            self.tricks.iter_mut().find(|(text, _, left)| *left > 0 && line.contains(text))?;
        *left -= 1;
        Some(trick.clone())
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Streamed>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let trick = {
        let mut state = shared.state.lock().unwrap();
        state.asked.push(line.clone());
        state.trick(&line)
    };
    match trick {
        Some(Trick::Refuse(code)) => return Ok(refuse(code)),
        Some(Trick::NoSuchPath) => return Ok(whole(404, "404 page not found\n".into())),
        Some(Trick::Hang) => std::future::pending().await,
        Some(Trick::Slow(wait)) => tokio::time::sleep(wait).await,
        Some(Trick::Say(text)) => return Ok(whole(200, text)),
        Some(Trick::Cut) => return Ok(cut(&shared, request).await),
        None => {}
    }
    Ok(honest(&shared, request).await)
}

async fn honest(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Streamed> {
    let (head, body) = request.into_parts();
    let accept = head.headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let content = head.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let query = Query::new(head.uri.path(), head.uri.query().unwrap_or_default(), accept, content);
    if head.method == Method::GET && query.has("watch") {
        return follow(shared, query);
    }
    let body = body.collect().await.map(|it| it.to_bytes()).unwrap_or_default();
    let answer = shared.state.lock().unwrap().store.answer(&head.method, &query, &body);
    shared.news.send_modify(|count| *count += 1);
    match answer {
        Answer::Object(value) => whole(200, value.to_string()),
        Answer::Refusal(code, value) => whole(code, value.to_string()),
        Answer::NoSuchPath => whole(404, "404 page not found\n".into()),
    }
}

async fn cut(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Streamed> {
    let text = BodyExt::collect(honest(shared, request).await.into_body()).await.unwrap().to_bytes();
    let half = text.slice(..text.len() / 2);
    let broken = std::io::Error::other("cut");
    respond(200, stream::iter([Ok(Frame::data(half)), Err(broken)]).boxed())
}

/// One line a change, for as long as the watch lasts.
fn follow(shared: &Arc<Shared>, query: Query) -> Response<Streamed> {
    let since = query.get("resourceVersion").and_then(|it| it.parse().ok()).unwrap_or_default();
    let (cuts, refusal) = {
        let state = shared.state.lock().unwrap();
        (state.cuts, state.store.refuses_watch(&query, since))
    };
    match refusal {
        Some(Answer::Refusal(code, value)) => return whole(code, value.to_string()),
        Some(_) => return whole(404, "404 page not found\n".into()),
        None => {}
    }
    let news = shared.news.subscribe();
    let begin = (Arc::clone(shared), news, since, query);
    let lines = stream::unfold(begin, move |(shared, mut news, since, query)| async move {
        loop {
            let lines = {
                let state = shared.state.lock().unwrap();
                if state.cuts != cuts {
                    let cut = Err(std::io::Error::other("cut"));
                    return Some((cut, (Arc::clone(&shared), news, since, query)));
                }
                state.store.lines(&query, since)
            };
            if let Some((text, reached)) = lines {
                return Some((Ok(Frame::data(Bytes::from(text))), (shared, news, reached, query)));
            }
            news.changed().await.ok()?;
        }
    });
    respond(200, lines.boxed())
}

fn refuse(code: u16) -> Response<Streamed> {
    whole(code, store::status(code, "told to", "").to_string())
}

fn whole(code: u16, text: String) -> Response<Streamed> {
    respond(code, stream::iter([Ok(Frame::data(Bytes::from(text)))]).boxed())
}

fn respond(code: u16, body: BoxStream<'static, std::io::Result<Frame<Bytes>>>) -> Response<Streamed> {
    let mut response = Response::new(StreamBody::new(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
