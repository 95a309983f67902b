//! The target of a request in one form, for all who decide by it: routes, policies, and whom it is forwarded to
//! (`waypoint.md` 2.4, 4.9). Owns what is the same path and what is none. A path is put into this form once, before
//! anything is decided, and nothing else can be decided by.

use std::borrow::Cow;
use std::fmt;

/// How far paths are taken to be the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// As they came.
    None,
    /// Without `.` and `..`, with `/` for `\`, and without escapes of what needs none.
    #[default]
    Base,
    /// That, and one slash for several.
    MergeSlashes,
    /// That, and with `/` for its escapes and those of `\`.
    DecodeAndMergeSlashes,
}

/// A path in the form that is decided by and forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// What a request asks for: a path, and the query as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    /// The path.
    pub path: NormalPath<'a>,
    /// What follows the question mark, if there is one.
    pub query: Option<&'a str>,
}

/// Why a target is refused; all of these are answered 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NoSlash,
    /// A character that has to be escaped.
    #[error("the target holds {0:?}, which has to be escaped")]
    Character(char),
    /// A percent sign that begins no escape.
    #[error("the path holds a percent sign without two hexadecimal digits")]
    Escape,
    /// The escape of a character that no path holds.
    #[error("the path holds an escaped NUL")]
    Nul,
    /// More `..` than there are elements before them.
    #[error("the path leads above the root")]
    AboveRoot,
}

impl<'a> RequestTarget<'a> {
    /// Takes apart the target of a request in origin form (or `*`).
    pub fn read(target: &'a str, mode: Normalization) -> Result<Self, PathError> {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        if let Some(bad) = query.and_then(|query| query.chars().find(|c| must_be_escaped(*c))) {
            return Err(PathError::Character(bad));
        }
        Ok(Self { path: NormalPath::read(path, mode)?, query })
    }
}

impl<'a> NormalPath<'a> {
    /// Puts a path without query into its form.
    pub fn read(path: &'a str, mode: Normalization) -> Result<Self, PathError> {
        if path == "*" {
            return Ok(Self(path.into()));
        }
        if !path.starts_with('/') {
            return Err(PathError::NoSlash);
        }
        if let Some(bad) = path.chars().find(|c| must_be_escaped(*c) || !c.is_ascii()) {
            return Err(PathError::Character(bad));
        }
        if mode == Normalization::None || is_normal(path, mode) {
            return Ok(Self(path.into()));
        }
        let mut path = without_dots(&unescaped(path, mode)?)?;
        if mode != Normalization::Base {
            merge_slashes(&mut path);
        }
        Ok(Self(path.into()))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, of its own.
    #[must_use]
    pub fn into_owned(self) -> NormalPath<'static> {
        NormalPath(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Display for NormalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What no target holds as it is, in whichever part; a fragment is never sent.
fn must_be_escaped(c: char) -> bool {
    c.is_ascii_control() || matches!(c, ' ' | '#')
}

/// Whether nothing has to be done about a path, which is so of nearly all.
fn is_normal(path: &str, mode: Normalization) -> bool {
    let plain = |c: u8| !matches!(c, b'%' | b'\\');
    let merges = mode != Normalization::Base;
    path.bytes().all(plain) && !path.contains("/.") && !(merges && path.contains("//"))
}

/// Without escapes of what needs none, and with slashes for backslashes.
fn unescaped(path: &str, mode: Normalization) -> Result<String, PathError> {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        push(&mut plain, before);
        let (escape, after) = after.split_at_checked(2).ok_or(PathError::Escape)?;
        let byte = hex(escape).ok_or(PathError::Escape)?;
        let slash = matches!(byte, b'/' | b'\\') && mode == Normalization::DecodeAndMergeSlashes;
        match byte {
            0 => return Err(PathError::Nul),
            _ if slash => plain.push('/'),
            b'-' | b'.' | b'_' | b'~' => plain.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => plain.push(char::from(byte)),
            _ => {
                plain.push('%');
                plain.push_str(escape);
            }
        }
        rest = after;
    }
    push(&mut plain, rest);
    Ok(plain)
}

fn push(plain: &mut String, part: &str) {
    plain.extend(part.chars().map(|c| if c == '\\' { '/' } else { c }));
}

fn hex(digits: &str) -> Option<u8> {
    // Not everything that can be read as a number is two digits: `+1`.
    digits.bytes().all(|c| c.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// RFC 3986, 5.2.4, of a path that begins with a slash; but what leads above the root is refused.
fn without_dots(path: &str) -> Result<String, PathError> {
    let mut kept: Vec<&str> = Vec::new();
    let mut elements = path.split('/').skip(1).peekable();
    while let Some(element) = elements.next() {
        let is_last = elements.peek().is_none();
        match element {
            "." => {}
            ".." => drop(kept.pop().ok_or(PathError::AboveRoot)?),
            _ => {
                kept.push(element);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    let mut plain = String::with_capacity(path.len());
    for element in &kept {
        plain.push('/');
        plain.push_str(element);
    }
    if plain.is_empty() {
        plain.push('/');
    }
    Ok(plain)
}

fn merge_slashes(path: &mut String) {
    let mut last = '\0';
    path.retain(|c| {
        let again = c == '/' && last == '/';
        last = c;
        !again
    });
}

#[cfg(test)]
mod one_path;
#[cfg(test)]
mod tests;
