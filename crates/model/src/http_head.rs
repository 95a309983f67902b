//! Requests of HTTP/1.1 as the bytes that come in: where one ends and the next begins, and that every reader on the
//! way would say the same of it (`waypoint.md` 6.2). Owns what only the bytes tell; a library that reads them may mend
//! what is unclear, and then nobody after it can know. What a head means once it is read is for whoever reads it.

use memchr::memchr;

/// More of a line is not kept: enough for the headers that say where a body ends, and their values.
const KEPT: usize = 64;
/// Digits of a chunk's size; more are more than 64 bits.
const SIZE_DIGITS: usize = 16;

/// Why bytes are no requests that everybody reads alike; all of these are answered 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeadError {
    /// A line ends with a line feed alone (RFC 9112, 2.2: some take it for an end, some do not).
    #[error("a line ends without a carriage return")]
    LineEnd,
    /// The target has a fragment, which some cut off and some take for a part of the path.
    #[error("the target has a fragment")]
    Fragment,
    /// A length, and a coding that says it again (RFC 9112, 6.1).
    #[error("there are a length and a transfer coding")]
    LengthAndCoding,
    /// Several lengths, or one that is no number.
    #[error("the length is no number, or not the only one")]
    Length,
    /// No protocol is called like that; what follows could be anything.
    #[error("the name of the protocol asked for is too long")]
    Upgrade,
    /// The body's pieces are not where their sizes say.
    #[error("a chunk of the body is malformed")]
    Chunk,
}

/// Follows one connection, piece by piece, in whatever pieces its bytes come.
#[derive(Debug, Default)]
pub struct Heads {
    place: Place,
    line: Line,
}

/// Where in a request we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Before or in its first line.
    #[default]
    First,
    Headers(Framing),
    /// In a body with so many bytes to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// After a chunk, where a carriage return is due, then a line feed.
    ChunkReturn,
    ChunkFeed,
    Trailers,
    /// No further request is read here.
    Over,
}

/// How a body ends, by what its head has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Framing {
    length: Option<u64>,
    coding: Option<Coding>,
    websocket: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// One that ends the connection: nobody knows where the body ends.
    Unknown,
}

/// The line that is being read.
#[derive(Debug, Default)]
struct Line {
    /// How it begins.
    start: Vec<u8>,
    length: usize,
    /// Whether it ends, so far, with a carriage return.
    returned: bool,
    /// Of a first line: whether there is a space in it, and a `#` behind that.
    spaced: bool,
    fragment: bool,
}

/// Whether an `upgrade` header asks for a websocket. Whoever answers such a request with anything but 101 must let the
/// connection end: what follows the request's head is taken for no request.
#[must_use]
pub fn asks_for_websocket(upgrade: &[u8]) -> bool {
    upgrade.trim_ascii().eq_ignore_ascii_case(b"websocket")
}

impl Heads {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// What is wrong, and at which of these bytes that is certain: nothing from it on is to be read by anybody. The head
    /// or the body that it is in is not over before it.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), (usize, HeadError)> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(rest).map_err(|(at, error)| (bytes.len() - rest.len() + at, error))?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether a head has begun, and is not over.
    #[must_use]
    pub fn is_within_head(&self) -> bool {
        match self.place {
            Place::First => self.line.length > 0,
            Place::Headers(_) => true,
            Place::Body(_)
            | Place::ChunkSize
            | Place::Chunk(_)
            | Place::ChunkReturn
            | Place::ChunkFeed
            | Place::Trailers
            | Place::Over => false,
        }
    }

    /// Goes through a piece of one place, and says how long it was.
    fn step(&mut self, rest: &[u8]) -> Result<usize, (usize, HeadError)> {
        match self.place {
            Place::Body(left) => {
                let (taken, left) = count(left, rest);
                self.place = if left == 0 { Place::First } else { Place::Body(left) };
                Ok(taken)
            }
            Place::Chunk(left) => {
                let (taken, left) = count(left, rest);
                self.place = if left == 0 { Place::ChunkReturn } else { Place::Chunk(left) };
                Ok(taken)
            }
            Place::ChunkReturn => self.due(b'\r', rest, Place::ChunkFeed),
            Place::ChunkFeed => self.due(b'\n', rest, Place::ChunkSize),
            Place::Over => Ok(rest.len()),
            Place::First | Place::Headers(_) | Place::ChunkSize | Place::Trailers => {
                let end = memchr(b'\n', rest);
                let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                self.line.take(piece);
                if self.place == Place::First {
                    self.line.look_for_fragment(piece);
                }
                let Some(end) = end else { return Ok(rest.len()) };
                let next = self.line_over().map_err(|error| (end, error))?;
                self.place = next;
                self.line.clear();
                Ok(end + 1)
            }
        }
    }

