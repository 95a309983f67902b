//! Network namespaces: made, pinned to a file, entered for the length of a call, removed.
//! Knows nothing of what is inside them (`links`) or what they are for (`layout`, `sandbox`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpaceError {
    #[error("network namespaces need root: run this with sudo")]
    NotRoot,
    #[error("this kernel has no network namespaces (CONFIG_NET_NS)")]
    NoKernelSupport,
    #[error("cannot {act} the namespace {pin}")]
    Failed { act: &'static str, pin: PathBuf, source: io::Error },
    #[error("the thread working in namespace {pin} was lost")]
    Lost { pin: PathBuf },
}

/// Makes a namespace and pins it to `pin`. The file is there before the namespace is: a crash in between
/// leaves an empty file, which [`remove`] takes away like any other.
pub(crate) fn make(pin: &Path) -> Result<(), SpaceError> {
    let failed = |act, source: io::Error| SpaceError::Failed { act, pin: pin.to_owned(), source };
    File::create_new(pin).map_err(|e| failed("record", e))?;
    apart(pin, || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EPERM => SpaceError::NotRoot,
            Errno::EINVAL | Errno::ENOSYS => SpaceError::NoKernelSupport,
            other => failed("make", other.into()),
        })?;
        // WHY: a namespace lives as long as something holds it; the bind mount does, without a process.
        mount(Some("/proc/thread-self/ns/net"), pin, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| failed("pin", errno.into()))
    })?
}

/// Runs `work` inside the namespace, on a thread of its own that ends with it.
pub(crate) fn within<T: Send>(pin: &Path, work: impl FnOnce() -> T + Send) -> Result<T, SpaceError> {
    apart(pin, || {
        enter(pin)?;
        Ok(work())
    })?
}

/// Moves the calling thread into the namespace, for good.
pub(crate) fn enter(pin: &Path) -> Result<(), SpaceError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => SpaceError::NotRoot,
        _ => SpaceError::Failed { act: "enter", pin: pin.to_owned(), source },
    };
    let file = File::open(pin).map_err(failed)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
}

/// Lets the namespace go. Safe to repeat, and safe where only the file was made.
pub(crate) fn remove(pin: &Path) -> Result<(), SpaceError> {
    let failed = |source: io::Error| SpaceError::Failed { act: "remove", pin: pin.to_owned(), source };
    match umount2(pin, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(failed(errno.into())),
    }
    match fs::remove_file(pin) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
        _ => Ok(()),
    }
}

/// What tells one namespace from another: device and inode. `None` where only the file was made.
pub(crate) fn identity(pin: &Path) -> Option<(u64, u64)> {
    let own = fs::metadata("/proc/self/ns/net").ok()?;
    let found = fs::metadata(pin).ok()?;
    // A plain file is on another device than the namespaces are.
    (found.dev() == own.dev()).then_some((found.dev(), found.ino()))
}

fn apart<T: Send>(pin: &Path, work: impl FnOnce() -> T + Send) -> Result<T, SpaceError> {
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| SpaceError::Lost { pin: pin.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_made_entered_and_removed_twice_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("a");
        make(&pin).expect("network namespaces need root: run the tests with sudo");
        let inside = within(&pin, || fs::metadata("/proc/thread-self/ns/net").unwrap().ino()).unwrap();
        assert_eq!(identity(&pin).unwrap().1, inside);
        assert_ne!(fs::metadata("/proc/thread-self/ns/net").unwrap().ino(), inside, "the caller stayed out");
        remove(&pin).unwrap();
        remove(&pin).unwrap();
        assert!(!pin.exists());
    }

    #[test]
    fn a_crash_between_the_record_and_the_namespace_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("a");
        File::create_new(&pin).unwrap();
        assert_eq!(identity(&pin), None);
        remove(&pin).unwrap();
        assert!(!pin.exists());
    }
}
