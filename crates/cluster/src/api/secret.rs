//! A secret that a program keeps for itself: read whole, written whole. Owns how, not what is in it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::client::Client;
use crate::api::error::ApiError;

/// A secret as it was read: its texts, and which version that was.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The version; what is written in its place must name it.
    pub version: String,
    /// Its texts by their keys. What is no text is left out, and lost when it is written.
    pub texts: BTreeMap<String, String>,
    kind: String,
}

/// Names only: a log is no place for the rest.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.texts.keys().collect::<Vec<_>>();
        f.debug_struct("Secret").field("version", &self.version).field("keys", &keys).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Read {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    resource_version: String,
}

impl From<Read> for Secret {
    fn from(read: Read) -> Self {
        let text = |coded: String| String::from_utf8(STANDARD.decode(coded).ok()?).ok();
        let texts = read.data.into_iter().filter_map(|(key, coded)| Some((key, text(coded)?))).collect();
        Self { version: read.metadata.resource_version, texts, kind: read.kind }
    }
}

impl Client {
    /// The secret `(namespace, name)`; none when there is none.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn secret(&self, (namespace, name): (&str, &str)) -> Result<Option<Secret>, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        match self.get::<Read>(&path).await {
            Ok(read) => Ok(Some(read.into())),
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the secret of this type, or writes it in place of the version that was read.
    ///
    /// # Errors
    /// `Conflict` when somebody else made or changed it meanwhile; or when the API server refuses.
    pub async fn keep_secret(
        &self,
        (namespace, name): (&str, &str),
        kind: &str,
        before: Option<&Secret>,
        texts: &BTreeMap<String, String>,
    ) -> Result<Secret, ApiError> {
        let folder = format!("/api/v1/namespaces/{namespace}/secrets");
        let (method, path, kind) = match before {
            None => (Method::POST, folder, kind),
            // A secret's type cannot be changed.
            Some(before) => (Method::PUT, format!("{folder}/{name}"), before.kind.as_str()),
        };
        let coded: BTreeMap<_, Value> =
            texts.iter().map(|(key, text)| (key, STANDARD.encode(text).into())).collect();
        let version = before.map(|before| before.version.as_str());
        let mut object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "data": coded,
            "metadata": {"namespace": namespace, "name": name, "resourceVersion": version},
        });
        crate::kinds::without_nulls(&mut object);
        let body = object.to_string().into_bytes();
        Ok(self.submit::<Read>(method, &path, "application/json", body).await?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::{FakeApi, Trick};

    const AT: (&str, &str) = ("istio-system", "kept");

    fn texts(of: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("ca-key.pem".to_owned(), of.to_owned())])
    }

    #[tokio::test]
    async fn a_secret_is_made_read_and_replaced_and_whoever_was_first_wins() {
        let fake = FakeApi::start().await;
        let client = client(&fake).await;
        assert_eq!(client.secret(AT).await.unwrap(), None);
        let made = client.keep_secret(AT, "istio.io/ca-root", None, &texts("one")).await.unwrap();
        let read = client.secret(AT).await.unwrap().unwrap();
        assert_eq!((&read, &read.texts), (&made, &texts("one")));
        assert!(!format!("{read:?}").contains("one"), "{read:?}");
        let next = client.keep_secret(AT, "ignored", Some(&read), &texts("two")).await.unwrap();
        assert_eq!(next.texts, texts("two"));
        let object = fake.object("/api/v1/secrets", "istio-system", "kept").unwrap();
        assert_eq!(
            (&object["type"], &object["data"]["ca-key.pem"]),
            (&"istio.io/ca-root".into(), &"dHdv".into())
        );
        for method in ["POST", "PUT"] {
            fake.trick(method, Trick::Refuse(409), 1);
            let before = (method == "PUT").then_some(&read);
            let lost = client.keep_secret(AT, "istio.io/ca-root", before, &texts("three")).await;
            assert!(matches!(lost, Err(ApiError::Conflict)), "{method}: {lost:?}");
        }
    }
}
