//! Events: what happened to an object, for people who ask about it (`kubectl describe`). Owns how one is written.
//! Whether something is worth one is the program's.

use std::time::SystemTime;

use http::Method;
use serde_json::{Value, json};

use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::object::ObjectRef;
use ambit_process::clock;

/// Longest message that the API server takes.
const MESSAGE: usize = 1024;

/// Of the object's name so much is in the event's; the API server takes 253 in all.
const NAME: usize = 200;

/// Something that should not be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Of which object.
    pub object: ObjectRef,
    /// The very object.
    pub uid: String,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

impl Client {
    /// Writes a warning about an object. `by` whom: a program, and where it runs.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn warn(&self, warning: &Warning, by: (&str, &str)) -> Result<(), ApiError> {
        let Warning { object, .. } = warning;
        let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let body = event(warning, by, namespace).to_string().into_bytes();
        self.submit::<Value>(Method::POST, &path, "application/json", body).await?;
        Ok(())
    }
}

/// A time as the Kubernetes API has it, in seconds.
#[must_use]
pub fn stamp(now: SystemTime) -> String {
    let now = jiff::Timestamp::try_from(now).unwrap_or_default().round(jiff::Unit::Second);
    now.unwrap_or_default().to_string()
}

fn event(warning: &Warning, (program, place): (&str, &str), namespace: &str) -> Value {
    let Warning { object, uid, reason, message } = warning;
    let now = stamp(clock::now_system());
    let short: String = object.name.chars().take(NAME).collect();
    let short = short.trim_end_matches(['.', '-']);
    let message: String = message.chars().take(MESSAGE / 4).collect();
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{short}.{:016x}", fastrand::u64(..)), "namespace": namespace},
        "involvedObject": {
            "apiVersion": object.kind.api_version(), "kind": object.kind.name(), "namespace": namespace,
            "name": object.name.as_ref(), "uid": uid,
        },
        "type": "Warning", "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now,
        "source": {"component": program, "host": place},
        "reportingComponent": program, "reportingInstance": place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::FakeApi;
    use crate::object::Kind;

    #[tokio::test]
    async fn a_warning_names_the_very_object_and_fits_whatever_it_says() {
        let fake = FakeApi::start().await;
        let client = client(&fake).await;
        let name = format!("{}.x", "a".repeat(199));
        let warning = Warning {
            object: ObjectRef::new(Kind::Pod, "shop", &name),
            uid: "u-1".into(),
            reason: "NotEnrolled",
            message: "é".repeat(2000),
        };
        client.warn(&warning, ("ambit-cni", "n1")).await.unwrap();
        let events = fake.all("/api/v1/events");
        let [event] = events.as_slice() else { panic!("{events:#?}") };
        assert_eq!(event["involvedObject"]["uid"], "u-1");
        assert_eq!(event["metadata"]["namespace"], "shop");
        let (named, said) = (event["metadata"]["name"].as_str().unwrap(), event["message"].as_str().unwrap());
        assert!(named.len() <= 253 && !named.contains("..") && said.len() <= MESSAGE);
        let time = event["lastTimestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && !time.contains('.'), "{time}");
    }
}
