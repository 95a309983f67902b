//! docs/reference.md: every environment variable a program reads, generated from the keys in the code.
//! Owns finding the keys and the page's shape; the words are those beside each key.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Source;
use crate::workspace::Workspace;

const PAGE: &str = "docs/reference.md";
const HEAD: &str =
    "# Settings\n\nGenerated from the code by `cargo xtask tidy --write`. Flags: each program's `--help`.\n";

/// A complaint when the page is not what the code says; with `write` the page is written instead.
pub(super) fn check(workspace: &Workspace, sources: &[Source], write: bool) -> Result<Vec<String>> {
    let page = page(sources);
    let path = workspace.root.join(PAGE);
    if write {
        std::fs::write(&path, page)?;
        return Ok(Vec::new());
    }
    let same = std::fs::read_to_string(&path).is_ok_and(|have| have == page);
    Ok(if same {
        Vec::new()
    } else {
        vec![format!("{PAGE}: not what the code says; `cargo xtask tidy --write`")]
    })
}

fn page(sources: &[Source]) -> String {
    let mut owners: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| is_program_text(&source.path)) {
        let text = source.text.split("#[cfg(test)]").next().unwrap_or("");
        for (name, about) in keys(text) {
            owners.entry(owner(&source.path)).or_default().insert(name, about);
        }
    }
    let mut page = HEAD.to_owned();
    for (owner, keys) in owners {
        page.push_str(&format!("\n## {owner}\n\n| variable | meaning |\n|---|---|\n"));
        for (name, about) in keys {
            page.push_str(&format!("| `{name}` | {} |\n", about.replace('|', "\\|")));
        }
    }
    page
}

fn is_program_text(path: &str) -> bool {
    path.contains("src/")
        && !path.starts_with("xtask")
        && !path.starts_with("tests/")
        && !path.ends_with("tests.rs")
}

/// What all programs read is listed once, and so is what all proxies do.
fn owner(path: &str) -> &str {
    match path.split('/').next().unwrap_or(path) {
        "crates" if path.starts_with("crates/proxy/") => "every proxy",
        "crates" => "every program",
        program => program,
    }
}

/// Two string literals after a word that makes a key: its name and its meaning.
fn keys(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for maker in ["Key::new(", "optional(", "Prefix::new("] {
        for rest in text.split(maker).skip(1) {
            let Some((name, rest)) = literal(rest) else { continue };
            let Some((about, _)) = rest.trim_start().strip_prefix(',').and_then(literal) else { continue };
            found.push((name, about));
        }
    }
    found
}

/// A string literal at the very beginning, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let (inside, rest) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    // A line of the literal continued on the next one, as rustfmt leaves it.
    let joined: Vec<&str> = inside.split("\\\n").map(str::trim_start).collect();
    Some((joined.concat(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_with_their_meaning_and_tests_are_not() {
        let text = "const A: Key<bool> = Key::new(\n  \"A_B\",\n  \"what \\\n   it is\", flag, || true);\n\
            const C: Text = optional(\"C\", \"see\");\nPrefix::new(\"D_\", \"all\");\nKey::new(name, about, x);\n#[cfg(test)]\nKey::new(\"T\", \"no\")";
        let source = Source { path: "ztunnel/src/config.rs".to_owned(), text: text.to_owned() };
        let page = page(&[source]);
        assert!(page.contains("## ztunnel"), "{page}");
        assert!(page.contains("| `A_B` | what it is |\n| `C` | see |\n| `D_` | all |"), "{page}");
        assert!(!page.contains("`T`"), "{page}");
    }
}
