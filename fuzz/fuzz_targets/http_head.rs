//! Bytes of HTTP/1.1 as a client sends them: a byte that says where to cut them, then they. They mean the same in
//! whatever pieces they come; and what passes is read by another parser as one request with one length, which ends
//! where we say that it ends.
#![no_main]

use ambit_model::http_head::Heads;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let mut whole = Heads::default();
    let found = whole.feed(bytes);
    let (first, second) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let mut pieces = Heads::default();
    let parted = pieces
        .feed(first)
        .and_then(|()| pieces.feed(second).map_err(|(at, error)| (first.len() + at, error)));
    assert_eq!(parted, found);
    let good = found.map_or_else(|(at, _)| at, |()| bytes.len());
    if found.is_ok() {
        assert_eq!(pieces.is_within_head(), whole.is_within_head());
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    // What comes before the first byte that is refused is all that anybody gets to read.
    let Ok(httparse::Status::Complete(end)) = request.parse(&bytes[..good]) else { return };
    let mut heads = Heads::default();
    assert_eq!(
        heads.feed(&bytes[..end]),
        Ok(()),
        "a head that others read was refused, and not kept from them"
    );
    assert!(!heads.is_within_head(), "others read a whole head, and we do not");
    let named = |name: &str| {
        request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).collect::<Vec<_>>()
    };
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    assert!(lengths.len() + usize::from(!codings.is_empty()) <= 1, "two ways to tell the length");
    assert!(!request.path.is_some_and(|path| path.contains('#')), "a fragment");
    let length =
        lengths.first().map(|header| std::str::from_utf8(header.value).unwrap().parse::<u64>().unwrap());
    let upgrade = named("upgrade").iter().any(|to| ambit_model::http_head::asks_for_websocket(to.value));
    if codings.is_empty() && !upgrade {
        // The next request begins right after the body: there, half a line is an open head.
        let body = vec![b'\n'; usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX).min(4096)];
        if length.unwrap_or(0) == body.len() as u64 {
            assert_eq!(heads.feed(&body), Ok(()));
            assert_eq!(heads.feed(b"G"), Ok(()));
            assert!(heads.is_within_head());
        }
    }
});
