//! Which pod has a keeper, and what each is told: the cluster's wishes and the plugin's orders.
//! Owns the keepers' tasks. Decides nothing about a pod but by `want`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_cluster::kinds::core::Pod;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_wire::node_link::PodUid;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::node::enrol::Ground;
use crate::node::keeper::{Keeper, Order, Wish};
use crate::node::link::{Link, Member, chain};
use crate::node::notes::Word;
use crate::node::sandbox::Sandbox;
use crate::node::subject::Subject;
use crate::node::view::View;
use crate::node::want::{Criteria, Want};

/// Orders that may wait for one pod: the runtime never has two at once for a container.
const ORDERS: usize = 8;

/// How long keepers may finish what they are at.
const DRAIN: Duration = Duration::from_secs(2);

/// An order for a pod's keeper.
pub(crate) type Ask = (PodUid, Order);

/// The desk.
pub(crate) struct Desk {
    ground: Arc<Ground>,
    criteria: Criteria,
    keepers: BTreeMap<PodUid, Handle>,
    /// Sandboxes found at the start whose pods were not met yet.
    recorded: BTreeMap<PodUid, Sandbox>,
    /// What keepers were told last.
    told: Arc<View>,
    tasks: Tasks,
}

struct Handle {
    orders: mpsc::Sender<Order>,
    wish: watch::Sender<Option<Wish>>,
}

impl Desk {
    pub(crate) fn new(
        ground: Arc<Ground>,
        criteria: Criteria,
        recorded: BTreeMap<PodUid, Sandbox>,
        stop: &Stop,
    ) -> Self {
        let told = Arc::new(View::default());
        Self { ground, criteria, keepers: BTreeMap::new(), recorded, told, tasks: Tasks::new(stop) }
    }

    /// Where node proxies connect.
    pub(crate) fn link(&self) -> Link {
        self.ground.link.clone()
    }

    /// The first look at the complete view: every pod gets its keeper, and ztunnel's roster is full before ztunnel
    /// connects, so that its first snapshot leaves nobody out.
    pub(crate) fn begin(&mut self, view: &Arc<View>) {
        for pod in view.pods.values() {
            self.expect_unseen(pod, view);
        }
        self.tell(view);
        for uid in std::mem::take(&mut self.recorded).into_keys().collect::<Vec<_>>() {
            // A record of a pod that is no more: its keeper ends when the namespace does.
            self.keeper(&uid).wish.send_replace(Some(Wish::Gone));
        }
    }

    /// Serves until `stop`.
    pub(crate) async fn run(
        mut self,
        mut views: watch::Receiver<Arc<View>>,
        mut asks: mpsc::Receiver<Ask>,
        stop: Stop,
    ) {
        let mut retired = self.ground.retired.subscribe();
        loop {
            // Every arm is cancel-safe.
            tokio::select! {
                () = stop.stopped() => break,
                _ = retired.changed() => {
                    // Nobody is as they were told.
                    self.told = Arc::new(View::default());
                    let view = Arc::clone(&views.borrow());
                    self.tell(&view);
                }
                changed = views.changed() => match changed {
                    Ok(()) => {
                        let view = Arc::clone(&views.borrow_and_update());
                        self.tell(&view);
                    }
                    Err(_) => break,
                },
                ask = asks.recv() => match ask {
                    // A full queue drops the order with its reply: whoever asked is told to try again.
                    Some((uid, order)) => drop(self.keeper(&uid).orders.try_send(order)),
                    None => break,
                },
            }
        }
        self.tasks.drain(DRAIN).await;
    }

    /// Tells every keeper what the cluster wants of its pod, if that is news.
    fn tell(&mut self, view: &Arc<View>) {
        let mut wishes = BTreeMap::new();
        for (reference, pod) in &view.pods {
            // Each enrolment changes a pod: looking at all of them each time would be most of the work of many.
            if view.is_unchanged(reference, pod, &self.told)
                && let Some(uid) = self.knows(&pod.metadata.uid)
            {
                wishes.insert(uid, None);
                continue;
            }
            match Subject::of(pod, self.ground.node) {
                Ok(subject) => drop(wishes.insert(subject.uid.clone(), Some(self.wish(pod, subject, view)))),
                Err(error) if pod.metadata.uid.is_empty() => {
                    tracing::debug!(pod = %pod.metadata.name, error = %chain(&error), "not enrolled yet");
                }
                Err(error) => {
                    warn!(pod = %pod.metadata.name, error = %chain(&error), "the pod cannot be enrolled")
                }
            }
        }
        self.keepers.retain(|_, keeper| !keeper.orders.is_closed());
        for (uid, keeper) in &self.keepers {
            if !wishes.contains_key(uid) {
                keeper.say(Wish::Gone);
            }
        }
        for (uid, wish) in wishes {
            if let Some(wish) = wish {
                self.keeper(&uid).say(wish);
            }
        }
        self.told = Arc::clone(view);
    }

    /// The uid of a pod whose keeper has been told what is wanted of it.
    fn knows(&self, uid: &str) -> Option<PodUid> {
        let uid = PodUid::new(uid).ok()?;
        let keeper = self.keepers.get(&uid)?;
        (!keeper.orders.is_closed() && keeper.wish.borrow().is_some()).then_some(uid)
    }

    fn wish(&self, pod: &Pod, subject: Subject, view: &View) -> Wish {
        match self.ground.want(pod, view.namespace(&pod.metadata.namespace), &self.criteria) {
            Want::In => Wish::In(subject),
            Want::Out(_) => Wish::Out(subject),
        }
    }

    fn keeper(&mut self, uid: &PodUid) -> &Handle {
        let Self { keepers, recorded, ground, tasks, .. } = self;
        if keepers.get(uid).is_some_and(|keeper| keeper.orders.is_closed()) {
            keepers.remove(uid);
        }
        keepers.entry(uid.clone()).or_insert_with(|| {
            let keeper = Keeper::new(Arc::clone(ground), uid.clone(), recorded.remove(uid));
            let (orders, received) = mpsc::channel(ORDERS);
            let (wish, wishes) = watch::channel(None);
            tasks.spawn("pod", move |stop| keeper.run(received, wishes, stop));
            Handle { orders, wish }
        })
    }

    /// Before the first connection: a pod of the mesh is told to it with its namespace, or, when only the annotation
    /// speaks for it, as one to keep.
    fn expect_unseen(&self, pod: &Pod, view: &View) {
        let Ok(subject) = Subject::of(pod, self.ground.node) else { return };
        if self.ground.want(pod, view.namespace(&pod.metadata.namespace), &self.criteria) != Want::In {
            return;
        }
        let sandbox = self.recorded.get(&subject.uid);
        let netns = sandbox.and_then(|sandbox| crate::node::enrol::open(&self.ground, sandbox).ok());
        if netns.is_some() || subject.redirection.as_deref() == Word::Enabled.text() {
            self.ground.link.expect(subject.uid, Member { info: subject.info, netns });
        }
    }
}

impl Handle {
    fn say(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let news = now.as_ref() != Some(&wish);
            *now = Some(wish);
            news
        });
    }
}
