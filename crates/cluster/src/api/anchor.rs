//! Roots for the whole cluster: a ClusterTrustBundle, in the newest version of that kind that the server has.
//! Owns how it is written. When, and by whom, is the caller's.

use http::Method;
use serde_json::{Value, json};

use crate::api::client::Client;
use crate::api::error::ApiError;

const GROUP: &str = "certificates.k8s.io";

/// Newest first; what a server has is said by the path it knows.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

/// What became of keeping an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It was as it is to be.
    Same,
    /// It was made, or written anew.
    Written,
    /// The server knows no such kind.
    Unknown,
}

impl Client {
    /// Has the cluster's bundle `(name, signer)` hold these roots. The version that was read goes along: whoever wrote
    /// meanwhile wins.
    ///
    /// # Errors
    /// When it changed meanwhile, or the API server refuses.
    pub async fn keep_trust_bundle(
        &self,
        (name, signer): (&str, &str),
        roots: &str,
    ) -> Result<Kept, ApiError> {
        for version in VERSIONS {
            let all = format!("/apis/{GROUP}/{version}/clustertrustbundles");
            let mut object: Value = match self.get(&format!("{all}/{name}")).await {
                Ok(there) => there,
                // A server that knows the kind names the object; one that does not, nothing.
                Err(ApiError::NotFound { name: Some(missing) }) if missing == name => Value::Null,
                Err(ApiError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            let spec = object.pointer("/spec/trustBundle").and_then(Value::as_str);
            if spec == Some(roots) {
                return Ok(Kept::Same);
            }
            let (method, path) = match object {
                Value::Null => (Method::POST, all),
                _ => (Method::PUT, format!("{all}/{name}")),
            };
            if object.is_null() {
                object = json!({"metadata": {"name": name, "labels": {"istio.io/config": "true"}}});
            }
            if let Some(object) = object.as_object_mut() {
                object.insert("apiVersion".into(), format!("{GROUP}/{version}").into());
                object.insert("kind".into(), "ClusterTrustBundle".into());
                object.insert("spec".into(), json!({"signerName": signer, "trustBundle": roots}));
            }
            let body = object.to_string().into_bytes();
            self.submit::<Value>(method, &path, "application/json", body).await?;
            return Ok(Kept::Written);
        }
        Ok(Kept::Unknown)
    }
}
