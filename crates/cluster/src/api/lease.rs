//! One leader among several replicas, by a Lease. Owns the election; what a leader does is its caller's.
//! Clocks of replicas are not compared: a lease has lapsed when nobody was seen to renew it for its whole term.

use std::time::{Duration, SystemTime};

use ambit_process::clock::{self, Instant};
use ambit_process::stop::Stop;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::api::client::Client;
use crate::api::error::ApiError;

/// How long a lease holds after it was renewed, as others see it.
pub(super) const TERM: Duration = Duration::from_secs(15);

/// How long its holder trusts it: shorter, so that two never lead at once.
pub(super) const TRUST: Duration = Duration::from_secs(10);

/// How often it is renewed, or looked at.
pub(super) const EVERY: Duration = Duration::from_secs(3);

/// A step down at a stop is not waited for longer.
pub(super) const STEP_DOWN: Duration = Duration::from_secs(2);

/// One who would lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub lease: String,
    /// This replica: the pod's name.
    pub identity: String,
    /// What the lease ends with, if that is known: something that every release has, and that is gone after the last.
    pub owner: Option<Owner>,
}

/// An object in the lease's namespace that it belongs to: the cluster takes the lease away when none of those is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    kind: &'static str,
    name: String,
    uid: String,
}

impl Owner {
    /// A pod.
    #[must_use]
    pub fn pod(name: &str, uid: &str) -> Self {
        Self { kind: "Pod", name: name.into(), uid: uid.into() }
    }

    /// A service account.
    #[must_use]
    pub fn account(name: &str, uid: &str) -> Self {
        Self { kind: "ServiceAccount", name: name.into(), uid: uid.into() }
    }

    /// As it is written in an object.
    fn reference(&self) -> Value {
        json!({"apiVersion": "v1", "kind": self.kind, "name": self.name, "uid": self.uid})
    }

