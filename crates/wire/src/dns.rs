//! Questions for names and their answers, as bytes (RFC 1035, 3596, 6891). Pure, no sockets.
//! Owns the little of the format that a forwarder needs: one question, addresses as the answer, and telling whether
//! bytes answer a question. Of what others answer nothing else is read: it is handed on as it came.
//! What a name means is `model::dns`'s.

use std::net::IpAddr;

use ambit_model::dns::Family;

/// A header's length.
const HEADER: usize = 12;
/// What every asker can take over UDP (RFC 1035, 4.2.1).
const SMALLEST: u16 = 512;
/// What we send at most over UDP, whatever the asker could take.
const LARGEST: u16 = 4096;
/// A message over TCP has a length of two bytes before it.
const STREAMED: u16 = u16::MAX;
/// Records of one answer: what fits a message over TCP, at 28 bytes each.
const RECORDS: usize = 2_000;
/// The options record, and the bytes of an empty one with its name.
const OPT: u16 = 41;
const OPT_LENGTH: usize = 11;
/// Records of a question that are looked through for it. A question has none or one, signed ones have two.
const SKIMMED: u32 = 8;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const CD: u16 = 0x0010;
const CODE: u16 = 0x000f;
/// RFC 3225: the asker wants signatures too; echoed.
const DO: u16 = 0x8000;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// Seconds that an answer of ours is good for.
pub const TTL: u32 = 30;

/// A question as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    bytes: Vec<u8>,
    /// Where the question itself ends.
    end: usize,
    /// In lower case, without the final dot; none when it is no name of a host.
    name: Option<String>,
    kind: u16,
    class: u16,
    options: Option<Options>,
}

/// What the asker says of itself (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    payload: u16,
    version: u8,
    flags: u16,
    /// Where the payload's size stands.
    at: usize,
}

/// How a question came, and what an answer may measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// How a question ended that nobody has an answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Failure {
    /// It is not understood.
    Malformed = 1,
    /// Nobody answered in time, or we cannot know.
    Failed = 2,
    /// Something is asked for that we do not do.
    NotImplemented = 4,
    /// Options of a later version; the rest of the number stands in the options.
    BadVersion = 16,
}

/// Why bytes are no question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoQuestion {
    /// Not even a header: there is nothing to say to it.
    #[error("shorter than a header")]
    Short,
    /// A question that is answered with a failure.
    #[error("{why:?}")]
    Refused {
        /// The answer.
        why: Failure,
        /// The same as bytes.
        answer: Vec<u8>,
    },
}

