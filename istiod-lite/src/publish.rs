//! From a change in the directory to a new library for all subscribers.
//! Owns the one loop that writes: it alone holds the cluster, so it also answers who runs where.
//! A single change goes out at once; what is there at the same moment goes out together, and so does what follows
//! faster than so many subscribers can be told (`pace`).

mod pace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_cluster::files::Event;
use ambit_cluster::kinds::core::Pod;
use ambit_cluster::writer::WriteError;
use ambit_cluster::{Fault, Kind, ObjectRef, Source, Writer};
use ambit_process::clock;
use ambit_process::ready::Gate;
use ambit_process::stop::Stop;
use ambit_wire::convert::ResourceType;
use ambit_xds::library::{Library, Moment};
use ambit_xds::server::Streams;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::ca::Ask;
use crate::ca::token::Bound;
use crate::catalog::Catalog;
use crate::deploy::overlay::Overlays;
use crate::index::World;
use crate::metrics::{Metrics, Trigger, trigger};
use crate::publish::pace::Pace;
use crate::status::{self, News};
use crate::translate::waypoint::{self, Known};
use crate::vips::{self, Ranges};

/// Questions that wait for a pod to appear; beyond this the oldest is given up.
const WAITING: usize = 1024;

/// While more is to be written than the desk takes, it is looked this often whether there is room.
const DESK_FULL: Duration = Duration::from_millis(500);

/// The first library waits for objects that others refer to, so long at the most: what is said without them closes what
/// was open before this program began anew.
const FOUND_WAIT: Duration = Duration::from_secs(30);
/// It is looked this often whether they are there.
const FOUND_LOOK: Duration = Duration::from_millis(100);

/// What others are told.
#[derive(Debug)]
pub struct Told {
    /// The newest library.
    pub library: watch::Sender<Arc<Library>>,
    /// All that is wrong with the manifests now.
    pub faults: watch::Sender<Arc<Vec<Fault>>>,
    /// Opened with the first complete library.
    pub gate: Gate,
    /// What is known of waypoints.
    pub waypoints: watch::Sender<Waypoints>,
    /// Counters.
    pub metrics: Metrics,
}

/// What is known of waypoints.
pub type Waypoints = Arc<Known>;

/// The loop's state.
pub struct Feed {
    catalog: Catalog,
    library: Arc<Library>,
    /// Since when everything that is followed has been read.
    complete: Option<Instant>,
    served: bool,
    told: Told,
    waiting: Vec<Ask>,
    /// Where conditions are written.
    writer: Writer,
    /// Objects that changed and may have to be told what became of them.
    unreported: BTreeSet<ObjectRef>,
    /// Where addresses of hosts are taken from, when they are given any.
    ranges: Option<Ranges>,
    /// A gateway changed since it was told who runs as a waypoint.
    gateways_changed: bool,
    /// A service entry changed since addresses were given.
    entries_changed: bool,
    /// Something changed that may refer to other objects.
    references_changed: bool,
    /// Objects that do not read now, and since when.
    bad: BTreeMap<ObjectRef, (Fault, SystemTime)>,
    /// What was wrong with the mesh's configuration the last time.
    known: Option<Fault>,
    /// Who is told.
    subscribers: Streams,
    pace: Pace,
    /// When the oldest change was heard of that is not published yet.
    heard: Option<Instant>,
    /// What such changes are of.
    triggers: BTreeSet<Trigger>,
    /// How what is made for gateways is to be, where somebody reads it.
    overlays: Option<watch::Receiver<Arc<Overlays>>>,
}

impl Feed {
    /// A loop that has read nothing yet.
    #[must_use]
    pub fn new(catalog: Catalog, told: Told, writer: Writer, ranges: Option<Ranges>) -> Self {
        Self {
            catalog,
            library: Arc::new(Library::default()),
            complete: None,
            served: false,
            told,
            waiting: Vec::new(),
            writer,
            unreported: BTreeSet::new(),
            ranges,
            gateways_changed: true,
            entries_changed: false,
            references_changed: false,
            bad: BTreeMap::new(),
            known: None,
            subscribers: Streams::default(),
            pace: Pace::default(),
            heard: None,
            triggers: BTreeSet::new(),
            overlays: None,
        }
    }

