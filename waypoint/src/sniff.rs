//! What is spoken on a connection whose port does not say (`waypoint.md` 1.3). Owns the guess, from the first bytes.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::line::Line;

/// Who has begun like HTTP is to go on within this.
const REST: Duration = Duration::from_secs(10);

/// RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that is taken for one.
const METHOD_MOST: usize = 24;
/// What a request's target begins with: a path, `*`, or a whole URI.
const TARGETS: [&[u8]; 4] = [b"/", b"* ", b"http://", b"https://"];

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    Other,
    /// Nothing was said in time, or at all.
    Nothing,
}

impl Spoken {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Other => "other",
            Self::Nothing => "nothing",
        }
    }
}

/// Listens until it is clear, for the first byte as long as `patience`. What was read is put back.
pub(crate) async fn sniff(line: &mut Line, mut patience: Duration) -> io::Result<Spoken> {
    let mut heard = BytesMut::with_capacity(1024);
    let spoken = loop {
        let read = match timeout(patience, line.read_buf(&mut heard)).await {
            Ok(read) => read?,
            Err(_) if heard.is_empty() => break Spoken::Nothing,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        match guess(&heard) {
            Some(spoken) => break spoken,
            None if read == 0 && heard.is_empty() => break Spoken::Nothing,
            None if read == 0 => break Spoken::Other,
            None => patience = REST,
        }
    };
    line.put_back(heard.freeze());
    Ok(spoken)
}

/// What begins like this; none while it may still be HTTP or not.
pub(crate) fn guess(heard: &[u8]) -> Option<Spoken> {
    if heard.is_empty() {
        return None;
    }
    let common = heard.len().min(PREFACE.len());
    if heard.get(..common) == PREFACE.get(..common) {
        return (common == PREFACE.len()).then_some(Spoken::Http2);
    }
    let Some(space) = heard.iter().position(|byte| *byte == b' ') else {
        let may_be = heard.len() <= METHOD_MOST && heard.iter().all(|byte| in_method(*byte));
        return if may_be { None } else { Some(Spoken::Other) };
    };
    let (method, target) = heard.split_at(space);
    let target = target.get(1..).unwrap_or_default();
    if method.is_empty() || method.len() > METHOD_MOST || !method.iter().all(|byte| in_method(*byte)) {
        return Some(Spoken::Other);
    }
    if TARGETS.iter().any(|begin| target.starts_with(begin)) {
        return Some(Spoken::Http1);
    }
    let may_be = TARGETS.iter().any(|begin| begin.starts_with(target));
    if may_be { None } else { Some(Spoken::Other) }
}

/// Methods are in capitals, those of WebDAV and others included.
fn in_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_is_spoken() {
        for (heard, spoken) in [
            ("", None),
            ("P", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Spoken::Http2)),
            ("PRI / HTTP/1.1\r\n", Some(Spoken::Http1)),
            ("G", None),
            ("GET ", None),
            ("GET /", Some(Spoken::Http1)),
            ("OPTIONS *", None),
            ("OPTIONS * HTTP/1.1", Some(Spoken::Http1)),
            ("GET htt", None),
            ("GET http://a/", Some(Spoken::Http1)),
            ("VERSION-CONTROL /", Some(Spoken::Http1)),
            ("GET key", Some(Spoken::Other)),
            ("EHLO shop", Some(Spoken::Other)),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", Some(Spoken::Other)),
            ("*1\r\n$4\r\nPING", Some(Spoken::Other)),
            ("\u{16}\u{3}\u{1}", Some(Spoken::Other)),
            (" GET /", Some(Spoken::Other)),
        ] {
            assert_eq!(guess(heard.as_bytes()), spoken, "{heard:?}");
        }
    }

    #[test]
    fn no_byte_more_ever_takes_a_guess_back() {
        for text in [
            "GET /a HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0",
            "EHLO a\r\n",
            "PROXY TCP4 1.2.3.4",
        ] {
            let guesses: Vec<_> = (0..=text.len()).map(|n| guess(&text.as_bytes()[..n])).collect();
            let settled = guesses.iter().position(Option::is_some).unwrap();
            assert!(guesses[settled..].iter().all(|g| *g == guesses[settled]), "{text:?} {guesses:?}");
        }
    }
}
