//! Spans and lines of logs as the bytes that OTLP's collectors take. Owns that; which there are is the waypoint's.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::pb::otlp::{ExportLogsServiceRequest, ExportTraceServiceRequest};

/// The method of gRPC that takes them.
pub const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The method of gRPC that takes lines of logs.
pub const LOGS_METHOD: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Lines of logs as one message.
#[must_use]
pub fn encode_logs(lines: &ExportLogsServiceRequest) -> Bytes {
    lines.encode_to_vec().into()
}

/// As one message.
#[must_use]
pub fn encode(spans: &ExportTraceServiceRequest) -> Bytes {
    spans.encode_to_vec().into()
}

/// Out of one.
///
/// # Errors
/// When it is none.
pub fn decode(message: Bytes) -> Result<ExportTraceServiceRequest, DecodeError> {
    ExportTraceServiceRequest::decode(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::otlp::ResourceSpans;

    #[test]
    fn a_message_is_read_as_what_was_written() {
        let spans = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans::default()] };
        let bytes = encode(&spans);
        // Field 1, which has a length, and nothing in it.
        assert_eq!(*bytes, [0x0a, 0]);
        assert_eq!(decode(bytes).unwrap(), spans);
        assert!(decode(Bytes::from_static(&[0x0a])).is_err());
    }
}
