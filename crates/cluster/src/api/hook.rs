//! Whom the API server believes when it calls webhooks: the bundle of roots in their configurations.
//! Owns how that is written. When, and by whom, is the caller's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::Value;

use crate::api::client::Client;
use crate::api::error::ApiError;

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

impl Client {
    /// Has the API server believe these roots for the webhooks of a configuration that are served by services; says
    /// whether that had to be written. The version that was read goes along: whoever wrote meanwhile wins.
    ///
    /// # Errors
    /// When there is no such configuration, it changed meanwhile, or the API server refuses.
    pub async fn believe_hooks(&self, configuration: &str, roots: &str) -> Result<bool, ApiError> {
        let path = format!("{CONFIGURATIONS}/{configuration}");
        let mut object: Value = self.get(&path).await?;
        if !believe(&mut object, &STANDARD.encode(roots)) {
            return Ok(false);
        }
        let body = object.to_string().into_bytes();
        self.submit::<Value>(Method::PUT, &path, "application/json", body).await?;
        Ok(true)
    }
}

/// Whether something had to be changed.
fn believe(configuration: &mut Value, bundle: &str) -> bool {
    let hooks = configuration.get_mut("webhooks").and_then(Value::as_array_mut);
    let mut changed = false;
    for hook in hooks.into_iter().flatten() {
        let client = hook.get_mut("clientConfig").and_then(Value::as_object_mut);
        // One that is called by its URL is somebody else's to prove.
        let Some(client) = client.filter(|client| client.contains_key("service")) else { continue };
        if client.get("caBundle").and_then(Value::as_str) != Some(bundle) {
            client.insert("caBundle".into(), bundle.into());
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::{FakeApi, Trick};

    #[tokio::test]
    async fn roots_are_written_once_and_only_for_webhooks_that_are_served_in_the_cluster() {
        let fake = FakeApi::start().await;
        let hooks = json!([
            {"name": "a", "clientConfig": {"service": {"name": "istiod"}}, "failurePolicy": "Fail"},
            {"name": "b", "clientConfig": {"url": "https://elsewhere.example"}},
            {"name": "c", "clientConfig": {"service": {"name": "istiod"}, "caBundle": "b2xk"}},
        ]);
        fake.put(CONFIGURATIONS, json!({"metadata": {"name": "ours"}, "webhooks": hooks}));
        let client = client(&fake).await;
        fake.trick("PUT", Trick::Refuse(409), 1);
        let lost = client.believe_hooks("ours", "roots").await;
        assert!(matches!(lost, Err(ApiError::Conflict)), "{lost:?}");
        assert!(client.believe_hooks("ours", "roots").await.unwrap());
        assert!(!client.believe_hooks("ours", "roots").await.unwrap());
        let now = fake.object(CONFIGURATIONS, "", "ours").unwrap();
        let bundles: Vec<_> = now["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["clientConfig"]["caBundle"].as_str())
            .collect();
        assert_eq!(bundles, [Some("cm9vdHM="), None, Some("cm9vdHM=")]);
        assert_eq!(now["webhooks"][0]["failurePolicy"], "Fail");
        let missing = client.believe_hooks("other", "roots").await;
        assert!(matches!(missing, Err(ApiError::NotFound { .. })), "{missing:?}");
    }
}