    /// Heeds how what is made for gateways is to be; nothing is made for one before it is known.
    #[must_use]
    pub fn overlaid(mut self, overlays: watch::Receiver<Arc<Overlays>>) -> Self {
        self.catalog.overlay(Arc::default());
        Self { overlays: Some(overlays), ..self }
    }

    /// Heeds how many there are to be told.
    #[must_use]
    pub fn telling(self, subscribers: Streams) -> Self {
        Self { subscribers, ..self }
    }

    /// Runs until stopped.
    pub async fn run(mut self, mut source: Source, mut asks: mpsc::Receiver<Ask>, stop: Stop) {
        let mut due = None;
        loop {
            // All arms are cancel-safe: an event or a question that is not taken is there the next time.
            tokio::select! {
                () = stop.stopped() => return,
                event = source.next() => {
                    self.heard.get_or_insert_with(clock::now);
                    self.take(event);
                    while let Some(event) = source.ready() {
                        self.take(event);
                    }
                    self.seek(&mut source);
                    // Whoever waits for a pod to be known waits for nobody to be told of it.
                    self.answer();
                    due = Some(self.pace.next(self.subscribers.len(), clock::now()).unwrap_or_else(clock::now));
                }
                () = until(due), if due.is_some() => {}
                () = tokio::time::sleep(DESK_FULL), if self.complete.is_some() && !self.unreported.is_empty() => self.report(),
                () = self.writer.promoted() => {
                    self.say_again();
                    self.report();
                }
                Some(ask) = asks.recv() => {
                    self.waiting.push(ask);
                    self.answer();
                }
                Some(overlays) = newest(self.overlays.as_mut()) => {
                    self.overlay(overlays);
                    due.get_or_insert_with(clock::now);
                }
            }
            if due.is_some_and(|due| due <= clock::now()) {
                if self.waits(&source) {
                    due = Some(clock::now() + FOUND_LOOK);
                    continue;
                }
                due = None;
                self.publish();
                self.tell_faults(source.faults());
                self.report();
            }
        }
    }

    fn take(&mut self, event: Event) {
        self.told.metrics.times().came(&event);
        let changed = match &event {
            Event::Fault(fault) => {
                warn!(target: "manifests", fault = %fault, "refused");
                None
            }
            Event::Complete => {
                self.complete = Some(clock::now());
                self.references_changed = true;
                None
            }
            Event::Applied(object) => Some(object.reference.clone()),
            Event::Gone(object) => Some(object.clone()),
        };
        // Of others something else is to be said by what the object was about, and by what it is about now.
        changed.iter().for_each(|object| self.note(object));
        self.catalog.take(event);
        let more = changed.iter().flat_map(|object| status::affected(self.catalog.world(), object));
        self.unreported.extend(more);
    }

    /// What others refer to is read as well, object by object.
    fn seek(&mut self, source: &mut Source) {
        if self.complete.is_some() && std::mem::take(&mut self.references_changed) {
            source.seek(self.catalog.world().referred());
        }
    }

    /// Whether the first library waits for what others refer to.
    fn waits(&self, source: &Source) -> bool {
        let is_early = self.complete.is_some_and(|since| since.elapsed() < FOUND_WAIT);
        !self.served && is_early && !source.found()
    }

