//! Bodies on their way through: of requests, which may have to be sent a second time as long as nothing of them was
//! taken, and of answers, whose end is the exchange's. Owns counting and those ends; nothing is ever held back, but the
//! beginning that somebody is to be shown first. Where a body comes from is `coming`'s.

mod arriving;
mod coming;
mod pour;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Sleep;

pub(crate) use arriving::{Arriving, Flow, HttpError};
pub(crate) use coming::{Coming, Piece, Rest, pipe};
pub(crate) use pour::pour;

use crate::idle::Idle;
use crate::messages::Messages;
use crate::phases::record::Record;
use crate::upstream::Lease;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Whoever sends it broke off.
    #[error("the body broke off")]
    Broken(#[from] HttpError),
    /// Another attempt has it now.
    #[error("the body is sent by another attempt")]
    Lent,
    /// It took longer than it may.
    #[error("the answer took longer than it may")]
    TimedOut,
    /// Nothing more of it came for too long.
    #[error("the body stands still")]
    Idle,
    /// A processor does not let it go on.
    #[error("a processor does not let the body go on")]
    Unprocessed,
    /// It is to be base64, and is not.
    #[error("the body is no base64")]
    NoText,
}

/// A request's body as it is sent.
pub(crate) struct Upload {
    from: From,
    empty: bool,
    hint: SizeHint,
}

enum From {
    /// By one attempt. Only the latest gets to see it.
    Client { origin: Arc<Mutex<Origin>>, attempt: u32 },
    /// A copy, of what an attempt has taken.
    Copy(mpsc::Receiver<Piece>),
    /// One of our own; none once it is sent.
    Own(Option<Bytes>),
    /// Messages of our own, one after the other.
    Messages(mpsc::Receiver<Bytes>),
}

/// Pieces that a copy may be behind; beyond it the copy is given up, not the request.
const BEHIND: usize = 16;

/// A request's body as it comes from the client.
#[derive(Clone)]
pub(crate) struct Source(Arc<Mutex<Origin>>);

struct Origin {
    body: Coming,
    attempt: u32,
    begun: bool,
    ended: bool,
    idle: Idle,
    broken: Option<Why>,
    bytes: u64,
    /// Where they are of gRPC.
    messages: Option<Messages>,
    /// What was read before anybody took it.
    ahead: Ahead,
    copies: Vec<mpsc::Sender<Piece>>,
    /// Whether it is no longer as it was announced.
    reframed: bool,
}

/// The beginning of a body that was read.
#[derive(Default)]
struct Ahead {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    /// Nothing follows.
    ended: bool,
}

/// Why what was sent of a body is not what was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It broke off.
    Broken,
    /// It stands still.
    Idle,
    /// A processor does not let it go on.
    Unprocessed,
    /// It is to be base64, and is not.
    NoText,
}

impl std::convert::From<&BodyError> for Why {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::Unprocessed => Self::Unprocessed,
            BodyError::Idle => Self::Idle,
            BodyError::NoText => Self::NoText,
            BodyError::Broken(_) | BodyError::Lent | BodyError::TimedOut => Self::Broken,
        }
    }
}

impl Origin {
    /// Whether nothing more of it will come.
    fn is_end(&self) -> bool {
        self.ahead.frames.is_empty() && (self.ahead.ended || self.body.is_end_stream())
    }

    /// How much of it there is to come.
    fn hint(&self) -> SizeHint {
        let ahead = u64::try_from(self.ahead.bytes).unwrap_or(u64::MAX);
        if self.reframed {
            return if self.ahead.is_plain() { SizeHint::with_exact(ahead) } else { SizeHint::default() };
        }
        let mut hint = self.body.size_hint();
        if ahead > 0 {
            let upper = hint.upper().map(|upper| upper.saturating_add(ahead));
            let lower = hint.lower().saturating_add(ahead);
            hint = SizeHint::new();
            upper.iter().for_each(|upper| hint.set_upper(*upper));
            hint.set_lower(lower);
        }
        hint
    }

