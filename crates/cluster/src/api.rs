//! Objects from the Kubernetes API: the same events as from a directory of manifests.
//! Owns the merging of what the followers of the kinds tell; beside it, what is asked of the API server otherwise:
//! who leads (`lease`), who writes what (`member`), whose token this is (`review`), what is written (`write`, `hook`,
//! `anchor`, `event`), what is kept (`secret`), what is made
//! for other objects (`made`), what people's commands ask (`ask`). Each kind is followed by a task of its
//! own (`follow`), which decides by a pure state what to ask (`course`) and what changed (`mirror`); objects that others
//! refer to are read one by one (`seek`).

mod anchor;
mod ask;
mod client;
mod course;
mod error;
mod event;
mod fleet;
mod follow;
mod hook;
mod lease;
mod made;
mod member;
mod mirror;
mod reach;
pub(crate) mod resource;
mod review;
mod secret;
mod seek;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use tokio::sync::{mpsc, watch as cell};

use crate::api::follow::{Batch, Follow};
use crate::api::mirror::Change;
use crate::api::seek::Seek;
use crate::fault::Fault;
use crate::files::{Event, Keep};
use crate::object::{Kind, ObjectRef};

pub use anchor::Kept;
pub use client::{Client, Limits, OpenError};
pub use error::ApiError;
pub use event::{Warning, stamp};
pub use fleet::Fleet;
pub use lease::{Candidate, Owner};
pub use made::Made;
pub use member::{Member, Share, TAKEN_OVER};
pub use reach::{PodPort, PortAnswer, ReachError};
pub use resource::Wanted;
pub use review::{ReviewError, Reviewed};
pub use secret::Secret;
pub use write::{Desk, Duty, Full, Hand, Orders, Spot};

/// Batches that wait to be taken; a follower that has more to tell stops reading from the server.
const BATCHES: usize = 16;

/// Follows kinds of objects until dropped. Call within a tokio runtime. Every kind of `wanted` once.
#[must_use]
pub fn watch(client: &Client, wanted: &[Wanted], keep: Keep) -> Watch {
    let mut tasks = Tasks::new(&Stop::new());
    let (told, news) = mpsc::channel(BATCHES);
    for wanted in wanted {
        let follow = Follow::new(client.clone(), wanted.clone(), keep, told.clone());
        tasks.spawn("follow", |_| follow.run());
    }
    let (sought, wanted_now) = cell::channel(BTreeSet::new());
    let seek = Seek::new(client.clone(), wanted_now, told);
    tasks.spawn("seek", |_| seek.run());
    Watch {
        _followers: tasks,
        news,
        sought,
        answered: BTreeSet::new(),
        unlisted: wanted.iter().map(|wanted| wanted.kind).collect(),
        ready: VecDeque::new(),
        objects: BTreeMap::new(),
        troubles: BTreeMap::new(),
    }
}

/// Kinds that are followed: ask it for what happens next.
pub struct Watch {
    _followers: Tasks,
    news: mpsc::Receiver<Batch>,
    /// Objects that are read by their names.
    sought: cell::Sender<BTreeSet<ObjectRef>>,
    /// Of which it is known what they are.
    answered: BTreeSet<ObjectRef>,
    /// Kinds of which not everything has been told yet.
    unlisted: BTreeSet<Kind>,
    /// Bounded by one batch.
    ready: VecDeque<Event>,
    objects: BTreeMap<ObjectRef, Fault>,
    troubles: BTreeMap<Kind, Fault>,
}

impl Watch {
    /// The next event. Cancel-safe: nothing is taken before the last wait.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready() {
                return event;
            }
            match self.news.recv().await {
                Some(batch) => self.digest(batch),
                // No follower is left, which none does by itself: what is known stays as it is.
                None => std::future::pending().await,
            }
        }
    }

    /// The next event if there is one without waiting: for those who batch.
    pub fn ready(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let batch = self.news.try_recv().ok()?;
            self.digest(batch);
        }
    }

    /// Reads these objects, too, each by its name, and no others any more.
    pub fn seek(&mut self, objects: BTreeSet<ObjectRef>) {
        self.answered.retain(|it| objects.contains(it));
        self.objects.retain(|it, _| objects.contains(it) || !self.sought.borrow().contains(it));
        self.sought.send_if_modified(|before| {
            let differs = *before != objects;
            *before = objects;
            differs
        });
    }

    /// Whether it is known of all of those what they are, or that they are not there.
    #[must_use]
    pub fn found(&self) -> bool {
        self.sought.borrow().iter().all(|it| self.answered.contains(it))
    }

    /// All that is wrong now: with objects, and with what the API server lets us read.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        for fault in self.troubles.values() {
            // What is wrong with the server is wrong for each kind.
            if !faults.contains(fault) {
                faults.push(fault.clone());
            }
        }
        faults.extend(self.objects.values().cloned());
        faults
    }

    fn digest(&mut self, batch: Batch) {
        for change in batch.changes {
            match change {
                Change::Applied(object) => self.ready.push_back(Event::Applied(object)),
                Change::Gone(reference) => self.ready.push_back(Event::Gone(reference)),
                Change::Good(reference) => drop(self.objects.remove(&reference)),
                Change::Bad(reference, fault) => {
                    if self.objects.insert(reference, fault.clone()).as_ref() != Some(&fault) {
                        self.ready.push_back(Event::Fault(fault));
                    }
                }
            }
        }
        if let Some(object) = batch.answered.filter(|it| self.sought.borrow().contains(it)) {
            self.answered.insert(object);
        }
        match batch.trouble {
            Some(Some(fault)) => {
                let known = self.troubles.values().any(|it| *it == fault);
                self.troubles.insert(batch.kind, fault.clone());
                if !known {
                    self.ready.push_back(Event::Fault(fault));
                }
            }
            Some(None) => drop(self.troubles.remove(&batch.kind)),
            None => {}
        }
        if batch.listed && self.unlisted.remove(&batch.kind) && self.unlisted.is_empty() {
            self.ready.push_back(Event::Complete);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
