//! A small collector of spans: OTLP as protobuf in requests of HTTP/1.1, a line of JSON for each span. One thread a
//! connection. Owns the bounds of what a request may cost, and which of a span's facts are shown.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambit_wire::pb::otlp::any_value::Value as Given;
use ambit_wire::pb::otlp::{ExportTraceServiceRequest, Span, SpanKind, StatusCode};
use ambit_wire::spans::decode;
use serde_json::{Map, Value, json};

/// Connections served at the same time: those who tell of spans keep theirs.
const CONNECTIONS: usize = 64;
/// Longest request head.
const HEAD_LIMIT: u64 = 16 * 1024;
/// Largest message: more than any sender here gathers.
const BODY_LIMIT: usize = 4 << 20;

/// Facts that are shown of a span, and what they are called there.
const SHOWN: [(&str, &str); 5] = [
    ("http.status_code", "status"),
    ("url.path", "path"),
    ("peer.address", "peer"),
    ("istio.source_canonical_service", "source"),
    ("istio.destination_workload", "destination"),
];

/// Collects until the process ends.
pub(crate) fn collect(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming().flatten() {
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let open = Arc::clone(&open);
        std::thread::spawn(move || {
            // The sender's end of a connection is its own business.
            let _ended = serve(&stream);
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
    Ok(())
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(length) = head(&mut reader)? {
        let Some(length) = length.filter(|length| *length <= BODY_LIMIT) else {
            return answer(stream, "413 Content Too Large", "connection: close\r\n");
        };
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        match decode(body.into()) {
            Ok(told) => {
                let mut out = io::stdout().lock();
                lines(&told).try_for_each(|line| writeln!(out, "{line}"))?;
                out.flush()?;
                answer(stream, "200 OK", "")?;
            }
            Err(_) => answer(stream, "400 Bad Request", "")?,
        }
    }
    Ok(())
}

fn answer(mut stream: &TcpStream, status: &str, more: &str) -> io::Result<()> {
    // An empty message says that all was taken.
    let kind = "content-type: application/x-protobuf";
    let head = format!("HTTP/1.1 {status}\r\n{kind}\r\n{more}content-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())
}

/// Reads a request's head: how long its body says to be, or `None` when the sender is done.
fn head(reader: &mut impl BufRead) -> io::Result<Option<Option<usize>>> {
    let mut head = reader.take(HEAD_LIMIT);
    let (mut line, mut length) = (String::new(), None);
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok();
            }
            None if line.trim_end().is_empty() => return Ok(Some(length)),
            _ => {}
        }
    }
}

/// A line for each span.
fn lines(told: &ExportTraceServiceRequest) -> impl Iterator<Item = Value> {
    let scopes = told.resource_spans.iter().flat_map(|it| &it.scope_spans);
    scopes.flat_map(|it| &it.spans).map(shown)
}

fn shown(span: &Span) -> Value {
    let kind = match span.kind() {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Internal | SpanKind::Unspecified => "internal",
    };
    let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) / 1_000;
    let failed = span.status.as_ref().is_some_and(|it| it.code() == StatusCode::Error);
    let mut line = Map::new();
    for (key, value) in [
        ("trace", hex(&span.trace_id).into()),
        ("span", hex(&span.span_id).into()),
        ("parent", hex(&span.parent_span_id).into()),
        ("kind", kind.into()),
        ("name", span.name.as_str().into()),
        ("began_us", (span.start_time_unix_nano / 1_000).into()),
        ("took_us", took.into()),
        ("failed", failed.into()),
    ] {
        line.insert(key.into(), value);
    }
    for (key, name) in SHOWN {
        let fact = span.attributes.iter().find(|it| it.key == key).and_then(|it| it.value.as_ref());
        let value = fact.and_then(|it| it.value.as_ref()).map(|value| match value {
            Given::StringValue(text) => json!(text),
            Given::BoolValue(it) => json!(it),
            Given::IntValue(number) => json!(number),
            Given::DoubleValue(number) => json!(number),
        });
        line.extend(value.map(|value| (name.to_owned(), value)));
    }
    Value::Object(line)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use ambit_wire::pb::otlp::{AnyValue, KeyValue, ResourceSpans, ScopeSpans};

    use super::*;

    #[test]
    fn a_span_is_a_line_that_says_whose_child_it_is_and_what_became_of_it() {
        let fact =
            |key: &str, value| KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) };
        let span = Span {
            trace_id: vec![0xab; 16].into(),
            span_id: vec![1; 8].into(),
            parent_span_id: vec![2; 8].into(),
            name: "cart:80/*".into(),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: 5_000_000,
            end_time_unix_nano: 7_000_000,
            attributes: vec![
                fact("http.status_code", Given::IntValue(500)),
                fact("peer.address", Given::StringValue("10.0.0.1:80".into())),
                fact("http.url", Given::StringValue("secret".into())),
            ],
            ..Span::default()
        };
        let told = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: None,
                scope_spans: vec![ScopeSpans { scope: None, spans: vec![span] }],
            }],
        };
        let all: Vec<_> = lines(&told).collect();
        assert_eq!(
            all,
            [json!({
                "trace": "ab".repeat(16), "span": "01".repeat(8), "parent": "02".repeat(8), "kind": "client",
                "name": "cart:80/*", "began_us": 5_000, "took_us": 2_000, "failed": false, "status": 500,
                "peer": "10.0.0.1:80",
            })]
        );
    }

    #[test]
    fn a_head_says_how_long_its_body_is_and_one_that_does_not_end_is_none() {
        for (text, wanted) in [
            ("POST /v1/traces HTTP/1.1\r\nContent-Length: 12\r\n\r\nbody", Some(Some(12))),
            ("POST / HTTP/1.1\r\nhost: a\r\n\r\n", Some(None)),
            ("POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n", Some(None)),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\n", None),
            ("", None),
        ] {
            assert_eq!(head(&mut text.as_bytes()).unwrap(), wanted, "{text:?}");
        }
    }
}