impl Question {
    /// Reads a question.
    ///
    /// # Errors
    /// When it is none, with what to say to it.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoQuestion> {
        let flags = u16_at(bytes, 2).filter(|_| bytes.len() >= HEADER).ok_or(NoQuestion::Short)?;
        let refused = |why| NoQuestion::Refused { why, answer: bare(bytes, why) };
        if flags & QR != 0 {
            return Err(refused(Failure::Malformed));
        }
        if flags & OPCODE != 0 {
            return Err(refused(Failure::NotImplemented));
        }
        let this = Self::body(bytes).ok_or_else(|| refused(Failure::Malformed))?;
        if this.options.is_some_and(|options| options.version != 0) {
            return Err(NoQuestion::Refused {
                why: Failure::BadVersion,
                answer: this.failure(Failure::BadVersion),
            });
        }
        Ok(this)
    }

    fn body(bytes: &[u8]) -> Option<Self> {
        let count = |at| u16_at(bytes, at);
        if (count(4)?, count(6)?) != (1, 0) {
            return None;
        }
        let (name, after) = name_at(bytes, HEADER)?;
        let (kind, class, end) = (u16_at(bytes, after)?, u16_at(bytes, after + 2)?, after + 4);
        let rest = u32::from(count(8)?) + u32::from(count(10)?);
        let options = options(bytes, end, rest)?;
        Some(Self { bytes: bytes.to_vec(), end, name, kind, class, options })
    }

    /// The name in lower case, without the final dot; none when no host can have it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The kind of address asked for, if it is one.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        match (self.class, self.kind) {
            (INTERNET, A) => Some(Family::V4),
            (INTERNET, AAAA) => Some(Family::V6),
            _ => None,
        }
    }

    /// The kind of record asked for, out of a closed set of words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.kind {
            A => "a",
            2 => "ns",
            CNAME => "cname",
            6 => "soa",
            12 => "ptr",
            15 => "mx",
            16 => "txt",
            AAAA => "aaaa",
            33 => "srv",
            35 => "naptr",
            43 => "ds",
            48 => "dnskey",
            64 => "svcb",
            65 => "https",
            255 => "any",
            257 => "caa",
            _ => "other",
        }
    }

    /// The same question to be asked of others, under another number: for no more over UDP than we can take.
    #[must_use]
    pub fn forwarded(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        put(&mut bytes, 0, id);
        if let Some(Options { at, payload, .. }) = self.options {
            put(&mut bytes, at, payload.clamp(SMALLEST, LARGEST));
        }
        bytes
    }

    /// Our own answer: addresses, which the name has itself or by what it stands for.
    #[must_use]
    pub fn answer(&self, alias: Option<&str>, addresses: &[IpAddr], carrier: Carrier) -> Vec<u8> {
        let mut message = Message::begin(self, AA | RA, 0, carrier);
        let alias = alias.and_then(encode_name);
        let mut owner = QUESTION;
        if let Some(alias) = alias {
            let at = message.record(owner, CNAME, &alias);
            owner = at.unwrap_or(owner);
        }
        for ip in addresses.iter().take(RECORDS) {
            let written = match ip {
                IpAddr::V4(ip) => message.record(owner, A, &ip.octets()),
                IpAddr::V6(ip) => message.record(owner, AAAA, &ip.octets()),
            };
            if written.is_none() {
                break;
            }
        }
        message.end()
    }

    /// The answer that there is none.
    #[must_use]
    pub fn failure(&self, why: Failure) -> Vec<u8> {
        Message::begin(self, 0, why as u16, Carrier::Tcp).end()
    }

    /// What another has answered, as the asker is told it: under the asker's number, not as our own word, and cut
    /// where it is too long.
    #[must_use]
    pub fn relayed(&self, mut theirs: Vec<u8>, carrier: Carrier) -> Vec<u8> {
        if theirs.len() > self.room(carrier) {
            let mut cut = Message::begin(self, RA | TC, 0, Carrier::Tcp);
            cut.code(u16_at(&theirs, 2).unwrap_or_default() & CODE);
            return cut.end();
        }
        let flags = u16_at(&theirs, 2).unwrap_or_default();
        put(&mut theirs, 0, self.id());
        put(&mut theirs, 2, (flags & !AA) | RA);
        theirs
    }

    /// What an answer may measure.
    fn room(&self, carrier: Carrier) -> usize {
        let most = match carrier {
            Carrier::Tcp => STREAMED,
            Carrier::Udp => self.options.map_or(SMALLEST, |o| o.payload.clamp(SMALLEST, LARGEST)),
        };
        usize::from(most)
    }

    fn id(&self) -> u16 {
        u16_at(&self.bytes, 0).unwrap_or_default()
    }

    /// The bytes of name, kind and class.
    fn asked(&self) -> &[u8] {
        self.bytes.get(HEADER..self.end).unwrap_or_default()
    }
}

/// What an upstream said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An answer, a name that does not exist included.
    Answer,
    /// The beginning of one: the rest is to be had over TCP.
    Cut,
    /// It could not or would not answer; another may.
    Refusal,
    /// This is no answer to our question.
    Noise,
}

