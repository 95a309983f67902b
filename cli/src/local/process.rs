//! Processes of a mesh: recorded before they run, found again by id and start time, ended by that alone.
//! A process id is reused by the kernel; an id together with its start time is not.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ambit_sys::netns::NetnsId;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::space;

/// How often a wait for the end of a process looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One process, told apart from every other that had or will have its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: i32,
    /// Ticks from the machine's start to the process's, field 22 of `/proc/<pid>/stat`.
    start: u64,
}

impl Process {
    /// The calling process.
    pub(crate) fn own() -> Option<Self> {
        Self::find(i32::try_from(std::process::id()).ok()?)
    }

    /// The process that has this id now.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the fields after it are counted from the state (3).
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let start = fields.nth(18)?.parse().ok()?;
        (!ended).then_some(Self { pid, start })
    }

    /// Its id and what it runs, for people.
    pub(crate) fn told(self) -> String {
        let words = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        format!("{} {}", self.pid, String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " "))
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Sends a signal to the process and to the group it leads, if it leads one.
    pub(crate) fn signal(self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        let pid = Pid::from_raw(self.pid);
        // It may end between the look and the signal; then there is nothing left to signal.
        if killpg(pid, signal).is_err() {
            let _gone = kill(pid, signal);
        }
    }

    /// Reads what [`Process::record`] wrote; `None` where a process was about to start but did not.
    pub(crate) fn recorded(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }

    /// Writes the process down, on disk before the call returns. The file must be there: whoever removed
    /// it has ended the mesh, and nothing more may start.
    pub(crate) fn record(self, path: &Path) -> io::Result<()> {
        let mut file = File::options().write(true).truncate(true).open(path)?;
        writeln!(file, "{} {}", self.pid, self.start)?;
        file.sync_all()
    }
}

/// Ends all `processes`: asks, waits up to `grace`, then insists. Returns those still there.
pub(crate) fn end(processes: &[Process], grace: Duration) -> Vec<Process> {
    for process in processes {
        process.signal(Signal::SIGTERM);
    }
    let left = wait(processes, grace);
    for process in &left {
        process.signal(Signal::SIGKILL);
    }
    wait(&left, KILL_WAIT)
}

/// A killed process is gone at once, unless the kernel still works for it.
const KILL_WAIT: Duration = Duration::from_secs(2);

fn wait(processes: &[Process], limit: Duration) -> Vec<Process> {
    let until = Instant::now() + limit;
    loop {
        let left: Vec<_> = processes.iter().copied().filter(|p| p.is_alive()).collect();
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Every process that lives in one of these namespaces, whoever started it.
pub(crate) fn inside(pins: &[PathBuf]) -> Vec<Process> {
    inside_any(&pins.iter().filter_map(|pin| space::identity(pin)).collect::<Vec<_>>())
}

/// As [`inside`], of namespaces that may have no name any more.
pub(crate) fn inside_any(wanted: &[NetnsId]) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let space = space::identity(Path::new(&format!("/proc/{pid}/ns/net")));
            space.is_some_and(|space| wanted.contains(&space))
        })
        .filter_map(Process::find)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_recorded_process_is_found_again_and_its_successor_under_the_same_id_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let own = Process::own().unwrap();
        assert!(own.record(&path).is_err(), "without the file there is no mesh to belong to");
        File::create_new(&path).unwrap();
        assert_eq!(Process::recorded(&path), None);
        own.record(&path).unwrap();
        assert_eq!(Process::recorded(&path), Some(own));
        assert!(own.is_alive());
        assert!(!Process { start: own.start + 1, ..own }.is_alive());
    }

    #[test]
    fn a_process_that_ignores_the_request_is_ended_all_the_same() {
        let mut child = Command::new("sh").args(["-c", "trap '' TERM; sleep 60 & wait"]).spawn().unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(end(&[process], Duration::from_millis(50)).is_empty());
        child.wait().unwrap();
    }
}
