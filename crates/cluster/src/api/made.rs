//! Objects that are made for another one and belong to it: applied as they are to be, and nothing of anybody else's.
//! Owns the look before the write. What they are to be is the caller's.

use http::Method;
use serde_json::{Value, json};

use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::api::resource::with_query;

/// What became of an object that is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is as it is to be.
    Applied,
    /// There is one of that name that nobody made for this, and that stays as it is.
    Foreign,
}

impl Client {
    /// Has the object at a path be like this, in the hand of `manager`; unless there is one without this label.
    ///
    /// # Errors
    /// When the API server does not say, or refuses.
    pub async fn make(
        &self,
        path: &str,
        object: &Value,
        (manager, label): (&str, &str),
    ) -> Result<Made, ApiError> {
        match self.get::<Value>(path).await {
            Ok(there) => {
                let labels = there.pointer("/metadata/labels");
                if labels.and_then(|it| it.get(label)).is_none() {
                    return Ok(Made::Foreign);
                }
            }
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let path = with_query(path, &[("fieldManager", manager), ("force", "true")]);
        let body = object.to_string().into_bytes();
        self.submit::<Value>(Method::PATCH, &path, "application/apply-patch+yaml", body).await?;
        Ok(Made::Applied)
    }

    /// Has no object be at a path that was made, with this label, for the owner of this `uid`; whether there was one.
    ///
    /// # Errors
    /// When the API server does not say, or refuses.
    pub async fn unmake(&self, path: &str, (uid, label): (&str, &str)) -> Result<bool, ApiError> {
        let there: Value = match self.get(path).await {
            Err(ApiError::NotFound { .. }) => return Ok(false),
            read => read?,
        };
        let text = |at: &str| there.pointer(at).and_then(Value::as_str);
        let owners = there.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let is_owned = owners.into_iter().flatten().any(|it| it.get("uid").is_some_and(|it| it == uid));
        let is_made = there.pointer("/metadata/labels").is_some_and(|it| it.get(label).is_some());
        if !is_owned || !is_made || text("/metadata/deletionTimestamp").is_some() {
            return Ok(false);
        }
        // This one, and not another that somebody has put in its place since.
        let only = json!({"preconditions": {"uid": text("/metadata/uid").unwrap_or_default()}});
        let body = only.to_string().into_bytes();
        match self.submit::<Value>(Method::DELETE, path, "application/json", body).await {
            Ok(_) => Ok(true),
            Err(ApiError::NotFound { .. } | ApiError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::FakeApi;

    #[tokio::test]
    async fn what_is_ours_is_made_and_kept_and_what_is_anothers_stays_as_it_is() {
        let fake = FakeApi::start().await;
        let client = client(&fake).await;
        let (all, path) = ("/api/v1/services", "/api/v1/namespaces/shop/services/way");
        let wanted = |port: u16| {
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": port}]},
                   "metadata": {"name": "way", "namespace": "shop", "labels": {"made": "us"}}})
        };
        for port in [1, 2] {
            assert_eq!(client.make(path, &wanted(port), ("us", "made")).await.unwrap(), Made::Applied);
            assert_eq!(fake.object(all, "shop", "way").unwrap()["spec"]["ports"][0]["port"], port);
        }
        let own =
            json!({"metadata": {"name": "way", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}});
        fake.put(all, own);
        assert_eq!(client.make(path, &wanted(3), ("us", "made")).await.unwrap(), Made::Foreign);
        assert_eq!(fake.object(all, "shop", "way").unwrap()["spec"]["ports"][0]["port"], 80);
    }

    #[tokio::test]
    async fn what_was_made_for_an_owner_goes_and_what_is_anothers_stays() {
        let fake = FakeApi::start().await;
        let client = client(&fake).await;
        let (all, path) = ("/api/v1/services", "/api/v1/namespaces/shop/services/way");
        let there = |labels: Value, owner: &str| {
            json!({"metadata": {"name": "way", "namespace": "shop", "uid": "u", "labels": labels,
                                "ownerReferences": [{"uid": owner}]}})
        };
        for (object, goes) in [
            (there(json!({"made": "us"}), "other"), false),
            (there(json!({}), "owner"), false),
            (there(json!({"made": "us"}), "owner"), true),
        ] {
            fake.put(all, object.clone());
            assert_eq!(client.unmake(path, ("owner", "made")).await.unwrap(), goes, "{object}");
            assert_eq!(fake.object(all, "shop", "way").is_none(), goes, "{object}");
        }
        assert!(!client.unmake(path, ("owner", "made")).await.unwrap(), "it is gone already");
    }
}
