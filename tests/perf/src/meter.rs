//! Meters of a running program, from /proc: processor time and memory.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Time on a processor of all threads there are, from the scheduler, in nanoseconds and thus without ticks.
///
/// # Errors
/// When the process is gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split(' ').next().context("schedstat is empty")?;
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Resident memory now and at its peak, in KiB.
///
/// # Errors
/// When the process is gone.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Times a thread of the process was put on a processor and taken off again: (by its own wish, by others').
///
/// # Errors
/// When the process is gone.
pub fn switches(pid: u32) -> Result<(u64, u64)> {
    let (mut own, mut forced) = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        for line in std::fs::read_to_string(task?.path().join("status"))?.lines() {
            if let Some(number) = line.strip_prefix("voluntary_ctxt_switches:") {
                own += number.trim().parse::<u64>()?;
            } else if let Some(number) = line.strip_prefix("nonvoluntary_ctxt_switches:") {
                forced += number.trim().parse::<u64>()?;
            }
        }
    }
    Ok((own, forced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meters_of_a_busy_process_move() {
        let me = std::process::id();
        let before = cpu(me).unwrap();
        let sum: u64 = (0..20_000_000u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        std::hint::black_box(sum);
        assert!(cpu(me).unwrap() > before);
        let (now, peak) = memory(me).unwrap();
        assert!(now > 0 && peak >= now);
    }
}
