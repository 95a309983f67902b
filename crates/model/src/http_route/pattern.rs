//! Regular expressions, always of a whole value, in time linear in its length. Owns what an accepted expression is.
//! Classes such as `\d` and `\w` are of ASCII and `.` is one byte, as in the engine that people's expressions were
//! written for (RE2 on bytes).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use regex::bytes::{Regex, RegexBuilder};

/// The text of an expression.
const TEXT: usize = 1024;
/// What a compiled expression may take: no table of routes gets large by a few counted repetitions.
const PROGRAM: usize = 256 << 10;
/// What running it may keep for later.
const CACHE: usize = 256 << 10;

/// An expression that compiles. Clones share what was compiled.
#[derive(Clone)]
pub struct Pattern(Arc<Inner>);

struct Inner {
    text: Box<str>,
    /// Compiled when it is first needed: the control plane only passes it on.
    compiled: OnceLock<Option<Regex>>,
}

/// Why an expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long.
    #[error("the expression has {found} bytes, more than {TEXT}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// It does not compile.
    #[error("the expression {text:?} is refused: {reason}")]
    Refused {
        /// The expression.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Pattern {
    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The pattern of this very text, in whatever case its letters are.
    pub fn in_any_case(text: &str) -> Result<Self, PatternError> {
        format!("(?i){}", regex::escape(text)).parse()
    }

    /// Whether all of a value is of this pattern.
    #[must_use]
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.compiled().is_some_and(|regex| regex.is_match(value))
    }

    /// Compiles it now rather than with the first request.
    pub(crate) fn prepare(&self) {
        let _ = self.compiled();
    }

    fn compiled(&self) -> Option<&Regex> {
        // It compiled when it was read, so it does.
        self.0.compiled.get_or_init(|| compile(&whole(&self.0.text)).ok()).as_ref()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        fit(text)?;
        let refuse = |error: regex::Error| PatternError::of(text, &error);
        // By itself first: `a)|(b` becomes one only by what is put around it.
        compile(text).map_err(refuse)?;
        compile(&whole(text)).map_err(refuse)?;
        Ok(Self(Arc::new(Inner { text: text.into(), compiled: OnceLock::new() })))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.text)
    }
}

impl PatternError {
    /// What the engine says of an expression.
    pub(super) fn of(text: &str, error: &regex::Error) -> Self {
        Self::Refused { text: text.into(), reason: error.to_string() }
    }
}

/// Whether a text is not too long for an expression.
pub(super) fn fit(text: &str) -> Result<(), PatternError> {
    if text.len() > TEXT { Err(PatternError::TooLong { found: text.len() }) } else { Ok(()) }
}

fn whole(text: &str) -> String {
    format!(r"\A(?:{text})\z")
}

pub(super) fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).unicode(false).size_limit(PROGRAM).dfa_size_limit(CACHE).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_the_whole_value() {
        for (pattern, value, wanted) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("a", "/a", false),
            ("a|ab", "ab", true),
            ("/user/[0-9]+", "/user/42", true),
            ("/user/[0-9]+", "/user/42/", false),
            (r"\d+", "٣", false), // digits are those of ASCII
            ("(?i)abc", "aBC", true),
            (".*", "", true),
            ("^/a$", "/a", true),
        ] {
            let found = pattern.parse::<Pattern>().unwrap().is_match(value.as_bytes());
            assert_eq!(found, wanted, "{pattern} {value}");
        }
    }

    #[test]
    fn what_is_no_pattern_by_itself_is_refused() {
        for text in ["a)|(b", "(", "[", "a{100000}", "(?x) a # b", r"(a)\1", "(?=a)"] {
            assert!(matches!(text.parse::<Pattern>(), Err(PatternError::Refused { .. })), "{text}");
        }
        let long = "a".repeat(TEXT + 1);
        assert_eq!(long.parse::<Pattern>(), Err(PatternError::TooLong { found: TEXT + 1 }));
    }
}
