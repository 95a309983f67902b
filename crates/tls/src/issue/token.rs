//! The token we show to the control plane. Owns where it comes from; it is read anew for each call.

use std::io::{self, Read};
use std::path::PathBuf;

/// Tokens are a few KiB; a larger file is a mistake.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file does not read.
    #[error("token file {path} does not read")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing in it.
    #[error("token file {path} is empty")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be a header's value.
    #[error("the token holds characters that no header can carry")]
    Characters,
}

/// Where the token comes from.
#[derive(Clone)]
pub enum Token {
    /// There is none.
    Absent,
    /// A file, replaced by its owner before the token in it lapses.
    File(PathBuf),
    /// The token itself.
    Static(String),
}

impl Token {
    /// The value of the `authorization` header, now.
    ///
    /// # Errors
    /// [`TokenError`] when the file does not read, is empty, or holds what no header can carry.
    pub fn bearer(&self) -> Result<Option<http::HeaderValue>, TokenError> {
        let text = match self {
            Self::Absent => return Ok(None),
            Self::Static(text) => text.clone(),
            Self::File(path) => {
                let text = read(path).map_err(|source| TokenError::File { path: path.clone(), source })?;
                if text.trim().is_empty() {
                    return Err(TokenError::Empty { path: path.clone() });
                }
                text
            }
        };
        let value = format!("Bearer {}", text.trim());
        let mut value = http::HeaderValue::try_from(value).map_err(|_| TokenError::Characters)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Static(_) => f.write_str("Static(..)"),
        }
    }
}

fn read(path: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
