//! The one writer of the known world, and its readers. Owns which snapshot is in force.
//! What is in a snapshot is `model`'s; who must be told of a change is `feed`'s.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Delta;
use ambit_model::name::{Identity, NodeName};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::Workload;
use ambit_wire::node_link::PodInfo;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::timeout;

/// The readers' end. Cheap to clone.
#[derive(Clone)]
pub struct World {
    current: Arc<ArcSwap<Snapshot>>,
    changed: watch::Receiver<u64>,
    node: NodeName,
}

/// Puts snapshots in force. Not `Clone`: there is one writer.
pub struct Writer {
    current: Arc<ArcSwap<Snapshot>>,
    changed: watch::Sender<u64>,
}

/// An empty world of `node`, and its writer.
#[must_use]
pub fn empty(node: NodeName) -> (World, Writer) {
    let current = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let (sender, changed) = watch::channel(0);
    (World { current: Arc::clone(&current), changed, node }, Writer { current, changed: sender })
}

impl World {
    /// The snapshot in force. One connection uses one, so its view does not change halfway.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The workload a pod of this node is, as known now.
    #[must_use]
    pub fn local_now(&self, pod: &PodInfo) -> Option<Arc<Workload>> {
        let world = self.current.load();
        world.local_workload(&self.node, &pod.namespace, &pod.service_account, pod.name.as_str())
    }

    /// The workload a pod of this node is; waits at most `limit` for the control plane to tell of it.
    pub async fn local(&self, pod: &PodInfo, limit: Duration) -> Option<Arc<Workload>> {
        if let Some(found) = self.local_now(pod) {
            return Some(found);
        }
        timeout(limit, self.wait(pod)).await.ok().flatten()
    }

    /// Whether another pod of this node has `identity` too, as known now. Where our node is not known, nothing is.
    #[must_use]
    pub fn expects_another(&self, identity: &Identity, than: &PodInfo) -> bool {
        let world = self.current.load();
        world
            .workloads_on(&self.node)
            .any(|w| w.name.as_str() != than.name.as_str() && w.identity() == *identity)
    }

    /// Waits until a later snapshot than the one just loaded may be in force; false when none will come. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }

    async fn wait(&self, pod: &PodInfo) -> Option<Arc<Workload>> {
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            if let Some(found) = self.local_now(pod) {
                return Some(found);
            }
            changed.changed().await.ok()?;
        }
    }
}

impl Writer {
    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a change in force and returns the world after it.
    pub fn apply(&mut self, delta: &Delta) -> Arc<Snapshot> {
        let next = Arc::new(self.current.load().with(delta));
        self.current.store(Arc::clone(&next));
        self.changed.send_replace(next.generation());
        next
    }
}
