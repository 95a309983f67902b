//! A body on its way into a stream of HTTP/2. Owns that no more of it is taken than there is room for, and how a body that
//! breaks off is told to whoever reads it: never as its end.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use ambit_hbone::stream::{poll_room, reserve};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

use super::{BodyError, HttpError};

/// What happens next while a body is sent.
enum Next {
    /// There is more of it, or no more.
    Frame(Option<Result<Frame<Bytes>, BodyError>>),
    /// Whoever reads it has had enough.
    Gone,
}

/// Sends all of a body, until whoever reads it has had enough. One that breaks off is reset, for this reason unless it was
/// taken back.
///
/// Dropped before its end, it resets the stream.
pub(crate) async fn pour<B>(mut body: B, mut to: SendStream<Bytes>, otherwise: Reason)
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    loop {
        let next = poll_fn(|cx| {
            if to.poll_reset(cx).is_ready() {
                return Poll::Ready(Next::Gone);
            }
            Pin::new(&mut body).poll_frame(cx).map(Next::Frame)
        });
        let frame = match next.await {
            Next::Frame(Some(Ok(frame))) => frame,
            Next::Frame(Some(Err(error))) => return to.send_reset(reason(&error, otherwise)),
            Next::Frame(None) => {
                // Fails only when nobody reads it any more.
                let _ = to.send_data(Bytes::new(), true);
                return;
            }
            Next::Gone => return,
        };
        let is_over = match frame.into_data() {
            Ok(data) => {
                let is_end = body.is_end_stream();
                if send(&mut to, data, is_end).await.is_err() {
                    return;
                }
                is_end
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = to.send_trailers(trailers);
                    true
                }
                Err(_) => false,
            },
        };
        if is_over {
            return;
        }
    }
}

/// Nobody reads it any more.
struct Gone;

/// Sends bytes as there is room for them.
async fn send(to: &mut SendStream<Bytes>, mut data: Bytes, is_end: bool) -> Result<(), Gone> {
    if data.is_empty() {
        return if is_end { to.send_data(data, true).map_err(|_| Gone) } else { Ok(()) };
    }
    while !data.is_empty() {
        reserve(to, data.len());
        let room = poll_fn(|cx| poll_room(to, cx)).await;
        let room = room.and_then(Result::ok).ok_or(Gone)?;
        let piece = data.split_to(room.min(data.len()));
        to.send_data(piece, is_end && data.is_empty()).map_err(|_| Gone)?;
    }
    Ok(())
}

/// How a body that breaks off is told. That somebody takes theirs back is passed on; nothing else is, for what was so on
/// one connection need not be on another: whoever is told that nobody has looked at a request sends it once more.
fn reason(error: &BodyError, otherwise: Reason) -> Reason {
    match error {
        BodyError::Broken(HttpError::Http2(error)) if error.reason() == Some(Reason::CANCEL) => {
            Reason::CANCEL
        }
        _ => otherwise,
    }
}
