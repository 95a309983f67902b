//! Certificates or keys as people store them, bounded: of what is larger only that it is too large is kept.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::Deserializer;

/// No bundle that somebody means is larger: some dozens of certificates.
pub const PEM_MOST: usize = 64 << 10;

/// A text of PEM. Not shown anywhere: it may be a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(Option<Arc<str>>);

impl Pem {
    /// A text; nothing is kept of one that is too large.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self((text.len() <= PEM_MOST).then(|| text.into()))
    }

    /// The text; none: it is too large.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.as_ref().map(|it| it.len());
        f.debug_struct("Pem").field("bytes", &size).finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for Pem {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input).map(|text| Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_not_kept_and_no_text_is_ever_shown() {
        assert_eq!(Pem::new(&"a".repeat(PEM_MOST)).text().map(str::len), Some(PEM_MOST));
        assert_eq!(Pem::new(&"a".repeat(PEM_MOST + 1)).text(), None);
        assert!(!format!("{:?}", Pem::new("secret")).contains("secret"));
    }
}
