//! The answering half of a stream as gRPC has it: pieces as the transport takes them, and at the end how it went.
//! Owns the frames around what is said; what that is, is said by `talk` and `shown`.

use ambit_process::stop::Stop;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;

use super::codec::PREFIX;

/// Who answers on a stream.
pub(super) trait Answers: Sized + Send + 'static {
    /// The next piece; none when the other end has closed the stream. Called again only after the transport has taken
    /// the former one.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Status>> + Send;

    /// The stream ends like this.
    fn ended(&self, _: &Status) {}

    /// The answer's body, until the other end closes the stream, or `stop` is pulled.
    fn into_body(self, stop: Stop) -> Body {
        let frames = unfold(Some((self, stop)), |answers| async {
            let (mut answers, stop) = answers?;
            // Cancel-safe: the stream ends here.
            let piece = tokio::select! {
                () = stop.stopped() => Err(Status::unavailable("the control plane stops")),
                piece = answers.next() => piece,
            };
            let ended = match piece {
                Ok(Some(piece)) => return Some((Ok::<_, Status>(Frame::data(piece)), Some((answers, stop)))),
                Ok(None) => Status::ok(""),
                Err(status) => status,
            };
            answers.ended(&ended);
            let mut trailers = HeaderMap::new();
            // A message that no header can hold is left out; the code is there.
            let _ = ended.add_header(&mut trailers);
            Some((Ok(Frame::trailers(trailers)), None))
        });
        Body::new(StreamBody::new(frames))
    }
}

/// The beginning of a message of this length, which is within what is accepted: that it is not compressed, and how long
/// it is. With room for so many of its bytes.
pub(super) fn begin(length: usize, room: usize) -> BytesMut {
    let mut piece = BytesMut::with_capacity(PREFIX + room);
    piece.put_u8(0);
    piece.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    piece
}
