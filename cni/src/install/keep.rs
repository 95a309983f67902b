//! Keeps the plugin installed: passes at the start, when something happens in the folders, and now and then.
//! Owns the rhythm. Another program that undoes what we do is met with patience and one warning, not with a race.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_process::clock;
use ambit_process::stop::Stop;
use ambit_sys::notify::Notify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::install::{InstallError, Pass, Site};
use crate::metrics::{Installed, Metrics};
use crate::node::enrol::Ground;
use crate::node::link::{chain, watched};

/// News can be lost, folders be replaced: looked at again this often all the same.
const LOOK: Duration = Duration::from_secs(5);

/// Whoever writes configurations often writes several files.
const SETTLE: Duration = Duration::from_millis(20);

/// At most so often, while changes follow each other closely. Pods that start in between are found by their keepers.
const PACE: Duration = Duration::from_millis(100);

/// Changes that follow each other this closely are a struggle, and so many of them worth a warning.
const CLOSE: Duration = Duration::from_secs(5);
const STRUGGLE: u32 = 5;

/// Whether the plugin is installed.
#[derive(Debug)]
pub(crate) struct State {
    is_good: AtomicBool,
    /// When it was last put right: until then the runtime may have started pods without it.
    repaired: watch::Sender<Option<Instant>>,
    /// Held while a pass is under way.
    turn: Arc<Mutex<()>>,
}

impl State {
    /// Where nothing is to be installed all is as it should be.
    pub(crate) fn new(is_wanted: bool) -> Self {
        let (is_good, repaired) = (AtomicBool::new(!is_wanted), watch::Sender::new(None));
        Self { is_good, repaired, turn: Arc::default() }
    }

    /// Waits for a pass that is under way: whoever takes the plugin away before it has ended has it back.
    pub(crate) async fn at_rest(&self) {
        drop(self.turn.lock().await);
    }

    pub(crate) fn is_good(&self) -> bool {
        self.is_good.load(Ordering::Relaxed)
    }

    /// When it was last put right, and each later time.
    pub(crate) fn repaired(&self) -> watch::Receiver<Option<Instant>> {
        self.repaired.subscribe()
    }

    /// A pass that fails says nothing about what an earlier one left: that may be in force still.
    fn note(&self, result: &Result<Pass, InstallError>, metrics: &Metrics) {
        let outcome = match result {
            Ok(Pass::Valid) => None,
            Ok(Pass::Changed) => Some("SUCCESS"),
            Ok(Pass::NoPrimary) | Err(InstallError::Configuration { .. }) => {
                Some("CREATE_CNI_CONFIG_FAILURE")
            }
            Err(InstallError::Program { .. }) => Some("COPY_BINARIES_FAILURE"),
        };
        if let Some(result) = outcome {
            metrics.installs.get_or_create(&Installed { result }).inc();
        }
        if let Ok(pass) = result {
            self.is_good.store(*pass != Pass::NoPrimary, Ordering::Relaxed);
        }
        if matches!(result, Ok(Pass::Changed)) {
            self.repaired.send_replace(Some(clock::now()));
        }
        metrics.install_ready.set(i64::from(self.is_good()));
    }
}

/// How changes follow each other.
#[derive(Debug, Default)]
struct Struggle {
    last: Option<Instant>,
    times: u32,
}

impl Struggle {
    /// A change was made; whether it is time to say that somebody works against us.
    fn note(&mut self, now: Instant) -> bool {
        let close = self.last.is_some_and(|last| now.duration_since(last) < CLOSE);
        self.times = if close { self.times + 1 } else { 0 };
        self.last = Some(now);
        self.times == STRUGGLE
    }

    fn is_close(&self) -> bool {
        self.times > 0
    }
}