    /// Among those that an object has; in place of a former one of the same name.
    pub(super) fn enter(&self, metadata: &mut Value) {
        let others = metadata.get("ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_it = |it: &Value| it["kind"] == self.kind && it["name"] == self.name.as_str();
        let kept = others.into_iter().filter(|it| !is_it(it));
        let all: Vec<Value> = kept.chain([self.reference()]).collect();
        if let Some(members) = metadata.as_object_mut() {
            members.insert("ownerReferences".into(), all.into());
        }
    }
}

/// What is read of a lease; the remainder is given back as it was.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Lease {
    pub(super) metadata: Value,
    pub(super) spec: Term,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Term {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_transitions: Option<u64>,
}

/// What others were seen to write, and when that was first seen.
#[derive(Debug, Default)]
struct Seen(Option<(Term, Instant)>);

impl Seen {
    /// Whether the lease may be written by `me`. Pure: the clock is handed in.
    fn is_free(&mut self, term: &Term, me: &str, now: Instant) -> bool {
        let holder = term.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == me {
            self.0 = None;
            return true;
        }
        let lasts = term.lease_duration_seconds.map_or(TERM, Duration::from_secs);
        match &self.0 {
            Some((seen, since)) if seen == term => now.duration_since(*since) >= lasts,
            _ => {
                self.0 = Some((term.clone(), now));
                false
            }
        }
    }
}

impl Candidate {
    /// Stands for election until stopped; says whether it leads. Steps down at a stop.
    pub async fn stand(self, client: Client, leading: watch::Sender<bool>, stop: Stop) {
        let mut seen = Seen::default();
        let mut trusted = clock::now();
        loop {
            let began = clock::now();
            // While leading, an answer is not waited for longer than the lease is trusted.
            let until = if *leading.borrow() { trusted } else { began + TRUST };
            let attempt = Box::pin(tokio::time::timeout_at(until, self.attempt(&client, &mut seen)));
            // Nothing is lost by dropping the attempt: what was written is seen the next time.
            let held = tokio::select! {
                () = stop.stopped() => break,
                held = attempt => held.unwrap_or(Err(ApiError::Silent { limit: TRUST })),
            };
            match held {
                Ok(true) => trusted = began + TRUST,
                Ok(false) => trusted = began,
                Err(error) => debug!(target: "lease", lease = self.lease, error = %error, "not renewed"),
            }
            self.tell(&leading, clock::now() < trusted);
            let wake = (clock::now() + EVERY).min(if *leading.borrow() { trusted } else { began + TERM });
            tokio::select! {
                () = stop.stopped() => break,
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        if leading.send_replace(false) {
            let left = tokio::time::timeout(STEP_DOWN, Box::pin(self.step_down(&client))).await;
            if !matches!(left, Ok(Ok(()))) {
                warn!(target: "lease", lease = self.lease, "not given back; others wait until it lapses");
            }
        }
    }

    fn tell(&self, leading: &watch::Sender<bool>, now: bool) {
        let changed = leading.send_if_modified(|before| std::mem::replace(before, now) != now);
        if changed {
            info!(target: "lease", lease = self.lease, identity = self.identity, leads = now, "leadership");
        }
    }

    /// Takes or renews the lease if that is possible.
    async fn attempt(&self, client: &Client, seen: &mut Seen) -> Result<bool, ApiError> {
        let time = stamp(clock::now_system());
        let lease: Lease = match client.get(&self.path()).await {
            Ok(lease) => lease,
            Err(ApiError::NotFound { name: Some(_) }) => return self.create(client, &time).await,
            Err(error) => return Err(error),
        };
        if !seen.is_free(&lease.spec, &self.identity, clock::now()) {
            return Ok(false);
        }
        let mut spec = lease.spec.clone();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(time.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default() + 1);
        }
        spec.lease_duration_seconds = Some(TERM.as_secs());
        spec.renew_time = Some(time);
        let mut metadata = lease.metadata;
        if let Some(owner) = &self.owner {
            owner.enter(&mut metadata);
        }
        self.replace(client, Lease { metadata, spec }).await
    }

    async fn create(&self, client: &Client, time: &str) -> Result<bool, ApiError> {
        let spec = Term {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(TERM.as_secs()),
            acquire_time: Some(time.into()),
            renew_time: Some(time.into()),
            lease_transitions: Some(0),
        };
        let mut metadata = json!({"name": self.lease, "namespace": self.namespace});
        if let Some(owner) = &self.owner {
            owner.enter(&mut metadata);
        }
        let lease = Lease { metadata, spec };
        self.write(client, Method::POST, &self.collection(), &lease).await
    }

    /// The version that was read goes along: whoever wrote meanwhile wins.
    async fn replace(&self, client: &Client, lease: Lease) -> Result<bool, ApiError> {
        self.write(client, Method::PUT, &self.path(), &lease).await
    }

    async fn write(&self, client: &Client, how: Method, to: &str, lease: &Lease) -> Result<bool, ApiError> {
        match send(client, how, to, lease).await {
            Ok(()) => Ok(true),
            Err(ApiError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn step_down(&self, client: &Client) -> Result<(), ApiError> {
        let mut lease: Lease = client.get(&self.path()).await?;
        if lease.spec.holder_identity.as_deref() == Some(&self.identity) {
            lease.spec.holder_identity = Some(String::new());
            self.replace(client, lease).await?;
        }
        Ok(())
    }

    fn collection(&self) -> String {
        collection(&self.namespace)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.lease)
    }
}

/// The leases of a namespace.
pub(super) fn collection(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

/// Makes a lease, or puts it in the place of what it was.
pub(super) async fn send(client: &Client, how: Method, to: &str, lease: &Lease) -> Result<(), ApiError> {
    let body = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": lease.metadata, "spec": lease.spec,
    });
    client.submit::<Value>(how, to, "application/json", body.to_string().into_bytes()).await.map(drop)
}

/// Microseconds, as the API demands of leases.
pub(super) fn stamp(now: SystemTime) -> String {
    jiff::Timestamp::try_from(now).map(|time| format!("{time:.6}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
