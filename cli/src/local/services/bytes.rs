//! Netlink messages to the packet filter as bytes: headers and attributes. Knows no message's meaning.

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`, `NLM_F_APPEND`.
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;

/// The subsystem of nftables, and the family of rules for both IPv4 and IPv6.
const SUBSYSTEM: u16 = 10;
const FAMILY_INET: u8 = 1;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// A message's header and the packet filter's own.
const HEADER: usize = 20;

/// A transaction being written.
pub(super) struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    pub(super) fn begin() -> Self {
        let mut batch = Self { bytes: Vec::new(), count: 0 };
        batch.push(BATCH_BEGIN, 0, 0, &Attributes::new());
        batch
    }

    pub(super) fn add(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.push(SUBSYSTEM << 8 | kind, flags, FAMILY_INET, attributes);
    }

    /// As [`Batch::add`]; the number by which the kernel acknowledges it.
    pub(super) fn add_last(mut self, kind: u16, attributes: &Attributes) -> (Vec<u8>, u32) {
        self.add(kind, CREATE | ACK, attributes);
        let last = self.count;
        self.push(BATCH_END, 0, 0, &Attributes::new());
        (self.bytes, last)
    }

    fn push(&mut self, kind: u16, flags: u16, family: u8, attributes: &Attributes) {
        self.count += 1;
        let length = u32::try_from(HEADER + attributes.0.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        // The begin and the end of a batch name the subsystem here.
        let [high, low] = if family == 0 { SUBSYSTEM.to_be_bytes() } else { [0, 0] };
        self.bytes.extend([family, 0, high, low]);
        self.bytes.extend(&attributes.0);
    }
}

/// Attributes, one after the other, each filled up to four bytes.
#[derive(Debug, Default, Clone)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Text with its end marked.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.raw(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn be32(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.raw(kind, &inner.0)
    }
}
