//! CONNECT requests from arbitrary heads: read or refused; what is read is written and read back the same.
//! Input: the authority, then a line a header; its first letter names the header.
#![no_main]

use ambit_hbone::head::Connect;
use http::{HeaderValue, Method, Request, Uri};
use libfuzzer_sys::fuzz_target;

fn request(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut parts = http::uri::Parts::default();
    parts.authority = Some(lines.next()?.try_into().ok()?);
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.method_mut() = Method::CONNECT;
    for line in lines {
        let (first, value) = line.split_first()?;
        let name = match first {
            b'b' => "baggage",
            b'f' => "forwarded",
            b't' => "traceparent",
            _ => "x-forwarded-network",
        };
        request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(request)
}

fuzz_target!(|data: &[u8]| {
    let Some(request) = request(data) else { return };
    let Ok(read) = Connect::read(&request) else { return };
    let again = Connect::read(&read.request().expect("read before")).expect("written by us");
    assert_eq!(again.authority, read.authority);
    assert_eq!((&again.baggage, again.trace, &again.network), (&read.baggage, read.trace, &read.network));
    // A host's quotes and outer spaces are not kept: they are no part of any name.
    assert_eq!(again.forwarded.and_then(|it| it.client), read.forwarded.and_then(|it| it.client));
});
