//! Sizes, headers, and words that are not allowed where they stand.
//! Reads text only: a rule that needs types is clippy's, one that needs manifests is in `edges`.

use super::Source;

const FILE_LINES: usize = 600;
const MAIN_LINES: usize = 40;
const LIB_LINES: usize = 60;

/// A word, where it may stand, and why not elsewhere. Split so that this file does not accuse itself.
struct Word {
    parts: [&'static str; 2],
    allowed: &'static [&'static str],
    why: &'static str,
}

const WORDS: &[Word] = &[
    Word { parts: ["#[", "allow("], allowed: &[], why: "use #[expect(…, reason = \"…\")]" },
    Word { parts: ["#![", "allow("], allowed: &[], why: "use #[expect(…, reason = \"…\")]" },
    Word {
        parts: ["tokio::", "spawn("],
        allowed: &["crates/process/src/tasks", "tests/", "examples/"],
        why: "every task has an owner: ambit_process::tasks::Tasks",
    },
    Word {
        parts: ["uns", "afe {"],
        allowed: &["crates/sys/src/", "fuzz/"],
        why: "unsafe code lives in crates/sys",
    },
    Word { parts: ["uns", "afe fn"], allowed: &["crates/sys/src/"], why: "unsafe code lives in crates/sys" },
    Word {
        parts: ["tokio::", "net::"],
        allowed: &["crates/process/src/net", "tests/", "examples/"],
        why: "sockets come from ambit_process::net, so that they can be simulated",
    },
    Word { parts: ["use super", "::*"], allowed: &["tests", "#test"], why: "no glob imports" },
    Word { parts: ["dyn ", "Any"], allowed: &[], why: "a type that is known is named" },
];

/// Every complaint about these files, one line each, with file and line number.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(check_file).collect()
}

fn check_file(source: &Source) -> Vec<String> {
    let mut complaints = sizes(source);
    if !source.text.starts_with("//!") && !source.text.starts_with("#!") {
        complaints.push(format!("{}:1: no `//!` header saying what the file owns", source.path));
    }
    let mut in_tests = false;
    for (number, line) in source.text.lines().enumerate() {
        in_tests |= line.trim() == "#[cfg(test)]";
        for word in WORDS {
            let found = contains(line, word) && !permitted(&source.path, in_tests, word);
            if found {
                complaints.push(format!(
                    "{}:{}: `{}`: {}",
                    source.path,
                    number + 1,
                    word.parts.concat(),
                    word.why
                ));
            }
        }
        if open_end(line) {
            complaints.push(format!("{}:{}: an open end without an issue number", source.path, number + 1));
        }
    }
    complaints
}

fn sizes(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let limit = match source.path.rsplit('/').next() {
        // The programs' entries; an example or a fuzz target is a whole program in one file.
        Some("main.rs") if source.path.ends_with("src/main.rs") => MAIN_LINES,
        Some("lib.rs") if source.path.ends_with("src/lib.rs") => LIB_LINES,
        _ => FILE_LINES,
    };
    if lines > limit { vec![format!("{}: {lines} lines, at most {limit}", source.path)] } else { Vec::new() }
}

fn contains(line: &str, word: &Word) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    code.find(word.parts[0]).is_some_and(|_| code.contains(&word.parts.concat()))
}

fn permitted(path: &str, in_tests: bool, word: &Word) -> bool {
    let in_tests =
        in_tests || path.contains("/tests/") || path.ends_with("tests.rs") || path.starts_with("tests/");
    word.allowed.iter().any(|place| match *place {
        "#test" => in_tests,
        "tests/" => in_tests,
        place => path.starts_with(place) || path.contains(&format!("/{place}")),
    })
}

fn open_end(line: &str) -> bool {
    let Some((_, comment)) = line.split_once("//") else { return false };
    let marks = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]];
    let marked = marks.iter().any(|parts| {
        let mark = parts.concat();
        comment.split(|c: char| !c.is_ascii_alphabetic()).any(|word| word == mark)
    });
    let numbered = comment.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    marked && !numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(&[Source { path: path.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn a_clean_file_is_left_alone() {
        assert_eq!(complaints("ztunnel/src/dns.rs", "//! Names.\nfn f() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn each_rule_is_broken_by_one_line() {
        let cases = [
            ("ztunnel/src/a.rs", "fn f() {}\n", "header"),
            ("ztunnel/src/a.rs", &format!("//! A.\n{}dead_code)]\n", WORDS[0].parts.concat()), "expect"),
            ("ztunnel/src/a.rs", &format!("//! A.\n{}x());\n", WORDS[2].parts.concat()), "owner"),
            ("crates/tls/src/a.rs", &format!("//! A.\n{} f() }}\n", WORDS[3].parts.concat()), "crates/sys"),
            ("ztunnel/src/a.rs", &format!("//! A.\n// TO{} later\n", "DO"), "issue number"),
            ("ztunnel/src/main.rs", &format!("//! A.\n{}", "\n".repeat(40)), "at most 40"),
            ("ztunnel/src/lib.rs", &format!("//! A.\n{}", "\n".repeat(60)), "at most 60"),
            ("ztunnel/src/a.rs", &format!("//! A.\n{}", "\n".repeat(600)), "at most 600"),
        ];
        for (path, text, wanted) in cases {
            let found = complaints(path, text);
            assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
        }
    }

    #[test]
    fn what_is_allowed_at_home_is_allowed() {
        let spawn = WORDS[2].parts.concat();
        assert_eq!(
            complaints("crates/process/src/tasks.rs", &format!("//! A.\n{spawn}x());\n")),
            Vec::<String>::new()
        );
        assert_eq!(
            complaints("ztunnel/src/a.rs", &format!("//! A.\n// TO{}(#12): later\n", "DO")),
            Vec::<String>::new()
        );
    }
}
