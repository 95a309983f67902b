//! Reads delta discovery as it comes in, without ever holding more than one resource: a subscriber that a thousand
//! others stand beside cannot keep twenty megabytes of first answer. Owns the framing; knows nothing of resources but
//! name and version.

use bytes::{Buf as _, BytesMut};

/// One thing that a response says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A resource.
    Resource(&'a [u8]),
    /// A name that is gone.
    Removed(&'a str),
    /// The response is over: its type, and what is to be answered.
    End {
        /// Its type.
        kind: &'a str,
        /// Its nonce.
        nonce: &'a str,
    },
}

/// Bytes that are no delta discovery.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbled;

/// What came in and was not read yet.
#[derive(Default)]
pub struct Answers {
    bytes: BytesMut,
    /// How much of the message begun is still to come; none: no message is begun.
    left: Option<usize>,
    kind: String,
    nonce: String,
}

impl Answers {
    /// Takes bytes in and tells what they say.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn take(&mut self, chunk: &[u8], mut tell: impl FnMut(Said<'_>)) -> Result<(), Garbled> {
        self.bytes.extend_from_slice(chunk);
        loop {
            let Some(left) = self.left else {
                // gRPC: whether it is compressed, and its length.
                let Some([0, length @ ..]) = self.bytes.first_chunk::<5>() else {
                    return if self.bytes.len() < 5 { Ok(()) } else { Err(Garbled) };
                };
                self.left = Some(u32::from_be_bytes(*length) as usize);
                self.bytes.advance(5);
                continue;
            };
            if left == 0 {
                tell(Said::End { kind: &self.kind, nonce: &self.nonce });
                (self.left, self.kind, self.nonce) = (None, String::new(), String::new());
                continue;
            }
            let whole = self.bytes.get(..left).is_some();
            let Some((field, value, length)) = field(&self.bytes) else {
                return if whole { Err(Garbled) } else { Ok(()) };
            };
            let text = || std::str::from_utf8(value).map_err(|_| Garbled);
            match field {
                2 => tell(Said::Resource(value)),
                4 => self.kind = text()?.to_owned(),
                5 => self.nonce = text()?.to_owned(),
                6 => tell(Said::Removed(text()?)),
                _ => {}
            }
            self.bytes.advance(length);
            self.left = Some(left.checked_sub(length).ok_or(Garbled)?);
        }
    }
}

/// Name and version of a resource.
#[must_use]
pub fn resource(mut bytes: &[u8]) -> (&str, &str) {
    let (mut name, mut version) = ("", "");
    while let Some((number, value, length)) = field(bytes) {
        let text = std::str::from_utf8(value).unwrap_or_default();
        match number {
            1 => version = text,
            3 => name = text,
            _ => {}
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    (name, version)
}

/// The first field of a message, if all of it is there: its number, its value, and how long it is as a whole. All of
/// discovery's fields that matter are delimited.
fn field(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let (tag, at) = number(bytes, 0)?;
    let (length, at) = number(bytes, at)?;
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    (tag & 7 == 2).then_some(())?;
    Some((tag >> 3, bytes.get(at..end)?, end))
}

fn number(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(at)?;
        value |= u64::from(byte & 127) << shift;
        at += 1;
        shift += 7;
        if byte < 128 || shift > 56 {
            return Some((value, at));
        }
    }
}

/// Appends a field of text or bytes.
pub fn put(message: &mut Vec<u8>, field: u8, value: &[u8]) {
    message.push(field << 3 | 2);
    let mut length = value.len();
    while length > 127 {
        message.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(value);
}

/// A message as gRPC frames it.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(chunks: &[&[u8]]) -> Result<Vec<String>, Garbled> {
        let (mut answers, mut all) = (Answers::default(), Vec::new());
        for chunk in chunks {
            answers.take(chunk, |said| {
                all.push(match said {
                    Said::Resource(bytes) => format!("{:?}", resource(bytes)),
                    other => format!("{other:?}"),
                });
            })?;
        }
        Ok(all)
    }

    #[test]
    fn responses_are_read_the_same_however_they_are_cut() {
        let mut one = Vec::new();
        put(&mut one, 1, b"v1");
        put(&mut one, 3, b"name");
        put(&mut one, 2, &[7; 300]);
        let mut message = Vec::new();
        put(&mut message, 2, &one);
        put(&mut message, 4, b"type");
        put(&mut message, 6, b"gone");
        put(&mut message, 5, b"nonce");
        let bytes = [framed(&message), framed(b"")].concat();
        let wanted = [
            r#"("name", "v1")"#,
            r#"Removed("gone")"#,
            r#"End { kind: "type", nonce: "nonce" }"#,
            r#"End { kind: "", nonce: "" }"#,
        ];
        for size in [1, 3, 64, bytes.len()] {
            assert_eq!(said(&bytes.chunks(size).collect::<Vec<_>>()).unwrap(), wanted, "{size}");
        }
        assert_eq!(said(&[&[1, 0, 0, 0, 0]]), Err(Garbled));
    }
}
