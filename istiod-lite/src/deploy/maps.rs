//! The config maps by which authors say how what is made for their waypoints is to be: read again and again, one by one,
//! for a right to follow all config maps of a cluster would be a right to read everybody's. Every replica reads them, since
//! each writes conditions. Owns the reading; what a map says is `overlay`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_cluster::api::{ApiError, Client};
use ambit_process::stop::Stop;
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

use crate::deploy::overlay::{At, Overlay, OverlayError, Overlays, Reading};
use crate::translate::waypoint::Known;

/// A map that changed is noticed after this long at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The label of maps for all gateways of a class.
const CLASS: &str = "gateway.istio.io/defaults-for-class";

/// Reads what gateways name.
pub struct Maps {
    client: Client,
    /// Where maps for classes are.
    namespace: String,
    known: watch::Receiver<Arc<Known>>,
    told: watch::Sender<Arc<Overlays>>,
    /// What was complained of the last time.
    trouble: Option<String>,
}

impl Maps {
    /// Reads for the gateways of `known`, and tells what is read.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: String,
        known: watch::Receiver<Arc<Known>>,
        told: watch::Sender<Arc<Overlays>>,
    ) -> Self {
        Self { client, namespace, known, told, trouble: None }
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: Stop) {
        loop {
            let known = self.known.borrow_and_update().clone();
            // Cancel-safe: nothing is kept but what is told at the end.
            tokio::select! {
                () = stop.stopped() => return,
                () = Box::pin(self.pass(&known)) => {}
            }
            // All arms are cancel-safe.
            tokio::select! {
                () = stop.stopped() => return,
                // The feed ends with the program only.
                Ok(()) = self.known.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What cannot be read now is as it was: an API server that is away changes nothing.
    async fn pass(&mut self, known: &Known) {
        let before = Arc::clone(&self.told.borrow());
        let (mut next, mut trouble) = (Overlays::default(), None);
        for at in &known.maps {
            match self.map(at).await {
                Ok(reading) => drop(next.named.insert(at.clone(), reading)),
                Err(error) => {
                    trouble = Some(format!("{}/{}: {error}", at.0, at.1));
                    next.named
                        .extend(before.named.get_key_value(at).map(|(at, it)| (at.clone(), it.clone())));
                }
            }
        }
        next.classes = match self.of_classes().await {
            Ok(classes) => Some(classes),
            Err(error) => {
                trouble = Some(format!("{}: {error}", self.namespace));
                before.classes.clone()
            }
        };
        if let Some(trouble) = trouble.as_ref().filter(|it| self.trouble.as_ref() != Some(*it)) {
            warn!(target: "deploy", error = trouble, "config maps for waypoints are not read");
        }
        self.trouble = trouble;
        self.told.send_if_modified(|known| {
            let differs = **known != next;
            *known = Arc::new(next);
            differs
        });
    }

    async fn map(&self, (namespace, name): &At) -> Result<Reading, ApiError> {
        match self.client.read::<Value>(&format!("/api/v1/namespaces/{namespace}/configmaps/{name}")).await {
            Ok(map) => Ok(read(&map)),
            Err(ApiError::NotFound { .. }) => Ok(Err(OverlayError::Missing(namespace.clone(), name.clone()))),
            Err(error) => Err(error),
        }
    }

    async fn of_classes(&self) -> Result<BTreeMap<Box<str>, Reading>, ApiError> {
        let all = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        Ok(by_class(self.client.list(&all, &[("labelSelector", CLASS)]).await?))
    }
}

fn read(map: &Value) -> Reading {
    let data = map.get("data").and_then(Value::as_object).into_iter().flatten();
    let texts = data.filter_map(|(key, text)| Some((key.as_str(), text.as_str()?)));
    Overlay::read(texts).map(Arc::new)
}

/// Of several for a class the oldest, and of those the first by name.
fn by_class(mut all: Vec<Value>) -> BTreeMap<Box<str>, Reading> {
    let word =
        |it: &Value, path: &str| it.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    all.sort_by_cached_key(|it| (word(it, "/metadata/creationTimestamp"), word(it, "/metadata/name")));
    let mut classes = BTreeMap::new();
    for map in &all {
        let class = map.pointer("/metadata/labels").and_then(|it| it.get(CLASS)?.as_str());
        if let Some(class) = class {
            classes.entry(class.into()).or_insert_with(|| read(map));
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::deploy::overlay::Part;

    #[test]
    fn of_several_maps_for_a_class_the_oldest_counts() {
        let map = |name: &str, time: &str, key: &str| {
            let labels = json!({CLASS: "istio-waypoint"});
            json!({"metadata": {"name": name, "labels": labels, "creationTimestamp": time}, "data": {key: "spec: {}"}})
        };
        let classes = by_class(vec![
            map("a", "2026-02-01T00:00:00Z", "service"),
            map("b", "2026-01-01T00:00:00Z", "deployment"),
            json!({"metadata": {"name": "c", "labels": {}}}),
        ]);
        assert_eq!(classes.len(), 1);
        let overlay = classes["istio-waypoint"].as_ref().unwrap();
        assert!(overlay.says(Part::Deployment) && !overlay.says(Part::Service));
    }
}
