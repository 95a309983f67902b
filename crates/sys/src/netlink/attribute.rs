//! Netlink messages as bytes: headers, attributes, and reading them back.
//! Owns alignment and lengths. Knows no message's meaning.

/// Bytes of netlink messages, one after the other.
#[derive(Debug, Default, Clone)]
pub struct Messages {
    bytes: Vec<u8>,
    count: u32,
}

/// A message's header, as received.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Which message it is: numbers of the subsystem.
    pub kind: u16,
    /// Bits of `NLM_F_…`.
    pub flags: u16,
    /// The number of the message that it answers.
    pub number: u32,
}

/// Attributes, one after the other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

/// The upper bits of an attribute's type are flags (nested, byte order).
const KIND_BITS: u16 = 0x3fff;

const HEADER: usize = 16;

impl Messages {
    /// Adds a message; its number, counted from 1, tells its acknowledgement.
    pub fn push(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: &Attributes) -> u32 {
        self.count += 1;
        let length = HEADER + fixed.len() + attributes.0.len();
        self.bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(fixed);
        self.bytes.extend(&attributes.0);
        align(&mut self.bytes);
        self.count
    }

    /// All of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Attributes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more, as it is.
    #[must_use]
    pub fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        align(&mut self.0);
        self
    }

    /// Text with its end marked, as the kernel keeps names.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    /// A number in network byte order, as the packet filter has them.
    #[must_use]
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    /// A number in this machine's byte order, as routing has them.
    #[must_use]
    pub fn ne32(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_ne_bytes())
    }

    /// One more, which holds others.
    #[must_use]
    pub fn nested(self, kind: u16, inner: &Self) -> Self {
        self.raw(kind, &inner.0)
    }

    /// All of them.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The messages in received bytes; ends at the first that is cut.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let header = Header { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, number: u32_at(bytes, 8)? };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

/// The attributes in received bytes; ends at the first that is cut.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_BITS;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// One attribute's value.
#[must_use]
pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// A name without its end mark.
#[must_use]
pub fn text(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in this machine's byte order.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// A number in this machine's byte order.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_are_read_as_they_were_written() {
        let inner = Attributes::new().be32(1, 7).text(2, "lo");
        let mut messages_out = Messages::default();
        let first = messages_out.push(10, 1, &[1, 2, 3, 4], &Attributes::new().nested(5, &inner));
        let second = messages_out.push(11, 4, &[], &Attributes::new());
        assert_eq!((first, second), (1, 2));
        let read: Vec<_> = messages(messages_out.bytes()).collect();
        assert_eq!(
            read.iter().map(|(h, _)| (h.kind, h.flags, h.number)).collect::<Vec<_>>(),
            [(10, 1, 1), (11, 4, 2)]
        );
        let nested = attribute(&read[0].1[4..], 5).unwrap();
        assert_eq!(attribute(nested, 1).unwrap(), 7_u32.to_be_bytes());
        assert_eq!(text(attribute(nested, 2).unwrap()), b"lo");
    }

    #[test]
    fn cut_or_nonsensical_bytes_end_the_reading() {
        for bytes in [&[][..], &[1], &[0; 16], &[255; 20], &[3, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
        {
            assert_eq!(messages(bytes).count(), 0, "{bytes:?}");
            assert_eq!(attributes(bytes.get(..3).unwrap_or_default()).count(), 0);
        }
    }
}
