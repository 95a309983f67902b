//! One open stream of a tunnel, both halves, with the seat it takes there.

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
pub(crate) fn is_over(error: &h2::Error) -> bool {
    error.is_reset() && error.reason() == Some(Reason::NO_ERROR)
}
