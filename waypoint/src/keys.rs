//! Keys of those who issue tokens (`waypoint.md` 4.4): fetched before they are needed, fetched again from time to time
//! and when a token was signed with one that is not known, kept for a while when they cannot be fetched. Owns when;
//! fetching once is `fetch`'s. Fails closed: without keys, none of an issuer's tokens is believed.

mod fetch;
mod ring;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambit_model::authentication::KeySource;
use ambit_model::snapshot::Snapshot;
use ambit_process::config::{Faults, Key, Source, duration, flag, text};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_proxy::world::World;
use ambit_tls::configs::control_plane::RootSource;
use tokio::sync::mpsc;

pub(crate) use fetch::Fetcher;
pub(crate) use ring::Ring;

/// Issuers whose keys are kept; nobody believes more.
const ISSUERS: usize = 1024;
/// Issuers that wait for their first fetch to be begun; it is begun at once.
const BEGUN: usize = 64;
/// What ends by itself after a stop gets this long.
const END_WAIT: Duration = Duration::from_millis(200);

/// When keys are fetched, and from where.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// How long keys that were fetched are taken as they are.
    pub refresh: Duration,
    /// How soon they may be fetched again: after a failure, or for a token with a key that is not known.
    pub again: Duration,
    /// How long they are believed when they cannot be fetched again.
    pub keep: Duration,
    /// Whether they may come from this machine.
    pub loopback: bool,
    /// Who vouches for those who publish them.
    pub roots: RootSource,
}

const REFRESH: Key<Duration> =
    Key::new("JWKS_REFRESH", "how often the keys of issuers of tokens are fetched again", duration, || {
        Duration::from_secs(300)
    });
const AGAIN: Key<Duration> = Key::new(
    "JWKS_RETRY",
    "how soon they are fetched again after a failure, or for a token signed with a key that is not known",
    duration,
    || Duration::from_secs(5),
);
const KEEP: Key<Duration> = Key::new(
    "JWKS_KEEP",
    "how long they are believed beyond that when they cannot be fetched",
    duration,
    || Duration::from_secs(3600),
);
const LOOPBACK: Key<bool> = Key::new(
    "JWKS_LOOPBACK",
    "fetch keys from this machine and from link-local addresses, too",
    flag,
    || false,
);
const ROOTS: Key<Option<String>> = Key::new(
    "JWKS_ROOT_CA",
    "who vouches for servers with keys: a file with certificates; without a word, the system's",
    |t| text(t).map(Some),
    || None,
);

impl KeySettings {
    /// Reads them.
    pub(crate) fn read(source: &dyn Source, f: &mut Faults) -> Self {
        Self {
            refresh: REFRESH.read(source, f),
            again: AGAIN.read(source, f),
            keep: KEEP.read(source, f),
            loopback: LOOPBACK.read(source, f),
            roots: ROOTS.read(source, f).map_or(RootSource::System, |path| RootSource::File(path.into())),
        }
    }
}

/// The keys of all issuers.
pub(crate) struct Rings {
    all: Mutex<HashMap<KeySource, Arc<Ring>>>,
    begin: mpsc::Sender<Arc<Ring>>,
}

/// Fetches them.
pub(crate) struct Keeper {
    rings: Arc<Rings>,
    begun: mpsc::Receiver<Arc<Ring>>,
    fetcher: Arc<Fetcher>,
}

impl Rings {
    /// None yet, and who fetches them.
    pub(crate) fn new(settings: KeySettings) -> (Arc<Self>, Keeper) {
        let (begin, begun) = mpsc::channel(BEGUN);
        let rings = Arc::new(Self { all: Mutex::default(), begin });
        let keeper = Keeper { rings: Arc::clone(&rings), begun, fetcher: Arc::new(Fetcher::new(settings)) };
        (rings, keeper)
    }

    /// The keys at a source. None: there are too many.
    pub(crate) fn at(&self, source: &KeySource) -> Option<Arc<Ring>> {
        let mut all = self.lock();
        if let Some(ring) = all.get(source) {
            return Some(Arc::clone(ring));
        }
        if all.len() >= ISSUERS {
            return None;
        }
        let ring = Arc::new(Ring::new(source));
        if ring.is_fetched() && self.begin.try_send(Arc::clone(&ring)).is_err() {
            // Whoever asks next begins it.
            return None;
        }
        all.insert(source.clone(), Arc::clone(&ring));
        Some(ring)
    }

    /// Lets go of all that nobody believes any more, and begins with those that somebody newly does.
    fn follow(&self, world: &Snapshot) {
        let rules = world.authentications().flat_map(|it| &it.rules);
        let wanted: HashSet<&KeySource> = rules.map(|rule| &rule.keys).collect();
        self.lock().retain(|source, ring| {
            let is_wanted = wanted.contains(source);
            if !is_wanted {
                ring.end();
            }
            is_wanted
        });
        for source in wanted {
            self.at(source);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeySource, Arc<Ring>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Keeps keys until the stop.
    pub(crate) async fn run(mut self, mut world: World, stop: Stop) {
        let mut tasks = Tasks::new(&stop);
        self.rings.follow(&world.load());
        loop {
            // All arms are cancel-safe: a ring that was not taken stays in the queue, and the world is looked at whole.
            tokio::select! {
                () = stop.stopped() => break,
                begun = self.begun.recv() => {
                    let Some(ring) = begun else { break };
                    let fetcher = Arc::clone(&self.fetcher);
                    tasks.spawn("keys", move |stop| async move { ring.keep(&fetcher, stop).await });
                }
                changed = world.changed() => {
                    if !changed {
                        break;
                    }
                    self.rings.follow(&world.load());
                }
            }
        }
        tasks.drain(END_WAIT).await;
    }
}
