//! Headers that are kept of a message for what is said of it later. Owns that there are only so many, each once.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers that are kept of one message.
pub(super) const MOST: usize = 32;

/// Those that somebody wants, as far as they are there.
#[derive(Clone, Default)]
pub(super) struct Kept(Vec<(HeaderName, HeaderValue)>);

impl Kept {
    /// The first of each of these.
    pub(super) fn of<'a>(headers: &HeaderMap, wanted: impl Iterator<Item = &'a HeaderName>) -> Self {
        let mut kept = Self::default();
        for name in wanted {
            if kept.0.len() < MOST && kept.get(name).is_none() {
                kept.0.extend(headers.get(name).map(|value| (name.clone(), value.clone())));
            }
        }
        kept
    }

    pub(super) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value)
    }
}

/// What is no text is shown as far as it is one.
pub(super) fn shown(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}