    /// Reads until there are more bytes than this, or nothing follows.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<(), Why>> {
        while self.ahead.bytes <= most && !self.ahead.ended {
            let Poll::Ready(frame) = self.body.poll_frame(cx) else {
                ready!(self.idle.poll(cx));
                self.broken = Some(Why::Idle);
                return Poll::Ready(Err(Why::Idle));
            };
            self.idle.moved();
            match frame {
                Some(Ok(frame)) => {
                    self.ahead.bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.ahead.frames.push_back(frame);
                    self.ahead.ended = self.body.is_end_stream();
                }
                Some(Err(error)) => {
                    let why = Why::from(&error);
                    self.broken = Some(why);
                    return Poll::Ready(Err(why));
                }
                None => self.ahead.ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame, as it was read or as it comes.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.ahead.frames.pop_front() {
            self.ahead.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ahead.ended {
            return Poll::Ready(None);
        }
        self.body.poll_frame(cx)
    }

    /// Hands a piece to all copies that keep up.
    fn copy(&mut self, piece: &Piece) {
        self.copies.retain(|copy| copy.try_send(piece.clone()).is_ok());
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.copy(&Piece::End);
        }
    }
}

fn lock(origin: &Mutex<Origin>) -> MutexGuard<'_, Origin> {
    origin.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    pub(crate) fn new(body: Arriving, idle: Idle) -> Self {
        let ended = body.is_end_stream();
        Self(Arc::new(Mutex::new(Origin {
            body: Coming::Wire(body),
            attempt: 0,
            begun: false,
            ended,
            idle,
            broken: None,
            bytes: 0,
            messages: None,
            ahead: Ahead { ended, ..Ahead::default() },
            copies: Vec::new(),
            reframed: false,
        })))
    }

    /// The body for one more attempt; none once an earlier one has taken some of it.
    pub(crate) fn lend(&self) -> Option<Upload> {
        let mut origin = lock(&self.0);
        if origin.begun {
            return None;
        }
        origin.attempt += 1;
        let (empty, hint) = (origin.is_end(), origin.hint());
        let from = From::Client { origin: Arc::clone(&self.0), attempt: origin.attempt };
        Some(Upload { from, empty, hint })
    }

    /// A copy of the body, which must be whole.
    pub(crate) fn copy(&self) -> Upload {
        let (sender, receiver) = mpsc::channel(BEHIND);
        let mut origin = lock(&self.0);
        let (empty, hint) = (origin.is_end(), origin.hint());
        if !empty {
            origin.copies.push(sender);
        }
        Upload { from: From::Copy(receiver), empty, hint }
    }

    /// The first of it, at most so many bytes, and whether that is all. Nothing of it is taken; it may be asked for again.
    ///
    /// Cancel-safe: what was read stays.
    pub(crate) async fn beginning(&self, most: usize) -> Result<(Bytes, bool), Why> {
        poll_fn(|cx| lock(&self.0).poll_ahead(cx, most)).await?;
        let origin = lock(&self.0);
        let mut bytes = BytesMut::with_capacity(origin.ahead.bytes.min(most));
        for data in origin.ahead.frames.iter().filter_map(Frame::data_ref) {
            let room = most - bytes.len();
            bytes.extend_from_slice(data.get(..room).unwrap_or(data));
        }
        Ok((bytes.freeze(), origin.ahead.ended && origin.ahead.bytes <= most))
    }

    /// Whether nothing of it will come.
    pub(crate) fn is_end(&self) -> bool {
        lock(&self.0).is_end()
    }

    /// How long it is, if all of it was read.
    pub(crate) fn length(&self) -> Option<u64> {
        let origin = lock(&self.0);
        let is_known = origin.reframed && origin.ahead.is_plain();
        is_known.then(|| u64::try_from(origin.ahead.bytes).unwrap_or(u64::MAX))
    }

