//! One open stream of a tunnel, both halves, with the seat it takes there.

use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use crate::pool::Seat;
use crate::stall::Stalls;

/// An open stream. Dropping it while a half is open resets it with CANCEL.
pub struct Stream {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) recv: RecvStream,
    /// Given back when the stream ends; absent on the accepting side, where the peer counts.
    pub(crate) seat: Option<Seat>,
    /// The tunnel is told while the application takes nothing.
    pub(crate) stalls: Stalls,
}

/// The peer ended early but in good order (RFC 9113, 8.1).
#[must_use]
pub fn is_over(error: &h2::Error) -> bool {
    error.is_reset() && error.reason() == Some(Reason::NO_ERROR)
}

/// Asks for room for so many bytes, and for no others. Room that is there at once wakes whoever waits for a reset: us, who
/// know. What there is to hear meanwhile, the next question hears.
pub fn reserve(send: &mut SendStream<Bytes>, bytes: usize) {
    let _ = send.poll_reset(&mut Context::from_waker(Waker::noop()));
    send.reserve_capacity(bytes);
}

/// How much of what was reserved may be sent, once it is any; none: the stream takes nothing more. Room that was given
/// before is not told again: looks first, then waits.
///
/// # Errors
/// When the stream is gone.
pub fn poll_room(
    send: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<usize, h2::Error>>> {
    while send.capacity() == 0 {
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            other => return Poll::Ready(other),
        }
    }
    Poll::Ready(Some(Ok(send.capacity())))
}
