//! Messages of gRPC in a body as it passes: five bytes that say how long each is, then that many. Owns counting them;
//! what is in them is not looked at, and what is no gRPC counts as whatever it looks like.

/// What comes before each message: whether it is compressed, and its length.
pub(crate) const PREFIX: usize = 5;

/// Messages that have begun so far.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    begun: u64,
    /// What there is of the next prefix.
    prefix: Vec<u8>,
    /// Bytes of the current message that are still to come.
    rest: usize,
}

impl Messages {
    /// More of the body has come.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (PREFIX - self.prefix.len()).min(bytes.len());
            let (head, more) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            self.prefix.extend_from_slice(head);
            bytes = more;
            if let [_, length @ ..] = self.prefix.as_slice()
                && let Ok(length) = <[u8; PREFIX - 1]>::try_from(length)
            {
                self.begun += 1;
                self.rest = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.prefix.clear();
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_body_is_cut_into_pieces() {
        let body =
            [&b"\0\0\0\0\x02ab"[..], b"\x01\0\0\0\0", b"\0\0\0\x01\x00", &[7; 256], b"\0\0\0\0\x05cut"]
                .concat();
        for size in [1, 2, 3, 5, 7, 11, body.len()] {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|piece| messages.see(piece));
            assert_eq!(messages.count(), 4, "in pieces of {size}");
        }
        let mut messages = Messages::default();
        messages.see(b"\0\0\0\0");
        assert_eq!(messages.count(), 0, "its length is not known yet");
    }
}
