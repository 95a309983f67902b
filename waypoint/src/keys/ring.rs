//! The keys at one source. Owns when they are fetched, who waits for that, and until when they are believed.

use std::sync::Arc;
use std::time::Duration;

use ambit_jwt::{Fault, KeySet, Signed};
use ambit_model::authentication::KeySource;
use ambit_process::clock::{Instant, now};
use ambit_process::stop::Stop;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::fetch::Fetcher;

/// A wait after a failure doubles at most so often.
const DOUBLED: u32 = 6;

/// The keys at one source.
pub(crate) struct Ring {
    source: KeySource,
    held: watch::Sender<Held>,
    asked: Notify,
    stop: Stop,
}

/// What is known of them.
#[derive(Clone, Default)]
struct Held {
    keys: Option<Known>,
    /// How often they were fetched, or it was tried.
    tries: u64,
    /// From when on another try is made for whoever asks.
    open: Option<Instant>,
}

#[derive(Clone)]
struct Known {
    set: Arc<KeySet>,
    /// Until when they are believed; none: always.
    until: Option<Instant>,
}

impl Held {
    fn keys(&self, at: Instant) -> Option<Arc<KeySet>> {
        let known = self.keys.as_ref()?;
        known.until.is_none_or(|until| at < until).then(|| Arc::clone(&known.set))
    }
}

impl Ring {
    /// Keys that are here are known at once.
    pub(crate) fn new(source: &KeySource) -> Self {
        let mut held = Held::default();
        if let KeySource::Inline(text) = source {
            match KeySet::read(text.as_bytes()) {
                Ok(set) => held.keys = Some(Known { set: Arc::new(set), until: None }),
                Err(error) => warn!(%error, "keys of an issuer are not usable"),
            }
        }
        Self { source: source.clone(), held: watch::channel(held).0, asked: Notify::new(), stop: Stop::new() }
    }

    /// Whether the keys are elsewhere.
    pub(super) fn is_fetched(&self) -> bool {
        matches!(self.source, KeySource::At(_) | KeySource::OfIssuer(_))
    }

    /// Nobody needs them any more.
    pub(super) fn end(&self) {
        self.stop.stop();
    }

    /// The keys as they are now, if they are believed.
    pub(crate) fn now(&self) -> Option<Arc<KeySet>> {
        self.held.borrow().keys(now())
    }

    /// Whether one of the keys signed a token, and which keys these were. Waits for keys that were never fetched, and
    /// for newer ones if the token says that it was signed with one that is not known.
    pub(crate) async fn verify(&self, token: &Signed<'_>, patience: Duration) -> Result<Arc<KeySet>, Fault> {
        if !self.is_fetched() {
            return checked(self.now(), token);
        }
        let (held, at) = (self.held.borrow().clone(), now());
        if held.tries == 0 {
            self.tried_after(0, patience).await;
            return checked(self.now(), token);
        }
        let came = checked(held.keys(at), token);
        let newer_may_do = match came {
            Err(Fault::NoKey | Fault::NoKeys) => true,
            Err(Fault::Signature) => token.key_id.is_none(),
            _ => false,
        };
        if !newer_may_do || held.open.is_none_or(|open| at < open) {
            return came;
        }
        self.asked.notify_one();
        self.tried_after(held.tries, patience).await;
        checked(self.now(), token)
    }

    async fn tried_after(&self, tries: u64, patience: Duration) {
        let mut held = self.held.subscribe();
        // What there is after the wait is looked at, however it ended.
        let _ = timeout(patience, held.wait_for(|held| held.tries > tries)).await;
    }

    /// Fetches them, again and again.
    pub(super) async fn keep(&self, fetcher: &Fetcher, stop: Stop) {
        let mut failures = 0;
        loop {
            // Cancel-safe: an exchange that is given up leaves nothing behind.
            let came = tokio::select! {
                () = stop.stopped() => return,
                () = self.stop.stopped() => return,
                came = fetcher.fetch(&self.source) => came,
            };
            let settings = fetcher.settings();
            let (set, pause) = match came {
                Ok(set) => {
                    info!(keys = set.len(), source = ?self.source, "keys of an issuer were fetched");
                    failures = 0;
                    (Some(set), settings.refresh)
                }
                Err(error) => {
                    let error = ambit_proxy::fault::chain(&error);
                    warn!(error, source = ?self.source, "keys of an issuer cannot be fetched");
                    let longer = settings.again.saturating_mul(1 << failures.min(DOUBLED));
                    failures += 1;
                    (None, longer.min(settings.refresh.max(settings.again)))
                }
            };
            self.held.send_modify(|held| {
                held.tries += 1;
                held.open = Some(now() + settings.again);
                if let Some(set) = set {
                    let until = now() + settings.refresh + settings.keep;
                    held.keys = Some(Known { set: Arc::new(set), until: Some(until) });
                }
            });
            let asked = async {
                sleep(settings.again).await;
                self.asked.notified().await;
            };
            // Cancel-safe: who asked while nobody looked is remembered.
            tokio::select! {
                () = stop.stopped() => return,
                () = self.stop.stopped() => return,
                () = sleep(pause) => {}
                () = asked => {}
            }
        }
    }
}

fn checked(keys: Option<Arc<KeySet>>, token: &Signed<'_>) -> Result<Arc<KeySet>, Fault> {
    let keys = keys.ok_or(Fault::NoKeys)?;
    keys.verify(token)?;
    Ok(keys)
}

#[cfg(test)]
mod tests;
