//! How a client of TLS begins (RFC 8446, 4.1.2; RFC 6066, 3): which server it asks for by name. Owns reading no more than
//! that, of what nobody has proven yet. Whoever carries the connection passes on the very bytes.

use crate::http_route::is_server_name;

/// A beginning longer than this is none.
pub const LONGEST: usize = 64 * 1024;

const HANDSHAKE: u8 = 22;
/// Of its version, in all there are.
const MAJOR: u8 = 3;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST: u8 = 0;

/// What a connection begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// There is more to come.
    Partial,
    /// A client of TLS that asks for this server, in small letters, or for none.
    Tls(Option<Box<str>>),
    /// Something else.
    Other,
}

/// Reads the beginning of a connection, as far as it has come.
#[must_use]
pub fn read(bytes: &[u8]) -> Hello {
    match hello(bytes) {
        Ok(None) if bytes.len() < LONGEST => Hello::Partial,
        Ok(None) | Err(NotTls) => Hello::Other,
        Ok(Some(body)) => match server(&mut Bytes(&body)) {
            Ok(name) => Hello::Tls(name),
            Err(NotTls) => Hello::Other,
        },
    }
}

/// It is no beginning of TLS.
#[derive(Debug)]
struct NotTls;

/// The client's first message, put together of as many records as it takes; none while it is not all there.
fn hello(bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    let (mut rest, mut message) = (Bytes(bytes), Vec::new());
    loop {
        if rest.0.iter().zip([HANDSHAKE, MAJOR]).any(|(byte, wanted)| *byte != wanted) {
            return Err(NotTls);
        }
        // Kind and version.
        let Some(length) = rest.take(3).and_then(|_| rest.number(2)) else { return Ok(None) };
        if length == 0 {
            return Err(NotTls);
        }
        let whole = rest.take(length);
        message.extend_from_slice(whole.as_ref().map_or(rest.0, |it| it.0));
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NotTls);
        }
        let mut body = Bytes(&message);
        if let Some(length) = body.take(1).and_then(|_| body.number(3)) {
            if length > LONGEST {
                return Err(NotTls);
            }
            if let Some(body) = body.take(length) {
                return Ok(Some(body.0.to_vec()));
            }
        }
        if whole.is_none() {
            return Ok(None);
        }
    }
}

/// The name in a client's first message.
fn server(body: &mut Bytes<'_>) -> Result<Option<Box<str>>, NotTls> {
    // Version, chance, session, suites and compressions.
    body.take(2 + 32).ok_or(NotTls)?;
    for width in [1, 2, 1] {
        body.counted(width).ok_or(NotTls)?;
    }
    if body.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = body.counted(2).ok_or(NotTls)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2).ok_or(NotTls)?;
        let mut inner = extensions.counted(2).ok_or(NotTls)?;
        if kind == usize::from(SERVER_NAME) {
            return listed(&mut inner.counted(2).ok_or(NotTls)?);
        }
    }
    Ok(None)
}

fn listed(names: &mut Bytes<'_>) -> Result<Option<Box<str>>, NotTls> {
    while !names.0.is_empty() {
        let kind = names.number(1).ok_or(NotTls)?;
        let name = names.counted(2).ok_or(NotTls)?;
        if kind == usize::from(HOST) {
            let name = std::str::from_utf8(name.0).ok().filter(|name| is_server_name(name));
            return name.map(|name| Some(name.to_ascii_lowercase().into())).ok_or(NotTls);
        }
    }
    Ok(None)
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<Self> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(Self(taken))
    }

    /// A number of so many bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.0.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// As many bytes as a number of this width says.
    fn counted(&mut self, width: usize) -> Option<Self> {
        let count = self.number(width)?;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(width: usize, bytes: &[u8]) -> Vec<u8> {
        let mut all = bytes.len().to_be_bytes()[8 - width..].to_vec();
        all.extend_from_slice(bytes);
        all
    }

    /// A client's first message, with these extensions.
    fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(counted(1, &[1; 32]));
        body.extend(counted(2, &[0x13, 1]));
        body.extend(counted(1, &[0]));
        let all = extensions
            .iter()
            .flat_map(|(kind, inner)| [kind.to_be_bytes().to_vec(), counted(2, inner)].concat());
        body.extend(counted(2, &all.collect::<Vec<_>>()));
        [vec![1], counted(3, &body)].concat()
    }

    fn record(part: &[u8]) -> Vec<u8> {
        [vec![22, 3, 1], counted(2, part)].concat()
    }

    fn name(text: &[u8]) -> (u16, Vec<u8>) {
        (0, counted(2, &[vec![0], counted(2, text)].concat()))
    }

    fn tls(server: &str) -> Hello {
        Hello::Tls(Some(server.into()))
    }

    #[test]
    fn the_name_is_read_of_whatever_pieces_it_comes_in_and_not_before_it_is_all_there() {
        let message = message(&[(43, vec![2, 3, 4]), name(b"DB.shop"), (51, vec![9; 1200])]);
        for size in [message.len(), 600, 100, 7, 1] {
            let bytes: Vec<u8> = message.chunks(size).flat_map(record).collect();
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Hello::Partial, "{end} of {} by {size}", bytes.len());
            }
            assert_eq!(read(&bytes), tls("db.shop"));
            // What follows is not looked at.
            assert_eq!(read(&[bytes, b"and more".to_vec()].concat()), tls("db.shop"));
        }
    }

    #[test]
    fn a_client_may_ask_for_no_name_and_what_is_no_client_of_tls_is_told_from_it_at_once() {
        assert_eq!(read(&record(&message(&[(43, vec![2, 3, 4])]))), Hello::Tls(None));
        assert_eq!(read(&record(&message(&[]))), Hello::Tls(None));
        assert_eq!(read(b""), Hello::Partial);
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16GET",
            b"\x15\x03\x01",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x00\x04\x02",
        ] {
            assert_eq!(read(other), Hello::Other, "{other:?}");
        }
        for name in [name(b"a b"), name(b""), name(b"caf\xc3\xa9"), (0, vec![0, 9, 0]), (0, vec![])] {
            assert_eq!(read(&record(&message(&[name]))), Hello::Other);
        }
        // One that never ends is none.
        let endless: Vec<u8> = [vec![1, 0, 0xff, 0xff], vec![0; 70_000]].concat();
        let bytes: Vec<u8> = endless.chunks(16_000).flat_map(record).collect();
        assert_ne!(read(&bytes[..LONGEST]), Hello::Partial);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            changes in proptest::collection::vec((0_usize..200, proptest::num::u8::ANY), 0..4),
            end in 0_usize..200,
        ) {
            let mut bytes = record(&message(&[name(b"db.shop"), (51, vec![9; 40])]));
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = read(&bytes[..end.min(bytes.len())]);
        }
    }
}
