//! Requests as they come in. Only the reading: responses are made of bytes that are shared (`talk`). Read here and not
//! by tonic's codec, which keeps the room for its largest message as long as the stream is open: megabytes of what a
//! subscriber had when it came back, for each of a thousand.

use ambit_wire::limits;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

use crate::publisher::Asked;

/// gRPC: whether a message is compressed, and its length.
pub(super) const PREFIX: usize = 5;

/// Room that is kept from one message to the next.
const KEPT: usize = 16 << 10;

/// The requests of a stream.
pub(super) struct Requests {
    body: Body,
    bytes: BytesMut,
}

impl Requests {
    pub(super) fn new(body: Body) -> Self {
        Self { body, bytes: BytesMut::new() }
    }

    /// The next one, and its size in bytes; none when the subscriber has ended the stream. Cancel-safe: bytes stay here until a whole
    /// message is there.
    pub(super) async fn next(&mut self) -> Result<Option<(Asked, usize)>, Status> {
        let Some(message) = self.bytes().await? else { return Ok(None) };
        let size = message.len();
        let read = Asked::read(message).map_err(|error| Status::internal(error.to_string()));
        read.map(|asked| Some((asked, size)))
    }

    /// The bytes of the next one. Cancel-safe, as above.
    pub(super) async fn bytes(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers of a request say nothing.
                    frame.into_data().into_iter().for_each(|data| self.bytes.extend_from_slice(&data));
                }
                Some(Err(status)) => return Err(status),
                None if self.bytes.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ended within a message")),
            }
        }
    }

    /// A message that is there as a whole.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([compressed, length @ ..]) = self.bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        if *compressed != 0 {
            return Err(Status::unimplemented("requests are not read compressed"));
        }
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > limits::DISCOVERY_REQUEST {
            let text = format!("a request of {length} bytes; at most {}", limits::DISCOVERY_REQUEST);
            return Err(Status::out_of_range(text));
        }
        let whole = PREFIX + length;
        if self.bytes.len() < whole {
            // No more than has been announced, and that is bounded.
            self.bytes.reserve(whole - self.bytes.len());
            return Ok(None);
        }
        self.bytes.advance(PREFIX);
        let message = self.bytes.split_to(length).freeze();
        if whole > KEPT {
            // What is left would hold the room of what was taken.
            self.bytes = BytesMut::from(&*self.bytes);
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use ambit_wire::pb::discovery::DeltaDiscoveryRequest;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use prost::Message as _;

    use super::*;

    fn requests(chunks: Vec<Vec<u8>>) -> Requests {
        let frames = chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(Bytes::from(chunk))));
        Requests::new(Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>()))))
    }

    fn framed(request: &DeltaDiscoveryRequest) -> Vec<u8> {
        let message = request.encode_to_vec();
        [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
    }

    #[tokio::test]
    async fn requests_read_the_same_however_they_are_cut_and_leave_no_room_behind() {
        let nonce =
            |nonce: &str| DeltaDiscoveryRequest { response_nonce: nonce.into(), ..Default::default() };
        let wanted = [nonce("a"), nonce(&"b".repeat(1 << 20)), nonce("c")];
        let bytes: Vec<u8> = wanted.iter().flat_map(framed).collect();
        for size in [7, 16 << 10, bytes.len()] {
            let mut requests = requests(bytes.chunks(size).map(<[u8]>::to_vec).collect());
            for request in &wanted {
                assert_eq!(requests.next().await.unwrap().unwrap().0.request(), request, "{size}");
            }
            assert!(requests.bytes.capacity() <= 2 * KEPT, "{}", requests.bytes.capacity());
            assert!(requests.next().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn what_is_compressed_or_too_large_or_cut_off_is_refused() {
        let large = u32::try_from(limits::DISCOVERY_REQUEST + 1).unwrap().to_be_bytes();
        for (bytes, code) in [
            (vec![1, 0, 0, 0, 0], tonic::Code::Unimplemented),
            ([&[0][..], &large].concat(), tonic::Code::OutOfRange),
            (vec![0, 0, 0, 0, 9, 1], tonic::Code::Internal),
            (vec![0, 0, 0, 0, 1, 1], tonic::Code::Internal),
        ] {
            let refused = requests(vec![bytes.clone()]).next().await.unwrap_err();
            assert_eq!(refused.code(), code, "{bytes:?}");
        }
    }
}
