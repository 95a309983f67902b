//! What a waypoint proves itself by to servers outside of the mesh, and whom it believes there (`waypoint.md` 1.14). Owns
//! that a key is shown to nobody: neither by dumps nor in a log.

use std::fmt;
use std::sync::Arc;

use crate::name::{Identity, Label};

/// A certificate with its key, and those who vouch for servers; one of them may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `<namespace>/<name>` of the secret that it is of.
    pub name: Label,
    /// Whose it is: nobody else is told of it.
    pub owners: Vec<Identity>,
    /// What is shown.
    pub shown: Option<Shown>,
    /// Who vouches for servers, as PEM.
    pub roots: Option<Box<str>>,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The chain, as PEM.
    pub chain: Box<str>,
    /// The key, as PEM.
    pub key: Secret,
}

/// A text that is not for anybody's eyes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text: for those who use it, never for those who show something.
    #[must_use]
    pub fn exposed(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown_however_its_credential_is() {
        let shown = Shown { chain: "chain".into(), key: Secret::new("the key") };
        let credential =
            Credential { name: "shop/c".into(), owners: Vec::new(), shown: Some(shown), roots: None };
        for text in [format!("{credential:?}"), format!("{credential:#?}")] {
            assert!(text.contains("chain") && !text.contains("the key"), "{text}");
        }
    }
}
