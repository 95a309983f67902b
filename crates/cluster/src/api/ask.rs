//! What people's commands ask of an API server: any object, any list, answered as it stands there.
//! Owns the asking and whose kubeconfig is used. What the objects mean is left to the commands.

use std::path::{Path, PathBuf};

use http::{Method, header};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::client::{Client, OpenError, request};
use crate::api::error::ApiError;
use crate::api::resource::with_query;

/// Objects that a command asks for at once.
const PAGE: &str = "500";
/// Pages of one list: a quarter of a million objects are more than any cluster is built for.
const PAGES: usize = 500;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: Next,
    /// A list without objects may say `null`.
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
struct Next {
    #[serde(default, rename = "continue")]
    mark: String,
}

impl Client {
    /// The API server that a user of `kubectl` would talk to: of the file, else of `$KUBECONFIG`, else of
    /// `~/.kube/config`; of the context that is named, else of the current one. Call within a tokio runtime.
    ///
    /// # Errors
    /// When there is no such file or context, or it cannot be used.
    pub async fn of_user(file: Option<&Path>, context: Option<&str>) -> Result<Self, OpenError> {
        let path = file.map_or_else(|| PathBuf::from("of this user"), Path::to_owned);
        let wrong = |source: KubeconfigError| OpenError::Kubeconfig { path, source: Box::new(source) };
        let read = file.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let options =
            KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let config = match read {
            Ok(file) => Box::pin(Config::from_custom_kubeconfig(file, &options)).await,
            Err(error) => Err(error),
        };
        Self::new(config.map_err(wrong)?)
    }

    /// The object at a path, such as `/api/v1/namespaces/shop`.
    ///
    /// # Errors
    /// When there is none, or the API server does not say.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.get(path).await
    }

    /// All objects of a collection, such as `/api/v1/pods`, as many as there are; `query` holds selectors, such as
    /// `("labelSelector", "app=web")`.
    ///
    /// # Errors
    /// When the API server does not know the collection (`NotFound`), or does not say.
    pub async fn list(&self, collection: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, ApiError> {
        let (mut all, mut mark) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let mut query = query.to_vec();
            query.extend([("limit", PAGE), ("continue", mark.as_str())]);
            let page: Page = self.get(&with_query(collection, &query)).await?;
            all.extend(page.items.unwrap_or_default());
            mark = page.metadata.mark;
            if mark.is_empty() {
                break;
            }
        }
        Ok(all)
    }

    /// What a path answers, as it stands there: logs, or what the API server fetches from a pod.
    ///
    /// # Errors
    /// When the API server does not say, or refuses.
    pub async fn text(&self, path: &str, query: &[(&str, &str)]) -> Result<String, ApiError> {
        let mut asked = request(Method::GET, &with_query(path, query), None, Vec::new());
        asked.headers_mut().insert(header::ACCEPT, header::HeaderValue::from_static("*/*"));
        Ok(String::from_utf8_lossy(&self.whole(asked).await?).into_owned())
    }

    /// Puts an object into a collection; answers it as it was stored.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value, ApiError> {
        let body = object.to_string().into_bytes();
        self.submit(Method::POST, collection, "application/json", body).await
    }

    /// Lays these fields over an object (a merge patch); answers the object.
    ///
    /// # Errors
    /// When there is none, or the API server refuses.
    pub async fn merge(&self, path: &str, fields: &Value) -> Result<Value, ApiError> {
        let body = fields.to_string().into_bytes();
        self.submit(Method::PATCH, path, "application/merge-patch+json", body).await
    }

    /// Takes an object away, and waits for nothing; `query` holds options, such as `("propagationPolicy", "Foreground")`.
    ///
    /// # Errors
    /// When there is none, or the API server refuses.
    pub async fn remove(&self, path: &str, query: &[(&str, &str)]) -> Result<(), ApiError> {
        self.whole(request(Method::DELETE, &with_query(path, query), None, Vec::new())).await.map(drop)
    }

    /// Has these fields of an object be so, in the hand of `manager`, and those gone that it said before and does not
    /// say now; makes the object if there is none. `forced`, also fields that are in another hand.
    ///
    /// # Errors
    /// When another hand says otherwise (`Conflict`), or the API server refuses it.
    pub async fn apply(
        &self,
        path: &str,
        object: &Value,
        (manager, forced): (&str, bool),
    ) -> Result<Value, ApiError> {
        let force = if forced { "true" } else { "false" };
        let path = with_query(path, &[("fieldManager", manager), ("force", force)]);
        let body = object.to_string().into_bytes();
        self.submit(Method::PATCH, &path, "application/apply-patch+yaml", body).await
    }

    /// What would become of an object if it was applied; nothing is stored. Fields that are not known are refused.
    ///
    /// # Errors
    /// When the API server would refuse it.
    pub async fn rehearse(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        let query =
            [("dryRun", "All"), ("fieldManager", "ambit"), ("force", "true"), ("fieldValidation", "Strict")];
        let body = object.to_string().into_bytes();
        self.submit(Method::PATCH, &with_query(path, &query), "application/apply-patch+yaml", body).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::tests::fake::FakeApi;
    use crate::api::tests::{client, limits};

    #[tokio::test]
    async fn a_list_is_whole_however_many_pages_it_has_and_an_object_is_answered_as_it_stands() {
        let fake = FakeApi::start().await;
        for name in 0..1203 {
            let labels = json!({"odd": (name % 2 == 1).to_string()});
            fake.put(
                "/api/v1/pods",
                json!({"metadata": {"name": format!("p{name}"), "namespace": "shop", "labels": labels}}),
            );
        }
        let client = client(&fake).await;
        assert_eq!(client.list("/api/v1/pods", &[]).await.unwrap().len(), 1203);
        assert!(client.list("/api/v1/secrets", &[]).await.unwrap().is_empty());
        let one: Value = client.read("/api/v1/namespaces/shop/pods/p7").await.unwrap();
        assert_eq!(one["metadata"]["labels"]["odd"], "true");
        let fields = json!({"metadata": {"annotations": {"a": "b"}}});
        let merged = client.merge("/api/v1/namespaces/shop/pods/p7", &fields).await.unwrap();
        assert_eq!(merged["metadata"]["annotations"]["a"], "b");
        fake.serve_collection("/apis/x.example/v1/things", false);
        let unknown = client.list("/apis/x.example/v1/things", &[]).await;
        assert!(matches!(unknown, Err(ApiError::NotFound { name: None })), "{unknown:?}");
    }

    #[tokio::test]
    async fn a_context_is_chosen_by_its_name_and_one_that_is_not_there_is_refused() {
        let fake = FakeApi::start().await;
        fake.put("/api/v1/namespaces", json!({"metadata": {"name": "shop"}}));
        let file = tempfile::NamedTempFile::new().unwrap();
        let elsewhere =
            fake.kubeconfig().replace(r#""current-context":"fake""#, r#""current-context":"none""#);
        std::fs::write(file.path(), elsewhere).unwrap();
        let named = Client::of_user(Some(file.path()), Some("fake")).await.unwrap().limited(limits());
        assert_eq!(named.list("/api/v1/namespaces", &[]).await.unwrap().len(), 1);
        for context in [None, Some("other")] {
            let refused = Client::of_user(Some(file.path()), context).await;
            assert!(matches!(refused, Err(OpenError::Kubeconfig { .. })), "{context:?}");
        }
        let missing = Client::of_user(Some(Path::new("/nonexistent")), None).await.unwrap_err();
        assert!(missing.to_string().contains("/nonexistent"), "{missing}");
    }
}
