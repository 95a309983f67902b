//! Changes to headers (`waypoint.md` 2.5, 2.15, 4.1). Owns which names nobody may change, and the order: set, add, remove.
//! Values with operators are filled in before (`filled`); what they are is `operator`'s.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::operator::{Seen, Template};

/// Bytes of a value that was filled in; a longer one is left out.
const LONGEST: usize = 8_192;

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
    fill: Vec<Filling>,
}

/// A header whose value is another one for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: Template,
    /// Whether it is appended to what is there, instead of put in its place.
    pub adds: bool,
}

impl HeaderEdits {
    /// Also sets or appends a value that is another one for each request.
    pub fn fill(&mut self, filling: Filling) -> Result<(), Protected> {
        let name = free(filling.name)?;
        self.edits().fill.push(Filling { name, ..filling });
        Ok(())
    }

    /// What is filled in.
    #[must_use]
    pub fn fillings(&self) -> &[Filling] {
        self.0.as_ref().map_or(&[], |edits| &edits.fill)
    }

    /// The same with what is known of a request filled in. A value of which nothing is known, or that no header can hold,
    /// is neither set nor added.
    pub fn filled(&self, seen: &impl Seen) -> Cow<'_, Self> {
        let Some(edits) = self.0.as_deref().filter(|it| !it.fill.is_empty()) else {
            return Cow::Borrowed(self);
        };
        let mut all = Edits { fill: Vec::new(), ..edits.clone() };
        for Filling { name, value, adds } in &edits.fill {
            let text = value.filled(seen);
            let text = text.trim();
            let value = HeaderValue::from_bytes(text.as_bytes());
            if let Ok(value) = value
                && !text.is_empty()
                && text.len() <= LONGEST
            {
                let list = if *adds { &mut all.add } else { &mut all.set };
                list.push((name.clone(), value));
            }
        }
        Cow::Owned(Self(Some(Box::new(all))))
    }

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

    /// Changes headers, but for what is to be filled in. A header that is there more often than a map can hold stays as it is: messages that are
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
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use super::*;
    use crate::operator::{End, Field, Known, Shown};

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

    /// A request of which the protocol is known, and one header.
    struct Asked(String);

    impl Seen for Asked {
        fn known(&self, of: Known) -> Option<Shown<'_>> {
            (of == Known::Protocol).then_some(Shown::Text("HTTP/2".into()))
        }
        fn request(&self, field: &Field) -> Option<Cow<'_, str>> {
            (*field == Field::Header(name("x-user"))).then_some(Cow::Borrowed(&self.0))
        }
        fn response(&self, _: &HeaderName) -> Option<Cow<'_, str>> {
            None
        }
        fn address(&self, _: End) -> Option<SocketAddr> {
            None
        }
        fn start(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
        fn grpc(&self) -> Option<u16> {
            None
        }
    }

    #[test]
    fn values_are_filled_in_and_those_that_say_nothing_or_that_no_header_holds_are_left_out() {
        let mut edits = HeaderEdits::default();
        edits.set(name("x-a"), HeaderValue::from_static("b")).unwrap();
        let all = [
            ("x-by", "%PROTOCOL% 100%%", false),
            ("x-c", "<%REQ(x-user)%>", true),
            ("x-none", "%REQ(x-none)%", false),
            ("x-a", "%REQ(x-user)%", false),
        ];
        for (header, value, adds) in all {
            edits.fill(Filling { name: name(header), value: value.parse().unwrap(), adds }).unwrap();
        }
        let filled = |user: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-c", HeaderValue::from_static("d"));
            headers.insert("x-none", HeaderValue::from_static("stays"));
            edits.filled(&Asked(user.into())).apply(&mut headers);
            shown(&headers)
        };
        assert!(filled("ada").contains("x-by: HTTP/2 100%"), "{}", filled("ada"));
        assert!(filled("ada").contains("x-c: d,<ada>") && filled("ada").contains("x-none: stays"));
        assert!(filled("ada").contains("x-a: ada"));
        let forged = filled("a\r\nx-evil: 1");
        assert!(forged.contains("x-a: b") && !forged.contains("evil"), "{forged}");
        assert!(!filled(&"a".repeat(LONGEST)).contains('<'), "too long with what stands around it");
        let host = Filling { name: name("host"), value: "%PROTOCOL%".parse().unwrap(), adds: false };
        assert!(edits.fill(host).is_err());
        assert!(matches!(HeaderEdits::default().filled(&Asked(String::new())), Cow::Borrowed(_)));
    }
}
