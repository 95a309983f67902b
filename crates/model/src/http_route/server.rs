//! Names that servers are asked for with TLS (`waypoint.md` 2.17). Owns what one may be; which goes first is `table`'s.

use std::fmt;
use std::str::FromStr;

/// What RFC 1035 allows of a name.
const MOST: usize = 253;

/// Names of servers, in small letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerName {
    /// This one.
    Exact(Box<str>),
    /// `*.<this>`: all that end in it, by one more label or by several.
    Under(Box<str>),
}

/// A text that is no name of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no name of a server; write one such as db.shop, or *.shop")]
pub struct ServerNameError {
    /// The text.
    pub value: String,
}

impl FromStr for ServerName {
    type Err = ServerNameError;

    fn from_str(text: &str) -> Result<Self, ServerNameError> {
        let (under, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if !is_name(name) {
            return Err(ServerNameError { value: text.into() });
        }
        let name = name.to_ascii_lowercase().into();
        Ok(if under { Self::Under(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Under(name) => write!(f, "*.{name}"),
        }
    }
}

/// Whether a text is one that may be asked for: labels of letters, digits, `-` and `_`.
pub(crate) fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner)
    };
    text.len() <= MOST && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_hosts_or_of_all_under_one() {
        for (text, wanted) in [
            ("db.shop", Some("db.shop")),
            ("DB.Shop", Some("db.shop")),
            ("*.shop", Some("*.shop")),
            ("_sip._tls.shop", Some("_sip._tls.shop")),
            ("", None),
            ("*", None),
            ("*.", None),
            ("a.*.b", None),
            ("*shop", None),
            ("a..b", None),
            ("a.", None),
            ("a b", None),
            ("caf\u{e9}", None),
        ] {
            let read = text.parse::<ServerName>().ok().map(|name| name.to_string());
            assert_eq!(read.as_deref(), wanted, "{text}");
        }
        assert!(!is_name(&"a".repeat(64)) && !is_name(&["a"; 130].join(".")));
    }
}
