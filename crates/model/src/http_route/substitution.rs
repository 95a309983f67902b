//! Parts of a path in the place of others, by a pattern (`waypoint.md` 4.1, `uriRegexRewrite`). Owns how what is put
//! there is written: `\0` is all that matched, `\1` to `\9` are its groups, `\\` is a backslash.

use std::fmt;
use std::sync::{Arc, OnceLock};

use regex::bytes::{Captures, Regex};

use super::pattern::{PatternError, compile, fit};

/// The longest path that comes of it.
const LONGEST: usize = 64 << 10;

/// A pattern, and what is put in the place of each part of a path that is of it.
#[derive(Clone)]
pub struct Substitution(Arc<Inner>);

struct Inner {
    pattern: Box<str>,
    with: Box<str>,
    parts: Vec<Part>,
    /// Compiled when it is first needed: the control plane only passes it on.
    compiled: OnceLock<Option<Regex>>,
}

enum Part {
    Text(Box<str>),
    Group(usize),
}

/// Why a substitution was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstitutionError {
    /// The pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// What is put there is not to be put into a path.
    #[error("the replacement {with:?} {problem}")]
    With {
        /// As it was written.
        with: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Substitution {
    /// Of a pattern and what is put in its place.
    pub fn new(pattern: &str, with: &str) -> Result<Self, SubstitutionError> {
        fit(pattern)?;
        fit(with)?;
        let regex = compile(pattern).map_err(|error| PatternError::of(pattern, &error))?;
        let parts = parts(with, regex.captures_len())
            .map_err(|problem| SubstitutionError::With { with: with.into(), problem })?;
        let (pattern, with) = (pattern.into(), with.into());
        Ok(Self(Arc::new(Inner { pattern, with, parts, compiled: OnceLock::new() })))
    }

    /// The pattern as written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.0.pattern
    }

    /// What is put in its place, as written.
    #[must_use]
    pub fn with(&self) -> &str {
        &self.0.with
    }

    /// The path with all parts that are of the pattern replaced. None: it would be longer than any.
    #[must_use]
    pub fn apply(&self, path: &str) -> Option<String> {
        // It compiled when it was read, so it does.
        let regex = self.0.compiled.get_or_init(|| compile(&self.0.pattern).ok()).as_ref()?;
        let (mut made, mut done) = (Vec::with_capacity(path.len()), 0);
        for found in regex.captures_iter(path.as_bytes()) {
            let whole = found.get(0)?;
            made.extend_from_slice(path.as_bytes().get(done..whole.start())?);
            self.put(&found, &mut made);
            done = whole.end();
            if made.len() > LONGEST {
                return None;
            }
        }
        made.extend_from_slice(path.as_bytes().get(done..)?);
        String::from_utf8(made).ok()
    }

    fn put(&self, found: &Captures<'_>, made: &mut Vec<u8>) {
        for part in &self.0.parts {
            match part {
                Part::Text(text) => made.extend_from_slice(text.as_bytes()),
                // A group that took no part is nothing.
                Part::Group(at) => made.extend(found.get(*at).map(|it| it.as_bytes()).unwrap_or_default()),
            }
        }
    }
}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        (self.pattern(), self.with()) == (other.pattern(), other.with())
    }
}

impl Eq for Substitution {}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} -> {:?}", self.pattern(), self.with())
    }
}

fn parts(with: &str, groups: usize) -> Result<Vec<Part>, &'static str> {
    let (mut parts, mut text) = (Vec::new(), String::new());
    let mut rest = with.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            let bad = !next.is_ascii_graphic() || matches!(next, '?' | '#' | '"' | '<' | '>');
            text.push(if bad { return Err("holds what no path may hold") } else { next });
            continue;
        }
        let group = match rest.next() {
            Some('\\') => return Err("puts a backslash into a path"),
            Some(digit) => digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok()),
            None => None,
        };
        let group = group.ok_or("has a backslash that no digit follows")?;
        if group >= groups {
            return Err("names a group that the pattern does not have");
        }
        parts.push(Part::Text(std::mem::take(&mut text).into()));
        parts.push(Part::Group(group));
    }
    parts.push(Part::Text(text.into()));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_path_that_is_of_the_pattern_is_replaced() {
        for (pattern, with, path, wanted) in [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("/x(y)?", r"\0\1", "/x", "/x"),
            ("never", "x", "/a", "/a"),
        ] {
            let made = Substitution::new(pattern, with).unwrap().apply(path);
            assert_eq!(made.as_deref(), Some(wanted), "{pattern} {with} {path}");
        }
    }

    #[test]
    fn what_cannot_be_put_into_a_path_and_what_would_be_too_long_is_refused() {
        for (pattern, with) in
            [("a", "b?c"), ("a", "b#c"), ("a", r"\1"), ("a", r"\"), ("a", r"\x"), ("a", "b c")]
        {
            let refused = Substitution::new(pattern, with);
            assert!(matches!(refused, Err(SubstitutionError::With { .. })), "{with}: {refused:?}");
        }
        assert!(matches!(Substitution::new("(", "a"), Err(SubstitutionError::Pattern(_))));
        let long = Substitution::new("a", &"b".repeat(1000)).unwrap();
        assert_eq!(long.apply(&"a".repeat(1000)), None);
    }
}
