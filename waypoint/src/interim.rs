//! What endpoints say before their answer (RFC 9110, 15.2): interim answers such as 103 Early Hints, passed on to
//! clients. Owns which are, how many may be, and where between the bytes for a client there is a place for one.
//!
//! The library that writes answers of HTTP/1.1 has no words for them, so their bytes are put between those that it
//! writes: where all that it has written has left it, and the answer has not begun.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Request, Response, StatusCode};
use tokio::sync::Notify;

use crate::inner::http2::Reply;
use crate::phases::take_out;

/// Interim answers to one request; whoever sends more means no good (`waypoint.md` 6.2).
const MOST: usize = 16;
/// Bytes of them that wait for room on the wire. What is longer than this is left out: nobody depends on it.
const WAITING: usize = 64 * 1024;

/// What is said on a client's connection before its answers: for who writes, and for who begins each request. Clones
/// are of the same connection.
#[derive(Clone, Default)]
pub(crate) struct Interims(Arc<Shared>);

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    /// Whether there is anything to say.
    due: AtomicBool,
    /// Whether all that was written for the client has left whoever writes.
    clear: AtomicBool,
    writer: AtomicWaker,
}

#[derive(Default)]
struct Held {
    /// The request that is being answered, counted from 1, as long as its answer has not begun.
    turn: Option<u64>,
    turns: u64,
    bytes: Vec<u8>,
}

/// One request's time, until its answer begins. Clones are of the same request.
#[derive(Clone)]
pub(crate) enum Turn {
    /// On a connection of HTTP/1.1.
    Http1(Written),
    /// In HTTP/2, where each request has frames of its own.
    Http2(Reply),
}

/// One request's time among those of its connection.
#[derive(Clone)]
pub(crate) struct Written {
    shared: Arc<Shared>,
    turn: u64,
}

impl From<Reply> for Turn {
    fn from(reply: Reply) -> Self {
        Self::Http2(reply)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interims {
    /// A request has come.
    pub(crate) fn begin(&self) -> Turn {
        let mut held = self.0.lock();
        held.turns += 1;
        held.turn = Some(held.turns);
        Turn::Http1(Written { shared: Arc::clone(&self.0), turn: held.turns })
    }

    /// Who is to be woken when there is something to say.
    pub(crate) fn watch(&self, waker: &Waker) {
        self.0.writer.register(waker);
    }

    /// Bytes of answers are about to be written.
    pub(crate) fn writes(&self) {
        self.0.clear.store(false, Ordering::Release);
    }

    /// All that was written has left the writer.
    pub(crate) fn flushed(&self) {
        self.0.clear.store(true, Ordering::Release);
    }

    /// What is to be said now, before anything else is written.
    pub(crate) fn take(&self) -> Option<Bytes> {
        if !self.0.due.load(Ordering::Acquire) || !self.0.clear.load(Ordering::Acquire) {
            return None;
        }
        let mut held = self.0.lock();
        self.0.due.store(false, Ordering::Release);
        Some(std::mem::take(&mut held.bytes).into()).filter(|bytes: &Bytes| !bytes.is_empty())
    }
}

impl Turn {
    /// Passes an interim answer on, unless the answer has begun.
    fn say(&self, status: StatusCode, headers: &HeaderMap) {
        let mut headers = headers.clone();
        take_out(&mut headers);
        headers.remove(CONTENT_LENGTH);
        match self {
            Self::Http1(written) => written.say(status, &headers),
            Self::Http2(reply) => {
                let mut interim = Response::new(());
                *interim.status_mut() = status;
                *interim.headers_mut() = headers;
                reply.say(interim);
            }
        }
    }

    /// Its answer begins.
    pub(crate) fn end(&self) {
        match self {
            Self::Http1(written) => written.end(),
            // The library knows.
            Self::Http2(_) => {}
        }
    }
}

impl Written {
    fn say(&self, status: StatusCode, headers: &HeaderMap) {
        let mut held = self.shared.lock();
        if held.turn != Some(self.turn) {
            return;
        }
        let before = held.bytes.len();
        written(&mut held.bytes, status, headers);
        if held.bytes.len() > WAITING {
            held.bytes.truncate(before);
            return;
        }
        self.shared.due.store(true, Ordering::Release);
        drop(held);
        self.shared.writer.wake();
    }

    /// Its answer begins. What was said just before is still to go ahead of it, if there is a place now: later, there
    /// is none any more.
    fn end(&self) {
        let mut held = self.shared.lock();
        held.turn = None;
        if !self.shared.clear.load(Ordering::Acquire) {
            held.bytes.clear();
        }
    }
}

/// The head of an interim answer, as HTTP/1.1 writes it.
fn written(bytes: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    // Writing to memory does not fail.
    let _ =
        write!(bytes, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_ref());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
}

/// Interim answers to one request, as they come from an endpoint.
#[derive(Default)]
pub(crate) struct Heard {
    turn: Option<Turn>,
    count: AtomicUsize,
    flooded: Notify,
}

impl Heard {
    /// Those ahead of the answer to a request.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self { turn: request.extensions().get().cloned(), ..Self::default() }
    }

    /// Listens for them on a connection of HTTP/1.1.
    pub(crate) fn on<B>(request: &mut Request<B>) -> Arc<Self> {
        let heard = Arc::new(Self::of(request));
        let hears = Arc::clone(&heard);
        hyper::ext::on_informational(request, move |said| {
            if !hears.hear(said.status(), said.headers()) {
                hears.flooded.notify_one();
            }
        });
        heard
    }

    /// Passes one on; false: there were more of them than anybody needs. Those of 100 are between us and the endpoint:
    /// whether a body is asked for, each side says for itself; 101 is an answer.
    pub(crate) fn hear(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) >= MOST {
            return false;
        }
        if let Some(turn) = self.turn.as_ref().filter(|_| status.as_u16() > 101) {
            turn.say(status, headers);
        }
        true
    }

