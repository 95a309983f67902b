//! Looks at the clock and at files, and hands the newest signing material to those who sign and serve.
//! Owns the one `Rotation` of the program. Material that cannot be used is told of and not taken: the last good
//! one stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_process::clock;
use ambit_process::stop::Stop;
use tokio::sync::watch;
use tracing::{error, info};

use super::lists::Lists;
use super::plugged::{Plugged, PluggedError, Seen};
use super::root::{self, Recipe, RootError};
use super::rotation::{Rotation, Signing};
use super::safe::{Safe, SafeError, Stored};
use super::signer::Signer;
use super::state::{State, StateError};
use super::switch;
use super::text::Text;
use crate::metrics::Metrics;

/// How soon a changed file is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks between two readings of the secret that replicas share.
const LOOKS_PER_FETCH: u32 = 60;

/// How often it is tried to make the secret that somebody else makes at the same time.
const ATTEMPTS: u32 = 8;

/// The newest signing material.
pub type Newest = watch::Receiver<Arc<Signing>>;

/// Where signing material comes from.
#[derive(Debug, Clone)]
pub struct Place {
    /// What is written: keys of our own, and what has to be remembered.
    pub state: PathBuf,
    /// A folder that somebody else keeps, instead of keys of our own; not used while it is empty.
    pub plugged: Option<PathBuf>,
    /// How roots of our own are made and succeeded.
    pub recipe: Recipe,
}

