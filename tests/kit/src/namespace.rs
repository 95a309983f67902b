//! A network namespace for one test: its own name, gone when it is dropped, also when the test fails.

use std::path::{Path, PathBuf};

use ambit_sys::netns::{Netns, remove_named};
use tempfile::TempDir;

/// A namespace with `lo` up, pinned to a file that programs can be told.
pub struct Namespace {
    netns: Netns,
    path: PathBuf,
    /// Keeps the pin's directory until the pin is gone.
    _dir: TempDir,
}

impl Namespace {
    /// Makes one. Without root the test ends with the command that helps.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ambit-test-").tempdir().expect("a temporary directory");
        let path = dir.path().join("netns");
        let netns = Netns::create_named(&path).unwrap_or_else(|e| {
            panic!("no network namespace ({e}): run the tests as root, `sudo -E cargo xtask test`")
        });
        Self { netns, path, _dir: dir }
    }

    /// The file it is pinned to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Does `work` inside, on a thread of its own.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run_on_thread(work).expect("work in a namespace")
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove_named(&self.path) {
            eprintln!("a test's namespace stays behind: {error}");
        }
    }
}
