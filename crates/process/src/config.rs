//! Configuration: typed keys read once from a source, with every fault collected.
//! Owns reading and complaining; which keys exist is each program's.

mod parse;

use std::collections::BTreeMap;
use std::fmt;

pub use parse::{duration, flag, list, number, path, text};

/// Where values come from.
pub trait Source {
    /// The value under a name.
    fn value(&self, name: &str) -> Option<String>;
    /// All names beginning with `prefix`, with their values, sorted.
    fn beginning_with(&self, prefix: &str) -> Vec<(String, String)>;
}

/// The process's environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Env;

impl Source for Env {
    #[expect(clippy::disallowed_methods, reason = "this is the edge that every other place is sent to")]
    fn value(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn beginning_with(&self, prefix: &str) -> Vec<(String, String)> {
        let text = |(k, v): (std::ffi::OsString, std::ffi::OsString)| {
            Some((k.into_string().ok()?, v.into_string().ok()?))
        };
        let mut all: Vec<_> =
            std::env::vars_os().filter_map(text).filter(|(k, _)| k.starts_with(prefix)).collect();
        all.sort();
        all
    }
}

impl Source for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }

    fn beginning_with(&self, prefix: &str) -> Vec<(String, String)> {
        let near = self.range(prefix.to_owned()..).take_while(|(k, _)| k.starts_with(prefix));
        near.map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

/// How a text becomes a value; the error says what would be accepted.
pub type Parse<T> = fn(&str) -> Result<T, String>;

/// One setting with a default.
#[derive(Debug, Clone, Copy)]
pub struct Key<T: 'static> {
    /// Its name in the environment.
    pub name: &'static str,
    /// What it is, for the reference.
    pub about: &'static str,
    parse: Parse<T>,
    default: fn() -> T,
}

impl<T> Key<T> {
    /// A setting that has `default` when it is not given.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str, parse: Parse<T>, default: fn() -> T) -> Self {
        Self { name, about, parse, default }
    }

    /// Its value. A bad one is a fault, and the default stands in until the faults are reported.
    #[must_use]
    pub fn read(&self, source: &dyn Source, faults: &mut Faults) -> T {
        match source.value(self.name).map(|text| (self.parse)(&text).map_err(|remedy| (text, remedy))) {
            Some(Ok(value)) => value,
            Some(Err((text, remedy))) => {
                faults.add(self.name, text, remedy);
                (self.default)()
            }
            None => (self.default)(),
        }
    }
}

impl<T> Key<Option<T>> {
    /// A setting that must be given: its absence is a fault.
    #[must_use]
    pub fn require(&self, source: &dyn Source, faults: &mut Faults) -> Option<T> {
        let value = self.read(source, faults);
        if source.value(self.name).is_none() {
            faults.add(self.name, String::new(), format!("set it: {}", self.about));
        }
        value
    }
}

/// Settings whose names share a beginning.
#[derive(Debug, Clone, Copy)]
pub struct Prefix {
    /// How their names begin.
    pub name: &'static str,
    /// What they are, for the reference.
    pub about: &'static str,
}

impl Prefix {
    /// Settings that begin with `name`.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about }
    }

    /// What follows the beginning, and the value; sorted. An empty rest is left out.
    #[must_use]
    pub fn read(&self, source: &dyn Source) -> Vec<(String, String)> {
        let rest = |(name, value): (String, String)| Some((name.strip_prefix(self.name)?.to_owned(), value));
        source
            .beginning_with(self.name)
            .into_iter()
            .filter_map(rest)
            .filter(|(rest, _)| !rest.is_empty())
            .collect()
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The variable.
    pub name: String,
    /// Its value as given; empty when missing.
    pub value: String,
    /// What to do.
    pub remedy: String,
}

/// Everything wrong with the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a fault.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Fault { name: name.into(), value: value.into(), remedy: remedy.into() });
    }

    /// What was noted.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.0
    }

    /// The value if nothing was noted.
    ///
    /// # Errors
    /// All faults at once.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let line = if at == 0 { "" } else { "\n" };
            write!(f, "{line}{}={:?}: {}", fault.name, fault.value, fault.remedy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DRAIN: Key<Duration> = Key::new("DRAIN", "how long", duration, || Duration::from_secs(30));
    const NODE: Key<Option<String>> = Key::new("NODE", "the node's name", |t| text(t).map(Some), || None);
    const IPV6: Key<bool> = Key::new("IPV6", "use it", flag, || true);

    fn source(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn values_are_read_and_defaults_stand_in() {
        let mut faults = Faults::new();
        let source = source(&[("DRAIN", "1m30s")]);
        assert_eq!(DRAIN.read(&source, &mut faults), Duration::from_secs(90));
        assert!(IPV6.read(&source, &mut faults));
        assert_eq!(faults.into_result(()), Ok(()));
    }

    #[test]
    fn all_faults_are_reported_at_once_with_name_value_and_remedy() {
        let mut faults = Faults::new();
        let source = source(&[("DRAIN", "soon"), ("IPV6", "yes")]);
        let _ = (DRAIN.read(&source, &mut faults), IPV6.read(&source, &mut faults));
        assert_eq!(NODE.require(&source, &mut faults), None);
        let text = faults.into_result(()).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("IPV6=\"yes\": write true or false"), "{text}");
        assert!(text.contains("NODE=\"\": set it: the node's name"), "{text}");
    }

    #[test]
    fn names_are_found_by_prefix() {
        const HEADERS: Prefix = Prefix::new("XDS_HEADER_", "headers");
        let source = source(&[
            ("A", "1"),
            ("XDS_HEADER_", "0"),
            ("XDS_HEADER_B", "2"),
            ("XDS_HEADER_C", "3"),
            ("Z", "4"),
        ]);
        assert_eq!(HEADERS.read(&source), [("B".into(), "2".into()), ("C".into(), "3".into())]);
    }
}