    /// There were more of them than anybody needs. Cancel-safe.
    pub(crate) async fn flooded(&self) {
        self.flooded.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(path: &str) -> HeaderMap {
        let headers = [("link", path), ("connection", "x-hop"), ("x-hop", "1"), ("content-length", "3")];
        headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_said_finds_a_place_before_its_own_answer_or_none() {
        let interims = Interims::default();
        let first = interims.begin();
        first.say(StatusCode::EARLY_HINTS, &hints("</a>"));
        // Bytes of the answer before are still on their way.
        assert_eq!(interims.take(), None);
        interims.flushed();
        let said = interims.take().unwrap();
        assert_eq!(&said[..], b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        assert_eq!(interims.take(), None);
        // Ahead of the answer that begins.
        first.say(StatusCode::PROCESSING, &HeaderMap::new());
        first.end();
        assert_eq!(&interims.take().unwrap()[..], b"HTTP/1.1 102 Processing\r\n\r\n");
        // Its time is over, also when another's has come.
        first.say(StatusCode::EARLY_HINTS, &hints("</late>"));
        let second = interims.begin();
        first.say(StatusCode::EARLY_HINTS, &hints("</late>"));
        assert_eq!(interims.take(), None);
        // No place until its answer begins.
        interims.writes();
        second.say(StatusCode::EARLY_HINTS, &hints("</b>"));
        second.end();
        interims.flushed();
        assert_eq!(interims.take(), None);
    }

    #[test]
    fn what_a_client_does_not_take_is_bounded() {
        let interims = Interims::default();
        let turn = interims.begin();
        for _ in 0..10 {
            turn.say(StatusCode::EARLY_HINTS, &hints(&"x".repeat(20_000)));
        }
        interims.flushed();
        assert_eq!(interims.take().map(|bytes| bytes.len() / 20_000), Some(3));
    }
}