/// Whether bytes answer a question that was asked under this number: number, name, kind and class must be the same.
#[must_use]
pub fn heard(question: &Question, id: u16, bytes: &[u8]) -> Heard {
    let (Some(theirs), Some(flags)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else { return Heard::Noise };
    if theirs != id || flags & QR == 0 || flags & OPCODE != 0 || bytes.len() < HEADER {
        return Heard::Noise;
    }
    let code = flags & CODE;
    match u16_at(bytes, 4) {
        Some(1) => {}
        // One that has not understood the question need not repeat it.
        Some(0) if matches!(code, 1 | 4) => return Heard::Refusal,
        _ => return Heard::Noise,
    }
    if !repeats(question.asked(), bytes.get(HEADER..question.end).unwrap_or_default()) {
        return Heard::Noise;
    }
    match code {
        1 | 2 | 4 | 5 => Heard::Refusal,
        _ if flags & TC != 0 => Heard::Cut,
        _ => Heard::Answer,
    }
}

/// Letters of a name may have changed their case on the way; lengths of labels are below 64 and so no letters.
fn repeats(asked: &[u8], echoed: &[u8]) -> bool {
    match (asked.split_last_chunk::<4>(), echoed.split_last_chunk::<4>()) {
        (Some((name, kind)), Some((theirs, same))) => kind == same && name.eq_ignore_ascii_case(theirs),
        _ => false,
    }
}

/// A name by where it is written already.
#[derive(Debug, Clone, Copy)]
struct Pointer(u16);

/// The name in the question, which stands after the header.
const QUESTION: Pointer = Pointer(12);

/// An answer as it grows.
struct Message {
    bytes: Vec<u8>,
    room: usize,
    records: u16,
    options: Option<Options>,
    code: u16,
    full: bool,
}

impl Message {
    /// Header and question, which is repeated as it was written.
    fn begin(question: &Question, flags: u16, code: u16, carrier: Carrier) -> Self {
        let asked = u16_at(&question.bytes, 2).unwrap_or_default() & (RD | CD);
        let mut bytes = Vec::with_capacity(128);
        for field in [question.id(), QR | flags | asked, 1, 0, 0, 0] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(question.asked());
        let options = question.options;
        let room = question.room(carrier).saturating_sub(if options.is_some() { OPT_LENGTH } else { 0 });
        Self { bytes, room, records: 0, options, code, full: false }
    }

    fn code(&mut self, code: u16) {
        self.code = code;
    }

    /// Adds a record, and says where its data is; none when there is no room.
    fn record(&mut self, owner: Pointer, kind: u16, data: &[u8]) -> Option<Pointer> {
        let length = u16::try_from(data.len()).ok()?;
        if self.full || self.bytes.len() + HEADER + data.len() > self.room {
            self.full = true;
            return None;
        }
        self.bytes.extend((0xc000 | owner.0).to_be_bytes());
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(INTERNET.to_be_bytes());
        self.bytes.extend(TTL.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        let at = u16::try_from(self.bytes.len()).ok()?;
        self.bytes.extend(data);
        self.records += 1;
        Some(Pointer(at))
    }

    fn end(mut self) -> Vec<u8> {
        let cut = if self.full { TC } else { 0 };
        let flags = u16_at(&self.bytes, 2).unwrap_or_default() | cut | (self.code & CODE);
        put(&mut self.bytes, 2, flags);
        put(&mut self.bytes, 6, self.records);
        if let Some(Options { payload, flags, .. }) = self.options {
            put(&mut self.bytes, 10, 1);
            self.bytes.push(0);
            // The upper part of the code, and version 0.
            for field in [OPT, payload.max(SMALLEST), (self.code >> 4) << 8, flags & DO, 0] {
                self.bytes.extend(field.to_be_bytes());
            }
        }
        self.bytes
    }
}

/// A header without a question, for what is none.
fn bare(question: &[u8], why: Failure) -> Vec<u8> {
    let (id, flags) = (u16_at(question, 0).unwrap_or_default(), u16_at(question, 2).unwrap_or_default());
    let flags = QR | (flags & (OPCODE | RD)) | (why as u16 & CODE);
    [id, flags, 0, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

/// Looks for options among the records after the question. The outer none: they do not read.
#[expect(clippy::option_option, reason = "no options are fine, records that do not read are not")]
fn options(bytes: &[u8], mut at: usize, records: u32) -> Option<Option<Options>> {
    let mut found = None;
    for _ in 0..records.min(SKIMMED) {
        let (_, after) = name_at(bytes, at)?;
        let (kind, length) = (u16_at(bytes, after)?, u16_at(bytes, after + 8)?);
        if kind == OPT {
            let (payload, version) = (u16_at(bytes, after + 2)?, *bytes.get(after + 5)?);
            let options = Options { payload, version, flags: u16_at(bytes, after + 6)?, at: after + 2 };
            // More than one is an error (RFC 6891, 6.1.1).
            if found.replace(options).is_some() {
                return None;
            }
        }
        at = after + 10 + usize::from(length);
        if at > bytes.len() {
            return None;
        }
    }
    (records <= SKIMMED).then_some(found)
}

/// The name at a place, if a host can have it, and the place after. Names in questions are not compressed: there is
/// nothing before them to refer to.
fn name_at(bytes: &[u8], start: usize) -> Option<(Option<String>, usize)> {
    let (mut at, mut text, mut is_host) = (start, String::new(), true);
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // RFC 1035, 2.3.4: labels of 63, names of 255. Two high bits would be a reference.
        if length > 63 || at + length - start > 254 {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        is_host &= label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*'));
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        at += length;
    }
    Some((is_host.then_some(text), at))
}

/// A name as bytes; none when it is none.
fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= 255).then_some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *to = from;
    }
}

#[cfg(test)]
mod tests;