    fn publish(&mut self) {
        if self.complete.is_none() {
            return;
        }
        let begun = clock::now();
        let (heard, triggers) = (self.heard.take().unwrap_or(begun), std::mem::take(&mut self.triggers));
        let delta = self.catalog.settle();
        self.tell_waypoints();
        let next = self.library.with(&delta);
        let first = !std::mem::replace(&mut self.served, true);
        if next.generation() == self.library.generation() && !first {
            return;
        }
        let resources = ResourceType::ALL.into_iter().map(|kind| next.len(kind)).sum();
        let ready = clock::now();
        self.library = Arc::new(next.timed(Moment { heard: heard.into_std(), ready: ready.into_std() }));
        self.told.library.send_replace(Arc::clone(&self.library));
        self.pace.pushed(clock::now());
        self.told.gate.set(true);
        self.told.metrics.published(delta.changes.len(), resources);
        self.told.metrics.times().published(begun - heard, ready - begun, triggers);
        let generation = self.library.generation();
        if first {
            info!(target: "publish", generation, resources, "first library");
        } else {
            debug!(target: "publish", generation, changes = delta.changes.len(), "published");
        }
    }

    /// Waypoints may read the mesh: it is told who runs as one before they can have heard of it.
    fn tell_waypoints(&mut self) {
        if std::mem::take(&mut self.gateways_changed) {
            let now = waypoint::known(self.catalog.world());
            self.told.waypoints.send_if_modified(|known| {
                let differs = **known != now;
                *known = Arc::new(now);
                differs
            });
        }
    }

    /// What is made for gateways follows from it, and what their authors read.
    fn overlay(&mut self, overlays: Arc<Overlays>) {
        self.catalog.overlay(overlays);
        self.gateways_changed = true;
        let all = status::all(self.catalog.world());
        self.unreported.extend(all.into_iter().filter(|it| it.kind == Kind::Gateway));
    }

    fn note(&mut self, object: &ObjectRef) {
        self.triggers.insert(trigger(object));
        self.gateways_changed |= self.bears_on_gateways(object);
        self.references_changed |= refers(object.kind);
        self.entries_changed |= matches!(object.kind, Kind::ServiceEntry | Kind::Namespace | Kind::ConfigMap);
        self.unreported.extend(status::affected(self.catalog.world(), object));
    }

    /// Whether what is known of waypoints may be something else now. Which objects are looked at, and which gateways are
    /// this control plane's, is for the mesh's configuration to say, and for the tags of revisions.
    fn bears_on_gateways(&self, object: &ObjectRef) -> bool {
        match object.kind {
            Kind::Gateway | Kind::GatewayClass | Kind::Namespace | Kind::ConfigMap => true,
            Kind::Service => *object.namespace == *self.catalog.world().mesh.system_namespace,
            _ => false,
        }
    }

    /// This replica begins to write: what the one before did not get to is for it to say.
    fn say_again(&mut self) {
        self.entries_changed = true;
        self.unreported.extend(status::all(self.catalog.world()));
        self.unreported.extend(self.bad.keys().cloned());
    }

    /// After publishing: a policy is in force before its author reads so. Addresses for hosts that have none are
    /// written as well; they come back as any other change does, so what is published is always what is written.
    fn report(&mut self) {
        if self.complete.is_none() {
            return;
        }
        let mut given = BTreeMap::new();
        if let Some(ranges) = self.ranges.filter(|_| std::mem::take(&mut self.entries_changed)) {
            given.extend(vips::plan(self.catalog.world(), ranges));
        }
        self.unreported.extend(given.keys().cloned());
        let mut objects = std::mem::take(&mut self.unreported).into_iter();
        while let Some(object) = objects.next() {
            let (world, now) = (self.catalog.world(), clock::now_system());
            let news = News { given: given.get(&object), fault: self.bad.get(&object) };
            match status::report(world, &object, news, &self.writer, now) {
                Ok(()) => {}
                // The desk is full: the others wait here. Of a mesh that is new here, everything is to be written.
                Err(error @ WriteError::Api(_)) => {
                    debug!(target: "status", waiting = objects.len(), error = %error, "told later");
                    self.entries_changed |= !given.is_empty();
                    self.unreported.insert(object);
                    self.unreported.extend(objects);
                    return;
                }
                // What is not written is tried again with the next change of an entry, or of the object.
                Err(error) => {
                    warn!(target: "status", object = %object, error = %error, "status not written");
                }
            }
        }
    }

