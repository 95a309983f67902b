//! Resources as lines of text: the URL of a type, a name, and the content in base64. What dumps show of routes and of
//! policies of requests is for people and never read back; this is, by whoever decides once more what a proxy decided.
//! Owns the lines; what is in them is `convert`'s.

use std::fmt::Write as _;

use ambit_model::delta::{Change, Delta};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::TEXT_LIMIT;
use crate::convert::{ConvertError, ResourceType, decode, encode};
use crate::pb::discovery::Payload;

/// Why a text is no resources.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// More than is read.
    #[error("the resources have {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a line of it.
    #[error("line {line} is no resource; a line has the URL of a type, a name, and the content in base64")]
    Torn {
        /// Which, from 1.
        line: usize,
    },
    /// Of a type that is not known here.
    #[error("line {line} is of type {found:?}, which is unknown here; use the version that wrote it")]
    Unknown {
        /// Which, from 1.
        line: usize,
        /// The type.
        found: String,
    },
    /// A content that does not hold.
    #[error("line {line} does not hold")]
    Content {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        source: ConvertError,
    },
}

/// Writes what is there; what is gone is left out.
#[must_use]
pub fn write_lines(changes: impl IntoIterator<Item = Change>) -> String {
    let mut text = String::new();
    for change in changes {
        let (key, Some(encoded)) = encode(&change) else { continue };
        // Writing to a text does not fail.
        let _ = writeln!(text, "{} {key} {}", key.kind().url(), STANDARD.encode(&encoded.body));
    }
    text
}

/// Reads all of it, or nothing.
///
/// # Errors
/// The first line that does not hold.
pub fn read_lines(text: &str) -> Result<Delta, LinesError> {
    if text.len() > TEXT_LIMIT {
        return Err(LinesError::TooLarge { bytes: text.len(), limit: TEXT_LIMIT });
    }
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty());
    lines.map(|(at, line)| one(at, line)).collect()
}

fn one(line: usize, text: &str) -> Result<Change, LinesError> {
    let torn = || LinesError::Torn { line };
    let (url, rest) = text.split_once(' ').ok_or_else(torn)?;
    let (name, content) = rest.rsplit_once(' ').ok_or_else(torn)?;
    let kind = ResourceType::from_url(url).ok_or_else(|| LinesError::Unknown { line, found: url.into() })?;
    let value = Bytes::from(STANDARD.decode(content).map_err(|_| torn())?);
    let payload = Payload { type_url: url.into(), value };
    let decoded = decode(kind, name, Some(payload));
    Ok(decoded.map_err(|source| LinesError::Content { line, source })?.change)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ambit_model::request_policy::RequestPolicy;

    use super::*;

    fn policy(name: &str) -> Change {
        Change::RequestPolicy(Arc::new(RequestPolicy::closed(name.parse().unwrap())))
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_gone_is_not_written() {
        let all = vec![policy("shop/a"), policy("shop/b")];
        let gone = Change::RequestPolicyGone("shop/c".parse().unwrap());
        let text = write_lines(all.iter().cloned().chain([gone]));
        assert_eq!(text.lines().count(), 2);
        assert_eq!(read_lines(&text).unwrap().changes, all);
        assert!(read_lines("\n").unwrap().is_empty());
    }

    #[test]
    fn a_line_that_does_not_hold_is_told_by_its_number() {
        let good = write_lines([policy("shop/a")]);
        let line = good.trim_end();
        let (renamed, cut) = (line.replace("shop/a", "shop/b"), line.rsplit_once(' ').unwrap().0);
        let unknown = line.replace("waypoint.v1", "waypoint.v9");
        for (bad, wanted) in [
            ("word", "line 2 is no resource"),
            (cut, "line 2 is no resource"),
            (&format!("{cut} %%"), "line 2 is no resource"),
            (&unknown, "line 2 is of type"),
            (&renamed, "line 2 does not hold"),
        ] {
            let said = read_lines(&format!("{good}{bad}\n")).unwrap_err().to_string();
            assert!(said.starts_with(wanted), "{bad}: {said}");
        }
    }
}
