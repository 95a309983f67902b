//! Which replicas share what is written, and which part of it is this one's. Each replica keeps a Lease of its own and
//! looks at those of the others; an object is of the one that scores highest for it (rendezvous hashing), so that a
//! replica that comes or goes moves only what it gains or had. Two may see different members for a moment and write the
//! same then, which changes nothing. Only replicas of the leader's group write: a revision beside it does not.
//! Owns membership; what is written is its caller's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::clock::{self, Instant};
use ambit_process::stop::Stop;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};
use twox_hash::XxHash64;

use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::api::lease::{self, EVERY, Lease, Owner, STEP_DOWN, TERM, TRUST, Term, stamp};
use crate::object::ObjectRef;

/// The label of members' leases; its value is their group.
const GROUP: &str = "ambit/writers";

/// One replica.
#[derive(Debug, Clone)]
pub struct Member {
    /// The leases' namespace.
    pub namespace: String,
    /// The lease of the one leader, whose group writes.
    pub leader: String,
    /// What members' leases are called, before their identity.
    pub prefix: String,
    /// This replica: the pod's name.
    pub identity: String,
    /// Those that write together: a revision.
    pub group: String,
    /// What the lease ends with, if that is known: the pod.
    pub owner: Option<Owner>,
}

/// A replica's part of all objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    me: Arc<str>,
    members: Arc<[String]>,
}

impl Share {
    /// The part of `me` among these; none if it is not among them.
    #[must_use]
    pub fn new(me: &str, members: impl IntoIterator<Item = String>) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort();
        members.dedup();
        let is_in = members.iter().any(|it| it == me);
        Self { me: me.into(), members: if is_in { members.into() } else { Arc::default() } }
    }

    /// How many share; none: this replica has no part.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Whether it is this replica that writes onto an object.
    #[must_use]
    pub fn holds(&self, object: &ObjectRef) -> bool {
        let best = self.members.iter().max_by_key(|member| (score(member, object), member.as_str()));
        best.is_some_and(|best| **best == *self.me)
    }
}

/// The same in every replica, of this version and of the next.
fn score(member: &str, object: &ObjectRef) -> u64 {
    XxHash64::oneshot(0, format!("{member} {object}").as_bytes())
}

/// What was seen of the others: their group, when they were renewed by their clock, and when that was first seen by ours.
#[derive(Debug, Default)]
struct Roll {
    seen: BTreeMap<String, (String, String, Instant)>,
    /// The last one that was named. While its lease is nobody's, its group goes on.
    leader: String,
}

impl Roll {
    /// Takes in what all leases say now. Pure: the clock is handed in.
    fn look(&mut self, leases: Vec<Lease>, leader: &str, now: Instant) {
        let mut seen = BTreeMap::new();
        for Lease { metadata, spec } in leases {
            let (holder, renewed) =
                (spec.holder_identity.unwrap_or_default(), spec.renew_time.unwrap_or_default());
            let name = metadata.get("name").and_then(Value::as_str);
            let group = metadata.get("labels").and_then(|all| all.get(GROUP)).and_then(Value::as_str);
            if name == Some(leader) && !holder.is_empty() {
                self.leader = holder;
            } else if let Some(group) = group {
                let since = match self.seen.get(&holder) {
                    Some((_, before, since)) if *before == renewed => *since,
                    _ => now,
                };
                seen.insert(holder, (group.to_owned(), renewed, since));
            }
        }
        self.seen = seen;
    }

    /// The part of `me`, whose own lease is trusted until then.
    fn share(&self, me: &str, trusted: Instant, now: Instant) -> Share {
        let Some((group, ..)) = self.seen.get(&self.leader).filter(|_| now < trusted) else {
            return Share::default();
        };
        let lives =
            |(each, _, since): &(String, String, Instant)| each == group && now.duration_since(*since) < TERM;
        Share::new(me, self.seen.iter().filter(|(_, it)| lives(it)).map(|(name, _)| name.clone()))
    }
}

impl Member {
    /// Keeps its lease and says which part is its own, until stopped; then it gives up its lease.
    pub async fn attend(self, client: Client, share: watch::Sender<Share>, stop: Stop) {
        let mut roll = Roll::default();
        let mut trusted = clock::now();
        loop {
            let began = clock::now();
            let attempt = Box::pin(tokio::time::timeout(TRUST, self.round(&client)));
            // Nothing is lost by dropping the attempt: what was written is seen the next time.
            let seen = tokio::select! {
                () = stop.stopped() => break,
                seen = attempt => seen.unwrap_or(Err(ApiError::Silent { limit: TRUST })),
            };
            match seen {
                Ok(leases) => {
                    trusted = began + TRUST;
                    roll.look(leases, &self.leader, clock::now());
                }
                Err(error) => debug!(target: "lease", lease = self.lease(), error = %error, "not renewed"),
            }
            self.tell(&share, &roll.share(&self.identity, trusted, clock::now()));
            tokio::select! {
                () = stop.stopped() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        share.send_replace(Share::default());
        let left = tokio::time::timeout(STEP_DOWN, Box::pin(client.remove(&self.path(), &[]))).await;
        if !matches!(left, Ok(Ok(()) | Err(ApiError::NotFound { .. }))) {
            warn!(target: "lease", lease = self.lease(), "not given back; others wait until it lapses");
        }
    }

    fn tell(&self, share: &watch::Sender<Share>, now: &Share) {
        let members = now.members();
        if share.send_if_modified(|before| std::mem::replace(before, now.clone()) != *now) {
            info!(target: "lease", identity = self.identity, members, "writers");
        }
    }

    /// Renews its own lease and reads all.
    async fn round(&self, client: &Client) -> Result<Vec<Lease>, ApiError> {
        let fields = json!({"spec": {"renewTime": stamp(clock::now_system())}});
        match client.merge(&self.path(), &fields).await {
            Ok(_) => {}
            Err(ApiError::NotFound { name: Some(_) }) => self.create(client).await?,
            Err(error) => return Err(error),
        }
        let all = client.list(&lease::collection(&self.namespace), &[]).await?;
        // One that does not read is nobody's.
        Ok(all.into_iter().filter_map(|lease| serde_json::from_value(lease).ok()).collect())
    }

    async fn create(&self, client: &Client) -> Result<(), ApiError> {
        let time = Some(stamp(clock::now_system()));
        let mut metadata =
            json!({"name": self.lease(), "namespace": self.namespace, "labels": {GROUP: self.group}});
        if let Some(owner) = &self.owner {
            owner.enter(&mut metadata);
        }
        let spec = Term {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(TERM.as_secs()),
            acquire_time: time.clone(),
            renew_time: time,
            lease_transitions: None,
        };
        lease::send(client, Method::POST, &lease::collection(&self.namespace), &Lease { metadata, spec })
            .await
    }

    fn lease(&self) -> String {
        format!("{}{}", self.prefix, self.identity)
    }

    fn path(&self) -> String {
        format!("{}/{}", lease::collection(&self.namespace), self.lease())
    }
}

/// A part is another's at the latest so long after its replica has ended without a word.
pub const TAKEN_OVER: Duration = Duration::from_secs(TERM.as_secs() + 2 * EVERY.as_secs());

#[cfg(test)]
mod tests;
