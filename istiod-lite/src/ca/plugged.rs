//! Signing material that somebody else keeps in a folder (`control-plane.md` 6.5), read again when it changes.
//! Polls, for such folders are changed by renames and links of directories that no watch on them sees.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::signer::{Maker, MaterialError, Names, Pems, Signer};

/// A file of this folder is a few KiB; what is beyond this is not read.
const LARGEST: u64 = 1 << 20;

/// Istio's names, then cert-manager's.
const LAYOUTS: [Names; 2] = [
    Names {
        certificate: "ca-cert.pem",
        key: "ca-key.pem",
        roots: "root-cert.pem",
        chain: "cert-chain.pem",
        maker: Maker::Given,
    },
    Names { certificate: "tls.crt", key: "tls.key", roots: "ca.crt", chain: "tls.crt", maker: Maker::Given },
];

/// Why the folder's material is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PluggedError {
    /// A file does not read.
    #[error("cannot read {}; make it readable for this program", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Some files are there and some are not.
    #[error("{} holds {there} but not {missing}; give ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, or tls.crt, tls.key and ca.crt", folder.display())]
    Partial {
        /// The folder.
        folder: PathBuf,
        /// A file that is there.
        there: &'static str,
        /// A file that is not.
        missing: &'static str,
    },
    /// They are not what they should be.
    #[error("{}: {wrong}", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        wrong: MaterialError,
    },
}

/// What a look at the folder found.
#[derive(Debug)]
pub enum Seen {
    /// No material at all.
    Nothing,
    /// What was taken last.
    Same,
    /// Other material.
    Other(Box<Signer>),
}

/// A folder of material.
#[derive(Debug)]
pub struct Plugged {
    folder: PathBuf,
    looked: Option<Pems>,
    taken: Option<Pems>,
}

impl Plugged {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), looked: None, taken: None }
    }

    /// What is there now.
    ///
    /// # Errors
    /// When there is other material and it cannot be used.
    pub fn look(&mut self, now: SystemTime) -> Result<Seen, PluggedError> {
        let Some((pems, names)) = self.read()? else {
            self.taken = None;
            return Ok(Seen::Nothing);
        };
        if self.taken.as_ref() == Some(&pems) {
            return Ok(Seen::Same);
        }
        let signer = Signer::new(&pems, names, now);
        self.looked = Some(pems);
        let unusable = |wrong| PluggedError::Unusable { folder: self.folder.clone(), wrong };
        signer.map(|signer| Seen::Other(signer.into())).map_err(unusable)
    }

    /// What was looked at last is in force.
    pub fn take(&mut self) {
        if let Some(looked) = self.looked.take() {
            self.taken = Some(looked);
        }
    }

    fn read(&self) -> Result<Option<(Pems, Names)>, PluggedError> {
        for names in LAYOUTS {
            let wanted = [names.certificate, names.key, names.roots, names.chain];
            let mut texts = Vec::new();
            for name in wanted {
                texts.push(self.text(name)?);
            }
            let there = wanted.iter().zip(&texts).find(|(_, text)| text.is_some()).map(|(name, _)| *name);
            let missing = wanted.iter().zip(&texts).find(|(_, text)| text.is_none()).map(|(name, _)| *name);
            match (there, missing) {
                (None, _) => {}
                (Some(there), Some(missing)) => {
                    return Err(PluggedError::Partial { folder: self.folder.clone(), there, missing });
                }
                (Some(_), None) => {
                    let mut texts = texts.into_iter().flatten();
                    let mut next = || texts.next().unwrap_or_default();
                    let pems = Pems { certificate: next(), key: next(), roots: next(), chain: next() };
                    return Ok(Some((pems, names)));
                }
            }
        }
        Ok(None)
    }

    fn text(&self, name: &str) -> Result<Option<String>, PluggedError> {
        let path = self.folder.join(name);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PluggedError::Io { path, source }),
            Ok(_) => Ok(Some(text)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
