//! Changes to headers (`waypoint.md` 2.5, 2.15). Owns which names nobody may change, and the order: set, add, remove.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Names that belong to the connection and to the framing of messages, or that say where a request goes. (Those
/// that begin with a colon are no header names at all.)
const PROTECTED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A header that no filter may change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header {name} belongs to the connection or says where a request goes; a filter cannot change it"
)]
pub struct Protected {
    /// Its name.
    pub name: HeaderName,
}

/// Changes to headers, of names that may be changed. Nearly all rules have none, which takes no room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits(Option<Box<Edits>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Edits {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Also puts this value in the place of all that are there.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Protected> {
        let name = free(name)?;
        self.edits().set.push((name, value));
        Ok(())
    }

    /// Also appends this value to what is there.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Protected> {
        let name = free(name)?;
        self.edits().add.push((name, value));
        Ok(())
    }

    /// Also takes out all values of a name.
    pub fn remove(&mut self, name: HeaderName) -> Result<(), Protected> {
        let name = free(name)?;
        self.edits().remove.push(name);
        Ok(())
    }

    /// What is set.
    #[must_use]
    pub fn sets(&self) -> &[(HeaderName, HeaderValue)] {
        self.0.as_ref().map_or(&[], |edits| &edits.set)
    }

    /// What is added.
    #[must_use]
    pub fn adds(&self) -> &[(HeaderName, HeaderValue)] {
        self.0.as_ref().map_or(&[], |edits| &edits.add)
    }

    /// What is removed.
    #[must_use]
    pub fn removes(&self) -> &[HeaderName] {
        self.0.as_ref().map_or(&[], |edits| &edits.remove)
    }

    /// True when nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Changes headers. A header that is there more often than a map can hold stays as it is: messages that are
    /// accepted have far fewer.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in self.sets() {
            let _ = headers.try_insert(name.clone(), value.clone());
        }
        for (name, value) in self.adds() {
            let _ = headers.try_append(name.clone(), value.clone());
        }
        for name in self.removes() {
            headers.remove(name);
        }
    }

    fn edits(&mut self) -> &mut Edits {
        self.0.get_or_insert_default()
    }
}

/// A header that may be changed.
pub(crate) fn free(name: HeaderName) -> Result<HeaderName, Protected> {
    if PROTECTED.contains(&name) { Err(Protected { name }) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        text.parse().unwrap()
    }

    fn shown(headers: &HeaderMap) -> String {
        let mut lines: Vec<String> = headers
            .keys()
            .map(|name| {
                let values: Vec<_> = headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
                format!("{name}: {}", values.join(","))
            })
            .collect();
        lines.sort();
        lines.join("; ")
    }

    #[test]
    fn headers_are_set_then_added_then_removed() {
        let mut edits = HeaderEdits::default();
        edits.set(name("X-Set"), "new".parse().unwrap()).unwrap();
        edits.set(name("x-both"), "set".parse().unwrap()).unwrap();
        edits.add(name("x-both"), "added".parse().unwrap()).unwrap();
        edits.add(name("x-add"), "more".parse().unwrap()).unwrap();
        edits.remove(name("x-gone")).unwrap();
        for (before, after) in [
            ("", "x-add: more; x-both: set,added; x-set: new"),
            ("x-set: a; X-Set: b", "x-add: more; x-both: set,added; x-set: new"),
            ("X-Add: old", "x-add: old,more; x-both: set,added; x-set: new"),
            ("x-gone: a; x-GONE: b; x-stays: c", "x-add: more; x-both: set,added; x-set: new; x-stays: c"),
        ] {
            let mut headers = HeaderMap::new();
            for (key, value) in before.split("; ").filter_map(|line| line.split_once(": ")) {
                headers.append(name(key), value.parse().unwrap());
            }
            edits.apply(&mut headers);
            assert_eq!(shown(&headers), after, "{before}");
        }
    }

    #[test]
    fn names_of_the_connection_and_of_the_framing_are_nobodys_to_change() {
        for text in
            ["Host", "content-length", "Transfer-Encoding", "connection", "te", "keep-alive", "upgrade"]
        {
            let wanted = Err(Protected { name: name(text) });
            let mut edits = HeaderEdits::default();
            assert_eq!(edits.set(name(text), HeaderValue::from_static("x")), wanted, "{text}");
            assert_eq!(edits.add(name(text), HeaderValue::from_static("x")), wanted, "{text}");
            assert_eq!(edits.remove(name(text)), wanted, "{text}");
            assert!(edits.is_empty());
        }
    }
}