    /// Those who wrote what does not read are told on the object, and once more when it reads.
    fn note_bad(&mut self, faults: &[Fault]) {
        let now = clock::now_system();
        let mut next = BTreeMap::new();
        for fault in faults {
            let Some(object) = fault.object.as_ref().filter(|it| it.kind.group().ends_with("istio.io"))
            else {
                continue;
            };
            let since = self.bad.get(object).map_or(now, |(_, since)| *since);
            next.insert(object.clone(), (fault.clone(), since));
        }
        let other = |object: &&ObjectRef| {
            self.bad.get(*object).map(|(fault, _)| fault) != next.get(*object).map(|(fault, _)| fault)
        };
        let changed: Vec<_> = self.bad.keys().chain(next.keys()).filter(other).cloned().collect();
        self.unreported.extend(changed);
        self.bad = next;
    }

    fn tell_faults(&mut self, mut faults: Vec<Fault>) {
        self.note_bad(&faults);
        let own = self.catalog.world().fault();
        if let Some(fault) = own.as_ref().filter(|_| own != self.known) {
            warn!(target: "manifests", fault = %fault, "not taken");
        }
        self.known.clone_from(&own);
        faults.extend(own);
        self.told.metrics.faults(faults.len());
        self.told.faults.send_if_modified(|known| {
            let differs = **known != faults;
            *known = Arc::new(faults);
            differs
        });
    }

    /// Says yes to those whose pod is there, and forgets those who no longer ask.
    fn answer(&mut self) {
        let world = self.catalog.world();
        let mut waiting = Vec::new();
        for ask in self.waiting.drain(..).filter(|ask| !ask.yes.is_closed()) {
            let is_there = runs_beside(world, &ask);
            if is_there {
                // An asker that left in this moment needs no answer.
                let _ = ask.yes.send(());
            } else {
                waiting.push(ask);
            }
        }
        let surplus = waiting.len().saturating_sub(WAITING);
        waiting.drain(..surplus);
        self.waiting = waiting;
    }
}

/// Whether objects of a kind have a say in which others are referred to.
fn refers(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::BackendTlsPolicy
            | Kind::DestinationRule
            | Kind::Gateway
            | Kind::GatewayClass
            | Kind::Namespace
            | Kind::Service
            | Kind::ServiceEntry
    )
}

/// Cancel-safe: what was not taken is there the next time. Whoever reads ends with the program only.
async fn newest(overlays: Option<&mut watch::Receiver<Arc<Overlays>>>) -> Option<Arc<Overlays>> {
    if let Some(overlays) = overlays
        && overlays.changed().await.is_ok()
    {
        return Some(Arc::clone(&overlays.borrow_and_update()));
    }
    std::future::pending().await
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Whether a pod of the account runs on the caller's node (`control-plane.md` 6.4).
fn runs_beside(world: &World, ask: &Ask) -> bool {
    let Ask { caller, who, .. } = ask;
    let node = match &caller.bound {
        Bound::Node(node) => Some(node.as_str()),
        Bound::Pod { name, uid } => world
            .space(caller.identity.namespace.as_str())
            .and_then(|space| space.pods.get(name.as_str()))
            .filter(|pod| pod.metadata.uid == *uid)
            .filter(|pod| pod.service_account() == caller.identity.service_account.as_str())
            .map(|pod| pod.spec.node_name.as_str()),
        Bound::Nowhere => None,
    };
    let account = (who.namespace.as_str(), who.service_account.as_str());
    let is_it = |pod: &Pod| (pod.metadata.namespace.as_str(), pod.service_account()) == account;
    node.filter(|node| !node.is_empty()).is_some_and(|node| world.running_on(node).any(is_it))
}

#[cfg(test)]
mod tests;
