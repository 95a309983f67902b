//! The certificate that listeners show: signed by our own authority and renewed in time, or somebody else's from files,
//! read again when they change (`control-plane.md` 6.7). Owns neither keys that sign nor listeners.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_tls::ServerConfig;
use ambit_tls::configs::control_plane::{self, Speaks};
use ambit_tls::credential::CredentialError;
use tracing::{info, warn};

use crate::ca::keeper::Newest;
use crate::ca::rotation::Signing;
use crate::ca::sign::SignError;

/// The serving certificate's life; half of it is left when it is renewed.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// When renewing fails: tried again after this, which is often enough within what is left.
const RETRY: Duration = Duration::from_secs(60);

/// How soon changed files are seen, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// It could not be made.
    #[error("the serving certificate could not be made; check the names given with --host")]
    Make(#[from] SignError),
    /// It cannot be used.
    #[error("the serving certificate cannot be used")]
    Use(#[from] CredentialError),
    /// A file does not read.
    #[error("cannot read {}; mount the secret with the serving certificate there, or name its files with --tls-cert and --tls-key", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// Somebody else's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The chain, the leaf first.
    pub certificate: PathBuf,
    /// The leaf's key.
    pub key: PathBuf,
}

/// The serving certificate.
pub struct Serving {
    from: From,
    speaks: Speaks,
    config: Arc<ServerConfig>,
    /// When it is looked at again.
    due: SystemTime,
}

enum From {
    Signed { newest: Newest, names: Vec<String>, by: Arc<Signing> },
    Given { files: Files, read: [String; 2], told: String },
}

impl Serving {
    /// A fresh serving certificate for these names.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(
        newest: Newest,
        names: Vec<String>,
        speaks: Speaks,
        now: SystemTime,
    ) -> Result<Self, ServingError> {
        let by = Arc::clone(&newest.borrow());
        let (config, due) = fresh(&by, &names, speaks, now)?;
        Ok(Self { from: From::Signed { newest, names, by }, speaks, config, due })
    }

    /// The one in files.
    ///
    /// # Errors
    /// When they do not read, or are no certificate and its key.
    pub fn given(files: Files, speaks: Speaks, now: SystemTime) -> Result<Self, ServingError> {
        let read = files.read()?;
        let config = built(speaks, &read)?;
        let from = From::Given { files, read, told: String::new() };
        Ok(Self { from, speaks, config, due: now + LOOK_EVERY })
    }

    /// The configuration in force: renewed when it is time, and when something else signs or is given.
    pub fn config(&mut self, now: SystemTime) -> Arc<ServerConfig> {
        match &mut self.from {
            From::Signed { newest, names, by } => {
                let signing = Arc::clone(&newest.borrow());
                if now >= self.due || !Arc::ptr_eq(&signing, by) {
                    match fresh(&signing, names, self.speaks, now) {
                        Ok((config, due)) => {
                            (self.config, self.due, *by) = (config, due, signing);
                            info!(target: "serve", "serving certificate renewed");
                        }
                        Err(error) => {
                            self.due = now + RETRY;
                            warn!(target: "serve", error = %error, "serving certificate not renewed");
                        }
                    }
                }
            }
            From::Given { files, read, told } => {
                if now >= self.due {
                    self.due = now + LOOK_EVERY;
                    match files.changed(read, self.speaks) {
                        Ok(None) => told.clear(),
                        Ok(Some(config)) => {
                            self.config = config;
                            told.clear();
                            info!(target: "serve", "serving certificate read again");
                        }
                        Err(error) => tell(told, &error),
                    }
                }
            }
        }
        Arc::clone(&self.config)
    }
}

impl Files {
    /// Whether there is a certificate at all.
    #[must_use]
    pub fn are_there(&self) -> bool {
        self.certificate.exists()
    }

    fn read(&self) -> Result<[String; 2], ServingError> {
        let one = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|source| ServingError::Io { path: path.clone(), source })
        };
        Ok([one(&self.certificate)?, one(&self.key)?])
    }

    /// What they make, if they are other than what was read; which they are then.
    fn changed(
        &self,
        before: &mut [String; 2],
        speaks: Speaks,
    ) -> Result<Option<Arc<ServerConfig>>, ServingError> {
        let now = self.read()?;
        if now == *before {
            return Ok(None);
        }
        let config = built(speaks, &now)?;
        *before = now;
        Ok(Some(config))
    }
}

fn tell(told: &mut String, error: &ServingError) {
    let text = error.to_string();
    if *told != text {
        warn!(target: "serve", error = text, "serving certificate not read again, the former one stays");
        *told = text;
    }
}

fn built(speaks: Speaks, [certificate, key]: &[String; 2]) -> Result<Arc<ServerConfig>, ServingError> {
    Ok(control_plane::server_of(speaks, certificate.as_bytes(), key.as_bytes())?)
}

/// A configuration, and when the next is due: a root that ends soon shortens the certificate's life.
fn fresh(
    signing: &Signing,
    names: &[String],
    speaks: Speaks,
    now: SystemTime,
) -> Result<(Arc<ServerConfig>, SystemTime), ServingError> {
    let pems = signing.serving(names, LIFETIME, now)?;
    let left = signing.signer().not_after().duration_since(now).unwrap_or_default();
    Ok((built(speaks, &pems.into())?, now + (LIFETIME.min(left) / 2).max(RETRY)))
}

#[cfg(test)]
mod tests;
