//! The question of gRPC's health checking protocol, and its answer. Owns both messages.

use bytes::Bytes;
use prost::Message;

/// The method that is called.
pub const METHOD: &str = "/grpc.health.v1.Health/Check";
/// The one answer that is good.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks about a service; empty: about all of the server.
#[must_use]
pub fn question(service: &str) -> Bytes {
    Question { service: service.into() }.encode_to_vec().into()
}

/// Whether an answer says that it serves. What does not read does not.
#[must_use]
pub fn is_serving(answer: &[u8]) -> bool {
    Answer::decode(answer).is_ok_and(|it| it.status == SERVING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_so_serves() {
        assert_eq!(&question("a.B")[..], b"\x0a\x03a.B");
        assert_eq!(&question("")[..], b"");
        for (answer, serving) in [
            (&b"\x08\x01"[..], true),
            (b"\x08\x02", false),
            (b"\x08\x03", false),
            (b"", false),
            (b"\xff", false),
        ] {
            assert_eq!(is_serving(answer), serving, "{answer:?}");
        }
    }
}
