//! One open stream of a tunnel, both halves, with the seat it takes there.

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::pool::Seat;

/// An open stream. Dropping it while a half is open resets it with CANCEL.
pub struct Stream {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) recv: RecvStream,
    /// Given back when the stream ends; absent on the accepting side, where the peer counts.
    pub(crate) seat: Option<Seat>,
}
