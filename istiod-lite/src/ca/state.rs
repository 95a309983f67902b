//! The authority's folder: its keys, and what it has to remember of a rotation.
//! Owns the files, their modes, and that each is replaced whole. What they mean is `root`'s and `keeper`'s.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::cert::{Cert, bundle};
use super::rotation::{Believed, Longest, Rotation};

/// The signing certificate.
pub const CERTIFICATE: &str = "ca-cert.pem";
/// Its key.
pub const KEY: &str = "ca-key.pem";
/// All roots that are believed, for whoever connects.
pub const ROOTS: &str = "root-cert.pem";
/// The certificate that waits to take over, and its key.
pub const NEXT_CERTIFICATE: &str = "next-cert.pem";
/// The key of the one that waits.
pub const NEXT_KEY: &str = "next-key.pem";
/// The waiting one, signed by the present one.
pub const BRIDGE: &str = "next-bridge.pem";
/// What somebody else gave, and signs: it wins over a key of our own beside it.
pub const GIVEN: &str = "given.json";
/// What else has to be remembered.
const MEMORY: &str = "rotation.json";

/// All of them, keys before the certificates that want them: `root` finishes what was cut short in that order.
const ALL: [&str; 8] = [KEY, CERTIFICATE, ROOTS, GIVEN, NEXT_KEY, BRIDGE, NEXT_CERTIFICATE, MEMORY];

/// A file of this folder is a few KiB; what is beyond this is not read.
const LARGEST: u64 = 1 << 20;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("cannot use {}; make the state folder writable for this program, on a disk with space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others may read the key.
    #[error("{} may be read by others (mode {mode:o}); run chmod 600 on it, or replace the key", path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// The folder.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

/// What has to be remembered beside keys and certificates.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    roots: Vec<Root>,
    bridges: Vec<String>,
    longest_lifetime_seconds: u64,
    next_takes_over: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Root {
    pem: String,
    since: u64,
    until: Option<u64>,
}

/// What was remembered.
#[derive(Debug)]
pub struct Remembered {
    /// The roots that were believed.
    pub believed: Vec<Believed>,
    /// Former keys' signatures on the present one.
    pub bridges: Vec<Cert>,
    /// The longest lifetime given.
    pub longest: Longest,
    /// When what waits takes over.
    pub next_at: Option<SystemTime>,
}

impl State {
    /// The folder, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(folder).map_err(refused(folder))?;
        Ok(Self { folder: folder.into() })
    }

    /// A file's path.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file's text; none when it is not there.
    ///
    /// # Errors
    /// When it is there and does not read, or is a key that others may read.
    pub fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.path(name);
        let meta = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            meta => meta.map_err(refused(&path))?,
        };
        let mode = meta.permissions().mode() & 0o777;
        if is_secret(name) && mode & 0o077 != 0 {
            return Err(StateError::Exposed { path, mode });
        }
        if meta.len() > LARGEST {
            return Err(refused(&path)(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        fs::read_to_string(&path).map(Some).map_err(refused(&path))
    }

    /// Replaces a file as a whole; a key is readable for nobody else from its first byte on.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.path(name);
        let mode = if is_secret(name) { 0o600 } else { 0o644 };
        let beside = path.with_extension(format!("new.{}", std::process::id()));
        let put = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        put().map_err(refused(&path))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Whether anything was ever remembered.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remembers(&self) -> Result<bool, StateError> {
        Ok(self.read(MEMORY)?.is_some())
    }

    /// Whether a file of this name is the authority's.
    #[must_use]
    pub fn owns(name: &str) -> bool {
        ALL.contains(&name)
    }

    /// All files with their texts.
    ///
    /// # Errors
    /// When one is there and does not read.
    pub fn files(&self) -> Result<BTreeMap<String, String>, StateError> {
        let mut files = BTreeMap::new();
        for name in ALL {
            files.extend(self.read(name)?.map(|text| (name.to_owned(), text)));
        }
        Ok(files)
    }

    /// Makes all files what they are there; whether anything was different. What is not the authority's is left out.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn fill(&self, files: &BTreeMap<String, String>) -> Result<bool, StateError> {
        let mut changed = false;
        for name in ALL {
            let wanted = files.get(name).filter(|text| !text.is_empty());
            if self.read(name)?.as_ref() == wanted {
                continue;
            }
            changed = true;
            match wanted {
                Some(text) => self.write(name, text)?,
                None => self.remove(name)?,
            }
        }
        Ok(changed)
    }

    /// What was remembered; nothing when that does not read, which only costs a longer overlap.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn recall(&self) -> Result<Remembered, StateError> {
        let text = self.read(MEMORY)?.unwrap_or_default();
        let memory: Memory = serde_json::from_str(&text).unwrap_or_default();
        let one = |pem: &str| Cert::all(pem)?.into_iter().next();
        let root = |it: &Root| {
            let (since, until) = (time(it.since), it.until.map(time));
            Some(Believed { cert: one(&it.pem)?, since, until })
        };
        Ok(Remembered {
            believed: memory.roots.iter().filter_map(root).collect(),
            bridges: memory.bridges.iter().filter_map(|pem| one(pem)).collect(),
            longest: Longest::new(memory.longest_lifetime_seconds),
            next_at: memory.next_takes_over.map(time),
        })
    }

    /// Remembers a rotation, and tells the roots to whoever reads them here.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remember(&self, rotation: &Rotation) -> Result<(), StateError> {
        let root = |it: &Believed| Root {
            pem: it.cert.pem(),
            since: seconds(it.since),
            until: it.until.map(seconds),
        };
        let memory = Memory {
            roots: rotation.believed().iter().map(root).collect(),
            bridges: rotation.bridges().iter().map(Cert::pem).collect(),
            longest_lifetime_seconds: rotation.longest().get().as_secs(),
            next_takes_over: rotation.next().map(|next| seconds(next.at)),
        };
        let text = serde_json::to_string_pretty(&memory).unwrap_or_default();
        self.write(MEMORY, &text)?;
        let roots = bundle(rotation.believed().iter().map(|it| &it.cert));
        if self.read(ROOTS)?.as_deref() == Some(&roots) { Ok(()) } else { self.write(ROOTS, &roots) }
    }
}

fn is_secret(name: &str) -> bool {
    name.ends_with("key.pem") || name == GIVEN
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn refused(path: &Path) -> impl Fn(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { path: path.clone(), source }
}
