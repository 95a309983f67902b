//! Bytes of heads and bodies that have one reading, and those that have two.

use proptest::prelude::*;

use super::*;

/// What comes of these bytes at once.
fn read(bytes: &str) -> Result<bool, HeadError> {
    let mut heads = Heads::default();
    heads.feed(bytes.as_bytes()).map_err(|(_, error)| error)?;
    Ok(heads.is_within_head())
}

/// Where in these bytes a request may begin.
fn next_begins_at(bytes: &str) -> Vec<usize> {
    let begins = |at: &usize| {
        let mut heads = Heads::default();
        heads.feed(&bytes.as_bytes()[..*at]).unwrap();
        heads.place == Place::First && heads.line.length == 0
    };
    (0..=bytes.len()).filter(begins).collect()
}

#[test]
fn what_readers_could_take_in_two_ways_is_no_request() {
    use HeadError::{Chunk, Fragment, Length, LengthAndCoding, LineEnd};
    let long = format!("GET / HTTP/1.1\r\nupgrade: {}websocket\r\n", " ".repeat(KEPT));
    for (bytes, wanted) in [
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\r\n\n", LineEnd),
        ("\nGET / HTTP/1.1\r\n", LineEnd),
        ("GET /#a HTTP/1.1\r\n", Fragment),
        ("GET /a?b#c HTTP/1.1\r\n", Fragment),
        ("POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n", LengthAndCoding),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n", LengthAndCoding),
        ("POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\ncontent-length: 3\r\n", LengthAndCoding),
        ("POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n", Length),
        ("POST / HTTP/1.1\r\ncontent-length: 3, 3\r\n", Length),
        ("POST / HTTP/1.1\r\ncontent-length: +3\r\n", Length),
        ("POST / HTTP/1.1\r\ncontent-length: 0x3\r\n", Length),
        ("POST / HTTP/1.1\r\ncontent-length: 3 3\r\n", Length),
        ("POST / HTTP/1.1\r\ncontent-length:\r\n", Length),
        ("POST / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n", Length),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", Chunk),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\r\n", Chunk),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n", Chunk),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1 1\r\na\r\n", Chunk),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\na", Chunk),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n", Chunk),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\n", Chunk),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n", LineEnd),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;x\na\r\n", LineEnd),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 1\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\n", LineEnd),
        (long.as_str(), HeadError::Upgrade),
    ] {
        assert_eq!(read(bytes), Err(wanted), "{bytes:?}");
        let mut heads = Heads::default();
        let alone = bytes.bytes().enumerate().find_map(|(at, byte)| Some((at, heads.feed(&[byte]).err()?)));
        let (at, (_, error)) = alone.unwrap();
        let at_once = Heads::default().feed(bytes.as_bytes());
        assert_eq!(at_once, Err((at, error)), "{bytes:?} in single bytes");
    }
}

#[test]
fn the_next_request_begins_where_the_one_before_it_ends() {
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\ntransfer-encoding:\tChunked \r\n\r\n\
                   3;a=b\r\n\r\n\r\r\nA \r\n0123456789\r\n00\r\nx-sum: 1\r\n\r\n";
    let empty = "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    let asked = "GET /?a=%23 HTTP/1.1\r\nx: a#b\r\nupgrade: h2c\r\n\r\n";
    for first in [get, sized, chunked, empty, asked] {
        for second in [get, sized, chunked] {
            let both = format!("{first}{second}");
            assert_eq!(next_begins_at(&both), [0, first.len(), both.len()], "{both:?}");
        }
    }
    assert_eq!(next_begins_at("\r\n\r\n"), [0, 2, 4]);
}

#[test]
fn after_a_request_for_a_websocket_nothing_is_taken_for_a_request() {
    for head in [
        "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nUpgrade:WebSocket\r\nupgrade: h2c\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(next_begins_at(head), [0], "{head:?}");
        assert_eq!(read(&format!("{head}\n\n\0#")), Ok(false), "{head:?}");
    }
}

#[test]
fn a_head_is_open_from_its_first_byte_to_its_empty_line() {
    let head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for end in 1..head.len() {
        assert_eq!(read(&head[..end]), Ok(true), "{end}");
    }
    assert_eq!(read(""), Ok(false));
    assert_eq!(read(head), Ok(false));
    assert_eq!(read("POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab"), Ok(false));
}

#[test]
fn lines_of_any_length_keep_little() {
    let mut heads = Heads::default();
    heads.feed(b"GET /").unwrap();
    for _ in 0..1000 {
        heads.feed(&[b'a'; 1000]).unwrap();
    }
    assert!(heads.line.start.capacity() <= 2 * KEPT);
    assert_eq!(heads.feed(b"# HTTP/1.1\r\n"), Err((11, HeadError::Fragment)));
}

proptest! {
    /// Bytes mean the same in whatever pieces they come.
    #[test]
    fn pieces_make_no_difference(
        parts in prop::collection::vec(prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "\r\n", "\n", "\r", "content-length: 2\r\n", "transfer-encoding: chunked\r\n",
            "2\r\n", "ab\r\n", "ab", "0\r\n", "x: #\r\n", "upgrade: websocket\r\n", " /#", "1;\r\n",
        ]), 0..12),
        cuts in prop::collection::vec(0_usize..200, 0..4),
    ) {
        let bytes = parts.concat().into_bytes();
        let mut whole = Heads::default();
        let wanted = whole.feed(&bytes);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut pieces = Heads::default();
        let found = cuts.windows(2).try_for_each(|cut| {
            pieces.feed(&bytes[cut[0]..cut[1]]).map_err(|(at, error)| (cut[0] + at, error))
        });
        prop_assert_eq!(found, wanted);
        if wanted.is_ok() {
            prop_assert_eq!(pieces.place, whole.place);
        }
    }
}
