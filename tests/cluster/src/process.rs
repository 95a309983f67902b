//! Processes of a cluster: recorded, found again by id and start time, ended by that alone.
//! A process id is reused by the kernel; an id together with its start time is not.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::wait::pause;

/// One process, told apart from every other that had or will have its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    pid: i32,
    /// Ticks from the machine's start to the process's.
    start: u64,
}

impl Process {
    /// The calling process.
    pub fn own() -> Option<Self> {
        Self::find(i32::try_from(std::process::id()).ok()?)
    }

    /// The process that has this id now, unless it has ended and only waits to be reaped.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc_pid_stat(5): the name, in parentheses, may hold anything; after it come the state (3) and, 19
        // fields later, the start time (22).
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let start = fields.nth(18)?.parse().ok()?;
        (!ended).then_some(Self { pid, start })
    }

    /// Its id.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Ends it without a warning.
    pub fn kill(self) {
        if self.is_alive() {
            // It may end between the look and the signal; then there is nothing left to signal.
            let _gone = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }

    /// Reads what [`Process::record`] wrote; `None` where a process was about to start but did not.
    pub fn recorded(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }

    /// Writes the process down. The file must be there, and be there still when that is done: whoever took it away has
    /// ended the cluster, perhaps before this could be read in it, and nothing more may start.
    pub fn record(self, path: &Path) -> io::Result<()> {
        let mut file = File::options().write(true).truncate(true).open(path)?;
        writeln!(file, "{} {}", self.pid, self.start)?;
        file.sync_all()?;
        let (written, there) = (file.metadata()?, fs::metadata(path)?);
        if written.ino() == there.ino() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// Kills all of them and waits until they are gone; returns those still there after `limit`.
pub fn end(processes: &[Process], limit: Duration) -> Vec<Process> {
    for process in processes {
        process.kill();
    }
    let until = Instant::now() + limit;
    loop {
        let left: Vec<Process> = processes.iter().copied().filter(|process| process.is_alive()).collect();
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        pause(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_killed_by_its_record_and_its_successor_under_the_same_id_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.record(&path).is_err(), "without the file there is no cluster to belong to");
        File::create_new(&path).unwrap();
        assert_eq!(Process::recorded(&path), None);
        process.record(&path).unwrap();
        assert_eq!(Process::recorded(&path), Some(process));
        let successor = Process { start: process.start + 1, ..process };
        assert!(end(&[successor], Duration::ZERO).is_empty(), "it is not there");
        assert!(process.is_alive(), "and the one that is there was left alone");
        assert!(end(&[process], Duration::from_secs(5)).is_empty());
        child.wait().unwrap();
    }
}
