//! Brings changes into force, in this order: swap the world, cut what is now denied, acknowledge, then ask for
//! the certificates that are needed. Owns the writer. Where changes come from is `xds`'s and the local file's.

use std::collections::BTreeSet;

use ambit_model::delta::Delta;
use ambit_model::name::{Identity, NodeName};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Tunnel, Workload};
use ambit_process::clock::{Instant, now};
use ambit_process::stop::Stop;
use ambit_tls::vault::Vault;
use ambit_xds::pump::Apply;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::info;

use crate::ledger::{Ledger, Rejudged, sooner};
use crate::metrics::{Metrics, TypeUrl};
use crate::world::Writer;

/// Batches under way; the subscription waits for each, so there is never more than one.
pub const BATCHES: usize = 1;

/// The one place where the world changes.
pub struct Feed {
    writer: Writer,
    ledger: Ledger,
    metrics: Metrics,
    warm: Option<Warm>,
    /// When connections must be judged again though nothing changes.
    again_at: Option<Instant>,
}

/// Certificates asked for ahead of traffic: those of this node's workloads.
pub struct Warm {
    /// Where they are asked for.
    pub vault: Vault,
    /// Our node.
    pub node: NodeName,
    /// For whom we have asked.
    pub asked: BTreeSet<Identity>,
}

impl Feed {
    /// A feed; without `warm` certificates are asked for by traffic only.
    #[must_use]
    pub fn new(writer: Writer, ledger: Ledger, metrics: Metrics, warm: Option<Warm>) -> Self {
        Self { writer, ledger, metrics, warm, again_at: None }
    }

    /// Brings one change into force.
    pub async fn apply(&mut self, delta: &Delta) {
        let world = self.swap(delta);
        if let Some(warm) = &mut self.warm {
            warm.follow(&world).await;
        }
    }

    /// Brings what discovery tells into force until stopped.
    pub async fn run(mut self, mut batches: mpsc::Receiver<Apply>, stop: Stop) {
        loop {
            // All arms are cancel-safe: a batch not taken stays in the queue.
            let Apply { batch, done } = tokio::select! {
                () = stop.stopped() => return,
                () = at(self.again_at) => {
                    self.resolve();
                    continue;
                }
                next = batches.recv() => match next {
                    Some(apply) => apply,
                    None => return,
                },
            };
            let world = self.swap(&batch.delta);
            self.metrics.xds_messages.get_or_create(&TypeUrl(batch.kind.url())).inc();
            let bytes = u64::try_from(batch.bytes).unwrap_or(u64::MAX);
            self.metrics.xds_bytes.get_or_create(&TypeUrl(batch.kind.url())).inc_by(bytes);
            // The subscription may have ended meanwhile; then nobody waits for the word.
            let _ = done.send(());
            if let Some(warm) = &mut self.warm {
                warm.follow(&world).await;
            }
        }
    }

    fn swap(&mut self, delta: &Delta) -> std::sync::Arc<Snapshot> {
        let world = self.writer.apply(delta);
        let Rejudged { cut, again_at } = self.ledger.rejudge(&world, delta, now());
        self.again_at = sooner(self.again_at, again_at);
        self.count(cut, world.generation());
        world
    }

    /// Ends the connections whose policy has not come in time.
    fn resolve(&mut self) {
        let world = self.writer.current();
        let Rejudged { cut, again_at } = self.ledger.resolve(&world, now());
        self.again_at = again_at;
        self.count(cut, world.generation());
    }

    fn count(&self, cut: usize, generation: u64) {
        if cut > 0 {
            info!(connections = cut, generation, "connections ended by a change");
            self.metrics.revoked.inc_by(u64::try_from(cut).unwrap_or(u64::MAX));
        }
    }
}

impl Warm {
    /// Asks for what is new, lets go of what is no longer needed.
    async fn follow(&mut self, world: &Snapshot) {
        let needed: BTreeSet<Identity> =
            world.workloads_on(&self.node).filter(|w| speaks(w)).map(|w| w.identity()).collect();
        for identity in needed.difference(&self.asked) {
            self.vault.prepare(identity.clone()).await;
        }
        for identity in self.asked.difference(&needed) {
            self.vault.forget(identity.clone()).await;
        }
        self.asked = needed;
    }
}

