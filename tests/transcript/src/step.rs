//! Commands as a document writes them. Owns finding them.

/// One command of a document and what a reader is told to expect of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its line in the document, counted from 1.
    pub line: usize,
    /// The command, as the shell reads it.
    pub command: String,
    /// Whether the document says that it fails.
    pub fails: bool,
    /// Lines that its output shows, in order.
    pub expected: Vec<String>,
}

/// The steps of a document, from its blocks of this kind, such as `console run`.
#[must_use]
pub fn steps(text: &str, kind: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut fresh) = (false, true);
    for (number, line) in text.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            inside = !inside && info.trim() == kind;
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
        let found = steps(text, "console run");
        let commands: Vec<&str> = found.iter().map(|step| step.command.as_str()).collect();
        assert_eq!(commands, ["echo a", "false", "cat <<X\nb\nX"]);
        assert_eq!(found[0].expected, ["a"]);
        assert!(found[1].fails);
        assert_eq!(found[2].expected, ["b"]);
    }
}
