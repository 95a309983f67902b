//! The `forwarded` header (RFC 7239): for whom a stream is, and which service was meant.
//! For telemetry only: the peer's own word decides nothing.

use std::fmt;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName};

/// What is forwarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// The service's host, when the destination is a known service.
    pub host: Option<String>,
}

impl Forwarded {
    /// Reads the first of each; the key's case matters, quotes do not.
    pub(super) fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let text = headers.get(name)?.to_str().ok()?;
        let mut read = Self::default();
        for part in text.split([';', ',']) {
            let Some((key, value)) = part.trim().split_once('=') else { continue };
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            match key {
                "for" if read.client.is_none() => read.client = value.parse().ok(),
                "host" if read.host.is_none() && !value.is_empty() => read.host = Some(value.to_owned()),
                _ => {}
            }
        }
        (read != Self::default()).then_some(read)
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.client, &self.host) {
            (Some(client), Some(host)) => write!(f, "for=\"{client}\";host={host}"),
            (Some(client), None) => write!(f, "for=\"{client}\""),
            (None, Some(host)) => write!(f, "host={host}"),
            (None, None) => Ok(()),
        }
    }
}
