//! A processor behind a tunnel: says of each part of an exchange what a test tells it to, and keeps what it was told. Its
//! messages are written and looked at byte by byte, so that nobody agrees with himself.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::authorizer::{Spoken, field, listen};
use crate::backend::Spawn;
use crate::scene::Scene;

/// The number of the field that a message is told in: of what it is.
pub(crate) const REQUEST_HEADERS: u8 = 2;
pub(crate) const RESPONSE_HEADERS: u8 = 3;
pub(crate) const REQUEST_BODY: u8 = 4;
pub(crate) const RESPONSE_BODY: u8 = 5;
pub(crate) const REQUEST_TRAILERS: u8 = 6;
pub(crate) const RESPONSE_TRAILERS: u8 = 7;

/// What it does about a message.
#[derive(Clone)]
pub(crate) enum Does {
    /// Says this.
    Say(Vec<u8>),
    /// Says these, one after the other.
    SayAll(Vec<Vec<u8>>),
    /// Ends the conversation well.
    End,
    /// Fails.
    Fail,
    /// Nothing.
    Nothing,
}

/// What it was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// Of what.
    pub(crate) part: u8,
    /// The whole message.
    pub(crate) bytes: Bytes,
}

impl Told {
    /// Whether these bytes are somewhere in it.
    pub(crate) fn holds(&self, part: impl AsRef<[u8]>) -> bool {
        let part = part.as_ref();
        self.bytes.windows(part.len()).any(|it| it == part)
    }

    /// Whether a header of this value is in it.
    pub(crate) fn shows(&self, name: &str, value: &str) -> bool {
        self.holds([field(1, name), field(3, value)].concat())
    }
}

type Mind = dyn Fn(&Told) -> Option<Does> + Send + Sync;

/// The processor.
pub(crate) struct Processor {
    mind: Mutex<Arc<Mind>>,
    told: Mutex<Vec<Told>>,
    /// How many conversations there have been.
    pub(crate) talks: std::sync::atomic::AtomicUsize,
}

impl Processor {
    /// What it does from now on; where that is nothing in particular, everything goes on as it is.
    pub(crate) fn does(&self, mind: impl Fn(&Told) -> Option<Does> + Send + Sync + 'static) {
        *self.mind.lock().unwrap() = Arc::new(mind);
    }

    /// What it was told since the last time.
    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// Of what it was told since the last time.
    pub(crate) fn parts(&self) -> Vec<u8> {
        self.told().iter().map(|it| it.part).collect()
    }

    fn hear(&self, told: Told) -> Does {
        let mind = Arc::clone(&self.mind.lock().unwrap());
        let does = mind(&told).unwrap_or_else(|| onward(told.part, &[]));
        self.told.lock().unwrap().push(told);
        does
    }
}

/// Starts one at `ip`, behind a tunnel as `account`.
pub(crate) async fn processor(scene: &mut Scene, account: &str, ip: &str) -> Arc<Processor> {
    let state = Arc::new(Processor {
        mind: Mutex::new(Arc::new(|_: &Told| None)),
        told: Mutex::default(),
        talks: Default::default(),
    });
    let shared = Arc::clone(&state);
    listen(scene, Some(account), ip, move |stream| serve(stream, Arc::clone(&shared))).await;
    state
}

async fn serve(stream: Box<dyn Spoken>, state: Arc<Processor>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(begin(request, state)) }
    });
    let io = TokioIo::new(stream);
    // How a client leaves is the test's to look at.
    drop(hyper::server::conn::http2::Builder::new(Spawn).serve_connection(io, service).await);
}

fn begin(request: Request<Incoming>, state: Arc<Processor>) -> Response<BoxBody<Bytes, Infallible>> {
    assert_eq!(request.uri().path(), "/envoy.service.ext_proc.v3.ExternalProcessor/Process");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    state.talks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let (to, frames) = mpsc::channel(8);
    hyper::rt::Executor::execute(&Spawn, talk(request.into_body(), state, to));
    let mut answer = Response::new(StreamBody::new(ReceiverStream::new(frames)).boxed());
    answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    answer
}

async fn talk(mut body: Incoming, state: Arc<Processor>, to: mpsc::Sender<Result<Frame<Bytes>, Infallible>>) {
    let end = |status: &'static str| {
        let trailers = [("grpc-status".parse().unwrap(), status.parse().unwrap())].into_iter().collect();
        Ok(Frame::trailers(trailers))
    };
    let mut read = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        read.extend_from_slice(&data);
        while let Some(bytes) = message(&mut read) {
            let part = bytes[0] >> 3;
            match state.hear(Told { part, bytes }) {
                Does::Say(message) => drop(to.send(Ok(Frame::data(framed(&message)))).await),
                Does::SayAll(messages) => {
                    for message in messages {
                        drop(to.send(Ok(Frame::data(framed(&message)))).await);
                    }
                }
                Does::End => return drop(to.send(end("0")).await),
                Does::Fail => return drop(to.send(end("14")).await),
                Does::Nothing => {}
            }
        }
    }
    drop(to.send(end("0")).await);
}

fn message(read: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(u32::from_be_bytes(*read.get(1..)?.first_chunk()?)).unwrap();
    (read.len() >= 5 + length).then(|| {
        read.advance(5);
        read.split_to(length).freeze()
    })
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat().into()
}

/// A field of any length.
pub(crate) fn long(number: u8, of: impl AsRef<[u8]>) -> Vec<u8> {
    let of = of.as_ref();
    let mut all = vec![number << 3 | 2];
    let mut length = of.len();
    while length >= 0x80 {
        all.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    all.push(u8::try_from(length).unwrap());
    all.extend(of);
    all
}

/// What was told of goes on, with this in its common part.
pub(crate) fn onward(part: u8, common: &[Vec<u8>]) -> Does {
    let common = common.concat();
    // Of trailers there is no common part.
    let of = if part >= REQUEST_TRAILERS { common } else { long(1, common) };
    Does::Say(long(part - 1, of))
}

/// A change of headers: this is set.
pub(crate) fn set(name: &str, value: &str) -> Vec<u8> {
    field(1, field(1, [field(1, name), field(3, value)].concat()))
}

/// A change of headers: this is taken out.
pub(crate) fn gone(name: &str) -> Vec<u8> {
    field(2, name)
}

/// Changes of headers, in a common part.
pub(crate) fn headers(changes: &[Vec<u8>]) -> Vec<u8> {
    long(2, changes.concat())
}

/// This instead of a body, in a common part.
pub(crate) fn body(of: impl AsRef<[u8]>) -> Vec<u8> {
    long(3, long(1, of))
}
