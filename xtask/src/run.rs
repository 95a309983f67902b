//! Starting other programs: shown before they start, failing with their name.
//! Owns how a command line is printed and judged; decides nothing about what to run.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs it with our terminal; an error names the command and how it ended.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("`{line}` does not start"))?;
    ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

/// Runs it silently; whether it could be started and said yes.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// What a person would have typed: the program's bare name and its arguments.
pub(crate) fn line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_in_the_error() {
        let failed = shown(Command::new("/bin/false").arg("--quietly")).unwrap_err();
        assert!(failed.to_string().starts_with("`false --quietly` ended"), "{failed}");
    }
}
