//! Traces of requests (`waypoint.md` 5.3): which trace a request is of, whether it is written down, and what the next hop
//! is told. Owns the nouns, and the headers of W3C and of B3 in both directions. Ids are made of the chance that is handed
//! in; spans and who gets them are the waypoint's.

mod b3;
mod w3c;

use std::fmt;

use http::header::{HeaderMap, HeaderName};

use crate::balance::Pick;

/// What a trace is called; never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// What a span is called; never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// How a trace is told of in headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forms {
    /// `traceparent`, beside which `tracestate` stays as it is.
    pub w3c: bool,
    /// `x-b3-traceid` and its like.
    pub b3: bool,
    /// All of it in `b3`.
    pub b3_single: bool,
}

/// What a request says of its trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The trace, and the span of who sent it.
    pub parent: Option<(TraceId, SpanId)>,
    /// What was decided before; none: nothing.
    pub sampled: Option<bool>,
    /// It is to be written down whatever else is said, by everybody.
    pub debug: bool,
    /// How it was told.
    pub forms: Forms,
}

/// A span of ours on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The trace.
    pub trace: TraceId,
    /// The span that the next hop's is a child of.
    pub span: SpanId,
    /// That span's own parent.
    pub parent: SpanId,
    /// Whether it is written down.
    pub sampled: bool,
    /// As it came.
    pub debug: bool,
}

/// A share of traces, in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sampling(u16);

/// Set by those who want their request to be written down.
const FORCED: HeaderName = HeaderName::from_static("x-envoy-force-trace");

impl TraceId {
    /// A new one.
    pub fn make(pick: &mut impl Pick) -> Self {
        // Each half is one of 1 to the largest: so none is zero.
        let mut half = || u128::from(pick.below(u64::MAX)) + 1;
        Self(half() << 64 | half())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// A new one.
    pub fn make(pick: &mut impl Pick) -> Self {
        Self(pick.below(u64::MAX) + 1)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl Sampling {
    /// All of them.
    pub const ALL: Self = Self(10_000);
    /// What is written down where nobody says how much: one in a hundred.
    pub const USUAL: Self = Self(100);

    /// Of a percentage from 0 to 100.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number from 0 to 10,000")]
    pub fn percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 100.0).round() as u16))
    }

    /// Of ten-thousandths.
    #[must_use]
    pub fn of(parts: u32) -> Option<Self> {
        u16::try_from(parts).ok().filter(|parts| *parts <= Self::ALL.0).map(Self)
    }

    /// In ten-thousandths.
    #[must_use]
    pub fn parts(self) -> u16 {
        self.0
    }
}

impl Incoming {
    /// Reads a request's headers. What is malformed is as if it were not there; W3C goes before B3.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let all = [w3c::read(headers), b3::read_single(headers), b3::read(headers)];
        let mut forms = Forms::default();
        for found in all.iter().flatten() {
            forms.w3c |= found.forms.w3c;
            forms.b3 |= found.forms.b3;
            forms.b3_single |= found.forms.b3_single;
        }
        let first =
            all.iter().flatten().find(|it| it.parent.is_some()).or_else(|| all.iter().flatten().next());
        Self { forms, ..first.copied().unwrap_or_default() }
    }

    /// Whether a request is written down: as those before have decided, else as it asks for, else by chance.
    pub fn is_sampled(&self, headers: &HeaderMap, share: Sampling, pick: &mut impl Pick) -> bool {
        if self.debug {
            return true;
        }
        self.sampled.unwrap_or_else(|| {
            headers.contains_key(FORCED) || pick.below(Sampling::ALL.0.into()) < u64::from(share.0)
        })
    }
}

impl Outgoing {
    /// Tells the next hop, in these forms and no other.
    pub fn write(&self, headers: &mut HeaderMap, forms: Forms, came: &Incoming) {
        w3c::write(self, headers, forms.w3c, came.forms.w3c);
        b3::write(self, headers, forms.b3);
        b3::write_single(self, headers, forms.b3_single);
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Hexadecimal digits of exactly this many bytes, not all of them zeros.
fn trace_id(text: &str) -> Option<TraceId> {
    let is_id = matches!(text.len(), 16 | 32) && text.bytes().all(|it| it.is_ascii_hexdigit());
    let value = u128::from_str_radix(text, 16).ok().filter(|value| is_id && *value != 0)?;
    Some(TraceId(value))
}

fn span_id(text: &str) -> Option<SpanId> {
    let is_id = text.len() == 16 && text.bytes().all(|it| it.is_ascii_hexdigit());
    let value = u64::from_str_radix(text, 16).ok().filter(|value| is_id && *value != 0)?;
    Some(SpanId(value))
}

/// The one value of a header, as text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok().map(str::trim) }
}

#[cfg(test)]
mod tests;
