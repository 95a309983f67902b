//! Pieces of bodies that go by a processor, one at a time, and what is kept of a body for it. Owns that whoever takes a
//! body keeps whoever sends it from sending more than is under way.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use ambit_model::ext_proc::{BodyMode, Part, Rest as Told, Step, Way};
use ambit_wire::process;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::body::{BodyError, Coming, Piece, Rest};
use crate::idle::Idle;
use crate::processor::{Processor, Stopped};
use crate::refused::Refused;

/// Where changed pieces go.
type To = mpsc::Sender<Result<Piece, BodyError>>;

/// What was kept of a body, and what follows that.
pub(super) struct Kept {
    pub(super) bytes: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    /// The rest; none: that was all.
    pub(super) after: Option<Coming>,
}

/// Keeps a body, until all of it is there or there is more than so much.
pub(super) async fn collect(body: Coming, most: usize, mut idle: Idle) -> Result<Kept, Refused> {
    let mut rest = Rest::from(body);
    let (mut bytes, mut trailers) = (BytesMut::new(), None);
    loop {
        let next = poll_fn(|cx| match rest.poll(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => idle.poll(cx).map(|()| None),
        });
        let Some(frame) = next.await else { return Err(Refused::TimedOut) };
        idle.moved();
        match frame {
            None => return Ok(Kept { bytes: bytes.freeze(), trailers, after: None }),
            Some(Err(error)) => return Err(Refused::AnswerBroken(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    let room = most - bytes.len();
                    if data.len() > room {
                        let after = data.split_off(room);
                        bytes.extend_from_slice(&data);
                        let after = Coming::kept(after, None, Some(Coming::Kept(Box::new(rest))));
                        return Ok(Kept { bytes: bytes.freeze(), trailers, after: Some(after) });
                    }
                    bytes.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

/// Tells of trailers, and changes them.
pub(super) async fn trailers(one: &Processor, way: Way, trailers: &mut HeaderMap) -> Result<(), Stopped> {
    let told = trailers.clone();
    let message = |first: Option<&_>| process::trailers(way, &told, first);
    match one.tell(Step { way, part: Part::Trailers }, message).await? {
        Some(onward) => one.change(&onward.headers, trailers, way == Way::Request).await,
        None => Ok(()),
    }
}

/// Sends a body on by way of a processor, as its pieces come. Ends when nobody takes them any more.
pub(super) fn pump(one: &Arc<Processor>, way: Way, (from, to): (Rest, To)) {
    let rest = one.modes().rest(way);
    let one = Arc::clone(one);
    let crew = one.lane.crew.clone();
    crew.add("pieces", async move {
        let mut pump = Pump { one: &one, way, rest, is_last: false };
        if let Err(error) = pump.run(from, &to).await {
            // Whoever would be told may have left.
            let _ = to.send(Err(error)).await;
        }
    });
}

struct Pump<'a> {
    one: &'a Processor,
    way: Way,
    rest: Told,
    /// Whether the processor knows that no more follows.
    is_last: bool,
}

impl Pump<'_> {
    async fn run(&mut self, mut from: Rest, to: &To) -> Result<(), BodyError> {
        loop {
            let frame = tokio::select! {
                frame = from.next() => frame,
                () = to.closed() => return Ok(()),
            };
            let Some(frame) = frame else { break };
            match frame?.into_data() {
                Ok(data) => {
                    let is_end = from.is_end();
                    self.put(to, data, is_end).await?;
                }
                Err(frame) => {
                    let mut last = frame.into_trailers().unwrap_or_default();
                    // The trailers say that nothing follows.
                    self.is_last = true;
                    if self.rest.trailers {
                        trailers(self.one, self.way, &mut last).await.map_err(|_| BodyError::Unprocessed)?;
                    }
                    let _ = to.send(Ok(Piece::Trailers(last))).await;
                }
            }
        }
        if !self.is_last {
            self.put(to, Bytes::new(), true).await?;
        }
        let _ = to.send(Ok(Piece::End)).await;
        Ok(())
    }

    /// One piece, as the processor has it.
    async fn put(&mut self, to: &To, mut data: Bytes, is_end: bool) -> Result<(), BodyError> {
        self.is_last |= is_end;
        if self.rest.body == BodyMode::Streamed {
            let (told, way) = (data.clone(), self.way);
            let message = |first: Option<&_>| process::body(way, told, is_end, first);
            let step = Step { way, part: Part::Body };
            let onward = self.one.tell(step, message).await.map_err(|_| BodyError::Unprocessed)?;
            if let Some(onward) = onward {
                if onward.last {
                    self.rest = Told { body: BodyMode::None, trailers: false };
                }
                data = onward.body.map_or(data, Bytes::from);
            }
        }
        if !data.is_empty() {
            // Whoever has left is noticed with the next piece.
            let _ = to.send(Ok(Piece::Data(data))).await;
        }
        Ok(())
    }
}
