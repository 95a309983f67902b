//! Objects from a directory of manifests, reloaded on change, and from the overlay beside it.
//! Owns reading and watching. What a text means is `documents`, who holds what is `shelf`.

mod disk;
mod documents;
mod notify;
mod review;
mod shelf;
mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::files::disk::{entries, folders, is_manifest, text};
use crate::files::notify::{News, Notify, Side};
use crate::files::shelf::{Shelf, Touched};
use crate::object::{Object, ObjectRef};

pub(crate) use documents::identify;
pub use review::{Remark, Review, review, review_text};

/// How long a file may be away before its objects are: editors and `git` move the old file off before they write
/// the new one, and an object that flickers would open what a policy closes.
const GRACE: Duration = Duration::from_millis(25);

/// How often a source folder that vanished is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What happened to the cluster.
#[derive(Debug)]
pub enum Event {
    /// An object is new or changed.
    Applied(Object),
    /// An object is not there any more.
    Gone(ObjectRef),
    /// Everything that was there at the start has been told.
    Complete,
    /// Something is wrong with a file. Told once; `Watch::faults` has all that are wrong now.
    Fault(Fault),
}

/// How much of an object is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What the mesh reads.
    Slim,
    /// Also the whole object as a value.
    Whole,
}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The folder is not there, or not readable.
    #[error("cannot read the folder {}; name a folder of manifests that exists and is readable", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The kernel gave no inotify instance.
    #[error(
        "cannot watch files; raise fs.inotify.max_user_instances or fs.inotify.max_user_watches (sysctl)"
    )]
    Notify(#[source] io::Error),
}

/// All objects of a directory at one moment.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The objects.
    pub objects: Vec<Object>,
    /// What is wrong with the files.
    pub faults: Vec<Fault>,
}

/// Objects of a text of manifests, with what is wrong with it: for commands that are given a file.
#[must_use]
pub fn parse(name: &Path, text: &str) -> (Vec<(ObjectRef, Value)>, Vec<Fault>) {
    let mut objects = Vec::new();
    let mut shelf = Shelf::new(Keep::Whole);
    let touched = shelf.load(name, text);
    for event in shelf.settle(touched) {
        if let Event::Applied(Object { reference, raw: Some(raw), .. }) = event {
            objects.push((reference, raw.as_ref().clone()));
        }
    }
    (objects, shelf.faults().cloned().collect())
}

/// Reads a text of manifests as if it were a file of this name.
#[must_use]
pub fn load_text(name: &Path, text: &str) -> Loaded {
    let mut shelf = Shelf::new(Keep::Slim);
    let touched = shelf.load(name, text);
    let applied = |event| if let Event::Applied(object) = event { Some(object) } else { None };
    let objects = shelf.settle(touched).into_iter().filter_map(applied).collect();
    Loaded { objects, faults: shelf.faults().cloned().collect() }
}

/// Reads a directory, or one file, and its overlay once.
///
/// # Errors
/// When the directory cannot be read.
pub fn load_once(source: &Path, overlay: Option<&Path>, keep: Keep) -> Result<Loaded, WatchError> {
    let mut state = State::new(keep);
    state
        .scan(source, Side::Source)
        .map_err(|error| WatchError::Folder { path: source.into(), source: error })?;
    if let Some(overlay) = overlay.filter(|folder| folder.is_dir()) {
        state
            .scan(overlay, Side::Overlay)
            .map_err(|error| WatchError::Folder { path: overlay.into(), source: error })?;
    }
    state.settle();
    let mut loaded = Loaded::default();
    for event in state.ready {
        match event {
            Event::Applied(object) => loaded.objects.push(object),
            Event::Fault(fault) => loaded.faults.push(fault),
            Event::Gone(_) | Event::Complete => {}
        }
    }
    Ok(loaded)
}

/// The files of manifests that a directory has, or the one file that was named.
fn manifests(source: &Path) -> io::Result<Vec<PathBuf>> {
    if source.is_file() {
        return Ok(vec![source.to_owned()]);
    }
    fs::read_dir(source)?;
    let mut files: Vec<_> = folders(source).iter().flat_map(|folder| entries(folder)).collect();
    files.retain(|file| is_manifest(file) && file.is_file());
    files.sort();
    Ok(files)
}

/// Watches a directory and its overlay, which is made if it is not there. Call within a tokio runtime.
///
/// # Errors
/// When the directory cannot be read or the kernel refuses to watch.
pub fn watch(source: &Path, overlay: Option<&Path>, keep: Keep) -> Result<Watch, WatchError> {
    let mut watch = Watch {
        notify: Notify::new().map_err(WatchError::Notify)?,
        state: State::new(keep),
        roots: vec![(source.to_owned(), Side::Source)],
        lost: None,
    };
    if let Some(overlay) = overlay {
        let refuse = |source| WatchError::Folder { path: overlay.into(), source };
        fs::create_dir_all(overlay).map_err(refuse)?;
        watch.roots.push((overlay.to_owned(), Side::Overlay));
    }
    for (root, side) in watch.roots.clone() {
        fs::read_dir(&root).map_err(|source| WatchError::Folder { path: root.clone(), source })?;
        watch.enter(&root, side).map_err(WatchError::Notify)?;
    }
    watch.state.settle();
    watch.state.ready.push_back(Event::Complete);
    Ok(watch)
}

