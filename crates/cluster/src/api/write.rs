//! What the mesh writes onto objects: status by server-side apply, annotations of pods by merge patch.
//! Owns how a write is made, retried and given up. Decides nothing about what is written, nor who leads.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_process::stop::Stop;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::api::resource::{object as path_of, with_query};
use crate::object::ObjectRef;

/// Writes that wait to be taken by the desk, which takes them at once.
const QUEUE: usize = 4096;

/// The members of status that the mesh writes.
const WRITTEN: [&str; 2] = ["conditions", "addresses"];

/// Objects whose writes wait for the API server; beyond this the caller is refused and tries again.
const WAITING: usize = 16_384;

/// A writer's hand. For each member of a status it is a field manager of its own, so that what it does not say any
/// more of that member is removed, and what it says of others stays.
#[derive(Debug, Clone)]
pub struct Hand {
    client: Client,
    manager: &'static str,
}

/// A member of an object's status: what is written at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The object.
    pub object: ObjectRef,
    /// The member: `conditions`, `addresses`.
    pub member: String,
}

impl Hand {
    /// A hand of this name.
    #[must_use]
    pub fn new(client: Client, manager: &'static str) -> Self {
        Self { client, manager }
    }

    /// Applies all that this hand says of a member of an object's status; nothing: takes it back. Never makes an
    /// object.
    ///
    /// # Errors
    /// When the object is gone, or the API server refuses.
    pub async fn apply(&self, spot: &Spot, value: Option<&Value>) -> Result<(), ApiError> {
        let Spot { object, member } = spot;
        let namespace = object.kind.namespaced().then_some(object.namespace.as_ref());
        let intent = without_nulls(json!({
            "apiVersion": object.kind.api_version(), "kind": object.kind.name(),
            "metadata": {"name": object.name.as_ref(), "namespace": namespace}, "status": {member: value},
        }));
        let manager = format!("{}-{member}", self.manager);
        let query = [("fieldManager", manager.as_str()), ("force", "true")];
        let path = with_query(&format!("{}/status", path_of(object)), &query);
        let body = intent.to_string().into_bytes();
        self.client.submit::<Value>(Method::PATCH, &path, "application/apply-patch+yaml", body).await?;
        Ok(())
    }

    /// Applies a config map, which is made if it is not there: `(namespace, name)`, its labels, its texts.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn config_map(
        &self,
        (namespace, name): (&str, &str),
        labels: &Value,
        data: &Value,
    ) -> Result<(), ApiError> {
        let intent = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
        });
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        let path = with_query(&path, &[("fieldManager", self.manager), ("force", "true")]);
        let body = intent.to_string().into_bytes();
        self.client.submit::<Value>(Method::PATCH, &path, "application/apply-patch+yaml", body).await?;
        Ok(())
    }

    /// Sets annotations of a pod, or removes those that are null; of the very pod with this id, if it is given. With
    /// them a condition, which is merged with others by its type. Through the status subresource: the right to write
    /// that is a smaller one.
    ///
    /// # Errors
    /// When the pod is gone, or is another one meanwhile, or the API server refuses.
    pub async fn annotate(
        &self,
        (pod, uid): (&ObjectRef, &str),
        annotations: &Value,
        condition: Option<&Value>,
    ) -> Result<(), ApiError> {
        let metadata = if uid.is_empty() {
            json!({"annotations": annotations})
        } else {
            json!({"annotations": annotations, "uid": uid})
        };
        let body = match condition {
            Some(condition) => json!({"metadata": metadata, "status": {"conditions": [condition]}}),
            None => json!({"metadata": metadata}),
        };
        let path = with_query(&format!("{}/status", path_of(pod)), &[("fieldManager", self.manager)]);
        // Kubelet writes conditions of the same list: only this kind of patch knows that they are told by their type.
        let content = "application/strategic-merge-patch+json";
        self.client.submit::<Value>(Method::PATCH, &path, content, body.to_string().into_bytes()).await?;
        Ok(())
    }
}

/// Takes orders to write without making the one who orders wait. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Orders {
    orders: mpsc::Sender<(Spot, Option<Value>)>,
    leading: watch::Receiver<bool>,
    /// The present leadership has been told of.
    is_told: bool,
}

/// There is no room for another order, or nobody writes any more.
#[derive(Debug, thiserror::Error)]
#[error("too many writes wait for the API server")]
pub struct Full;

