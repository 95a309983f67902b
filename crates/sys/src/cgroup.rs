//! Control groups as another process sees them: a container's view begins at its own group, and the kernel counts the
//! depth of a group from the view of whoever names it.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// Does `work` on a thread of its own that sees groups as the owner of this namespace file (`/proc/<pid>/ns/cgroup`)
/// does; the thread then ends.
pub fn in_view_of<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let view = File::open(namespace)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cgroup".into()).spawn_scoped(scope, move || {
            setns(&view, CloneFlags::CLONE_NEWCGROUP)?;
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that looked at groups panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_in_the_view_that_is_named_and_nowhere_without_one() {
        let own = Path::new("/proc/self/ns/cgroup");
        let seen = in_view_of(own, || std::fs::read_to_string("/proc/thread-self/cgroup").unwrap());
        assert_eq!(seen.unwrap(), std::fs::read_to_string("/proc/self/cgroup").unwrap());
        assert!(in_view_of(Path::new("/nowhere"), || ()).is_err());
        let elsewhere = in_view_of(Path::new("/proc/self/ns/uts"), || ());
        assert!(elsewhere.is_err(), "another kind of namespace");
    }
}
