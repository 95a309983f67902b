//! Commands of a page of the documents, run in the cluster as they are written there. Owns finding and running them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::Lab;

impl Lab {
    /// Runs all commands that a page, for example `docs/install.md`, has below a heading, in their order. Only
    /// `kubectl` and `helm` are known.
    pub fn follow(&self, page: &str, heading: &str) -> Result<()> {
        let text = fs::read_to_string(root().join(page)).with_context(|| page.to_owned())?;
        let commands = below(&text, heading)?;
        commands.iter().try_for_each(|command| run(self, command).with_context(|| (*command).to_owned()))
    }
}

/// The page is read at the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn below<'a>(page: &'a str, heading: &str) -> Result<Vec<&'a str>> {
    let begin = format!("\n## {heading}\n");
    let (_, section) = page.split_once(&begin).with_context(|| format!("no heading {heading:?}"))?;
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    ensure!(!commands.is_empty(), "no command below {heading:?}");
    Ok(commands)
}

fn run(lab: &Lab, command: &str) -> Result<()> {
    let absolute = |word: &str| match word.strip_prefix("deploy/") {
        Some(_) => root().join(word).display().to_string(),
        None => word.to_owned(),
    };
    let words: Vec<String> = command.split_whitespace().map(absolute).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"kubectl", arguments)) => lab.kubectl(arguments).map(drop),
        Some((&"helm", arguments)) => lab.helm(arguments).map(drop),
        _ => bail!("only kubectl and helm are known here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_a_section_are_its_own_and_a_section_without_any_is_an_error() {
        let page =
            "# a\n\n## b c\n\n```console\n$ helm x y\nsaid\n$ kubectl z\n```\n\n## d\n\n$ helm w\n\n## e\n";
        assert_eq!(below(page, "b c").unwrap(), ["helm x y", "kubectl z"]);
        assert_eq!(below(page, "d").unwrap(), ["helm w"]);
        assert!(below(page, "e").is_err() && below(page, "b").is_err());
    }
}
