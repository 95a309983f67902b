//! Base64 as it comes: in pieces of any length, of which four characters belong together. Whoever has written it may have
//! encoded it in pieces of its own, so padding may stand behind any four of them, not only behind the last.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Characters that belong together.
const GROUP: usize = 4;

/// It is no base64.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoText;

/// Reads text piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The beginning of a group whose end has not come yet.
    begun: Vec<u8>,
}

impl Decoder {
    /// What one more piece means, as far as it can be read.
    pub(crate) fn read(&mut self, text: &[u8]) -> Result<Bytes, NoText> {
        let wanted = if self.begun.is_empty() { 0 } else { GROUP - self.begun.len() };
        let (end, text) = text.split_at_checked(wanted).unwrap_or((text, &[]));
        self.begun.extend_from_slice(end);
        let mut bytes = Vec::with_capacity((self.begun.len() + text.len()) / GROUP * 3);
        if self.begun.len() == GROUP {
            groups(&self.begun, &mut bytes)?;
            self.begun.clear();
        }
        let (whole, begun) = text.split_at_checked(text.len() - text.len() % GROUP).unwrap_or_default();
        groups(whole, &mut bytes)?;
        self.begun.extend_from_slice(begun);
        Ok(bytes.into())
    }

    /// Whether it may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.begun.is_empty()
    }
}

/// Reads whole groups, each of which may be padded.
fn groups(mut text: &[u8], to: &mut Vec<u8>) -> Result<(), NoText> {
    while !text.is_empty() {
        let padded = text.iter().position(|it| *it == b'=');
        let end = padded.map_or(text.len(), |at| at - at % GROUP + GROUP);
        let (run, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
        STANDARD.decode_vec(run, to).map_err(|_| NoText)?;
        text = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'t>(pieces: impl IntoIterator<Item = &'t [u8]>) -> Result<Vec<u8>, NoText> {
        let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
        for piece in pieces {
            bytes.extend(decoder.read(piece)?);
        }
        if decoder.is_whole() { Ok(bytes) } else { Err(NoText) }
    }

    #[test]
    fn text_means_the_same_however_it_is_cut_into_pieces() {
        let text = b"AAAAAAI=YQ==Ymo=a2w=AQIDBAUG/+8=";
        let whole = b"\0\0\0\0\x02abjkl\x01\x02\x03\x04\x05\x06\xff\xef";
        for size in 1..=text.len() {
            assert_eq!(read(text.chunks(size)).as_deref(), Ok(&whole[..]), "in pieces of {size}");
        }
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(read(pieces).as_deref(), Ok(&whole[..]), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn what_is_no_base64_is_read_in_no_way() {
        for text in [
            "A", "AA", "AAA", "AAAAA", "=AAA", "A=AA", "AA=A", "====", "AA==A", "AAA ", "AA\n=", "AA-_",
            "AB==",
        ] {
            for size in 1..=text.len() {
                assert_eq!(read(text.as_bytes().chunks(size)), Err(NoText), "{text:?} in pieces of {size}");
            }
        }
    }
}
