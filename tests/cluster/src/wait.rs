//! Waiting with a limit, and saying what was waited for when it does not come.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a wait looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Lines of a log that are shown when a wait was in vain.
const TAIL: usize = 12;

/// Looks until there is a result, at most for `limit`. Without one the error says what was waited for, what stood
/// in the way at the last look, and how the logs end.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    logs: &[PathBuf],
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let until = Instant::now() + limit;
    loop {
        let last = match look() {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if Instant::now() >= until {
            let mut text = format!("waited {} s for {what}: {last:#}", limit.as_secs());
            for log in logs {
                // Writing to a String cannot fail.
                let _written = write!(text, "\n--- {} ends with\n{}", log.display(), tail(log));
            }
            bail!("{text}");
        }
        pause(LOOK_AGAIN);
    }
}

/// Lets time pass.
pub fn pause(length: Duration) {
    let until = Instant::now() + length;
    // A parked thread may be woken early.
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_says_for_what_why_and_how_the_log_ends() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let lines: Vec<String> = (0..40).map(|line| format!("line {line}")).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        let failed =
            wait::<()>("a sign", Duration::ZERO, &[log], || bail!("there is none")).unwrap_err().to_string();
        for part in ["0 s for a sign", "there is none", "x.log", "line 39"] {
            assert!(failed.contains(part), "{failed}");
        }
        assert!(!failed.contains("line 1\n"), "{failed}");
    }
}
