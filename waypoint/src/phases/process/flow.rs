//! Bodies that go by a processor both ways at once: what comes is told at once, and what the processor sends is what goes
//! on. Owns the two tasks of a way, one that tells and one that follows, and that neither outlives its body.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use ambit_model::ext_proc::{Onward, Part, Step, Way};
use ambit_wire::process;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use tokio::sync::{mpsc, oneshot};

use super::{Request, Response};
use crate::body::{self, BodyError, Piece, Rest, Why};
use crate::call::CallError;
use crate::idle::Idle;
use crate::processor::{NoReply, Processor, Stopped, Word};
use crate::refused::Refused;

/// Where pieces go.
type To = mpsc::Sender<Result<Piece, BodyError>>;

/// What has become of a body that is told: all of it, with what followed it.
type Told = Result<Option<HeaderMap>, BodyError>;

/// Why there are no headers to go on with.
enum Failed {
    /// The processor's conversation knows why.
    Stopped,
    /// What it was told of broke off.
    Body(BodyError),
}

impl From<Stopped> for Failed {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl Failed {
    fn of_request(self) -> super::Failed {
        match self {
            Self::Stopped => super::Failed::Stopped,
            Self::Body(error) => super::Failed::Refused(Why::from(&error).into()),
        }
    }

    fn of_answer(self) -> super::Failed {
        match self {
            Self::Stopped => super::Failed::Stopped,
            Self::Body(error) => super::Failed::Refused(Refused::AnswerBroken(error)),
        }
    }
}

impl Request<'_> {
    /// Without waiting: what is told of the body may come before any answer.
    pub(super) async fn flow(&mut self) -> Result<bool, super::Failed> {
        let has_body = self.asked.upgrade.is_none() && !self.source.is_end();
        self.one.say(|first: Option<&_>| self.head(!has_body, first)).await?;
        let (mut flow, to) = if has_body {
            let (from, to) = self.source.divert();
            self.parts.headers.remove(CONTENT_LENGTH);
            (Flow::begin(self.one, Way::Request, (from, self.source.idle())), Some(to))
        } else {
            (Flow::of_nothing(self.one, Way::Request), None)
        };
        let onward = flow.headers().await.map_err(Failed::of_request)?;
        self.one.change(&onward.headers, &mut self.parts.headers, true).await?;
        let reroute = self.reroute(&onward).await?;
        if let Some(to) = to {
            flow.follow(to);
        }
        Ok(reroute)
    }
}

impl Response<'_> {
    /// Without waiting, as with requests.
    pub(super) async fn flow(&mut self) -> Result<(), super::Failed> {
        let has_body = self.answer.protocol.is_none() && !self.answer.body.is_end_stream();
        self.one.say(|first: Option<&_>| self.head(!has_body, first)).await?;
        let (mut flow, to) = if has_body {
            let (to, by) = body::pipe();
            let from = std::mem::replace(&mut self.answer.body, by);
            self.answer.response.headers_mut().remove(CONTENT_LENGTH);
            (Flow::begin(self.one, Way::Response, (from.into(), self.record.idle())), Some(to))
        } else {
            (Flow::of_nothing(self.one, Way::Response), None)
        };
        let onward = flow.headers().await.map_err(Failed::of_answer)?;
        self.change(&onward).await?;
        match to {
            Some(to) => flow.follow(to),
            // What follows is no body.
            None if self.answer.protocol.is_some() => self.one.over().await,
            None => {}
        }
        Ok(())
    }
}

/// A way on which a processor is told as it comes.
struct Flow {
    one: Arc<Processor>,
    way: Way,
    /// Whether all was told, and what of that.
    told: State,
}

enum State {
    /// There is more to come.
    Telling(oneshot::Receiver<Told>),
    /// It knows all of it. It is its turn.
    All(Option<HeaderMap>),
}

impl Flow {
    /// Of which nothing follows the headers.
    fn of_nothing(one: &Arc<Processor>, way: Way) -> Self {
        Self { one: Arc::clone(one), way, told: State::All(None) }
    }

    /// Tells of a body, as it comes.
    fn begin(one: &Arc<Processor>, way: Way, (from, idle): (Rest, Idle)) -> Self {
        let (done, told) = oneshot::channel();
        let teller = Arc::clone(one);
        one.lane.crew.add("told", async move {
            let mut done = done;
            let told = tokio::select! {
                told = tell(&teller, way, from, idle) => told,
                // Nobody follows any more.
                () = done.closed() => return,
            };
            let _ = done.send(told);
        });
        Self { one: Arc::clone(one), way, told: State::Telling(told) }
    }