    /// Puts these bytes in the place of the first ones, of which so many have been read.
    pub(crate) fn replace_beginning(&self, read: usize, by: Bytes) {
        let mut origin = lock(&self.0);
        origin.ahead.replace(read, by);
        origin.reframed = true;
        origin.ended = origin.is_end();
    }

    /// Puts these bytes in the place of all of it; what is still to come, nobody waits for.
    pub(crate) fn replace(&self, by: Bytes) {
        let mut origin = lock(&self.0);
        origin.body = Coming::nothing();
        origin.ahead = Ahead { ended: true, ..Ahead::default() };
        origin.ahead.replace(0, by);
        origin.reframed = true;
        origin.ended = origin.is_end();
    }

    /// What follows it, if all of it was read.
    pub(crate) fn trailers(&self) -> Option<HeaderMap> {
        let origin = lock(&self.0);
        origin.ahead.frames.iter().find_map(Frame::trailers_ref).cloned()
    }

    /// Puts this in the place of what follows it.
    pub(crate) fn replace_trailers(&self, by: HeaderMap) {
        let mut origin = lock(&self.0);
        origin.ahead.frames.retain(|frame| !frame.is_trailers());
        origin.ahead.frames.push_back(Frame::trailers(by));
    }

    /// It goes on as gRPC, whether it comes as that or as text. Whoever has seen some of it saw it as it came.
    pub(crate) fn translate(&self, is_text: bool) {
        let mut origin = lock(&self.0);
        origin.reframed = true;
        if is_text {
            let body = std::mem::replace(&mut origin.body, Coming::nothing());
            let rest = std::mem::take(&mut origin.ahead).then(body);
            origin.body = Coming::text(rest.into());
        }
    }

    /// Has the rest of it go by somebody else, who sends it on.
    pub(crate) fn divert(&self) -> (Rest, mpsc::Sender<Result<Piece, BodyError>>) {
        let (to, by) = pipe();
        let mut origin = lock(&self.0);
        let body = std::mem::replace(&mut origin.body, by);
        origin.reframed = true;
        (std::mem::take(&mut origin.ahead).then(body), to)
    }

    /// Whether nothing of it was taken yet.
    pub(crate) fn is_whole(&self) -> bool {
        !lock(&self.0).begun
    }

    /// Whether all of it was taken.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.0).ended
    }

    /// How long the answer to it may stand still while it does.
    pub(crate) fn idle(&self) -> Idle {
        lock(&self.0).idle.clone()
    }

    /// Why no more of it follows, if it is not whole.
    pub(crate) fn broken(&self) -> Option<Why> {
        lock(&self.0).broken
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.0).bytes
    }

    /// It is of gRPC: its messages are counted.
    pub(crate) fn count_messages(&self) {
        lock(&self.0).messages = Some(Messages::default());
    }

    /// Messages that have begun so far.
    pub(crate) fn messages(&self) -> u64 {
        lock(&self.0).messages.as_ref().map_or(0, Messages::count)
    }
}

impl Upload {
    /// One of our own.
    pub(crate) fn own(body: Bytes) -> Self {
        let hint = SizeHint::with_exact(u64::try_from(body.len()).unwrap_or(u64::MAX));
        Self { empty: body.is_empty(), from: From::Own(Some(body)), hint }
    }

