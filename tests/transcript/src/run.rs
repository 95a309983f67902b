//! Commands run in one shell, each judged by what it printed. Owns both.

use std::io;
use std::process::Command;

use crate::step::Step;

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Document, line and command.
    pub what: String,
    /// What it printed.
    pub seen: String,
    /// How it was not as the document says; none where it was.
    pub complaint: Option<String>,
}

/// Unlikely enough in any output, and on a line of its own.
const MARK: &str = "\u{1}ambit-docs ";

/// Runs the steps of the document `name` in one shell: `shell` is all but the script, for example `bash -c`; `before`
/// is what the shell does first.
///
/// # Errors
/// When the shell does not start.
pub fn run(name: &str, steps: &[Step], mut shell: Command, before: &str) -> io::Result<Vec<Verdict>> {
    let mut script = before.to_owned();
    for step in steps {
        // The shell prints a mark after each command, with its exit status.
        script.push_str(&format!("\n{{ {}\n}} 2>&1\necho \"{MARK}$?\"\n", step.command));
    }
    let output = shell.arg(&script).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut parts = printed.split_inclusive(MARK);
    let mut verdicts = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let seen = parts.next().unwrap_or("");
        // After the first mark each part begins with the status of the command before it.
        let seen = if at == 0 { seen } else { seen.split_once('\n').map_or("", |(_, rest)| rest) };
        let seen = seen.trim_end_matches(MARK);
        let status = parts.clone().next().and_then(|next| next.lines().next());
        let status = status.and_then(|line| line.trim_end_matches(MARK).parse::<i32>().ok());
        let what = format!("{name}:{} `{}`", step.line, step.command.lines().next().unwrap_or_default());
        verdicts.push(Verdict { what, seen: seen.to_owned(), complaint: judge(step, status, seen) });
    }
    Ok(verdicts)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::steps;

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

    #[test]
    fn each_command_is_judged_by_its_own_output_and_one_that_ends_the_shell_ends_them_all() {
        let text =
            "```console run\n$ echo a; it=b\na\n$ echo $it\nb\n$ echo c\nd\n$ !true\n$ exit 0\n$ true\n```\n";
        let mut shell = Command::new("sh");
        shell.arg("-c");
        let verdicts = run("doc", &steps(text, "console run"), shell, "").unwrap();
        let complaints: Vec<Option<&str>> = verdicts.iter().map(|it| it.complaint.as_deref()).collect();
        let gone = Some("did not finish");
        assert_eq!(complaints, [None, None, Some("did not print `d`"), Some("ended with 0"), gone, gone]);
        assert_eq!((verdicts[1].what.as_str(), verdicts[1].seen.as_str()), ("doc:4 `echo $it`", "b\n"));
    }
}