/// Why there is no signing material.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The root of our own.
    #[error(transparent)]
    Root(#[from] RootError),
    /// What somebody else keeps.
    #[error(transparent)]
    Plugged(#[from] PluggedError),
    /// What has to be remembered.
    #[error(transparent)]
    State(#[from] StateError),
    /// What replicas share.
    #[error(transparent)]
    Safe(#[from] SafeError),
    /// Others were always first.
    #[error("the secret with the mesh's root is written by others all the time; see who else writes it")]
    Contended,
}

/// The keeper.
pub struct Keeper {
    state: State,
    recipe: Recipe,
    plugged: Option<Plugged>,
    /// What was in the folder when it was looked at last.
    given: Option<Arc<Signer>>,
    rotation: Rotation,
    longest: Duration,
    newest: watch::Sender<Arc<Signing>>,
    roots: watch::Sender<Option<Arc<str>>>,
    lists: Option<Lists>,
    metrics: Metrics,
    /// The last failure told: told again only when it changes.
    told: String,
    /// Where the folder is kept beyond this program; none: it is on a disk.
    safe: Option<Safe>,
    /// Looks until the secret is read again.
    until_fetch: u32,
    /// The last failure to share, told once.
    told_unshared: String,
}

impl Keeper {
    /// Reads or makes the material.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub fn open(place: Place, metrics: Metrics, now: SystemTime) -> Result<Self, KeeperError> {
        let Place { state, plugged, recipe } = place;
        let state = State::open(&state)?;
        let mut lists = plugged.as_deref().map(Lists::new);
        let mut plugged = plugged.as_deref().map(Plugged::new);
        let given = match plugged.as_mut().map(|it| it.look(now)).transpose()? {
            Some(Seen::Other(signer)) => Some(Arc::from(signer)),
            _ => None,
        };
        let rotation = switch::open(&state, &recipe, given.as_ref(), now)?;
        if let Some(plugged) = &mut plugged {
            plugged.take();
        }
        let longest = rotation.longest().get();
        let signing = rotation.signing();
        let (roots, _) = watch::channel(Some(signing.roots_pem().into()));
        let (newest, _) = watch::channel(Arc::new(signing));
        if let Some(lists) = &mut lists {
            lists.look();
        }
        let told = String::new();
        let (safe, until_fetch, told_unshared) = (None, LOOKS_PER_FETCH, String::new());
        let this = Self {
            state,
            recipe,
            plugged,
            given,
            rotation,
            longest,
            newest,
            roots,
            lists,
            metrics,
            told,
            safe,
            until_fetch,
            told_unshared,
        };
        this.measure();
        Ok(this)
    }

    /// The same, with a folder that is kept in a secret: what that holds is read first, and what was made is there
    /// before anybody is told of it.
    ///
    /// # Errors
    /// As `open`, and when the secret can be neither read nor written.
    pub async fn kept(
        place: Place,
        mut safe: Safe,
        metrics: Metrics,
        now: SystemTime,
    ) -> Result<Self, KeeperError> {
        let state = State::open(&place.state)?;
        for _ in 0..ATTEMPTS {
            safe.fetch(&state).await?;
            let opened = Self::open(place.clone(), metrics.clone(), now)?;
            if safe.store(&state).await? == Stored::Yes {
                return Ok(Self { safe: Some(safe), ..opened });
            }
        }
        Err(KeeperError::Contended)
    }

    /// What signs, now and in future.
    #[must_use]
    pub fn newest(&self) -> Newest {
        self.newest.subscribe()
    }

    /// The roots that are believed, now and in future.
    #[must_use]
    pub fn roots(&self) -> Text {
        self.roots.subscribe()
    }

    /// The revocation lists, now and in future; none where nobody gives any.
    #[must_use]
    pub fn lists(&self) -> Option<Text> {
        self.lists.as_ref().map(Lists::text)
    }

    /// The state of rotation.
    #[must_use]
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// Looks until stopped.
    pub async fn run(mut self, stop: Stop) {
        loop {
            // Both arms are cancel-safe: a look is made whole or not at all.
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(LOOK_EVERY) => self.look(clock::now_system()),
            }
            // A write that is cut off is made again, or seen, by whoever starts next.
            tokio::select! {
                () = stop.stopped() => return,
                () = self.share() => {}
            }
        }
    }

    /// Writes to the secret what changed here, and takes from it what others changed there.
    async fn share(&mut self) {
        let Some(mut safe) = self.safe.take() else { return };
        let shared = self.shared(&mut safe).await;
        self.safe = Some(safe);
        let trouble = shared.err().map(|error| chain(&error)).unwrap_or_default();
        if !trouble.is_empty() && trouble != self.told_unshared {
            error!(target: "ca", error = %trouble, "signing material is not shared with other replicas");
        }
        self.told_unshared = trouble;
    }

    async fn shared(&mut self, safe: &mut Safe) -> Result<(), KeeperError> {
        self.until_fetch = self.until_fetch.saturating_sub(1);
        let lost = safe.store(&self.state).await? == Stored::Lost;
        if !lost && self.until_fetch > 0 {
            return Ok(());
        }
        self.until_fetch = LOOKS_PER_FETCH;
        if safe.fetch(&self.state).await? {
            let rotation = switch::open(&self.state, &self.recipe, self.given.as_ref(), clock::now_system())?;
            self.take(rotation);
        }
        Ok(())
    }

    fn take(&mut self, next: Rotation) {
        self.rotation = next;
        self.longest = self.rotation.longest().get();
        self.measure();
        self.tell();
        let signing = self.rotation.signing();
        self.roots.send_if_modified(|now| {
            let differs = now.as_deref() != Some(signing.roots_pem());
            *now = Some(signing.roots_pem().into());
            differs
        });
        self.newest.send_replace(Arc::new(signing));
    }

    /// Looks once.
    pub fn look(&mut self, now: SystemTime) {
        if let Some(lists) = &mut self.lists {
            lists.look();
        }
        match self.looked(now) {
            Ok(None) => self.is_well(),
            Ok(Some(next)) => {
                self.is_well();
                self.take(next);
            }
            Err(error) => {
                let text = error.to_string();
                if text != self.told {
                    error!(target: "ca", error = %text, "signing material not taken; the former one stays in force");
                    self.told = text;
                }
                self.metrics.material_refused(true);
            }
        }
    }

    fn is_well(&mut self) {
        self.told.clear();
        self.metrics.material_refused(false);
    }

    /// The rotation after a look, already written down; nothing when it is as before.
    fn looked(&mut self, now: SystemTime) -> Result<Option<Rotation>, KeeperError> {
        let mut next = self.rotation.clone();
        let mut changed = next.step(now);
        let seen = self.plugged.as_mut().map(|it| it.look(now)).transpose()?.unwrap_or(Seen::Nothing);
        match seen {
            Seen::Same => {}
            Seen::Other(signer) => {
                let signer = Arc::from(signer);
                switch::offer(&mut next, &signer, now);
                self.given = Some(signer);
                changed = true;
            }
            Seen::Nothing => {
                self.given = None;
                if let Some(announced) = switch::own(&self.state, &self.recipe, &next, now)? {
                    next = announced;
                    changed = true;
                }
            }
        }
        if changed || next.longest().get() != self.longest {
            root::save(&self.state, &next)?;
            changed = true;
        }
        if let Some(plugged) = &mut self.plugged {
            plugged.take();
        }
        Ok(changed.then_some(next))
    }

    fn tell(&self) {
        let wait = self.rotation.next().map(|next| next.at);
        let waits = wait.and_then(|at| jiff::Timestamp::try_from(at).ok()).map(|at| at.to_string());
        let (roots, next) = (self.rotation.believed().len(), waits.unwrap_or_default());
        info!(target: "ca", roots, next_key_signs_at = next, "signing material changed");
    }

    fn measure(&self) {
        let current = self.rotation.current();
        self.metrics.signer_ends(current.anchor().validity().1, current.not_after());
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
