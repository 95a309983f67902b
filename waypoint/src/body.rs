//! Bodies on their way through: of requests, which may have to be sent a second time as long as nothing of them was
//! taken, and of answers, whose end is the exchange's. Owns counting and those ends; nothing is ever held back.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::phases::record::Record;
use crate::upstream::Lease;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Whoever sends it broke off.
    #[error("the body broke off")]
    Broken(#[from] hyper::Error),
    /// Another attempt has it now.
    #[error("the body is sent by another attempt")]
    Lent,
    /// It took longer than it may.
    #[error("the answer took longer than it may")]
    TimedOut,
}

/// A request's body as one attempt sends it. Only the latest attempt gets to see it.
pub(crate) struct Upload {
    origin: Arc<Mutex<Origin>>,
    attempt: u32,
    empty: bool,
    hint: SizeHint,
}

/// A request's body as it comes from the client.
#[derive(Clone)]
pub(crate) struct Source(Arc<Mutex<Origin>>);

struct Origin {
    body: Incoming,
    attempt: u32,
    begun: bool,
    ended: bool,
    bytes: u64,
}

fn lock(origin: &Mutex<Origin>) -> MutexGuard<'_, Origin> {
    origin.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    pub(crate) fn new(body: Incoming) -> Self {
        let ended = body.is_end_stream();
        Self(Arc::new(Mutex::new(Origin { body, attempt: 0, begun: false, ended, bytes: 0 })))
    }

    /// The body for one more attempt; none once an earlier one has taken some of it.
    pub(crate) fn lend(&self) -> Option<Upload> {
        let mut origin = lock(&self.0);
        if origin.begun {
            return None;
        }
        origin.attempt += 1;
        let (empty, hint) = (origin.body.is_end_stream(), origin.body.size_hint());
        Some(Upload { origin: Arc::clone(&self.0), attempt: origin.attempt, empty, hint })
    }

    /// Whether nothing of it was taken yet.
    pub(crate) fn is_whole(&self) -> bool {
        !lock(&self.0).begun
    }

    /// Whether all of it was taken.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.0).ended
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.0).bytes
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut origin = lock(&self.origin);
        if origin.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Lent)));
        }
        let frame = ready!(Pin::new(&mut origin.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                origin.begun = true;
                origin.bytes += length(frame);
                origin.ended = origin.body.is_end_stream();
            }
            Some(Err(_)) => origin.begun = true,
            None => origin.ended = true,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.empty || lock(&self.origin).ended
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX))
}

/// An answer's body.
pub(crate) enum Download {
    /// Our own words; none once they are said.
    Own(Option<Bytes>),
    /// As it comes from an endpoint.
    Upstream(Box<Passing>),
}

/// A body that passes through, with all that ends when it does.
pub(crate) struct Passing {
    pub(crate) body: Incoming,
    pub(crate) record: Record,
    /// Given back when the body is over, so that the connection can be used again.
    pub(crate) lease: Option<Lease>,
    /// When the whole exchange must be over.
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
}

impl Passing {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.record.timed_out();
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.record.passed(length(frame));
                if let Some(trailers) = frame.trailers_ref() {
                    self.record.trailers(trailers);
                }
            }
            Some(Err(error)) => self.record.broken(error),
            None => self.over(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
    }

    fn over(&mut self) {
        self.record.complete();
        let lease = self.lease.take().filter(|_| self.record.upload_is_over());
        if let Some(lease) = lease {
            lease.give_back();
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Nobody asks again once it is known that nothing follows.
        if self.body.is_end_stream() {
            self.over();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(words) => {
                Poll::Ready(words.take().filter(|words| !words.is_empty()).map(|w| Ok(Frame::data(w))))
            }
            Self::Upstream(passing) => passing.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(words) => words.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream(passing) => passing.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(words) => {
                SizeHint::with_exact(words.as_ref().map_or(0, |w| u64::try_from(w.len()).unwrap_or(u64::MAX)))
            }
            Self::Upstream(passing) => passing.body.size_hint(),
        }
    }
}
