//! Who wants which probe targets on this node, and the kernel's sets brought to their union.
//! An address that a new pod took over from an old one stays until both have let go of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ambit_sys::cgroup::in_view_of;
use ambit_sys::netns::Netns;
use ambit_wire::node_link::PodUid;
use tracing::{debug, info};

use crate::apply::{ApplyError, Change, ProbeTarget, Surplus, install_node, sync_probes};
use crate::node::link::chain;
use crate::node::pods_group;
use crate::rules::NodeRules;

#[derive(Debug, Default)]
struct Wants {
    /// Counts changes.
    changes: u64,
    /// Changes that are in the kernel.
    synced: u64,
    by: BTreeMap<PodUid, BTreeSet<ProbeTarget>>,
    /// Let go of by somebody, and not removed yet.
    dropped: BTreeSet<ProbeTarget>,
}

/// Where the node's rules are: in our own network namespace, or in another that is entered for each look.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) proc_dir: PathBuf,
    pub(crate) netns: Option<Arc<Netns>>,
}

impl Place {
    fn visit<T>(&self, work: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
        match &self.netns {
            Some(netns) => netns.run(work)?,
            None => work(),
        }
    }
}

/// The node's probe targets.
#[derive(Debug)]
pub(crate) struct Probes {
    /// The rules as they are; who is kept out is known once a pod runs.
    rules: Mutex<NodeRules>,
    place: Place,
    wants: Mutex<Wants>,
    /// Everybody has spoken since the start: what nobody wants may go.
    settled: AtomicBool,
    /// One change at a time; the difference is taken under it.
    turn: tokio::sync::Mutex<()>,
}

