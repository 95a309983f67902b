//! Meters of a running program, from /proc: processor time, memory, how often it was interrupted; and what of this
//! machine's time others had.

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

/// Forgets what the peak of memory was: from now on it is what it is now.
///
/// # Errors
/// When the process is gone, or somebody else's.
pub fn forget_peak(pid: u32) -> Result<()> {
    // proc_pid_clear_refs(5): the number of this.
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// What the processors of this machine have done so far. Where it is a guest, its host may give them to others while
/// somebody here would run: what is measured meanwhile is of no worth.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    taken: u64,
    all: u64,
}

impl Machine {
    /// As it is now.
    ///
    /// # Errors
    /// When the kernel says nothing of it.
    pub fn now() -> Result<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat")?)
    }

    fn read(text: &str) -> Result<Self> {
        let line =
            text.lines().find_map(|line| line.strip_prefix("cpu ")).context("no line of all processors")?;
        // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; what comes after is a part of the first.
        let fields =
            line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let taken = *fields.get(7).context("a kernel that does not count what is taken away")?;
        Ok(Self { taken, all: fields.iter().sum() })
    }

    /// The percentage of its time that its host has taken away since it was like this.
    ///
    /// # Errors
    /// When the kernel says nothing of it.
    pub fn taken_since(self) -> Result<f64> {
        Ok(Self::now()?.taken_beside(self))
    }

    fn taken_beside(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.taken.saturating_sub(before.taken) as f64 * 100.0 / all as f64
    }
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
    fn what_the_host_took_is_its_part_of_all_time_and_a_guests_time_counts_once() {
        let stat = |fields: &str| Machine::read(&format!("cpu  {fields}\ncpu0 1 1 1 1 1 1 1 1 1 1\n"));
        let before = stat("100 0 50 800 10 5 5 30 90 0").unwrap();
        let after = stat("150 0 60 820 10 5 5 50 140 0").unwrap();
        assert!((after.taken_beside(before) - 20.0).abs() < f64::EPSILON);
        assert!(after.taken_beside(after).abs() < f64::EPSILON);
        assert!(stat("1 2 3").is_err() && Machine::read("intr 1").is_err());
        assert!((0.0..=100.0).contains(&Machine::now().unwrap().taken_since().unwrap()));
    }

    #[test]
    fn a_peak_that_is_forgotten_is_what_there_is_now() {
        const BIG: usize = 64 << 20;
        let busy = Busy(Command::new("sleep").arg("60").spawn().unwrap());
        forget_peak(busy.0.id()).unwrap();
        let me = std::process::id();
        let big = std::hint::black_box(vec![1_u8; BIG]);
        assert!(memory(me).unwrap().1 > BIG as u64 / 1024);
        drop(big);
        forget_peak(me).unwrap();
        let (now, peak) = memory(me).unwrap();
        assert!(peak < now + (BIG as u64 / 1024), "{peak} KiB at its peak, {now} now");
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
