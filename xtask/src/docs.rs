//! The commands in the documentation, run as a reader would run them.
//! Owns finding blocks marked `console run`, running their commands in order and comparing what they print.
//!
//! A marked block holds lines `$ COMMAND`, each followed by what must appear in its output, in order; a line
//! of `…` stands for anything. All blocks of a file share one shell, as they share one reader. A command
//! `$ !COMMAND` must fail. The shell stands in an empty directory, with the built programs on its path.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::test::Tally;
use crate::workspace::Workspace;
use crate::{demo, need};

/// One command of a document and what a reader is told to expect of it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    fails: bool,
    expected: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace) -> Result<Tally> {
    need::root("the docs tier")?;
    need::tools(&[&need::IPROUTE, &need::NFT])?;
    demo::programs(workspace)?;
    let mut files = vec![workspace.root.join("README.md")];
    for entry in std::fs::read_dir(workspace.root.join("docs"))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let mut tally = Tally::default();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let steps = steps(&text);
        if !steps.is_empty() {
            tally.add(run_file(workspace, &file, &steps)?);
        }
    }
    ensure!(tally.passed + tally.failed() > 0, "no document has a block marked `console run`");
    Ok(tally)
}

/// Runs one document in one shell; the shell prints a mark after each command, with its exit status.
fn run_file(workspace: &Workspace, file: &Path, steps: &[Step]) -> Result<Tally> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = workspace.target.join("docs").join(&name);
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    // A mesh that a failed document leaves behind is taken down, whatever happened.
    let mut script = "trap 'ambit local down >/dev/null 2>&1' EXIT\n".to_owned();
    for step in steps {
        script.push_str(&format!("{{ {}\n}} 2>&1\necho \"{MARK}$?\"\n", step.command));
    }
    let programs = workspace.target.join("debug");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)))?;
    let mut shell = Command::new("timeout");
    shell
        .args(["300", "bash", "-c", &script])
        .env("PATH", path)
        .env("AMBIT", &workspace.root)
        .env("AMBIT_RUN_DIR", dir.join("run"))
        .current_dir(&dir);
    let output = shell.output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut tally = Tally::default();
    let mut parts = printed.split_inclusive(MARK);
    for (at, step) in steps.iter().enumerate() {
        let seen = parts.next().unwrap_or("");
        // After the first mark each part begins with the status of the command before it.
        let seen = if at == 0 { seen } else { seen.split_once('\n').map_or("", |(_, rest)| rest) };
        let seen = seen.trim_end_matches(MARK);
        let status = parts.clone().next().and_then(|next| next.lines().next());
        let status = status.and_then(|line| line.trim_end_matches(MARK).parse::<i32>().ok());
        let complaint = judge(step, status, seen);
        let what = format!("{name}:{} `{}`", step.line, step.command.lines().next().unwrap_or_default());
        println!("docs {what} ... {}", complaint.as_deref().unwrap_or("ok"));
        if complaint.is_some() {
            println!("{seen}");
        }
        tally.count(&what, complaint.is_none());
    }
    Ok(tally)
}

/// Unlikely enough in any output, and on a line of its own.
const MARK: &str = "\u{1}ambit-docs ";

fn judge(step: &Step, status: Option<i32>, seen: &str) -> Option<String> {
    match status {
        None => return Some("did not finish".to_owned()),
        Some(code) if (code == 0) == step.fails => return Some(format!("ended with {code}")),
        Some(_) => {}
    }
    let mut lines = seen.lines();
    let wanted = step.expected.iter().map(|line| line.trim()).filter(|line| *line != "…");
    for line in wanted {
        let pieces: Vec<&str> = line.split('…').map(str::trim).collect();
        if !lines.any(|have| in_order(have, &pieces)) {
            return Some(format!("did not print `{line}`"));
        }
    }
    None
}

fn in_order(mut have: &str, pieces: &[&str]) -> bool {
    for piece in pieces {
        let Some((_, rest)) = have.split_once(piece) else { return false };
        have = rest;
    }
    true
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut fresh) = (false, true);
    for (number, line) in text.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            inside = !inside && info.trim() == "console run";
            fresh = true;
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            let fails = command.starts_with('!');
            let command = command.trim_start_matches('!').to_owned();
            steps.push(Step { line: number + 1, command, fails, expected: Vec::new() });
            fresh = false;
        } else if let Some(step) = steps.last_mut().filter(|_| !fresh) {
            match line.strip_prefix("> ") {
                Some(more) => step.command = format!("{}\n{more}", step.command),
                None => step.expected.push(line.to_owned()),
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_blocks_are_run_and_expectations_belong_to_the_command_above() {
        let text = "```console\n$ rm -rf x\n```\n```console run\n$ echo a\na\n$ !false\n$ cat <<X\n> b\n> X\nb\n```\n";
        let found = steps(text);
        let commands: Vec<&str> = found.iter().map(|step| step.command.as_str()).collect();
        assert_eq!(commands, ["echo a", "false", "cat <<X\nb\nX"]);
        assert_eq!(found[0].expected, ["a"]);
        assert!(found[1].fails);
        assert_eq!(found[2].expected, ["b"]);
    }

    #[test]
    fn expected_lines_must_appear_in_order_with_anything_between() {
        let step = |expected: &[&str]| Step {
            line: 1,
            command: String::new(),
            fails: false,
            expected: expected.iter().map(|line| (*line).to_owned()).collect(),
        };
        let seen = "one 1 ms\ntwo\nthree";
        assert_eq!(judge(&step(&["one … ms", "three"]), Some(0), seen), None);
        assert!(judge(&step(&["three", "one"]), Some(0), seen).is_some());
        assert!(judge(&step(&[]), Some(1), seen).is_some());
        assert!(judge(&step(&[]), None, seen).is_some());
    }
}
