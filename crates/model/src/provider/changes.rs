//! What an authorizer changes about a request that it lets in, or about an answer. Owns how, and that nobody changes
//! what belongs to the connection or says where a request goes.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http_route::Protected;

/// Changes to headers, in their order; then what is taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    changes: Vec<HeaderChange>,
    gone: Vec<HeaderName>,
}

/// A change to one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderChange {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// How the two come together.
    pub how: How,
}

/// How a header comes to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In the place of all that is there.
    Set,
    /// Beside what is there.
    Append,
    /// If nothing is there.
    IfAbsent,
    /// In the place of what is there, if anything is.
    IfPresent,
}

impl HeaderChanges {
    /// One more change.
    ///
    /// # Errors
    /// When it is a header that nobody changes.
    pub fn push(&mut self, change: HeaderChange) -> Result<(), Protected> {
        let name = crate::http_route::changeable(change.name)?;
        self.changes.push(HeaderChange { name, ..change });
        Ok(())
    }

    /// One more that is taken out.
    ///
    /// # Errors
    /// When it is a header that nobody changes.
    pub fn remove(&mut self, name: HeaderName) -> Result<(), Protected> {
        self.gone.push(crate::http_route::changeable(name)?);
        Ok(())
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.gone.is_empty()
    }

    /// All of these after those.
    pub fn extend(&mut self, more: Self) {
        self.changes.extend(more.changes);
        self.gone.extend(more.gone);
    }

    /// Changes headers. A header that is there more often than a map can hold stays as it is.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for HeaderChange { name, value, how } in &self.changes {
            let is_there = headers.contains_key(name);
            match how {
                How::IfAbsent if is_there => {}
                How::IfPresent if !is_there => {}
                How::Set | How::IfAbsent | How::IfPresent => {
                    let _ = headers.try_insert(name.clone(), value.clone());
                }
                How::Append => {
                    let _ = headers.try_append(name.clone(), value.clone());
                }
            }
        }
        for name in &self.gone {
            headers.remove(name);
        }
    }
}

/// Changes to the parameters of a query, which are written as URLs write them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryChanges {
    /// In the place of all of that name.
    pub set: Vec<(String, String)>,
    /// Taken out.
    pub gone: Vec<String>,
}

impl QueryChanges {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.gone.is_empty()
    }

    /// The query after these changes; none: there is none left.
    #[must_use]
    pub fn apply(&self, query: Option<&str>) -> Option<String> {
        let named = |part: &&str| {
            let name = part.split_once('=').map_or(*part, |(name, _)| name);
            self.gone.iter().chain(self.set.iter().map(|(name, _)| name)).any(|it| encoded(it) == name)
        };
        let kept = query.into_iter().flat_map(|query| query.split('&')).filter(|part| !named(part));
        let mut parts: Vec<String> = kept.map(str::to_owned).collect();
        parts.extend(self.set.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))));
        (!parts.is_empty()).then(|| parts.join("&"))
    }
}

/// RFC 3986, 3.4: what a query may hold stays, but for what divides parameters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$'()*,;:@/?".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
