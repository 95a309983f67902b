//! Errors as people read them.

use std::error::Error;

/// An error with its causes.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}
