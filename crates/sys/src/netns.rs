//! Network namespaces: open one, know which one it is, work inside it and come back for certain, make one.
//! Owns the switching of threads. Leaves what is configured inside to its callers.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::socket;

/// Which namespace: equal exactly for two descriptors of the same one, while one of them is open. The number of a
/// namespace that is gone is soon another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    /// The device that the kernel's namespace files live on.
    pub device: u64,
    /// The file's number on it.
    pub inode: u64,
}

/// An open network namespace. It lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    id: NetnsId,
}

/// Why a namespace could not be had or entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The file is not there or may not be opened.
    #[error("cannot open network namespace {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is something else.
    #[error("the descriptor is no network namespace")]
    NoNetns,
    /// A call on an open namespace failed.
    #[error("cannot {what}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// What the kernel said; `EPERM` means root, or the capability `SYS_ADMIN`, is missing.
        source: io::Error,
    },
    /// The thread that worked inside ended abnormally.
    #[error("the thread that worked inside the namespace panicked")]
    Panicked,
}

impl Netns {
    /// Opens the namespace behind a file such as `/run/netns/x` or `/proc/<pid>/ns/net`.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        // Without O_NONBLOCK a fifo under this path would block the caller for ever.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|source| NetnsError::Open { path: path.into(), source })?;
        Self::from_fd(file.into())
    }

    /// Takes a descriptor, such as one received over a socket, if it is a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NetnsError> {
        // SAFETY: `fd` is open for the whole call; this request reads nothing and writes nothing.
        // WHY: no safe wrapper offers NS_GET_NSTYPE.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(NetnsError::NoNetns);
        }
        let file = File::from(fd);
        let meta = file.metadata().map_err(|source| NetnsError::Call { what: "stat a namespace", source })?;
        Ok(Self { fd: file.into(), id: NetnsId { device: meta.dev(), inode: meta.ino() } })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new namespace without a name, with `lo` up. It is gone when the last descriptor and process are.
    pub fn anonymous() -> Result<Self, NetnsError> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(call("make a network namespace"))?;
            socket::loopback_up().map_err(|source| NetnsError::Call { what: "bring up lo", source })?;
            Self::current()
        })?
    }

    /// A new namespace with `lo` up, kept by a file at `path` (`/run/netns/x` for `ip netns`). The parent directory
    /// must exist. Undone by [`remove_named`].
    pub fn create_named(path: &Path) -> Result<Self, NetnsError> {
        let new = Self::anonymous()?;
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(path)
            .map_err(|source| NetnsError::Open { path: path.into(), source })?;
        let from = format!("/proc/thread-self/fd/{}", new.fd.as_raw_fd());
        let nothing: Option<&str> = None;
        if let Err(error) = mount(Some(from.as_str()), path, nothing, MsFlags::MS_BIND, nothing) {
            // The empty file would look like a namespace that exists.
            let _ = std::fs::remove_file(path);
            return Err(call("bind a namespace to a name")(error));
        }
        Ok(new)
    }

    /// Which namespace this is.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// A second handle on the same namespace.
    pub fn try_clone(&self) -> Result<Self, NetnsError> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|source| NetnsError::Call { what: "duplicate a descriptor", source })?;
        Ok(Self { fd, id: self.id })
    }

    /// Does `work` inside, on the calling thread, which is back in its former namespace when this returns or
    /// unwinds. If the way back fails the process aborts: serving one pod's traffic in another pod's namespace is
    /// worse. `work` must be short and must not await; processes it starts stay inside.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetnsError> {
        let home = Self::current()?;
        if home.id == self.id {
            return Ok(work());
        }
        let _back = WayBack { home };
        setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(call("enter a network namespace"))?;
        Ok(work())
    }

    /// Does `work` inside on a thread of its own, which then ends. For longer, blocking work.
    pub fn run_on_thread<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_thread(|| {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(call("enter a network namespace"))?;
            Ok(work())
        })?
    }

    /// Moves the calling thread in for good: for a process about to turn into another, or a thread made for it.
    pub fn enter_for_good(&self) -> Result<(), NetnsError> {
        setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(call("enter a network namespace"))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes the name of a namespace away: unmounts and deletes the file. Gone already is success.
pub fn remove_named(path: &Path) -> Result<(), NetnsError> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a plain file, left over by a crash between creating and binding.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(call("unbind a namespace")(error)),
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(NetnsError::Call { what: "delete the name of a namespace", source })
        }
        _ => Ok(()),
    }
}

/// `_IO(0xb7, 3)`: what kind of namespace a descriptor is.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

struct WayBack {
    home: Netns,
}

impl Drop for WayBack {
    fn drop(&mut self) {
        if setns(&self.home.fd, CloneFlags::CLONE_NEWNET).is_err() {
            // Also while unwinding: nothing may run on this thread any more.
            std::process::abort();
        }
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|source| NetnsError::Call { what: "start a thread", source })?;
        thread.join().map_err(|_| NetnsError::Panicked)
    })
}

fn call(what: &'static str) -> impl FnOnce(Errno) -> NetnsError {
    move |error| NetnsError::Call { what, source: error.into() }
}

#[cfg(test)]
mod tests;
