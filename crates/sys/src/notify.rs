//! News of folders: something in them was made, changed, moved or removed. Owns the watch, non-blocking.
//! What changed is for the caller to look at: news may be lost, what is there is not.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A watch on folders.
#[derive(Debug)]
pub struct Notify(Inotify);

impl Notify {
    /// Watches these folders; one that is not there is an error.
    pub fn folders<'a>(folders: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        for folder in folders {
            inotify.add_watch(folder, what | AddWatchFlags::IN_ONLYDIR)?;
        }
        Ok(Self(inotify))
    }

    /// Takes all news there is, or says `WouldBlock`.
    pub fn try_take(&self) -> io::Result<()> {
        let mut any = false;
        loop {
            match self.0.read_events() {
                Ok(_) => any = true,
                Err(Errno::EAGAIN) if any => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Notify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_in_a_folder_is_news_until_it_is_taken() {
        let folder = std::env::temp_dir().join(format!("ambit-notify-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let notify = Notify::folders([folder.as_path()]).unwrap();
        let quiet = || notify.try_take().unwrap_err().kind() == io::ErrorKind::WouldBlock;
        assert!(quiet());
        std::fs::write(folder.join("a"), "1").unwrap();
        notify.try_take().unwrap();
        assert!(quiet());
        std::fs::rename(folder.join("a"), folder.join("b")).unwrap();
        notify.try_take().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        notify.try_take().unwrap();
        assert!(Notify::folders([folder.as_path()]).is_err());
    }
}
