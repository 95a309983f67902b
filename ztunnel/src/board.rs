//! Which pods there are, for dumps. Owns the list that the enrolment posts and the admin port reads.

use std::sync::Arc;

use ambit_wire::node_link::PodInfo;
use arc_swap::ArcSwap;

use crate::enrol::Shown;
use crate::ledger::Page;

/// One pod.
pub struct PodShown {
    /// Its uid.
    pub uid: String,
    /// Whose traffic it is.
    pub info: PodInfo,
    /// Whether it is carried for.
    pub state: Shown,
    /// Its connections, by thread.
    pub pages: Vec<Arc<Page>>,
}

/// The posted list. Clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<ArcSwap<Vec<PodShown>>>);

impl Board {
    /// Posts a new list.
    pub fn post(&self, pods: Vec<PodShown>) {
        self.0.store(Arc::new(pods));
    }

    /// The list as posted last.
    #[must_use]
    pub fn read(&self) -> Arc<Vec<PodShown>> {
        self.0.load_full()
    }
}
