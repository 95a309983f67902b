//! A call of gRPC that goes on: messages there, messages back, until either side ends it. Owns that what comes back is
//! bounded, and how it ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::provider::Reach;
use ambit_model::route::Hints;
use bytes::{Buf, Bytes, BytesMut};
use http::header::TE;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body::Body as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::{CALLS, CallError, TRIES, find, framed, head, is_success, post};
use crate::body::{Arriving, Upload};
use crate::lane::Lane;
use crate::messages::PREFIX;
use crate::room::count::One;
use crate::upstream::{Got, Lease, Lines, endpoint, plan};

/// Messages on their way there. Whoever waits for an answer to each has one.
const UNDER_WAY: usize = 2;
/// How long the other side may take to end its side of a call.
const FAREWELL: Duration = Duration::from_secs(1);

/// A call that goes on.
pub(crate) struct Stream {
    to: mpsc::Sender<Bytes>,
    from: Arriving,
    /// What has come and is no whole message yet.
    read: BytesMut,
    /// A longer message is not taken.
    largest: usize,
    /// Whether the other side has ended it well.
    over: bool,
    _lease: Lease,
    _seat: One,
}

impl Stream {
    /// Calls a method with a first message.
    pub(crate) async fn open(
        lane: &Arc<Lane>,
        at: &Reach,
        (method, first): (&'static str, &Bytes),
        largest: usize,
    ) -> Result<Self, CallError> {
        let Some(seat) = lane.calls.add_below(CALLS) else { return Err(CallError::Full) };
        let to = find(lane, at)?;
        let request = call_of(at, method);
        let first = framed(first)?;
        let mut hints = Hints::default();
        for last in (0..TRIES).map(|tried| tried + 1 == TRIES) {
            let planned = plan(lane, &to, &mut hints).await;
            let plan = planned.map_err(|refusal| CallError::NoEndpoint(at.clone(), Box::new(refusal)))?;
            let (messages, sent) = mpsc::channel(UNDER_WAY);
            // There is room for one.
            let _ = messages.try_send(first.clone());
            let one = head(&request, true)?.map(|_| Upload::messages(sent));
            match Box::pin(Lines::send(lane, (&to, &plan), true, one)).await {
                Ok(got) => return Self::begun(got, (messages, seat), largest),
                Err(failure) if last || !failure.is_unseen() => {
                    return Err(CallError::Failed(Box::new(failure)));
                }
                Err(_) => {}
            }
            hints.avoid.extend(endpoint(&plan).map(|workload| workload.uid.clone()));
        }
        Err(CallError::NoMessage)
    }

    /// Calls a method with messages that come when they come; nothing has to be said before the first one.
    pub(crate) async fn pour(
        lane: &Arc<Lane>,
        at: &Reach,
        (method, messages): (&'static str, mpsc::Receiver<Bytes>),
        largest: usize,
    ) -> Result<Self, CallError> {
        let Some(seat) = lane.calls.add_below(CALLS) else { return Err(CallError::Full) };
        let to = find(lane, at)?;
        let planned = plan(lane, &to, &mut Hints::default()).await;
        let plan = planned.map_err(|refusal| CallError::NoEndpoint(at.clone(), Box::new(refusal)))?;
        let request = head(&call_of(at, method), true)?.map(|_| Upload::messages(messages));
        let sent = Box::pin(Lines::send(lane, (&to, &plan), true, request)).await;
        let got = sent.map_err(|failure| CallError::Failed(Box::new(failure)))?;
        // Whoever has the messages sends them.
        let (nobody, _) = mpsc::channel(1);
        Self::begun(got, (nobody, seat), largest)
    }

    fn begun(got: Got, (to, seat): (mpsc::Sender<Bytes>, One), largest: usize) -> Result<Self, CallError> {
        let Got { response, lease, .. } = got;
        let (parts, from) = response.into_parts();
        if parts.status != StatusCode::OK {
            return Err(CallError::Status(parts.status));
        }
        // A call that ends at once says so in the head.
        let over = is_success(&parts.headers)?;
        Ok(Self { to, from, read: BytesMut::new(), largest, over, _lease: lease, _seat: seat })
    }

    /// Sends one more message.
    pub(crate) async fn send(&self, message: &Bytes) -> Result<(), CallError> {
        // Whoever does not listen any more has said why, or says nothing.
        let _ = self.to.send(framed(message)?).await;
        Ok(())
    }

    /// The next message; none: the other side has ended the call well.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.over {
                return if self.read.is_empty() { Ok(None) } else { Err(CallError::NoMessage) };
            }
            let frame = poll_fn(|cx| Pin::new(&mut self.from).poll_frame(cx)).await;
            let frame = frame.ok_or(CallError::NoMessage)?.map_err(CallError::Broken)?;
            match frame.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(frame) => {
                    let trailers: HeaderMap = frame.into_trailers().unwrap_or_default();
                    self.over = is_success(&trailers)?;
                }
            }
        }
    }

    /// The first whole message of what has come.
    fn take(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some((prefix, rest)) = self.read.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err(CallError::NoMessage);
        }
        if length > self.largest {
            return Err(CallError::TooLong(self.largest));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.read.advance(PREFIX);
        Ok(Some(self.read.split_to(length).freeze()))
    }

    /// Says that nothing more follows, and lets the other side say so as well.
    pub(crate) async fn end(self) {
        let Self { to, mut from, .. } = self;
        drop(to);
        let rest =
            async { while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut from).poll_frame(cx)).await {} };
        // How it ends is nobody's concern any more.
        let _ = timeout(FAREWELL, rest).await;
    }
}

/// Calls a method with messages, and listens to nothing that it says; until there are no more messages, and somewhat
/// longer.
pub(crate) async fn pour(
    lane: &Arc<Lane>,
    at: &Reach,
    (method, messages): (&'static str, mpsc::Receiver<Bytes>),
    ends: oneshot::Receiver<()>,
) -> Result<(), CallError> {
    let Some(_seat) = lane.calls.add_below(CALLS) else { return Err(CallError::Full) };
    let to = find(lane, at)?;
    let planned = plan(lane, &to, &mut Hints::default()).await;
    let plan = planned.map_err(|refusal| CallError::NoEndpoint(at.clone(), Box::new(refusal)))?;
    let request = call_of(at, method);
    let request = head(&request, true)?.map(|_| Upload::messages(messages));
    let call = async {
        let sent = Box::pin(Lines::send(lane, (&to, &plan), true, request)).await;
        let Got { response, lease: _lease, .. } =
            sent.map_err(|failure| CallError::Failed(Box::new(failure)))?;
        let (parts, mut from) = response.into_parts();
        if parts.status != StatusCode::OK {
            return Err(CallError::Status(parts.status));
        }
        is_success(&parts.headers)?;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut from).poll_frame(cx)).await {
            if let Ok(trailers) = frame.map_err(CallError::Broken)?.into_trailers() {
                is_success(&trailers)?;
            }
        }
        Ok(())
    };
    let farewell = async {
        // Told or forgotten, there is no more.
        let _ = ends.await;
        sleep(FAREWELL).await;
    };
    tokio::select! {
        called = call => called,
        () = farewell => Ok(()),
    }
}

fn call_of(at: &Reach, method: &'static str) -> Request<Bytes> {
    let mut request = post(at, Uri::from_static(method), ("application/grpc", Bytes::new()), &[]);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request
}
