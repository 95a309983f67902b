//! Asks the API server whose token this is (`TokenReview`). Caches nothing; who may do what is the caller's.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::api::client::Client;
use crate::api::error::ApiError;

/// Whom a token proves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// `system:serviceaccount:<namespace>:<name>` for service accounts.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What the token is bound to: the pod, its id, its node.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Reviewed {
    /// The first value of an extra field.
    #[must_use]
    pub fn extra(&self, key: &str) -> Option<&str> {
        self.extra.get(key)?.first().map(String::as_str)
    }
}

/// Why a token proves nobody.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The API server did not say.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It says that the token is not valid.
    #[error("the API server does not accept the token: {0}")]
    Denied(String),
    /// The token is for somebody else.
    #[error("the token is for other audiences: {0:?}")]
    Audience(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    error: String,
    audiences: Vec<String>,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Client {
    /// Whose token this is, if it is meant for one of the audiences.
    ///
    /// # Errors
    /// When the server does not say, or says that it is not valid.
    pub async fn review(&self, token: &str, audiences: &[String]) -> Result<Reviewed, ReviewError> {
        let asked = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let body = asked.to_string().into_bytes();
        let Answer { status } = self.submit(Method::POST, path, "application/json", body).await?;
        if !status.authenticated || !status.error.is_empty() {
            return Err(ReviewError::Denied(status.error));
        }
        // An authenticator that knows nothing of audiences says none: the token may be anybody's.
        if !status.audiences.iter().any(|audience| audiences.contains(audience)) {
            return Err(ReviewError::Audience(status.audiences));
        }
        let User { username, groups, extra } = status.user;
        Ok(Reviewed { username, groups, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::{FakeApi, Trick};

    #[tokio::test]
    async fn a_token_proves_somebody_only_when_it_is_authenticated_for_our_audience() {
        let fake = FakeApi::start().await;
        let user = json!({
            "username": "system:serviceaccount:shop:web", "groups": ["system:serviceaccounts"],
            "extra": {"authentication.kubernetes.io/pod-name": ["web-1"]},
        });
        fake.token("good", json!({"authenticated": true, "user": user, "audiences": ["istio-ca"]}));
        fake.token("other", json!({"authenticated": true, "user": user, "audiences": ["vault"]}));
        fake.token("any", json!({"authenticated": true, "user": user}));
        fake.token(
            "odd",
            json!({"authenticated": true, "user": user, "audiences": ["istio-ca"], "error": "x"}),
        );
        let (client, wanted) = (client(&fake).await, ["istio-ca".to_owned()]);
        let good = client.review("good", &wanted).await.unwrap();
        assert_eq!(good.username, "system:serviceaccount:shop:web");
        assert_eq!(good.extra("authentication.kubernetes.io/pod-name"), Some("web-1"));
        for token in ["other", "any"] {
            let refused = client.review(token, &wanted).await;
            assert!(matches!(refused, Err(ReviewError::Audience(_))), "{token}: {refused:?}");
        }
        for token in ["odd", "unknown"] {
            let refused = client.review(token, &wanted).await;
            assert!(matches!(refused, Err(ReviewError::Denied(_))), "{token}: {refused:?}");
        }
        fake.trick("tokenreviews", Trick::Refuse(500), 1);
        let failed = client.review("good", &wanted).await;
        assert!(matches!(failed, Err(ReviewError::Api(ApiError::Unable { .. }))), "{failed:?}");
    }
}
