//! What is known of live streams: who subscribes, what was sent, what was answered. For people: nothing is decided
//! on it, so a lock held for a copy is enough.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ambit_process::clock;
use ambit_wire::convert::ResourceType;
use ambit_wire::limits;

use super::{Caller, now};
use crate::publisher::{Answers, Nack, Publisher, metadata};

/// A version is a short text; what is longer is cut, and what is not said is "unknown".
const VERSION: usize = 64;

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// Tells streams apart.
    pub stream: u64,
    /// Who called.
    pub caller: Caller,
    /// The node's id, once it was said.
    pub node: Option<String>,
    /// The version that the node says it is of.
    pub version: Option<String>,
    /// The cluster that the node says it is of.
    pub cluster: Option<String>,
    /// By type, once asked for.
    pub types: BTreeMap<ResourceType, TypeView>,
    since: Instant,
}

impl StreamView {
    /// How long it has been open.
    #[must_use]
    pub fn age(&self) -> Duration {
        now().saturating_duration_since(self.since)
    }

    /// True when everything sent was answered.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.types.values().all(|each| each.unanswered == 0)
    }
}

/// One type on one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeView {
    /// The generation sent last.
    pub sent: Option<u64>,
    /// The generation answered last.
    pub answered: Option<u64>,
    /// Responses without an answer.
    pub unanswered: usize,
    /// Acknowledged responses.
    pub acks: u64,
    /// Refused responses.
    pub nacks: u64,
    /// Answers that came too late to count.
    pub stale: u64,
    /// The latest refusal.
    pub refused: Option<Nack>,
    /// When something was answered last.
    pub at: Option<SystemTime>,
}

impl From<&Answers> for TypeView {
    fn from(answers: &Answers) -> Self {
        Self {
            sent: answers.sent,
            answered: answers.answered,
            unanswered: answers.unanswered(),
            acks: answers.acks,
            nacks: answers.nacks,
            stale: answers.stale,
            refused: answers.refused.clone(),
            at: None,
        }
    }
}

/// What was sent of one type since the start, on streams that are open and on those that are not any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Responses.
    pub pushed: u64,
    /// Refused responses.
    pub nacks: u64,
    /// Answers that came too late to count.
    pub stale: u64,
}

impl Totals {
    fn add(&mut self, view: &TypeView) {
        self.pushed += view.acks + view.nacks + u64::try_from(view.unanswered).unwrap_or(u64::MAX);
        self.nacks += view.nacks;
        self.stale += view.stale;
    }
}

/// A stream writes its own view at each message; looking for it among all others would cost as much again.
type Seen = Arc<Mutex<StreamView>>;

#[derive(Debug, Default)]
struct Table {
    live: BTreeMap<u64, Seen>,
    ended: BTreeMap<ResourceType, Totals>,
}

/// All live streams.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Mutex<Table>>);

impl Streams {
    /// A copy of what is known, oldest stream first.
    #[must_use]
    pub fn view(&self) -> Vec<StreamView> {
        self.seen().iter().map(|each| locked(each).clone()).collect()
    }

    /// What was sent since the start, by type.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<ResourceType, Totals> {
        // Held meanwhile: a stream that ends now is counted among the one or the other.
        let table = self.table();
        let mut totals = table.ended.clone();
        for stream in table.live.values() {
            for (kind, view) in &locked(stream).types {
                totals.entry(*kind).or_default().add(view);
            }
        }
        totals
    }

    /// How many there are of each version; those who have not said anything yet are of none.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<String, usize> {
        let mut versions = BTreeMap::new();
        for version in self.seen().iter().filter_map(|stream| locked(stream).version.clone()) {
            *versions.entry(version).or_default() += 1;
        }
        versions
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().live.len()
    }

    /// True when nobody subscribes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table().live.is_empty()
    }

    pub(super) fn register(&self, stream: u64, caller: Caller) -> Registration {
        let view = StreamView {
            stream,
            caller,
            node: None,
            version: None,
            cluster: None,
            types: BTreeMap::new(),
            since: now(),
        };
        let view = Seen::new(Mutex::new(view));
        self.table().live.insert(stream, Arc::clone(&view));
        Registration { stream, view, streams: self.clone() }
    }

    fn seen(&self) -> Vec<Seen> {
        self.table().live.values().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.0)
    }
}

/// What a panicking thread left behind is still what was seen.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream's place in the table; given up when dropped.
pub(super) struct Registration {
    stream: u64,
    view: Seen,
    streams: Streams,
}

impl Registration {
    pub(super) fn update(&self, publisher: &Publisher) {
        let mut view = locked(&self.view);
        if view.node.is_none() {
            view.node = publisher.node().map(|node| node.id.clone());
            let version = publisher.node().map(|node| metadata(node, "ISTIO_VERSION").unwrap_or("unknown"));
            let cluster = publisher.node().and_then(|node| metadata(node, "CLUSTER_ID"));
            view.cluster = cluster.map(|text| limits::shortened(text, VERSION).into());
            view.version = version.map(|text| limits::shortened(text, VERSION).into());
        }
        for kind in ResourceType::ALL {
            if let Some(answers) = publisher.answers(kind) {
                let mut next = TypeView::from(answers);
                let before = view.types.get(&kind);
                let same = before.filter(|it| (it.acks, it.nacks) == (next.acks, next.nacks));
                next.at = same.map_or_else(|| Some(clock::now_system()), |it| it.at);
                view.types.insert(kind, next);
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.streams.table();
        table.live.remove(&self.stream);
        for (kind, view) in &locked(&self.view).types {
            table.ended.entry(*kind).or_default().add(view);
        }
    }
}
