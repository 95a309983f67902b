//! Which pods there are, for dumps. Owns the list that the enrolment posts and the admin port reads.

use std::sync::Arc;

use ambit_wire::node_link::PodInfo;
use arc_swap::ArcSwap;
use tokio::sync::Notify;

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
pub struct Board {
    pods: Arc<ArcSwap<Vec<PodShown>>>,
    posted: Arc<Notify>,
}

impl Board {
    /// Posts a new list.
    pub fn post(&self, pods: Vec<PodShown>) {
        self.pods.store(Arc::new(pods));
        self.posted.notify_one();
    }

    /// Returns once a list was posted since this was last awaited; for one caller. Cancel-safe.
    pub async fn posted(&self) {
        self.posted.notified().await;
    }

    /// The list as posted last.
    #[must_use]
    pub fn read(&self) -> Arc<Vec<PodShown>> {
        self.pods.load_full()
    }
}
