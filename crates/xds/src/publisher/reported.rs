//! What a subscriber says it has: names and versions, in its first request of a type. One of a large mesh says fifty
//! thousand of them, and a thousand come back at once: they are added up as they lie, and taken apart only when the
//! sum is none that is known.

use std::collections::BTreeMap;

use ambit_wire::pb::discovery::DeltaDiscoveryRequest;
use bytes::Bytes;
use prost::{DecodeError, Message as _};

use crate::library::Print;

/// The field of a request that holds them.
const FIELD: u64 = 5;
/// Below this there is nothing to save.
const SMALL: usize = 256;

/// A request, with what it reports kept apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub(super) request: DeltaDiscoveryRequest,
    pub(super) reported: Reported,
}

/// Names and versions that are reported.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reported {
    /// Taken apart.
    Read(BTreeMap<String, String>),
    /// As they lie in a request.
    Lying { request: Bytes, print: Print, count: usize },
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() < SMALL {
            return Ok(DeltaDiscoveryRequest::decode(bytes)?.into());
        }
        // What does not read this way is for the full decoder to judge.
        match apart(&bytes) {
            Some((rest, print, count)) => {
                let request = DeltaDiscoveryRequest::decode(rest.as_slice())?;
                Ok(Self { request, reported: Reported::Lying { request: bytes, print, count } })
            }
            None => Ok(DeltaDiscoveryRequest::decode(bytes)?.into()),
        }
    }

    /// The request, without what it reports.
    #[must_use]
    pub fn request(&self) -> &DeltaDiscoveryRequest {
        &self.request
    }

    /// Whether something is reported.
    #[must_use]
    pub fn reports_something(&self) -> bool {
        !self.reported.is_empty()
    }
}

impl From<DeltaDiscoveryRequest> for Asked {
    fn from(mut request: DeltaDiscoveryRequest) -> Self {
        let reported = Reported::Read(std::mem::take(&mut request.initial_resource_versions));
        Self { request, reported }
    }
}

impl Default for Reported {
    fn default() -> Self {
        Self::Read(BTreeMap::new())
    }
}

impl Reported {
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::Read(map) => map.len(),
            Self::Lying { count, .. } => *count,
        }
    }

    /// The print of all of them.
    pub(super) fn print(&self) -> Print {
        match self {
            Self::Read(map) => {
                let mut print = Print::default();
                map.iter().for_each(|(name, version)| print.add(name, version));
                print
            }
            Self::Lying { print, .. } => *print,
        }
    }

    /// Also names without a version.
    pub(super) fn with_names(self, names: impl Iterator<Item = String>) -> Self {
        let mut names = names.peekable();
        if names.peek().is_none() {
            return self;
        }
        let mut map: BTreeMap<String, String> = names.map(|name| (name, String::new())).collect();
        map.extend(self.into_map());
        Self::Read(map)
    }

    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        match self {
            Self::Read(map) => map,
            Self::Lying { .. } => {
                self.sorted().into_iter().map(|(name, version)| (name.into(), version.into())).collect()
            }
        }
    }

    /// All, by name; of several of one name the last counts.
    pub(super) fn sorted(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Read(map) => map.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect(),
            Self::Lying { request, count, .. } => {
                let mut pairs = Vec::with_capacity(*count);
                let _ = fields(request, |field, _, value| {
                    pairs.extend((field == FIELD).then(|| pair(value)).flatten());
                    Some(())
                });
                if !pairs.is_sorted_by(|(one, _), (other, _)| one < other) {
                    // Stable: the last of a name stays the last.
                    pairs.sort_by_key(|(name, _)| *name);
                    pairs.reverse();
                    pairs.dedup_by(|(one, _), (other, _)| one == other);
                    pairs.reverse();
                }
                pairs
            }
        }
    }
}

/// A request without what it reports, the print of that, and how much it is. None: it does not read.
fn apart(request: &[u8]) -> Option<(Vec<u8>, Print, usize)> {
    let (mut rest, mut print, mut count) = (Vec::new(), Print::default(), 0);
    fields(request, |field, whole, value| {
        if field == FIELD {
            print.add_entry(value);
            count += 1;
        } else {
            rest.extend_from_slice(whole);
        }
        Some(())
    })?;
    Some((rest, print, count))
}

/// Name and version of one entry. One that does not read is as if it were not there: nothing is said of it.
fn pair(entry: &[u8]) -> Option<(&str, &str)> {
    let (mut name, mut version) = ("", "");
    fields(entry, |field, _, value| {
        let text = std::str::from_utf8(value).ok()?;
        match field {
            1 => name = text,
            2 => version = text,
            _ => return None,
        }
        Some(())
    })?;
    Some((name, version))
}

/// Hands each field of a message to `take`: its number, all of it, its value. Every field of a request, and of an
/// entry, is delimited; a message with another one does not read.
fn fields<'a>(
    mut message: &'a [u8],
    mut take: impl FnMut(u64, &'a [u8], &'a [u8]) -> Option<()>,
) -> Option<()> {
    while !message.is_empty() {
        let (tag, rest) = number(message)?;
        let (length, rest) = number(rest)?;
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let whole = message.get(..message.len() - rest.len())?;
        (tag & 7 == 2).then_some(())?;
        take(tag >> 3, whole, value)?;
        message = rest;
    }
    Some(())
}

/// A number of seven bits a byte, as protobuf writes them; above what any length here is: none.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(reported: BTreeMap<String, String>) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: "type".into(),
            resource_names_subscribe: vec!["*".into()],
            response_nonce: "nonce".into(),
            initial_resource_versions: reported,
            ..DeltaDiscoveryRequest::default()
        }
    }

    proptest! {
        #[test]
        fn what_is_reported_reads_the_same_whether_it_is_taken_apart_or_not(
            reported in proptest::collection::btree_map("[a-z]{1,60}", "[0-9a-f]{0,16}", 0..200),
            padding in 0..SMALL,
        ) {
            let mut asked = request(reported.clone());
            asked.resource_names_unsubscribe = vec!["x".repeat(padding)];
            let read = Asked::read(asked.encode_to_vec().into()).unwrap();
            prop_assert_eq!(read.reported.print(), Reported::Read(reported.clone()).print());
            prop_assert_eq!(read.reported.count(), reported.len());
            prop_assert_eq!(read.reported.clone().into_map(), reported.clone());
            asked.initial_resource_versions.clear();
            prop_assert_eq!(read.request, asked);
        }

        #[test]
        fn bytes_of_any_kind_are_judged_as_the_full_decoder_judges_them(
            bytes in proptest::collection::vec(any::<u8>(), SMALL..SMALL + 64),
        ) {
            let full = DeltaDiscoveryRequest::decode(bytes.as_slice());
            prop_assert_eq!(Asked::read(bytes.into()).is_ok(), full.is_ok());
        }
    }

    #[test]
    fn entries_in_any_order_are_told_by_name_and_the_last_of_a_name_counts() {
        let one = |name: &str, version: &str| {
            request(BTreeMap::from([(name.to_owned(), version.to_owned())])).encode_to_vec()
        };
        let padding = |name: &str| one(name, &"v".repeat(SMALL));
        let bytes = [padding("c"), one("a", "1"), one("b", "2"), one("a", "3")].concat();
        let read = Asked::read(bytes.into()).unwrap();
        let long = "v".repeat(SMALL);
        assert_eq!(read.reported.sorted(), [("a", "3"), ("b", "2"), ("c", &long)]);
    }
}
