//! Meters of a running program, from /proc: processor time, memory, and how often it was interrupted.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// What the kernel counts time in for programs, on every architecture: hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Time on a processor of all threads there are and were: it never falls, also when threads come to their end.
///
/// # Errors
/// When the process is gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // A program's name may hold anything, but nothing after it holds a parenthesis.
    let (_, fields) = text.rsplit_once(')').context("stat without a name")?;
    // proc_pid_stat(5): in user mode the 14th, in the kernel the 15th; the state, first here, is the third.
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>()?;
    ensure!(ticks.len() == 2, "stat is cut short");
    Ok(TICK * ticks.into_iter().sum())
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
        // A thread may have come to its end since it was listed.
        let Ok(status) = std::fs::read_to_string(task?.path().join("status")) else { continue };
        for line in status.lines() {
            if let Some(number) = line.strip_prefix("voluntary_ctxt_switches:") {
                own += number.trim().parse::<u64>()?;
            } else if let Some(number) = line.strip_prefix("nonvoluntary_ctxt_switches:") {
                forced += number.trim().parse::<u64>()?;
            }
        }
    }
    Ok((own, forced))
}

/// Time that threads of the process that are alive were ready to run and did not, since others did.
///
/// # Errors
/// When the process is gone.
pub fn queued(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // As above. Three numbers, the second of which is this, in nanoseconds.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split_ascii_whitespace().nth(1).context("schedstat is cut short")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use ambit_kit::eventually;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A process that ends with its holder.
    struct Busy(Child);

    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    fn more_than(limit: Duration, spent: Duration) -> Result<(), Duration> {
        if spent > limit { Ok(()) } else { Err(spent) }
    }

    #[test]
    fn the_meters_of_a_busy_process_move() {
        let busy = Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
        let pid = busy.0.id();
        let before = cpu(pid).unwrap();
        eventually(PATIENCE, || more_than(before + TICK, cpu(pid).unwrap())).unwrap();
        let (now, peak) = memory(pid).unwrap();
        assert!(now > 0 && peak >= now);
        let taken_off = || switches(pid).unwrap().1;
        let before = taken_off();
        eventually(PATIENCE, || if taken_off() > before { Ok(()) } else { Err("never interrupted") })
            .unwrap();
    }

    #[test]
    fn of_two_that_share_a_processor_each_waits_for_the_other() {
        let busy = || {
            let mut command = Command::new("taskset");
            Busy(command.args(["-c", "0", "sh", "-c", "while :; do :; done"]).spawn().unwrap())
        };
        let (one, other) = (busy(), busy());
        for each in [&one, &other] {
            let waited = || queued(each.0.id()).unwrap_or_default();
            eventually(PATIENCE, || more_than(10 * TICK, waited())).unwrap();
        }
    }

    #[test]
    fn what_a_thread_used_counts_after_its_end() {
        let me = std::process::id();
        let before = cpu(me).unwrap();
        let thread = std::thread::spawn(move || {
            while cpu(me).unwrap() < before + 10 * TICK {
                std::hint::black_box(me);
            }
        });
        thread.join().unwrap();
        assert!(cpu(me).unwrap() >= before + 10 * TICK);
    }

    #[test]
    fn a_process_that_is_gone_has_no_meters() {
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        assert!(cpu(gone.id()).is_err() && memory(gone.id()).is_err());
        assert!(switches(gone.id()).is_err() && queued(gone.id()).is_err());
    }
}
