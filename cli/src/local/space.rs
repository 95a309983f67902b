//! The namespaces of a mesh, by the files they are pinned to: made, entered, removed.
//! The calls are `ambit_sys::netns`'s; here is what is said when they fail.

use std::io;
use std::path::{Path, PathBuf};

use ambit_sys::netns::{Netns, NetnsError, NetnsId, remove_named};

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpaceError {
    #[error("network namespaces need root: run this with sudo")]
    NotRoot,
    #[error("this kernel has no network namespaces (CONFIG_NET_NS)")]
    NoKernelSupport,
    #[error("cannot {act} the namespace {pin}")]
    Failed { act: &'static str, pin: PathBuf, source: NetnsError },
}

/// Makes a namespace and pins it to `pin`.
pub(crate) fn make(pin: &Path) -> Result<(), SpaceError> {
    Netns::create_named(pin).map(drop).map_err(|e| failed("make", pin, e))
}

/// Runs `work` inside the namespace, on a thread of its own that ends with it.
pub(crate) fn within<T: Send>(pin: &Path, work: impl FnOnce() -> T + Send) -> Result<T, SpaceError> {
    Netns::open(pin).and_then(|space| space.run_on_thread(work)).map_err(|e| failed("enter", pin, e))
}

/// Moves the calling thread into the namespace, for good.
pub(crate) fn enter(pin: &Path) -> Result<(), SpaceError> {
    Netns::open(pin).and_then(|space| space.enter_for_good()).map_err(|e| failed("enter", pin, e))
}

/// Lets the namespace go. Safe to repeat, and safe where a crash left only the file.
pub(crate) fn remove(pin: &Path) -> Result<(), SpaceError> {
    remove_named(pin).map_err(|e| failed("remove", pin, e))
}

/// What tells one namespace from another; none where a crash left only the file.
pub(crate) fn identity(pin: &Path) -> Option<NetnsId> {
    Netns::open(pin).ok().map(|space| space.id())
}

fn failed(act: &'static str, pin: &Path, source: NetnsError) -> SpaceError {
    let cause = match &source {
        NetnsError::Open { source, .. } | NetnsError::Call { source, .. } => Some(source.kind()),
        NetnsError::NoNetns | NetnsError::Panicked => None,
    };
    match cause {
        Some(io::ErrorKind::PermissionDenied) => SpaceError::NotRoot,
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) if act == "make" => {
            SpaceError::NoKernelSupport
        }
        _ => SpaceError::Failed { act, pin: pin.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_namespace_is_made_entered_and_removed_twice_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("a");
        make(&pin).expect("network namespaces need root: run the tests with sudo");
        let inside = within(&pin, || std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino()).unwrap();
        assert_eq!(identity(&pin).unwrap().inode, inside);
        assert_ne!(
            std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino(),
            inside,
            "the caller stayed out"
        );
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
