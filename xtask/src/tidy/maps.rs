//! Maps from rows of a specification to tests: every test that a map names is there, and no row is forgotten.
//! Owns how a map is read. What its rows mean is the map's own.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::Source;

/// A map, and rows that each begin a line of a table in it (`| K1 `).
struct Map {
    path: &'static str,
    rows: &'static [Rows],
}

/// Rows that differ by their number.
struct Rows {
    /// What is before the number.
    before: &'static str,
    /// The heading below which they are; empty: anywhere.
    below: &'static str,
    last: u32,
}

const MAPS: [Map; 4] = [
    Map {
        path: "istiod-lite/tests/README.md",
        rows: &[
            Rows { before: "1.", below: "", last: 13 },
            Rows { before: "2.", below: "", last: 4 },
            Rows { before: "3.", below: "", last: 6 },
            Rows { before: "4.", below: "", last: 7 },
            Rows { before: "5.", below: "", last: 11 },
            Rows { before: "6.", below: "", last: 7 },
            Rows { before: "7.", below: "", last: 6 },
            Rows { before: "8.", below: "", last: 2 },
            Rows { before: "9.", below: "", last: 2 },
            Rows { before: "10.", below: "", last: 6 },
            Rows { before: "11.", below: "", last: 4 },
            Rows { before: "12.", below: "", last: 4 },
            Rows { before: "", below: "## Known defects", last: 35 },
        ],
    },
    Map {
        path: "cni/tests/README.md",
        rows: &[
            Rows { before: "1.", below: "", last: 9 },
            Rows { before: "2.", below: "", last: 4 },
            Rows { before: "3.", below: "", last: 8 },
            Rows { before: "4.", below: "", last: 6 },
            Rows { before: "5.", below: "", last: 5 },
            Rows { before: "6.", below: "", last: 8 },
            Rows { before: "7.", below: "", last: 2 },
            Rows { before: "11.", below: "", last: 4 },
            Rows { before: "B", below: "", last: 10 },
            Rows { before: "K", below: "## Known defects", last: 36 },
        ],
    },
    Map { path: "ztunnel/tests/README.md", rows: &[] },
    Map { path: "waypoint/tests/README.md", rows: &[] },
];

/// Names of tests are sentences: shorter ones are other things.
const SHORTEST: usize = 16;

pub(super) fn check(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    let tests = sources.iter().flat_map(|source| tests(&source.text)).collect();
    let mut complaints = Vec::new();
    for map in &MAPS {
        let text = std::fs::read_to_string(root.join(map.path)).with_context(|| map.path)?;
        complaints.extend(named(map.path, &text, &tests, sources));
        let missing = map.rows.iter().flat_map(|rows| rows.missing(&text));
        complaints.extend(missing.map(|row| format!("{}: no row for {row}", map.path)));
    }
    Ok(complaints)
}

/// The names of a file's tests.
fn tests(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some((name, _)) = name.and_then(|rest| rest.split_once('(')) {
            if is_test {
                found.push(name);
            }
            is_test = false;
        }
    }
    found
}

/// What a map names and is not there.
fn named(path: &str, text: &str, tests: &BTreeSet<&str>, sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        for token in line.split('`').skip(1).step_by(2) {
            // A file may be named before its test.
            let name = token.rsplit([' ', ':']).next().unwrap_or(token);
            let is_there = match kind(name) {
                Kind::Test => tests.iter().any(|test| is_short_for(name, test)),
                Kind::File => sources.iter().any(|source| ends_with_path(&source.path, name)),
                Kind::Other => true,
            };
            if !is_there {
                complaints.push(format!("{path}:{}: `{name}` is not there", number + 1));
            }
        }
    }
    complaints
}

enum Kind {
    Test,
    File,
    Other,
}

fn kind(name: &str) -> Kind {
    let is_word = name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || "_…".contains(it));
    if name.ends_with(".rs") {
        Kind::File
    } else if is_word && (name.contains('…') || (name.len() >= SHORTEST && name.matches('_').count() > 2)) {
        Kind::Test
    } else {
        Kind::Other
    }
}

/// Whether a name, with dots for what was left out, is this test's.
fn is_short_for(name: &str, test: &str) -> bool {
    let mut rest = test;
    for (nth, part) in name.split('…').enumerate() {
        let Some(at) = rest.find(part).filter(|at| nth > 0 || *at == 0) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    name.ends_with('…') || rest.is_empty()
}

fn ends_with_path(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

impl Rows {
    /// The rows that no line begins.
    fn missing(&self, text: &str) -> Vec<String> {
        let from = text.find(self.below).unwrap_or(text.len());
        let text = text.get(from..).unwrap_or_default();
        let there: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("| ")).flat_map(first_cell).collect();
        let wanted = (1..=self.last).map(|number| format!("{}{number}", self.before));
        wanted.filter(|row| !there.contains(row.as_str())).collect()
    }
}

/// The rows that a line is about: `6.1, 6.4 who signs` is about two.
fn first_cell(line: &str) -> impl Iterator<Item = &str> {
    let cell = line.split('|').next().unwrap_or_default();
    cell.split([',', ' ']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests_of_maps {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_map_is_held_to_the_tests_and_files_that_it_names() {
        let code = "#[test]\nfn what_is_there_is_found() {}\nfn a_helper_that_is_no_test() {}\n\
                    #[tokio::test(start_paused = true)]\nasync fn what_waits_is_found_too() {}\n";
        let sources = [source("a/tests/one.rs", code)];
        let tests = sources.iter().flat_map(|source| tests(&source.text)).collect();
        for (token, good) in [
            ("what_is_there_is_found", true),
            ("what_is_there_…", true),
            ("what_…_too", true),
            ("tests/one.rs: what_waits_…", true),
            ("tests/one.rs", true),
            ("one.rs", true),
            ("ne.rs", false),
            ("what_is_there_is_lost", false),
            ("is_there_…", false),
            ("what_…_found_t", false),
            ("a_helper_that_is_no_test", false),
            ("cargo test", true),
            ("short_one", true),
        ] {
            let text = format!("text `nowhere_to_be_found_at_all`\n| 1 | `{token}` |\n");
            assert_eq!(named("map", &text, &tests, &sources).is_empty(), good, "{token}");
        }
    }

    #[test]
    fn rows_that_are_forgotten_are_told() {
        let text = "| 1.1 a |\n| 1.2, 1.4 b |\n## Rows\n| 1 c |\n| 3 | d |\n";
        let rows = |before, below, last| Rows { before, below, last }.missing(text);
        assert_eq!(rows("1.", "", 4), ["1.3"]);
        assert_eq!(rows("", "## Rows", 3), ["2"]);
        assert_eq!(rows("", "## Other", 1), ["1"]);
    }
}
