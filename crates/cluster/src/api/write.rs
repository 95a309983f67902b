//! What the mesh writes onto objects: status by server-side apply, annotations of pods by merge patch.
//! Owns how a write is made, retried and given up. Decides nothing about what is written, nor who leads.

mod route;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use ambit_process::clock::{self, Instant};
use ambit_process::stop::Stop;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::api::member::Share;
use crate::api::resource::{object as path_of, with_query};
use crate::object::ObjectRef;

/// Writes that wait to be taken by the desk, which takes them at once.
const QUEUE: usize = 4096;

/// The members of status that the mesh writes.
const WRITTEN: [&str; 2] = ["conditions", "addresses"];

/// Members that others write into as well: of routes, and of policies.
const PARENTS: &str = "parents";
const ANCESTORS: &str = "ancestors";

/// What the leader alone writes: addresses are chosen among all that are given, which two would do differently.
const LEADERS: &str = "addresses";

/// Objects whose writes wait for the API server; beyond this the caller is refused and tries again.
const WAITING: usize = 16_384;

/// When so many writes in a row were not taken, it is the server rather than the objects: it is asked less often.
const IN_A_ROW: usize = 16;

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
        if member == PARENTS || member == ANCESTORS {
            return self.say_beside(spot, value).await;
        }
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

    /// Whether an object is gone, or about to be.
    async fn is_leaving(&self, object: &ObjectRef) -> bool {
        match self.client.get::<Value>(&path_of(object)).await {
            Ok(found) => found.pointer("/metadata/deletionTimestamp").is_some_and(|it| !it.is_null()),
            Err(error) => matches!(error, ApiError::NotFound { .. }),
        }
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
        match self.client.submit::<Value>(Method::PATCH, &path, content, body.to_string().into_bytes()).await
        {
            // How the API server says that this is another pod by now: its id cannot be changed.
            Err(ApiError::Refused { code: 422, message }) if message.contains("metadata.uid") => {
                Err(ApiError::Conflict)
            }
            said => said.map(drop),
        }
    }
}

/// Who writes what: the leader some of it, all that share it the rest.
#[derive(Debug, Clone)]
pub struct Duty {
    leading: watch::Receiver<bool>,
    share: watch::Receiver<Share>,
}

impl Duty {
    /// This replica's, as it changes.
    #[must_use]
    pub fn new(leading: watch::Receiver<bool>, share: watch::Receiver<Share>) -> Self {
        Self { leading, share }
    }

    fn holds(&self, object: &ObjectRef, member: &str) -> bool {
        if member == LEADERS { *self.leading.borrow() } else { self.share.borrow().holds(object) }
    }

    fn now(&mut self) -> (bool, Share) {
        (*self.leading.borrow_and_update(), self.share.borrow_and_update().clone())
    }

    /// Waits until it may be another one. Cancel-safe.
    async fn changed(&mut self) {
        // Election and membership end with the program only.
        let gone = tokio::select! {
            changed = self.leading.changed() => changed.is_err(),
            changed = self.share.changed() => changed.is_err(),
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes orders to write without making the one who orders wait. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Orders {
    orders: mpsc::Sender<(Spot, Option<Value>)>,
    duty: Duty,
    /// The duty that has been told of.
    told: (bool, Share),
}

/// There is no room for another order, or nobody writes any more.
#[derive(Debug, thiserror::Error)]
#[error("too many writes wait for the API server")]
pub struct Full;

impl Orders {
    /// Orders that are carried out by `Desk::run`, as far as they are this replica's duty.
    #[must_use]
    pub fn new(hand: Hand, duty: Duty) -> (Self, Desk) {
        let (orders, ordered) = mpsc::channel(QUEUE);
        let desk = Desk {
            hand,
            ordered,
            duty: duty.clone(),
            waiting: BTreeMap::new(),
            last: None,
            away: Duration::ZERO,
            in_a_row: 0,
            written: None,
        };
        (Self { orders, duty, told: Default::default() }, desk)
    }

    /// Says this of the members of an object's status, and nothing else of each any more. Not heard unless that is
    /// this replica's duty.
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

    /// Waits until this replica's duty grows: then everything has to be said again. Cancel-safe.
    pub async fn promoted(&mut self) {
        loop {
            let now = self.duty.now();
            let before = std::mem::replace(&mut self.told, now.clone());
            if now.0 && !before.0 || now.1 != before.1 && now.1.members() > 0 {
                return;
            }
            self.duty.changed().await;
        }
    }

    fn order(&self, object: &ObjectRef, member: &str, value: Option<Value>) -> Result<(), Full> {
        if !self.duty.holds(object, member) {
            return Ok(());
        }
        let spot = Spot { object: object.clone(), member: member.into() };
        self.orders.try_send((spot, value)).map_err(|_| Full)
    }
}

/// Carries out orders, one after the other; a newer one for the same object replaces the older. One that the server does
/// not take waits by itself, and the others go on.
#[derive(Debug)]
pub struct Desk {
    hand: Hand,
    ordered: mpsc::Receiver<(Spot, Option<Value>)>,
    duty: Duty,
    waiting: BTreeMap<Spot, Waiting>,
    /// What was written last: the next one is what comes behind it, so that everything has its turn.
    last: Option<Spot>,
    /// How long all of them waited for a server that was away.
    away: Duration,
    /// How many were not taken since the last one that was.
    in_a_row: usize,
    written: Option<Count>,
}

/// An order that waits.
#[derive(Debug)]
struct Waiting {
    value: Option<Value>,
    /// Not before; none: now.
    not_before: Option<Instant>,
    /// How long it waited the last time.
    pause: Duration,
}

impl Waiting {
    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|it| it <= now)
    }
}

/// Told of each write.
struct Count(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Count")
    }
}

