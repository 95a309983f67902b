//! A text that others are told of, as it is now: roots, revocation lists. None while there is none.
//! Owns following one that somebody else keeps in a file. Whom it is told to is `bundle`'s, `trust`'s and `hooks`'.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ambit_process::stop::Stop;
use tokio::sync::watch;
use tracing::{info, warn};

use super::cert::Cert;

/// A text as it is now.
pub type Text = watch::Receiver<Option<Arc<str>>>;

/// How soon a changed file is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a config map can hold; what is beyond this is not read.
pub const LARGEST: u64 = 1 << 20;

/// Roots in a file that somebody else keeps: an authority that is not here writes it for all namespaces.
pub struct Followed {
    path: PathBuf,
    text: watch::Sender<Option<Arc<str>>>,
    /// The last trouble, told once.
    told: String,
}

impl Followed {
    /// Reads the file; one that is not there yet may come.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let mut this = Self { path: path.into(), text: watch::Sender::default(), told: String::new() };
        this.look();
        this
    }

    /// The text, now and in future.
    #[must_use]
    pub fn text(&self) -> Text {
        self.text.subscribe()
    }

    /// Looks until stopped.
    pub async fn run(mut self, stop: Stop) {
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(LOOK_EVERY) => self.look(),
            }
        }
    }

    fn look(&mut self) {
        let trouble = match read(&self.path) {
            Ok(None) => String::new(),
            Ok(Some(text)) if Cert::all(&text).is_some_and(|all| !all.is_empty()) => {
                let text: Arc<str> = text.into();
                let changed = self.text.send_if_modified(|now| {
                    let differs = now.as_ref() != Some(&text);
                    *now = Some(text);
                    differs
                });
                if changed {
                    info!(target: "ca", path = %self.path.display(), "roots of another authority are told of");
                }
                String::new()
            }
            Ok(Some(_)) => "it holds no readable certificates".into(),
            Err(error) => error.to_string(),
        };
        if !trouble.is_empty() && trouble != self.told {
            warn!(target: "ca", path = %self.path.display(), error = trouble, "roots not taken, the former ones stay");
        }
        self.told = trouble;
    }
}

/// The text of a file; none when it is not there.
///
/// # Errors
/// When it does not read, or is larger than a config map may be.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(length) if u64::try_from(length).is_ok_and(|length| length > LARGEST) => {
            Err(io::ErrorKind::FileTooLarge.into())
        }
        Ok(_) => Ok(Some(text)),
    }
}
