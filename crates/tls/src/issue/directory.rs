//! One identity from three files: `cert-chain.pem`, `key.pem`, `root-cert.pem`. Re-read when they change.
//! Polls, for files are also changed by renames and links of directories that no watch on them sees.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ambit_model::name::Identity;

use super::{IssueError, Issuer, of_the_asked};
use crate::credential::{Credential, Material, Terms};

/// How soon a change is seen.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// A chain, a key or a bundle is a few KiB; what is beyond this is not read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const FILES: [&str; 3] = ["cert-chain.pem", "key.pem", "root-cert.pem"];

/// A file as a poll sees it: changed when any of these differs.
type Seen = [Option<(SystemTime, u64, u64)>; 3];

/// A directory that somebody else keeps filled.
pub struct Directory {
    path: PathBuf,
    terms: Terms,
    seen: Mutex<Option<Seen>>,
}

impl Directory {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(path: PathBuf, terms: Terms) -> Self {
        Self { path, terms, seen: Mutex::new(None) }
    }

    /// Whose certificate is in there now.
    ///
    /// # Errors
    /// [`IssueError`] when the files are not a credential.
    pub fn identity(&self) -> Result<Identity, IssueError> {
        Ok(self.load()?.identity().clone())
    }

    fn load(&self) -> Result<Credential, IssueError> {
        let [chain, key, roots] = FILES.map(|name| read(&self.path.join(name)));
        let material = Material::from_pem(&chain?, &key?, &roots?)?;
        Ok(Credential::new(material, &self.terms)?)
    }

    fn look(&self) -> Seen {
        use std::os::unix::fs::MetadataExt;
        FILES.map(|name| {
            let meta = std::fs::metadata(self.path.join(name)).ok()?;
            Some((meta.modified().ok()?, meta.len(), meta.ino()))
        })
    }

    /// True when the files are others than at the last issue.
    fn differs(&self) -> bool {
        let now = self.look();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().is_some_and(|before| *before != now) && seen.replace(now).is_some()
    }
}

impl Issuer for Directory {
    async fn issue(&self, identity: &Identity) -> Result<Credential, IssueError> {
        // Looked at before being read: a change during the read is seen at the next poll.
        let now = self.look();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        of_the_asked(self.load()?, identity)
    }

    async fn changed(&self) {
        while !self.differs() {
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IssueError> {
    let mut bytes = Vec::new();
    let mut open =
        || -> io::Result<usize> { std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes) };
    open().map_err(|source| IssueError::File { path: path.into(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