    /// Messages of our own, one after the other.
    pub(crate) fn messages(messages: mpsc::Receiver<Bytes>) -> Self {
        Self { empty: false, from: From::Messages(messages), hint: SizeHint::default() }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().from {
            From::Client { origin, attempt } => {
                let mut origin = lock(origin);
                if origin.attempt == *attempt {
                    origin.poll(cx)
                } else {
                    Poll::Ready(Some(Err(BodyError::Lent)))
                }
            }
            From::Copy(pieces) => Poll::Ready(match ready!(pieces.poll_recv(cx)) {
                Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Piece::End) => None,
                // Whoever took the body has given it, or this copy, up.
                None => Some(Err(BodyError::Lent)),
            }),
            From::Own(body) => {
                Poll::Ready(body.take().filter(|body| !body.is_empty()).map(|body| Ok(Frame::data(body))))
            }
            From::Messages(messages) => messages.poll_recv(cx).map(|one| one.map(|it| Ok(Frame::data(it)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Client { origin, .. } => self.empty || lock(origin).ended,
            From::Copy(_) | From::Messages(_) => self.empty,
            From::Own(body) => body.as_ref().is_none_or(Bytes::is_empty),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl Origin {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = self.next(cx) else {
            ready!(self.idle.poll(cx));
            self.broken = Some(Why::Idle);
            self.copies.clear();
            return Poll::Ready(Some(Err(BodyError::Idle)));
        };
        self.idle.moved();
        self.begun |= frame.is_some();
        match &frame {
            Some(Ok(frame)) => {
                self.bytes += length(frame);
                if let (Some(messages), Some(data)) = (&mut self.messages, frame.data_ref()) {
                    messages.see(data);
                }
                let data = frame.data_ref().cloned().map(Piece::Data);
                let trailers = || frame.trailers_ref().cloned().map(Piece::Trailers);
                if !self.copies.is_empty()
                    && let Some(piece) = data.or_else(trailers)
                {
                    self.copy(&piece);
                }
                if self.is_end() {
                    self.end();
                }
            }
            Some(Err(error)) => {
                self.broken = Some(Why::from(error));
                self.copies.clear();
            }
            None => self.end(),
        }
        Poll::Ready(frame)
    }
}

impl Ahead {
    /// What was read, and the body it was read from.
    fn then(self, body: Coming) -> Rest {
        Rest::new(self.frames, if self.ended { Coming::nothing() } else { body })
    }

    /// Whether it is all there is, and nothing but bytes.
    fn is_plain(&self) -> bool {
        self.ended && !self.frames.iter().any(Frame::is_trailers)
    }

    /// Puts these bytes in the place of the first ones.
    fn replace(&mut self, mut read: usize, by: Bytes) {
        let mut frames = VecDeque::with_capacity(self.frames.len() + 1);
        self.bytes = by.len();
        if !by.is_empty() {
            frames.push_back(Frame::data(by));
        }
        for frame in std::mem::take(&mut self.frames) {
            match frame.into_data() {
                Ok(mut data) => {
                    let gone = read.min(data.len());
                    read -= gone;
                    let rest = data.split_off(gone);
                    if !rest.is_empty() {
                        self.bytes += rest.len();
                        frames.push_back(Frame::data(rest));
                    }
                }
                Err(other) => frames.push_back(other),
            }
        }
        self.frames = frames;
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
    pub(crate) body: Coming,
    pub(crate) record: Box<Record>,
    /// Given back when the body is over, so that the connection can be used again.
    pub(crate) lease: Option<Lease>,
    /// When the whole exchange must be over.
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
    /// How long nothing of it may come.
    pub(crate) idle: Idle,
}

impl Passing {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.record.timed_out();
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        }
        let Poll::Ready(frame) = self.body.poll_frame(cx) else {
            ready!(self.idle.poll(cx));
            self.record.stood_still();
            return Poll::Ready(Some(Err(BodyError::Idle)));
        };
        self.idle.moved();
        match &frame {
            Some(Ok(frame)) => {
                self.record.passed(length(frame));
                if let Some(data) = frame.data_ref() {
                    self.record.saw(data);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.record.trailers(trailers);
                }
            }
            Some(Err(BodyError::Unprocessed)) => self.record.unprocessed(),
            Some(Err(error)) => self.record.broken(error),
            None => self.over(),
        }
        Poll::Ready(match (frame, self.record.web()) {
            (Some(Ok(frame)), Some(web)) => Some(Ok(web.piece(frame))),
            (frame, _) => frame,
        })
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
            Self::Upstream(passing) if passing.record.web().is_some() => SizeHint::default(),
            Self::Upstream(passing) => passing.body.size_hint(),
        }
    }
}
