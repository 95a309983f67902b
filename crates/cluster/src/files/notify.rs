//! inotify, as news about files and folders. Owns watch descriptors. Reads no file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

/// Room for the events of one read; more are read in the next one.
const BUFFER: usize = 16 << 10;

/// Events taken at a time: beyond this the rest waits in the kernel's own bounded queue.
const TAKEN_AT_ONCE: usize = 4096;

/// Which of the two trees a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The user's manifests.
    Source,
    /// What the mesh writes.
    Overlay,
}

/// Something happened to a path.
#[derive(Debug)]
pub(crate) enum News {
    /// A file was written, moved in, moved away or removed.
    File(PathBuf, Side),
    /// A folder came.
    Folder(PathBuf, Side),
    /// A folder was moved away or removed.
    Left(PathBuf, Side),
    /// The kernel dropped events.
    Overflow,
    /// A watched folder itself is gone.
    RootGone,
}

pub(crate) struct Notify {
    events: EventStream<Vec<u8>>,
    folders: HashMap<WatchDescriptor, (PathBuf, Side)>,
}

impl Notify {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { events: Inotify::init()?.into_event_stream(vec![0; BUFFER])?, folders: HashMap::new() })
    }

    pub(crate) fn add(&mut self, folder: &Path, side: Side) -> io::Result<()> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let watch = self.events.watches().add(folder, mask)?;
        self.folders.insert(watch, (folder.into(), side));
        Ok(())
    }

    /// Stops watching a folder that was moved away, and those in it.
    pub(crate) fn forget(&mut self, path: &Path) {
        let gone: Vec<_> = self.folders.iter().filter(|(_, (folder, _))| folder.starts_with(path)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(watch, _)| watch.clone()).collect();
        for watch in gone {
            self.folders.remove(&watch);
            // The kernel has dropped the watch already when the folder was removed.
            let _ = self.events.watches().remove(watch);
        }
    }

    /// What happened since: all that is queued, at least one event's worth. Cancel-safe: what is taken is returned
    /// without another wait.
    pub(crate) async fn news(&mut self) -> io::Result<Vec<News>> {
        let mut next = self.events.next().await;
        let mut news = Vec::new();
        for _ in 0..TAKEN_AT_ONCE {
            match next {
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(event) => news.extend(self.sort(&event?)),
            }
            match self.events.next().now_or_never() {
                None => break,
                Some(event) => next = event,
            }
        }
        Ok(news)
    }

    fn sort(&mut self, event: &EventOwned) -> Option<News> {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return Some(News::Overflow);
        }
        let (folder, side) = self.folders.get(&event.wd)?.clone();
        if event.mask.contains(EventMask::IGNORED) {
            self.folders.remove(&event.wd);
            return None;
        }
        meaning(event.mask, &folder, event.name.as_deref().map(Path::new), side)
    }
}

/// What an event on an entry of a folder means.
fn meaning(mask: EventMask, folder: &Path, name: Option<&Path>, side: Side) -> Option<News> {
    let Some(name) = name else {
        let gone = mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF);
        return gone.then_some(News::RootGone);
    };
    let path = folder.join(name);
    let is_folder = mask.contains(EventMask::ISDIR);
    if mask.intersects(EventMask::MOVED_FROM | EventMask::DELETE) {
        return Some(if is_folder { News::Left(path, side) } else { News::File(path, side) });
    }
    if is_folder {
        let hidden = name.to_str().is_none_or(|name| name.starts_with('.'));
        return (!hidden).then_some(News::Folder(path, side));
    }
    if mask.contains(EventMask::CREATE) {
        // A plain file is empty at this moment and will be told again when it is closed; a link is whole at once.
        let link = fs::symlink_metadata(&path).is_ok_and(|about| about.is_symlink());
        return link.then_some(News::File(path, side));
    }
    Some(News::File(path, side))
}
