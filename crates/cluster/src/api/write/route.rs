//! What is said of a route, or of a policy of the Gateway API: one list to the API server, in which every controller has
//! entries of its own. So it is read first, and whoever wrote meanwhile wins: what is said is said again then.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Hand, Spot};
use crate::api::error::ApiError;
use crate::api::resource::{object as path_of, with_query};
use crate::kinds::route::{CONTROLLER, ParentRef};

/// Entries of a list that the API server takes; others' go first.
const ENTRIES: usize = 32;
/// The same where it takes fewer: of policies.
const ANCESTORS: usize = 16;

impl Hand {
    /// Puts our entries of a list in the place of those that we had; others' stay as the API server has them.
    pub(super) async fn say_beside(&self, spot: &Spot, said: Option<&Value>) -> Result<(), ApiError> {
        let Spot { object, member } = spot;
        let path = path_of(object);
        let mut route: Value = self.client.get(&path).await?;
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let before = list(route.pointer(&format!("/status/{member}")));
        let most = if member == super::ANCESTORS { ANCESTORS } else { ENTRIES };
        let others = before.iter().filter(|it| !is_ours(it)).cloned();
        let now: Vec<Value> = others.chain(list(said).into_iter().filter(is_ours)).take(most).collect();
        if now == before {
            return Ok(());
        }
        if let Some(members) = route.as_object_mut() {
            members.insert("status".into(), json!({member: now}));
        }
        let path = with_query(&format!("{path}/status"), &[("fieldManager", self.manager)]);
        let body = route.to_string().into_bytes();
        self.client.submit::<Value>(Method::PUT, &path, "application/json", body).await.map(drop)
    }
}

/// Whether an entry is ours: upstream's control plane, by whose name we write, has entries there as well, for gateways.
fn is_ours(entry: &Value) -> bool {
    let about = entry.get("parentRef").or_else(|| entry.get("ancestorRef"));
    let about = about.and_then(|it| ParentRef::deserialize(it).ok());
    entry["controllerName"] == CONTROLLER && about.is_some_and(|it| it.kind_in_mesh().is_some())
}