impl Probes {
    pub(crate) fn new(rules: NodeRules, place: Place) -> Self {
        let (wants, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { rules: Mutex::new(rules), place, wants, settled: AtomicBool::new(false), turn }
    }

    /// A pod wants these targets and no others; none: it lets go. No change, no call to the kernel.
    pub(crate) async fn want(&self, uid: &PodUid, targets: BTreeSet<ProbeTarget>) -> Result<(), ApplyError> {
        match self.note(uid, &targets) {
            Some(change) => self.sync(change).await,
            None => Ok(()),
        }
    }

    /// From now on targets that nobody wants are removed.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Brings rules and sets back to what is wanted, whatever happened to them.
    pub(crate) async fn audit(&self) -> Result<Change, ApplyError> {
        let change = {
            // Replacing rules empties the sets: nobody may change them between the two.
            let _turn = self.turn.lock().await;
            let (rules, place) = (self.rules(), self.place.clone());
            let (installed, change) = blocking(move || install(rules, &place)).await?;
            if installed != rules {
                info!(pods = ?installed.pods, "probes are told from pods on the node's network");
            }
            *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = installed;
            // A first installation and a better one are nobody's doing.
            if installed == rules { change } else { Change::None }
        };
        self.sync(u64::MAX).await.map(|()| change)
    }

    fn rules(&self) -> NodeRules {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the sets up to a change. Whoever's turn it is takes along all that wait.
    async fn sync(&self, change: u64) -> Result<(), ApplyError> {
        let _turn = self.turn.lock().await;
        let (wanted, dropped, taken) = {
            let wants = self.wants.lock().unwrap_or_else(PoisonError::into_inner);
            if wants.synced >= change {
                return Ok(());
            }
            let wanted: BTreeSet<ProbeTarget> = wants.by.values().flatten().copied().collect();
            (wanted, wants.dropped.clone(), wants.changes)
        };
        let (rules, place) = (self.rules(), self.place.clone());
        let settled = self.settled.load(Ordering::Relaxed);
        let surplus = if settled { Surplus::Goes } else { Surplus::GoesOf(dropped.clone()) };
        blocking(move || match place.visit(|| sync_probes(&wanted, rules.families, &surplus)) {
            Ok(_) => Ok(()),
            // Somebody flushed the node's rules: put them back with the elements.
            Err(_) => {
                in_nodes_view(&place, || install_node(&rules))?;
                place.visit(|| sync_probes(&wanted, rules.families, &surplus)).map(drop)
            }
        })
        .await?;
        let mut wants = self.wants.lock().unwrap_or_else(PoisonError::into_inner);
        wants.dropped.retain(|target| !dropped.contains(target));
        wants.synced = taken;
        Ok(())
    }

    /// Up to which change the kernel is to be brought; none when it is there.
    fn note(&self, uid: &PodUid, targets: &BTreeSet<ProbeTarget>) -> Option<u64> {
        let mut wants = self.wants.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if targets.is_empty() {
            wants.by.remove(uid)
        } else {
            wants.by.insert(uid.clone(), targets.clone())
        };
        let before = before.unwrap_or_default();
        wants.dropped.extend(before.difference(targets));
        wants.changes += u64::from(before != *targets);
        // A change that the kernel did not take is news until it does.
        (wants.changes > wants.synced).then_some(wants.changes)
    }
}

/// Installs the node's rules, the best that this node's kernel takes. Gives which.
fn install(mut rules: NodeRules, place: &Place) -> Result<(NodeRules, Change), ApplyError> {
    in_nodes_view(place, || {
        // While no pod is seen, what was known of them stays true: the group lives as long as the boot.
        rules.pods = pods_group::find(&place.proc_dir).ok().flatten().or(rules.pods);
        match install_node(&rules) {
            Ok(change) => Ok((rules, change)),
            // A kernel older than 5.13, or without nft_socket.
            Err(error) if rules.pods.is_some() => {
                debug!(error = %chain(&error), "this kernel does not tell a socket's group");
                rules.pods = None;
                install_node(&rules).map(|change| (rules, change))
            }
            Err(error) => Err(error),
        }
    })
}

/// Where groups are seen as the node sees them, else where we are: then there is nobody else's view to be had.
fn in_nodes_view<T: Send>(
    place: &Place,
    work: impl FnOnce() -> Result<T, ApplyError> + Send,
) -> Result<T, ApplyError> {
    let mut work = Some(|| place.visit(work));
    let done = in_view_of(&place.proc_dir.join("1/ns/cgroup"), || work.take().map(|work| work()));
    match (done, work) {
        (Ok(Some(result)), _) => result,
        // Nothing was begun.
        (_, Some(work)) => work(),
        (_, None) => Err(ApplyError::Netns(ambit_sys::netns::NetnsError::Panicked)),
    }
}

/// Kernel work, off the daemon's one thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApplyError> + Send + 'static,
) -> Result<T, ApplyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(ApplyError::Netns(ambit_sys::netns::NetnsError::Panicked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Families;

    // K11
    #[test]
    fn a_target_taken_over_by_another_pod_survives_the_first_ones_leaving() {
        let node = NodeRules { families: Families::Both, prober: 0, pods: None };
        let probes = Probes::new(node, Place { proc_dir: "/proc".into(), netns: None });
        let uid = |text| PodUid::new(text).unwrap();
        let target: BTreeSet<ProbeTarget> = BTreeSet::from(["10.0.0.5:80".parse().unwrap()]);
        assert_eq!(probes.note(&uid("a"), &target), Some(1));
        assert_eq!(probes.note(&uid("b"), &target), Some(2));
        assert_eq!(probes.note(&uid("b"), &target), Some(2), "not in the kernel yet");
        probes.wants.lock().unwrap().synced = 2;
        assert_eq!(probes.note(&uid("b"), &target), None, "nothing new");
        assert_eq!(probes.note(&uid("a"), &BTreeSet::new()), Some(3));
        let left: Vec<_> = probes.wants.lock().unwrap().by.values().flatten().copied().collect();
        assert_eq!(left, Vec::from_iter(target));
    }
}