impl Orders {
    /// Orders that are carried out by `Desk::run`, while `leading`.
    #[must_use]
    pub fn new(hand: Hand, leading: watch::Receiver<bool>) -> (Self, Desk) {
        let (orders, ordered) = mpsc::channel(QUEUE);
        let desk = Desk { hand, ordered, leading: leading.clone(), waiting: BTreeMap::new() };
        (Self { orders, leading, is_told: false }, desk)
    }

    /// Says this of the members of an object's status, and nothing else of each any more. Not heard unless this
    /// replica leads.
    ///
    /// # Errors
    /// When too many wait.
    pub fn status(&self, object: &ObjectRef, status: Value) -> Result<(), Full> {
        let Value::Object(members) = status else { return Ok(()) };
        for (member, value) in members {
            self.order(object, &member, Some(value).filter(|value| !value.is_null()))?;
        }
        Ok(())
    }

    /// Says nothing of an object's status any more.
    ///
    /// # Errors
    /// When too many wait.
    pub fn clear(&self, object: &ObjectRef) -> Result<(), Full> {
        WRITTEN.iter().try_for_each(|member| self.order(object, member, None))
    }

    /// Waits until this replica begins to lead: then everything has to be said again. Cancel-safe.
    pub async fn promoted(&mut self) {
        loop {
            let leads = *self.leading.borrow_and_update();
            if leads != self.is_told {
                self.is_told = leads;
                if leads {
                    return;
                }
            }
            if self.leading.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn order(&self, object: &ObjectRef, member: &str, value: Option<Value>) -> Result<(), Full> {
        if !*self.leading.borrow() {
            return Ok(());
        }
        let spot = Spot { object: object.clone(), member: member.into() };
        self.orders.try_send((spot, value)).map_err(|_| Full)
    }
}

/// Carries out orders, one after the other; a newer one for the same object replaces the older.
#[derive(Debug)]
pub struct Desk {
    hand: Hand,
    ordered: mpsc::Receiver<(Spot, Option<Value>)>,
    leading: watch::Receiver<bool>,
    waiting: BTreeMap<Spot, Option<Value>>,
}

impl Desk {
    /// Runs until stopped.
    pub async fn run(mut self, stop: Stop) {
        let mut pause = Duration::ZERO;
        loop {
            // All arms are cancel-safe: an order that is not taken is there the next time.
            tokio::select! {
                () = stop.stopped() => return,
                Some((spot, value)) = self.ordered.recv(), if self.waiting.len() < WAITING => {
                    self.waiting.insert(spot, value);
                }
                () = tokio::time::sleep(pause), if !self.waiting.is_empty() => {
                    pause = self.write_one(pause).await;
                }
            }
        }
    }

    /// Carries out one order; how long to wait before the next.
    async fn write_one(&mut self, pause: Duration) -> Duration {
        if !*self.leading.borrow() {
            self.waiting.clear();
            return Duration::ZERO;
        }
        let Some((spot, value)) = self.waiting.pop_first() else { return Duration::ZERO };
        match self.hand.apply(&spot, value.as_ref()).await {
            Ok(()) => Duration::ZERO,
            Err(ApiError::NotFound { .. }) => {
                debug!(target: "status", object = %spot.object, "gone before its status was written");
                Duration::ZERO
            }
            Err(error) if error.passes() || matches!(error, ApiError::Conflict) => {
                // Once: while the server is away this is so for every object.
                if pause.is_zero() {
                    warn!(target: "status", object = %spot.object, error = %error, "status not written yet");
                }
                self.waiting.entry(spot).or_insert(value);
                let limits = self.hand.client.limits();
                (pause * 2).clamp(limits.first_pause, limits.longest_pause)
            }
            Err(error) => {
                warn!(target: "status", object = %spot.object, error = %error, "status not written");
                Duration::ZERO
            }
        }
    }
}

/// What is null is absent; to server-side apply it would be a value.
fn without_nulls(mut value: Value) -> Value {
    crate::kinds::without_nulls(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::fake::{FakeApi, Trick};
    use crate::api::tests::{asked, client};
    use crate::object::Kind;
    use ambit_process::tasks::Tasks;

    const POLICIES: &str = "/apis/security.istio.io/v1/authorizationpolicies";
    const PODS: &str = "/api/v1/pods";

    fn policy() -> ObjectRef {
        ObjectRef::new(Kind::AuthorizationPolicy, "shop", "deny")
    }

    fn said(reason: &str) -> Value {
        json!({"conditions": [{"type": "ZtunnelAccepted", "reason": reason, "observedGeneration": null}]})
    }

    async fn until(fake: &FakeApi, pointer: &str, wanted: &Value) {
        for _ in 0..500 {
            let object = fake.object(POLICIES, "shop", "deny").unwrap();
            if object.pointer(pointer).unwrap_or(&Value::Null) == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:#?}", fake.object(POLICIES, "shop", "deny"));
    }

    #[tokio::test]
    async fn status_is_written_by_the_leader_only_survives_failures_and_the_newest_wins() {
        let fake = FakeApi::start().await;
        fake.put(POLICIES, json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {}}));
        let (lead, leading) = watch::channel(false);
        let (mut orders, desk) = Orders::new(Hand::new(client(&fake).await, "ambit-istiod"), leading);
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("desk", |stop| desk.run(stop));
        orders.status(&policy(), said("Early")).unwrap();
        fake.trick("PATCH", Trick::Refuse(503), 3);
        let promoted = tokio::time::timeout(Duration::from_millis(50), orders.promoted()).await;
        assert!(promoted.is_err(), "it does not lead yet");
        lead.send_replace(true);
        tokio::time::timeout(Duration::from_secs(1), orders.promoted()).await.unwrap();
        orders.status(&policy(), said("First")).unwrap();
        asked(&fake, "PATCH", 1).await;
        orders.status(&policy(), said("Second")).unwrap();
        until(&fake, "/status/conditions/0/reason", &"Second".into()).await;
        assert!(!fake.object(POLICIES, "shop", "deny").unwrap().to_string().contains("observedGeneration"));
        let asked = fake.asked();
        assert!(asked[0].contains("/status?fieldManager=ambit-istiod-conditions&force=true"), "{asked:#?}");
        orders.clear(&policy()).unwrap();
        until(&fake, "/status/conditions", &Value::Null).await;
    }

    #[tokio::test]
    async fn an_object_that_is_gone_is_not_made_by_writing_its_status() {
        let fake = FakeApi::start().await;
        let hand = Hand::new(client(&fake).await, "ambit-istiod");
        let spot = Spot { object: policy(), member: "conditions".into() };
        for value in [Some(&said("Accepted")), None] {
            assert!(matches!(hand.apply(&spot, value).await, Err(ApiError::NotFound { .. })));
        }
        assert_eq!(fake.object(POLICIES, "shop", "deny"), None);
    }

    #[tokio::test]
    async fn annotations_are_those_of_the_very_pod() {
        let fake = FakeApi::start().await;
        let hand = Hand::new(client(&fake).await, "ambit-cni");
        let pod = ObjectRef::new(Kind::Pod, "shop", "web");
        fake.put(
            PODS,
            json!({"metadata": {"name": "web", "namespace": "shop", "uid": "1", "annotations": {"a": "b"}}}),
        );
        let key = "ambient.istio.io/redirection";
        hand.annotate((&pod, "1"), &json!({key: "enabled"}), None).await.unwrap();
        let read = || fake.object(PODS, "shop", "web").unwrap()["metadata"]["annotations"].clone();
        assert_eq!(read(), json!({"a": "b", key: "enabled"}));
        let other = hand.annotate((&pod, "2"), &json!({key: null}), None).await;
        assert!(matches!(other, Err(ApiError::Conflict)), "{other:?}");
        hand.annotate((&pod, "1"), &json!({key: null}), None).await.unwrap();
        assert_eq!(read(), json!({"a": "b"}));
    }

    #[tokio::test]
    async fn a_condition_is_merged_with_others_of_the_list_and_taken_out_of_it() {
        let fake = FakeApi::start().await;
        let hand = Hand::new(client(&fake).await, "ambit-cni");
        let pod = ObjectRef::new(Kind::Pod, "shop", "web");
        let ready = json!({"type": "Ready", "status": "True"});
        fake.put(
            PODS,
            json!({"metadata": {"name": "web", "namespace": "shop", "uid": "1"},
            "status": {"phase": "Running", "conditions": [ready]}}),
        );
        let read = || fake.object(PODS, "shop", "web").unwrap()["status"].clone();
        for status in ["False", "True"] {
            let ours = json!({"type": "ambit.io/Enrolled", "status": status});
            hand.annotate((&pod, "1"), &json!({}), Some(&ours)).await.unwrap();
            assert_eq!(read(), json!({"phase": "Running", "conditions": [ready, ours]}));
        }
        let gone = json!({"$patch": "delete", "type": "ambit.io/Enrolled"});
        hand.annotate((&pod, "1"), &json!({}), Some(&gone)).await.unwrap();
        assert_eq!(read(), json!({"phase": "Running", "conditions": [ready]}));
    }
}