    fn due(&mut self, wanted: u8, rest: &[u8], next: Place) -> Result<usize, (usize, HeadError)> {
        if rest.first() != Some(&wanted) {
            return Err((0, HeadError::Chunk));
        }
        self.place = next;
        Ok(1)
    }

    /// Where a line leads that has just ended.
    fn line_over(&self) -> Result<Place, HeadError> {
        let line = &self.line;
        if !line.returned {
            return Err(HeadError::LineEnd);
        }
        match self.place {
            // RFC 9112, 2.2: empty lines before a request are passed over.
            Place::First if line.is_empty() => Ok(Place::First),
            Place::First if line.fragment => Err(HeadError::Fragment),
            Place::First => Ok(Place::Headers(Framing::default())),
            Place::Headers(framing) if line.is_empty() => Ok(framing.body()),
            Place::Headers(mut framing) => {
                framing.header(line)?;
                Ok(Place::Headers(framing))
            }
            Place::ChunkSize => Ok(match line.chunk_size()? {
                0 => Place::Trailers,
                size => Place::Chunk(size),
            }),
            Place::Trailers if line.is_empty() => Ok(Place::First),
            place @ (Place::Trailers
            | Place::Body(_)
            | Place::Chunk(_)
            | Place::ChunkReturn
            | Place::ChunkFeed
            | Place::Over) => Ok(place),
        }
    }
}

/// How many of these bytes are of a piece that has `left`, and what it has then.
fn count(left: u64, rest: &[u8]) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
    (taken, left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX)))
}

impl Framing {
    fn header(&mut self, line: &Line) -> Result<(), HeadError> {
        // The longest name that matters is far shorter than what is kept.
        let Some((name, value)) = line.header() else { return Ok(()) };
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value, 10).filter(|_| !line.is_long() && self.length.is_none());
            self.length = Some(length.ok_or(HeadError::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let chunked = self.coding.is_none() && !line.is_long() && value.eq_ignore_ascii_case(b"chunked");
            self.coding = Some(if chunked { Coding::Chunked } else { Coding::Unknown });
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            if line.is_long() {
                return Err(HeadError::Upgrade);
            }
            self.websocket |= asks_for_websocket(value);
        }
        match (self.length, self.coding) {
            (Some(_), Some(_)) => Err(HeadError::LengthAndCoding),
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// What follows the head.
    fn body(self) -> Place {
        match (self.coding, self.length) {
            // It may be bytes of another protocol by then.
            _ if self.websocket => Place::Over,
            (Some(Coding::Unknown), _) => Place::Over,
            (Some(Coding::Chunked), _) => Place::ChunkSize,
            (None, Some(length @ 1..)) => Place::Body(length),
            (None, Some(0) | None) => Place::First,
        }
    }
}

impl Line {
    fn take(&mut self, piece: &[u8]) {
        let room = KEPT.saturating_sub(self.start.len()).min(piece.len());
        self.start.extend_from_slice(piece.get(..room).unwrap_or_default());
        self.length += piece.len();
        if let Some(last) = piece.last() {
            self.returned = *last == b'\r';
        }
    }

    fn look_for_fragment(&mut self, piece: &[u8]) {
        let mut target = piece;
        if !self.spaced {
            let Some(space) = memchr(b' ', piece) else { return };
            self.spaced = true;
            target = piece.get(space..).unwrap_or_default();
        }
        self.fragment |= memchr(b'#', target).is_some();
    }

    fn clear(&mut self) {
        let mut start = std::mem::take(&mut self.start);
        start.clear();
        *self = Self { start, ..Self::default() };
    }

    /// Whether more was in it than is kept.
    fn is_long(&self) -> bool {
        self.length > self.start.len()
    }

    fn is_empty(&self) -> bool {
        self.length == 1
    }

    /// A header's name, and its value as far as it is kept.
    fn header(&self) -> Option<(&[u8], &[u8])> {
        let colon = memchr(b':', &self.start)?;
        let (name, value) = self.start.split_at_checked(colon)?;
        Some((name, value.get(1..)?.trim_ascii()))
    }

    /// RFC 9112, 7.1: hexadecimal digits, and extensions that mean nothing to us.
    fn chunk_size(&self) -> Result<u64, HeadError> {
        let digits = self.start.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, rest) = self.start.split_at_checked(digits).ok_or(HeadError::Chunk)?;
        let rest = rest.trim_ascii();
        if digits > SIZE_DIGITS || !(rest.is_empty() && !self.is_long() || rest.starts_with(b";")) {
            return Err(HeadError::Chunk);
        }
        number(size, 16).ok_or(HeadError::Chunk)
    }
}

/// Digits, and nothing else.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let plain = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests;
