//! Clients of HTTP over a stream, and raw bytes over one.

use ambit_hbone::nested::Nested;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::backend::Spawn;
use crate::scene::PATIENCE;

pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A client of either version.
pub(crate) enum Client {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: HeaderMap,
}

pub(crate) async fn http1(stream: Nested) -> Client {
    let (sender, conn) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    hyper::rt::Executor::execute(&Spawn, async move { drop(conn.with_upgrades().await) });
    Client::Http1(sender)
}

pub(crate) async fn http2(stream: Nested) -> Client {
    let (sender, conn) = http2::handshake(Spawn, TokioIo::new(stream)).await.unwrap();
    hyper::rt::Executor::execute(&Spawn, async move { drop(conn.await) });
    Client::Http2(sender)
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

pub(crate) fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed()
}

impl Client {
    /// The answer's head.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let sent = async {
            match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        timeout(PATIENCE, sent).await.expect("an answer")
    }

    /// The whole answer.
    pub(crate) async fn ask(&mut self, request: Request<Body>) -> Answer {
        read(self.send(request).await.unwrap()).await
    }

    /// A request without a body, as this version writes it.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(path).body(empty()).unwrap();
        self.ask(request).await
    }

    /// The beginning of a request, as this version writes it.
    pub(crate) fn request(&self, path: &str) -> http::request::Builder {
        match self {
            Self::Http1(_) => Request::builder().uri(path).header("host", "web"),
            Self::Http2(_) => Request::builder().uri(format!("http://web{path}")),
        }
    }
}

pub(crate) async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("a body").unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers }
}

/// Whether a request was not sent at all, or nobody has looked at it: it came after a goodbye.
pub(crate) fn is_unseen(error: &hyper::Error) -> bool {
    // What hyper knows of this is only what it shows.
    let is_told = || format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)");
    error.is_canceled() || error.is_closed() || is_told()
}

/// What comes back for these bytes, until the other side ends.
pub(crate) async fn raw(mut stream: Nested, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    let talk = async {
        stream.write_all(bytes).await.unwrap();
        // A reset is an end, too: what came before it is the answer.
        let _ = stream.read_to_end(&mut answer).await;
    };
    timeout(PATIENCE, Box::pin(talk)).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the end of what has come is this.
pub(crate) async fn until(stream: &mut Nested, end: &str) -> String {
    let (mut answer, mut piece) = (Vec::new(), vec![0; 4096]);
    let read = async {
        while !answer.ends_with(end.as_bytes()) {
            let count = stream.read(&mut piece).await.unwrap();
            assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..count]);
        }
    };
    timeout(PATIENCE, Box::pin(read)).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}