/// A watched directory: ask it for what happens next. There is no queue to overflow: what was not asked for is
/// read from the files when it is.
pub struct Watch {
    notify: Notify,
    state: State,
    roots: Vec<(PathBuf, Side)>,
    /// A root folder is gone; when to look for it again.
    lost: Option<Instant>,
}

impl Watch {
    /// The next event. Cancel-safe: nothing is taken before the last wait.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.state.ready.pop_front() {
                return event;
            }
            let wake = self.state.missing.values().copied().chain(self.lost).min();
            let news = match wake {
                None => self.notify.news().await,
                Some(at) => {
                    tokio::time::timeout_at(at, self.notify.news()).await.unwrap_or_else(|_| Ok(Vec::new()))
                }
            };
            match news {
                Ok(news) => self.digest(news),
                Err(_) => self.rescan(),
            }
            self.look_again();
            self.state.expire(Instant::now());
            self.state.settle();
        }
    }

    /// The next event if there is one without waiting for the file system: for those who batch.
    pub fn ready(&mut self) -> Option<Event> {
        self.state.ready.pop_front()
    }

    /// All that is wrong with the files now.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.state.shelf.faults().cloned().collect()
    }

    /// Adds watches first, then reads: what changes in between is told twice, never lost.
    fn enter(&mut self, folder: &Path, side: Side) -> io::Result<()> {
        for folder in folders(folder) {
            self.notify.add(&folder, side)?;
        }
        self.state.scan(folder, side)
    }

    fn digest(&mut self, news: Vec<News>) {
        let mut dirty = BTreeSet::new();
        for news in news {
            match news {
                News::File(path, side) => {
                    dirty.insert((path, side));
                }
                News::Folder(path, side) => {
                    if self.enter(&path, side).is_err() {
                        self.rescan();
                    }
                }
                News::Left(path, side) => {
                    self.notify.forget(&path);
                    for file in self.state.known_under(&path, side) {
                        dirty.insert((file, side));
                    }
                }
                News::Overflow => self.rescan(),
                News::RootGone => self.lost = Some(Instant::now() + LOOK_AGAIN),
            }
        }
        for (path, side) in dirty {
            self.state.read(&path, side);
        }
    }

    /// Looks at everything again: events were lost, or a folder came back.
    fn rescan(&mut self) {
        for (root, side) in self.roots.clone() {
            if self.enter(&root, side).is_err() {
                self.lost = Some(Instant::now() + LOOK_AGAIN);
                continue;
            }
            for known in self.state.known_under(&root, side) {
                if !known.exists() {
                    self.state.read(&known, side);
                }
            }
        }
    }

    fn look_again(&mut self) {
        if self.lost.is_some_and(|at| at <= Instant::now()) {
            self.lost = None;
            self.rescan();
        }
    }
}

/// What was read so far and what is to be told.
struct State {
    shelf: Shelf,
    layers: BTreeSet<PathBuf>,
    touched: Touched,
    /// Files that are away, and when that becomes final.
    missing: BTreeMap<PathBuf, Instant>,
    /// Bounded by what one look at the files can change: the number of objects.
    ready: VecDeque<Event>,
    told: BTreeSet<String>,
}

impl State {
    fn new(keep: Keep) -> Self {
        Self {
            shelf: Shelf::new(keep),
            layers: BTreeSet::new(),
            touched: Touched::new(),
            missing: BTreeMap::new(),
            ready: VecDeque::new(),
            told: BTreeSet::new(),
        }
    }

    fn scan(&mut self, folder: &Path, side: Side) -> io::Result<()> {
        for file in manifests(folder)? {
            self.read(&file, side);
        }
        Ok(())
    }

    fn known_under(&self, path: &Path, side: Side) -> Vec<PathBuf> {
        match side {
            Side::Source => self.shelf.under(path),
            Side::Overlay => self.layers.iter().filter(|known| known.starts_with(path)).cloned().collect(),
        }
    }

    fn read(&mut self, path: &Path, side: Side) {
        if !is_manifest(path) {
            return;
        }
        let touched = match (text(path), side) {
            (Ok(Some(text)), Side::Source) => {
                self.missing.remove(path);
                self.shelf.load(path, &text)
            }
            (Ok(None), Side::Source) => {
                self.missing.entry(path.into()).or_insert_with(|| Instant::now() + GRACE);
                self.shelf.miss(path)
            }
            (Ok(Some(text)), Side::Overlay) => {
                self.layers.insert(path.into());
                self.shelf.load_layer(path, &text)
            }
            (Ok(None), Side::Overlay) => {
                self.layers.remove(path);
                self.shelf.forget_layer(path)
            }
            (Err(wrong), _) => {
                self.shelf.unreadable(path, wrong);
                Touched::new()
            }
        };
        self.touched.extend(touched);
    }

    /// Files that stayed away for the whole grace are gone.
    fn expire(&mut self, now: Instant) {
        let due: Vec<_> =
            self.missing.iter().filter(|(_, at)| **at <= now).map(|(path, _)| path.clone()).collect();
        for path in due {
            self.missing.remove(&path);
            if path.exists() {
                self.read(&path, Side::Source);
            } else {
                self.touched.extend(self.shelf.forget(&path));
            }
        }
    }

    fn settle(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        self.ready.extend(self.shelf.settle(touched));
        let mut now = BTreeSet::new();
        for fault in self.shelf.faults() {
            let line = fault.to_string();
            if !self.told.contains(&line) {
                self.ready.push_back(Event::Fault(fault.clone()));
            }
            now.insert(line);
        }
        self.told = now;
    }
}

#[cfg(test)]
mod tests;