/// At a moment, or never. Cancel-safe.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn speaks(workload: &Workload) -> bool {
    workload.tunnel == Tunnel::Hbone || workload.native_tunnel
}

#[cfg(test)]
mod tests {
    use ambit_hbone::cut::Why;
    use ambit_model::address::{ClientAddr, OriginalDst};
    use ambit_process::tasks::Tasks;
    use ambit_wire::convert::ResourceType;
    use ambit_xds::subscriber::Batch;
    use tokio::sync::oneshot;

    use super::*;
    use crate::ledger::Admitted;
    use crate::{sample, world};

    #[tokio::test]
    async fn a_deny_is_in_force_and_has_cut_before_it_is_acknowledged() {
        let (view, mut writer) = world::empty("n1".into());
        writer.apply(&sample::world(&["10.0.0.2 web n1"]));
        let ledger = Ledger::default();
        let dest = view.local_now(&sample::pod("web")).unwrap();
        let admitted = Admitted {
            peer: Some(sample::identity("guest")),
            through: None,
            from: ClientAddr::new("10.0.0.1:40000".parse().unwrap()),
            to: OriginalDst::new("10.0.0.2:80".parse().unwrap()),
            dest,
            host: None,
        };
        let page = ledger.page();
        let mut seat = page.enter(admitted.clone());
        let (batches, received) = mpsc::channel(BATCHES);
        let metrics = Metrics::default();
        let feed = Feed::new(writer, ledger, metrics.clone(), None);
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("world", |stop| feed.run(received, stop));
        let (done, acknowledged) = oneshot::channel();
        let delta = sample::deny("no-guests", "guest");
        let (found, missing, refused) = (Vec::new(), Vec::new(), Vec::new());
        let batch = Batch { kind: ResourceType::Authorization, bytes: 7, delta, found, missing, refused };
        batches.send(Apply { batch, done }).await.unwrap();
        acknowledged.await.unwrap();
        let url = TypeUrl(ResourceType::Authorization.url());
        assert_eq!(metrics.xds_bytes.get_or_create(&url).get(), 7);
        assert_eq!(seat.cut().why(), Some(Why::Revoked));
        assert!(!admitted.judge(&view.load()).verdict.is_allowed());
    }

    /// Makes nothing: who is asked for is what counts.
    struct Nobody;

    impl ambit_tls::issue::Issuer for Nobody {
        async fn issue(
            &self,
            _: &Identity,
        ) -> Result<ambit_tls::credential::Credential, ambit_tls::issue::IssueError> {
            std::future::pending().await
        }
        async fn changed(&self) {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn certificates_are_asked_for_once_per_account_of_our_node_until_its_last_workload_leaves() {
        let (vault, driver) = Vault::new(Nobody, ambit_process::clock::now_system);
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("certificates", |stop| async move { driver.run(stop.stopped()).await });
        let (_view, writer) = world::empty("n1".into());
        let warm = Warm { vault: vault.clone(), node: "n1".into(), asked: BTreeSet::new() };
        let mut feed = Feed::new(writer, Ledger::default(), Metrics::default(), Some(warm));
        let gone = |name: &str| {
            let uid = format!("Kubernetes//Pod/shop/{name}").into();
            [ambit_model::delta::Change::WorkloadGone(uid)].into_iter().collect::<Delta>()
        };
        let mut second = sample::workload("10.0.0.3 web-2 n1");
        second.service_account = "web".parse().unwrap();
        let second: Delta =
            [ambit_model::delta::Change::Workload(std::sync::Arc::new(second))].into_iter().collect();
        let steps = [
            ("another node", sample::world(&["10.0.0.9 far n2"]), 0),
            ("the first of an account", sample::world(&["10.0.0.2 web n1"]), 1),
            ("the second of it", second, 1),
            ("one of another", sample::world(&["10.0.0.4 db n1"]), 2),
            ("the first leaves", gone("web"), 2),
            ("the last leaves", gone("web-2"), 1),
        ];
        for (step, delta, held) in steps {
            feed.apply(&delta).await;
            // The driver takes one wish after the other.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            assert_eq!(vault.identities().len(), held, "{step}");
        }
    }
}
