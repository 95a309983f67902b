//! Roots and revocation lists, each as a config map in each namespace for those who connect (`control-plane.md` 6.6).
//! Written by the leader, and written again when somebody else changed or deleted it. Owns neither.

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

use super::text::Text;

/// A config map's name, and that of the text in it.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    name: &'static str,
    key: &'static str,
}

/// Whom to believe.
pub const ROOTS: Map = Map { name: "istio-ca-root-cert", key: "root-cert.pem" };
/// Whom not to believe any more.
pub const LISTS: Map = Map { name: "istio-ca-crl", key: "ca-crl.pem" };

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
    fn take(&mut self, key: &str, event: Event) {
        match event {
            Event::Applied(Object { reference, body: Body::Namespace(namespace), .. }) => {
                let is_open = namespace.metadata.deletion_timestamp.is_none();
                self.0.entry(reference.name).or_default().is_open = is_open;
            }
            Event::Applied(Object { reference, body: Body::ConfigMap(_), raw: Some(raw) }) => {
                let label = raw.pointer("/metadata/labels/istio.io~1config").and_then(|it| it.as_str());
                let text = raw.get("data").and_then(|data| data.get(key)).and_then(|it| it.as_str());
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
    fn next(&self, wanted: &str, now: Instant) -> Result<Arc<str>, Option<Instant>> {
        let mut due = None;
        for (name, place) in &self.0 {
            let is_right = place.text.as_deref() == Some(wanted);
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
    map: Map,
    text: Text,
    leading: watch::Receiver<bool>,
}

impl Bundle {
    /// Keeps them while `leading`, under a field manager's name.
    #[must_use]
    pub fn new(
        client: Client,
        (map, text): (Map, Text),
        leading: watch::Receiver<bool>,
        manager: &'static str,
    ) -> Self {
        Self { hand: Hand::new(client.clone(), manager), client, map, text, leading }
    }

    /// Runs until stopped. Only a leader looks at what is there, and only once there is a text: the others need not
    /// hold it.
    pub async fn run(mut self, stop: Stop) {
        loop {
            let ready = async {
                self.text.wait_for(Option::is_some).await.map(drop)?;
                self.leading.wait_for(|leads| *leads).await.map(drop)
            };
            tokio::select! {
                () = stop.stopped() => return,
                ready = ready => {
                    if ready.is_err() {
                        return;
                    }
                }
            }
            self.lead(&stop).await;
        }
    }

    async fn lead(&mut self, stop: &Stop) {
        let wanted = [Kind::Namespace.into(), Wanted::named(Kind::ConfigMap, "", self.map.name)];
        let mut watch = api::watch(&self.client, &wanted, Keep::Whole);
        let (mut places, mut is_complete) = (Places::default(), false);
        loop {
            let text = self.text.borrow_and_update().clone().unwrap_or_default();
            let next = if is_complete { places.next(&text, clock::now()) } else { Err(None) };
            let wake = match next {
                Ok(name) => {
                    self.write(&mut places, &name, &text).await;
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
                    places.take(self.map.key, event);
                }
                // The keeper ends with the program only; then nothing changes any more.
                Ok(()) = self.text.changed() => info!(target: "bundle", map = self.map.name, "text changed"),
                () = until(wake) => {}
            }
        }
    }

    async fn write(&self, places: &mut Places, name: &str, text: &str) {
        let labels = json!({"istio.io/config": "true"});
        let at = (name, self.map.name);
        let written = Box::pin(self.hand.config_map(at, &labels, &json!({ self.map.key: text }))).await;
        let Limits { first_pause, longest_pause, .. } = *self.client.limits();
        match written {
            Ok(()) => {
                debug!(target: "bundle", namespace = name, map = self.map.name, "written");
                places.wrote(name, Some(text), None);
            }
            // The namespace is going, which its own watch will tell; or the right is missing.
            Err(ApiError::Forbidden { message }) => {
                warn!(target: "bundle", namespace = name, map = self.map.name, reason = message, "not written");
                places.wrote(name, None, Some(clock::now() + longest_pause));
            }
            Err(error) => {
                warn!(target: "bundle", namespace = name, map = self.map.name, error = %error, "not written");
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