impl Desk {
    /// Calls this after each write.
    #[must_use]
    pub fn counted(self, count: impl Fn() + Send + Sync + 'static) -> Self {
        Self { written: Some(Count(Box::new(count))), ..self }
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: Stop) {
        let mut free = clock::now();
        loop {
            let next = self.next_at(free);
            // All arms are cancel-safe: an order that is not taken is there the next time.
            tokio::select! {
                () = stop.stopped() => return,
                Some((spot, value)) = self.ordered.recv(), if self.waiting.len() < WAITING => {
                    self.order(spot, value);
                }
                () = tokio::time::sleep_until(next.unwrap_or(free)), if next.is_some() => {
                    let pause = self.write_one().await;
                    free = clock::now() + pause;
                }
            }
        }
    }

    /// What is said anew of what was not taken waits as long as what was said before.
    fn order(&mut self, spot: Spot, value: Option<Value>) {
        match self.waiting.get_mut(&spot) {
            Some(waiting) => waiting.value = value,
            None => {
                let waiting = Waiting { value, not_before: None, pause: Duration::ZERO };
                drop(self.waiting.insert(spot, waiting));
            }
        }
    }

    /// When the next order can be carried out; none, if there is none.
    fn next_at(&self, free: Instant) -> Option<Instant> {
        if self.next(clock::now()).is_some() {
            return Some(free);
        }
        let first = self.waiting.values().filter_map(|it| it.not_before).min()?;
        Some(first.max(free))
    }

    /// The order whose turn it is.
    fn next(&self, now: Instant) -> Option<&Spot> {
        let behind = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut all = self.waiting.range((behind, Bound::Unbounded)).chain(&self.waiting);
        all.find(|(_, it)| it.is_due(now)).map(|(spot, _)| spot)
    }

    /// Carries out one order; how long to wait before the next.
    async fn write_one(&mut self) -> Duration {
        let Some(spot) = self.next(clock::now()).cloned() else { return Duration::ZERO };
        let Some(Waiting { value, pause, .. }) = self.waiting.remove(&spot) else { return Duration::ZERO };
        self.last = Some(spot.clone());
        if !self.duty.holds(&spot.object, &spot.member) {
            return Duration::ZERO;
        }
        let said = self.hand.apply(&spot, value.as_ref()).await;
        let is_away = matches!(said, Err(ApiError::Unreachable(_) | ApiError::Silent { .. }));
        self.away = if is_away { self.away } else { Duration::ZERO };
        let in_a_row = std::mem::take(&mut self.in_a_row);
        match said {
            Ok(()) => {
                self.written.iter().for_each(|Count(count)| count());
                Duration::ZERO
            }
            Err(ApiError::NotFound { .. }) => {
                debug!(target: "status", object = %spot.object, "gone before its status was written");
                Duration::ZERO
            }
            Err(error) if error.passes() || matches!(error, ApiError::Conflict) => {
                // Once: while the server is away this is so for every object.
                if pause.is_zero() && self.away.is_zero() {
                    warn!(target: "status", object = %spot.object, error = %error, "status not written yet");
                }
                self.in_a_row = in_a_row + 1;
                self.wait(spot, (value, pause), is_away)
            }
            // Of what is being deleted a part may be gone already, and what is left does not pass as a whole.
            Err(ApiError::Refused { code: 422, .. }) if self.hand.is_leaving(&spot.object).await => {
                debug!(target: "status", object = %spot.object, "leaving before its status was written");
                Duration::ZERO
            }
            Err(error) => {
                warn!(target: "status", object = %spot.object, error = %error, "status not written");
                Duration::ZERO
            }
        }
    }

    /// Puts back what was not taken; how long to wait before the next.
    fn wait(&mut self, spot: Spot, (value, pause): (Option<Value>, Duration), is_away: bool) -> Duration {
        let limits = self.hand.client.limits();
        let longer = |pause: Duration| (pause * 2).clamp(limits.first_pause, limits.longest_pause);
        if is_away {
            self.waiting.insert(spot, Waiting { value, not_before: None, pause });
            self.away = longer(self.away);
            return self.away;
        }
        let pause = longer(pause);
        let not_before = Some(clock::now() + pause);
        self.waiting.insert(spot, Waiting { value, not_before, pause });
        if self.in_a_row < IN_A_ROW { Duration::ZERO } else { limits.first_pause }
    }
}

/// What is null is absent; to server-side apply it would be a value.
fn without_nulls(mut value: Value) -> Value {
    crate::kinds::without_nulls(&mut value);
    value
}

#[cfg(test)]
mod tests;
