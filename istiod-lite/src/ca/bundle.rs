//! The roots that are believed, as a config map in each namespace for those who connect (`control-plane.md` 6.6).
//! Written by the leader, and written again when somebody else changed or deleted it. Owns no root.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_cluster::api::{self, ApiError, Client, Hand, Limits, Wanted};
use ambit_cluster::files::{Event, Keep};
use ambit_cluster::{Body, Kind, Object};
use ambit_process::clock::{self, Instant};
use ambit_process::stop::Stop;
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::keeper::Newest;

/// The config map's name, and the text in it.
const NAME: &str = "istio-ca-root-cert";
const KEY: &str = "root-cert.pem";

/// Namespaces that hold no pods of anybody.
const PASSED_OVER: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];

/// What is known of one namespace.
#[derive(Debug, Default)]
struct Place {
    /// It is there, and is to stay.
    is_open: bool,
    /// The text in its config map, when that is labelled as it should be.
    text: Option<Arc<str>>,
    /// A write failed: not tried again before.
    not_before: Option<Instant>,
}

/// Where config maps are missing or wrong. Pure: events and texts go in, names come out.
#[derive(Debug, Default)]
struct Places(BTreeMap<Arc<str>, Place>);

impl Places {
    fn take(&mut self, event: Event) {
        match event {
            Event::Applied(Object { reference, body: Body::Namespace(namespace), .. }) => {
                let is_open = namespace.metadata.deletion_timestamp.is_none();
                self.0.entry(reference.name).or_default().is_open = is_open;
            }
            Event::Applied(Object { reference, body: Body::ConfigMap(_), raw: Some(raw) }) => {
                let label = raw.pointer("/metadata/labels/istio.io~1config").and_then(|it| it.as_str());
                let text = raw.pointer("/data/root-cert.pem").and_then(|it| it.as_str());
                let text = text.filter(|_| label == Some("true")).map(Arc::from);
                self.0.entry(reference.namespace).or_default().text = text;
            }
            Event::Gone(gone) if gone.kind == Kind::Namespace => drop(self.0.remove(&gone.name)),
            Event::Gone(gone) => {
                if let Some(place) = self.0.get_mut(&gone.namespace) {
                    place.text = None;
                }
            }
            Event::Fault(fault) => warn!(target: "bundle", fault = %fault, "not readable"),
            Event::Applied(_) | Event::Complete => {}
        }
    }

    /// The first namespace whose config map is to be written now; else when the next one is due.
    fn next(&self, roots: &str, now: Instant) -> Result<Arc<str>, Option<Instant>> {
        let mut due = None;
        for (name, place) in &self.0 {
            let is_right = place.text.as_deref() == Some(roots);
            if is_right || !place.is_open || PASSED_OVER.contains(&name.as_ref()) {
                continue;
            }
            match place.not_before.filter(|at| *at > now) {
                None => return Ok(Arc::clone(name)),
                Some(at) => due = Some(due.map_or(at, |due: Instant| due.min(at))),
            }
        }
        Err(due)
    }

    /// What came of a write. What was written is taken for there until the server says otherwise.
    fn wrote(&mut self, name: &str, text: Option<&str>, not_before: Option<Instant>) {
        if let Some(place) = self.0.get_mut(name) {
            place.not_before = not_before;
            if let Some(text) = text {
                place.text = Some(text.into());
            }
        }
    }
}

/// Keeps the config maps.
pub struct Bundle {
    client: Client,
    hand: Hand,
    newest: Newest,
    leading: watch::Receiver<bool>,
}

impl Bundle {
    /// Keeps them while `leading`, under a field manager's name.
    #[must_use]
    pub fn new(
        client: Client,
        newest: Newest,
        leading: watch::Receiver<bool>,
        manager: &'static str,
    ) -> Self {
        Self { hand: Hand::new(client.clone(), manager), client, newest, leading }
    }

    /// Runs until stopped. Only a leader looks at what is there: the others need not hold it.
    pub async fn run(mut self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                led = self.leading.wait_for(|leads| *leads) => {
                    if led.is_err() {
                        return;
                    }
                }
            }
            self.lead(&stop).await;
        }
    }

    async fn lead(&mut self, stop: &Stop) {
        let wanted = [Kind::Namespace.into(), Wanted::named(Kind::ConfigMap, "", NAME)];
        let mut watch = api::watch(&self.client, &wanted, Keep::Whole);
        let (mut places, mut is_complete) = (Places::default(), false);
        loop {
            let roots = Arc::clone(&self.newest.borrow_and_update());
            let next = if is_complete { places.next(roots.roots_pem(), clock::now()) } else { Err(None) };
            let wake = match next {
                Ok(name) => {
                    self.write(&mut places, &name, roots.roots_pem()).await;
                    Some(clock::now())
                }
                Err(due) => due,
            };
            // All arms are cancel-safe.
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                _ = self.leading.wait_for(|leads| !leads) => return,
                event = watch.next() => {
                    is_complete |= matches!(event, Event::Complete);
                    places.take(event);
                }
                // The keeper ends with the program only; then nothing changes any more.
                Ok(()) = self.newest.changed() => info!(target: "bundle", "roots changed"),
                () = until(wake) => {}
            }
        }
    }

    async fn write(&self, places: &mut Places, name: &str, roots: &str) {
        let labels = json!({"istio.io/config": "true"});
        let written = Box::pin(self.hand.config_map((name, NAME), &labels, &json!({ KEY: roots }))).await;
        let Limits { first_pause, longest_pause, .. } = *self.client.limits();
        match written {
            Ok(()) => {
                debug!(target: "bundle", namespace = name, "roots written");
                places.wrote(name, Some(roots), None);
            }
            // The namespace is going, which its own watch will tell; or the right is missing.
            Err(ApiError::Forbidden { message }) => {
                warn!(target: "bundle", namespace = name, reason = message, "roots not written");
                places.wrote(name, None, Some(clock::now() + longest_pause));
            }
            Err(error) => {
                warn!(target: "bundle", namespace = name, error = %error, "roots not written");
                let pause: Duration = if error.passes() { first_pause * 4 } else { longest_pause };
                places.wrote(name, None, Some(clock::now() + pause));
            }
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
