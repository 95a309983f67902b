//! The control plane: what is true, the library made of it, and a publisher for each stream. A restart keeps only
//! what is true.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_model::delta::{Change, Delta};
use ambit_model::snapshot::Snapshot;
use ambit_xds::library::Library;
use ambit_xds::publisher::Publisher;

use super::network::StreamId;

#[derive(Default)]
pub(super) struct Control {
    pub(super) truth: Snapshot,
    pub(super) library: Arc<Library>,
    pub(super) publishers: BTreeMap<StreamId, Publisher>,
    pub(super) down: bool,
    streams: u64,
}

impl Control {
    pub(super) fn change(&mut self, delta: &Delta) {
        self.truth = self.truth.with(delta);
        self.library = Arc::new(self.library.with(delta));
    }

    pub(super) fn accept(&mut self, id: StreamId) {
        self.streams += 1;
        self.publishers.insert(id, Publisher::new(self.streams, Arc::clone(&self.library)));
    }

    pub(super) fn stop(&mut self) {
        self.down = true;
        self.publishers.clear();
    }

    /// Generations and streams are counted anew, as by a new process.
    pub(super) fn start(&mut self) {
        let mut all: Vec<Change> = self.truth.workloads().cloned().map(Change::Workload).collect();
        all.extend(self.truth.services().cloned().map(Change::Service));
        all.extend(self.truth.policies().cloned().map(Change::Policy));
        self.library = Arc::new(Library::default().with(&Delta { changes: all }));
        self.down = false;
        self.streams = 0;
    }
}