/// Keeps the plugin installed until `stop`, or until the mesh leaves the node.
pub(crate) async fn keep(site: Site, ground: Arc<Ground>, stop: Stop) {
    let site = Arc::new(site);
    let mut retired = ground.retired.subscribe();
    let mut struggle = Struggle::default();
    let mut told: Option<String> = None;
    loop {
        let turn = Arc::clone(&ground.installed.turn).lock_owned().await;
        // With the turn: whoever has said so and then had the turn has seen the last pass.
        if *retired.borrow() {
            return;
        }
        // Before the pass, so that nothing that happens during it goes unseen.
        let news = Notify::folders([site.net_dir.as_path(), site.bin_dir.as_path()]).and_then(watched).ok();
        let result = pass(&site, turn).await;
        ground.installed.note(&result, &ground.metrics);
        let trouble = trouble(&result, &site.net_dir);
        if let Some(trouble) = trouble.as_ref().filter(|it| told.as_ref() != Some(it)) {
            warn!(trouble, "the plugin is not installed");
        }
        told = trouble;
        if matches!(result, Ok(Pass::Changed)) {
            info!(folder = %site.net_dir.display(), "installed the plugin");
            if struggle.note(clock::now()) {
                warn!(hint = hint(&site.net_dir), "another program keeps changing the network configuration");
            }
        }
        let rest = if struggle.is_close() { PACE } else { SETTLE };
        // Every arm is cancel-safe.
        tokio::select! {
            () = stop.stopped() => return,
            _ = retired.changed() => {}
            () = something(news) => tokio::time::sleep(rest).await,
        }
    }
}

/// A pass goes on to its end, with its turn, also where nobody waits for it any longer.
async fn pass(site: &Arc<Site>, turn: OwnedMutexGuard<()>) -> Result<Pass, InstallError> {
    let folder = site.net_dir.clone();
    let site = Arc::clone(site);
    let panicked = |error| InstallError::Configuration { folder, source: io::Error::other(error) };
    let passed = tokio::task::spawn_blocking(move || {
        let result = site.pass();
        drop(turn);
        result
    });
    passed.await.unwrap_or_else(|error| Err(panicked(error)))
}

/// Something happened, or it is time to look again.
async fn something(news: Option<AsyncFd<Notify>>) {
    let told = async {
        match &news {
            Some(news) => drop(news.async_io(Interest::READABLE, Notify::try_take).await),
            None => std::future::pending().await,
        }
    };
    // Both are reasons to look.
    let _ = tokio::time::timeout(LOOK, told).await;
}

fn trouble(result: &Result<Pass, InstallError>, folder: &Path) -> Option<String> {
    match result {
        Ok(Pass::NoPrimary) => {
            Some(format!("there is no network configuration in {} yet; it is waited for", folder.display()))
        }
        Ok(_) => None,
        Err(error) => Some(chain(error)),
    }
}

fn hint(folder: &Path) -> &'static str {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.file_name());
    let is_cilium = names.into_iter().any(|name| name.to_string_lossy().contains("cilium"));
    if is_cilium {
        "set cni.exclusive=false for Cilium"
    } else {
        "look which one it is in the folder's owner"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struggle_is_told_once_and_forgotten_when_it_ends() {
        let (begin, mut struggle) = (Instant::now(), Struggle::default());
        let told: Vec<_> = (0..8).map(|at| struggle.note(begin + Duration::from_secs(at * 2))).collect();
        assert_eq!(told.iter().filter(|it| **it).count(), 1);
        assert!(told[5] && struggle.is_close());
        assert!(!struggle.note(begin + Duration::from_mins(2)) && !struggle.is_close());
    }

    #[tokio::test]
    async fn whoever_takes_the_plugin_away_waits_for_a_pass_that_is_under_way() {
        let state = State::new(true);
        let turn = Arc::clone(&state.turn).lock_owned().await;
        assert!(tokio::time::timeout(Duration::from_millis(20), state.at_rest()).await.is_err());
        drop(turn);
        state.at_rest().await;
    }
}
