//! How names in policies of requests are written and compared (`waypoint.md` 4.3). Owns the wildcards.

use std::fmt;
use std::str::FromStr;

use crate::policy::TextMatch;

/// A text with `*` at one of its ends, or alone: not empty.
#[must_use]
pub fn text_match(text: &str) -> TextMatch {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => TextMatch::Presence,
        (Some(rest), _) => TextMatch::Suffix(rest.into()),
        (None, Some(rest)) => TextMatch::Prefix(rest.into()),
        (None, None) => TextMatch::Exact(text.into()),
    }
}

/// As it is written.
#[must_use]
pub fn written(wanted: &TextMatch) -> String {
    match wanted {
        TextMatch::Exact(text) => text.to_string(),
        TextMatch::Prefix(text) => format!("{text}*"),
        TextMatch::Suffix(text) => format!("*{text}"),
        TextMatch::Presence => "*".into(),
    }
}

/// Whether a text is as demanded.
pub(super) fn is_of(wanted: &TextMatch, found: &str) -> bool {
    match wanted {
        TextMatch::Exact(text) => found == &**text,
        TextMatch::Prefix(text) => found.starts_with(&**text),
        TextMatch::Suffix(text) => found.ends_with(&**text),
        TextMatch::Presence => !found.is_empty(),
    }
}

/// The same in whichever case.
pub(super) fn is_of_any_case(wanted: &TextMatch, found: &str) -> bool {
    let same = |part: Option<&str>, text: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(text));
    match wanted {
        TextMatch::Exact(text) => found.eq_ignore_ascii_case(text),
        TextMatch::Prefix(text) => same(found.get(..text.len()), text),
        TextMatch::Suffix(text) => {
            same(found.len().checked_sub(text.len()).and_then(|at| found.get(at..)), text)
        }
        TextMatch::Presence => !found.is_empty(),
    }
}

/// A text in which `*` stands for anything, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

impl From<&str> for Glob {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Glob {
    /// Whether a text is of it. Each part is taken where it comes first, which finds a way if there is one.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return *self.0 == *text };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let (middle, last) =
            rest.rsplit_once('*').map_or((None, rest), |(middle, last)| (Some(middle), last));
        let Some(inner) = text.strip_suffix(last) else { return false };
        text = inner;
        for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
            let Some((_, after)) = text.split_once(part) else { return false };
            text = after;
        }
        true
    }
}

/// Whom a token names: `<issuer>/<subject>`, either with a wildcard at one of its ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestPrincipal {
    issuer: TextMatch,
    subject: TextMatch,
}

impl From<&str> for RequestPrincipal {
    /// The last slash parts them: an issuer is a URL. Without one, a wildcard is of both.
    fn from(text: &str) -> Self {
        let Some((issuer, subject)) = text.rsplit_once('/') else {
            return match text_match(text) {
                TextMatch::Suffix(_) => Self { issuer: TextMatch::Presence, subject: text_match(text) },
                issuer @ (TextMatch::Prefix(_) | TextMatch::Presence) => {
                    Self { issuer, subject: TextMatch::Presence }
                }
                // No token names anybody so.
                issuer @ TextMatch::Exact(_) => Self { issuer, subject: TextMatch::Exact("".into()) },
            };
        };
        Self { issuer: text_match(issuer), subject: text_match(subject) }
    }
}

impl RequestPrincipal {
    pub(super) fn is_match(&self, issuer: &str, subject: &str) -> bool {
        !issuer.is_empty()
            && !subject.is_empty()
            && is_of(&self.issuer, issuer)
            && is_of(&self.subject, subject)
    }
}

impl fmt::Display for RequestPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", written(&self.issuer), written(&self.subject))
    }
}

/// A demand on a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// A text with a wildcard at one of its ends.
    Text(TextMatch),
    /// Elements.
    Template(Template),
}

/// Elements of a path: `{*}` is any one of them, `{**}`, after which only given ones follow, any number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    front: Vec<Option<Box<str>>>,
    /// What follows `{**}`, if there is one.
    back: Option<Vec<Box<str>>>,
}

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?} is no template: it begins with a slash, {{*}} and {{**}} are whole elements, {{**}} the last of them"
)]
pub struct TemplateError {
    /// The text.
    pub value: String,
}

impl FromStr for PathPattern {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.contains(['{', '}']) {
            return text.parse().map(Self::Template);
        }
        Ok(Self::Text(text_match(text)))
    }
}

impl FromStr for Template {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let refuse = || TemplateError { value: text.into() };
        let (mut front, mut back) = (Vec::new(), None);
        for element in text.strip_prefix('/').ok_or_else(refuse)?.split('/') {
            match (element, &mut back) {
                ("{**}", None) => back = Some(Vec::new()),
                ("{*}", None) => front.push(None),
                (given, _) if given.contains(['{', '}', '*']) => return Err(refuse()),
                (given, None) => front.push(Some(given.into())),
                (given, Some(back)) => back.push(given.into()),
            }
        }
        Ok(Self { front, back })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for element in &self.front {
            write!(f, "/{}", element.as_deref().unwrap_or("{*}"))?;
        }
        let Some(back) = &self.back else { return Ok(()) };
        f.write_str("/{**}")?;
        back.iter().try_for_each(|element| write!(f, "/{element}"))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(wanted) => f.write_str(&written(wanted)),
            Self::Template(template) => template.fmt(f),
        }
    }
}

impl PathPattern {
    pub(super) fn is_match(&self, path: &str) -> bool {
        match self {
            Self::Text(wanted) => is_of(wanted, path),
            Self::Template(template) => template.is_match(path),
        }
    }
}

impl Template {
    fn is_match(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut elements = path.split('/');
        for wanted in &self.front {
            let Some(found) = elements.next() else { return false };
            let fits = wanted.as_deref().map_or(!found.is_empty(), |wanted| wanted == found);
            if !fits {
                return false;
            }
        }
        let Some(back) = &self.back else { return elements.next().is_none() };
        for wanted in back.iter().rev() {
            if elements.next_back() != Some(wanted) {
                return false;
            }
        }
        // The slash before it has to be there, and so has an element, be it empty.
        elements.next().is_some()
    }
}

#[cfg(test)]
mod tests;
