//! From a change in the directory to a new library for all subscribers.
//! Owns the one loop that writes: it alone holds the cluster, so it also answers who runs where.
//! A single change goes out at once; what is there at the same moment goes out together.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::files::{Event, Watch};
use ambit_cluster::overlay::Overlay;
use ambit_cluster::{Fault, Kind, ObjectRef};
use ambit_process::clock;
use ambit_process::ready::Gate;
use ambit_process::stop::Stop;
use ambit_wire::convert::ResourceType;
use ambit_xds::library::Library;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::ca::Ask;
use crate::catalog::Catalog;
use crate::metrics::Metrics;
use crate::status;
use crate::vips::{self, Ranges};

/// Questions that wait for a pod to appear; beyond this the oldest is given up.
const WAITING: usize = 1024;

/// What others are told.
#[derive(Debug)]
pub struct Told {
    /// The newest library.
    pub library: watch::Sender<Arc<Library>>,
    /// All that is wrong with the manifests now.
    pub faults: watch::Sender<Arc<Vec<Fault>>>,
    /// Opened with the first complete library.
    pub gate: Gate,
    /// Counters.
    pub metrics: Metrics,
}

/// The loop's state.
pub struct Feed {
    catalog: Catalog,
    library: Arc<Library>,
    complete: bool,
    served: bool,
    told: Told,
    waiting: Vec<Ask>,
    /// Where conditions are written.
    overlay: Overlay,
    /// Policies that changed and may have to be told what became of them.
    unreported: BTreeSet<ObjectRef>,
    /// Where addresses of hosts are taken from, when they are given any.
    ranges: Option<Ranges>,
    /// A service entry changed since addresses were given.
    entries_changed: bool,
}

impl Feed {
    /// A loop that has read nothing yet.
    #[must_use]
    pub fn new(catalog: Catalog, told: Told, overlay: Overlay, ranges: Option<Ranges>) -> Self {
        Self {
            catalog,
            library: Arc::new(Library::default()),
            complete: false,
            served: false,
            told,
            waiting: Vec::new(),
            overlay,
            unreported: BTreeSet::new(),
            ranges,
            entries_changed: false,
        }
    }

    /// Runs until stopped.
    pub async fn run(mut self, mut source: Watch, mut asks: mpsc::Receiver<Ask>, stop: Stop) {
        loop {
            // All arms are cancel-safe: an event or a question that is not taken is there the next time.
            tokio::select! {
                () = stop.stopped() => return,
                event = source.next() => {
                    self.take(event);
                    while let Some(event) = source.ready() {
                        self.take(event);
                    }
                    self.publish();
                    self.tell_faults(source.faults());
                    self.answer();
                    self.give_addresses();
                    self.report();
                }
                Some(ask) = asks.recv() => {
                    self.waiting.push(ask);
                    self.answer();
                }
            }
        }
    }

    fn take(&mut self, event: Event) {
        match &event {
            Event::Fault(fault) => warn!(target: "manifests", fault = %fault, "refused"),
            Event::Complete => self.complete = true,
            Event::Applied(object) => self.note(&object.reference),
            Event::Gone(object) => self.note(object),
        }
        self.catalog.take(event);
    }

    fn publish(&mut self) {
        if !self.complete {
            return;
        }
        let delta = self.catalog.settle();
        let next = self.library.with(&delta);
        let first = !std::mem::replace(&mut self.served, true);
        if next.generation() == self.library.generation() && !first {
            return;
        }
        let resources = next.len(ResourceType::Address) + next.len(ResourceType::Authorization);
        self.library = Arc::new(next);
        self.told.library.send_replace(Arc::clone(&self.library));
        self.told.gate.set(true);
        self.told.metrics.published(delta.changes.len(), resources);
        let generation = self.library.generation();
        if first {
            info!(target: "publish", generation, resources, "first library");
        } else {
            debug!(target: "publish", generation, changes = delta.changes.len(), "published");
        }
    }

    fn note(&mut self, object: &ObjectRef) {
        self.entries_changed |= matches!(object.kind, Kind::ServiceEntry | Kind::Namespace | Kind::ConfigMap);
        if object.kind == Kind::AuthorizationPolicy {
            self.unreported.insert(object.clone());
        }
    }

    /// After publishing: a policy is in force before its author reads so.
    fn report(&mut self) {
        for object in std::mem::take(&mut self.unreported) {
            let written = status::report(self.catalog.world(), &object, &self.overlay, clock::now_system());
            if let Err(error) = written {
                warn!(target: "status", object = %object, error = %error, "condition not written");
            }
        }
    }

    /// Writes down addresses for hosts that have none. They come back as any other change does, so what is
    /// published is always what is written.
    fn give_addresses(&mut self) {
        let Some(ranges) = self.ranges.filter(|_| self.complete && self.entries_changed) else { return };
        self.entries_changed = false;
        for (entry, given) in vips::plan(self.catalog.world(), ranges) {
            if let Err(error) = self.overlay.patch(&entry, vips::patch(&given)) {
                // Tried again with the next change of an entry.
                warn!(target: "status", object = %entry, error = %error, "addresses not written");
            }
        }
    }

    fn tell_faults(&self, faults: Vec<Fault>) {
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
            let account = (ask.who.namespace.as_str(), ask.who.service_account.as_str());
            let is_there = world
                .running_on(&ask.node)
                .any(|pod| (pod.metadata.namespace.as_str(), pod.service_account()) == account);
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