    /// What becomes of the headers.
    async fn headers(&mut self) -> Result<Box<Onward>, Failed> {
        match self.next().await? {
            Some((Part::Headers, onward)) if onward.last => {
                self.wrong("it replaces a body that it is told as it comes")
            }
            Some((Part::Headers, onward)) => Ok(onward),
            Some((part, _)) => self.out_of_order(Part::Headers, part),
            None => self.left(),
        }
    }

    /// What it says cannot be done.
    fn wrong<T>(&self, why: &'static str) -> Result<T, Failed> {
        Self::stop(self.one.fail(NoReply::Malformed(why)))
    }

    fn out_of_order<T>(&self, told: Part, found: Part) -> Result<T, Failed> {
        Self::stop(self.one.misheard(Step { way: self.way, part: told }, found))
    }

    /// It has ended the conversation before it was over, and nobody else has what it was told.
    fn left<T>(&self) -> Result<T, Failed> {
        Self::stop(self.one.fail(CallError::NoMessage.into()))
    }

    /// Nothing goes on without it, whatever its policy says.
    fn stop<T>(_: Result<(), Stopped>) -> Result<T, Failed> {
        Err(Failed::Stopped)
    }

    /// The next word of this way. As long as there is more to tell, it may wait for that.
    async fn next(&mut self) -> Result<Option<Word>, Failed> {
        loop {
            let State::Telling(told) = &mut self.told else {
                return Ok(self.one.word(self.way, true).await?);
            };
            let ended = tokio::select! {
                biased;
                word = self.one.word(self.way, false) => return Ok(word?),
                ended = told => ended,
            };
            match ended {
                Ok(Ok(trailers)) => self.told = State::All(trailers),
                Ok(Err(BodyError::Unprocessed)) | Err(_) => return Err(Failed::Stopped),
                Ok(Err(error)) => return Err(Failed::Body(error)),
            }
        }
    }

    /// Sends on what the processor makes of the body.
    fn follow(mut self, to: To) {
        let crew = self.one.lane.crew.clone();
        crew.add("followed", async move {
            let failed = tokio::select! {
                done = self.pieces(&to) => done.err(),
                // Whoever took it has left.
                () = to.closed() => return,
            };
            let error = match failed {
                None => return,
                Some(Failed::Stopped) => BodyError::Unprocessed,
                Some(Failed::Body(error)) => error,
            };
            let _ = to.send(Err(error)).await;
        });
    }

    async fn pieces(&mut self, to: &To) -> Result<(), Failed> {
        loop {
            match self.next().await? {
                Some((Part::Body, onward)) => {
                    let Some(piece) = onward.streamed else {
                        return self.wrong("it does not stream a body that it is told as it comes");
                    };
                    if !piece.body.is_empty() {
                        let _ = to.send(Ok(Piece::Data(piece.body.into()))).await;
                    }
                    if piece.is_end {
                        let _ = to.send(Ok(Piece::End)).await;
                        return Ok(());
                    }
                }
                Some((Part::Trailers, onward)) => return self.trailers(&onward, to).await,
                Some((part @ Part::Headers, _)) => return self.out_of_order(Part::Body, part),
                None => return self.left(),
            }
        }
    }

    /// What follows the body, which ends it.
    async fn trailers(&self, onward: &Onward, to: &To) -> Result<(), Failed> {
        let State::All(Some(trailers)) = &self.told else {
            return self.out_of_order(Part::Body, Part::Trailers);
        };
        let mut trailers = trailers.clone();
        self.one.change(&onward.headers, &mut trailers, self.way == Way::Request).await?;
        let _ = to.send(Ok(Piece::Trailers(trailers))).await;
        let _ = to.send(Ok(Piece::End)).await;
        Ok(())
    }
}

/// Tells of a body and of what follows it.
async fn tell(one: &Processor, way: Way, mut from: Rest, mut idle: Idle) -> Told {
    let mut knows_end = false;
    loop {
        let next = poll_fn(|cx| match from.poll(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => idle.poll(cx).map(|()| None),
        });
        let Some(frame) = next.await else { return Err(BodyError::Idle) };
        idle.moved();
        let Some(frame) = frame else { break };
        match frame?.into_data() {
            Ok(data) => {
                knows_end = from.is_end();
                piece(one, way, data, knows_end).await?;
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let message = |first: Option<&_>| process::trailers(way, &trailers, first);
                one.say(message).await.map_err(|_| BodyError::Unprocessed)?;
                return Ok(Some(trailers));
            }
        }
    }
    if !knows_end {
        piece(one, way, Bytes::new(), true).await?;
    }
    Ok(None)
}

async fn piece(one: &Processor, way: Way, data: Bytes, is_end: bool) -> Result<(), BodyError> {
    let message = |first: Option<&_>| process::body(way, data, is_end, first);
    one.say(message).await.map(drop).map_err(|_| BodyError::Unprocessed)
}
