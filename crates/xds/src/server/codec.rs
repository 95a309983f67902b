//! Requests as they come in. Only the reading: responses are made of bytes that are shared (`talk`).

use ambit_wire::limits;
use bytes::Buf as _;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder};
use tonic::{Status, Streaming};

use crate::publisher::Asked;

/// The requests of a stream, of a bounded size.
pub(super) fn requests(body: Body) -> Streaming<Asked> {
    Streaming::new_request(Requests, body, None, Some(limits::DISCOVERY_REQUEST))
}

struct Requests;

impl Decoder for Requests {
    type Item = Asked;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Asked>, Status> {
        let message = source.copy_to_bytes(source.remaining());
        Asked::read(message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
