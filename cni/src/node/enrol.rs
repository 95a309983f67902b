//! Taking a pod into the mesh and out of it: ordered steps, each undoable (`style.md` journey (c)).
//! Owns the order and the undoing. When to do which is `keeper`'s.
//!
//! In: listeners, certificate, rules, probe targets, annotation. Out: annotation, a wait for peers to learn it, no
//! redirection of what is new, a wait for what is under way and for names that were asked, rules, listeners, probe
//! targets. At no instant is traffic steered to a closed port, nor a tunnel sent to a pod that takes none.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_cluster::kinds::core::{Namespace, Pod};
use ambit_process::clock;
use ambit_sys::netns::{Netns, NetnsError, NetnsId};
use ambit_wire::node_link::Certificate;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::apply::{
    ApplyError, Change, Drift, Life, asks_for_names, ease_pod, install_pod, older_tables as older_tables_of,
    part_pod, remove_pod, verify_pod,
};
use crate::config::Kubernetes;
use crate::install::keep::State;
use crate::metrics::Metrics;
use crate::node::find::Finder;
use crate::node::link::{CarryError, Link, chain};
use crate::node::notes::{NoteError, Notes, Word};
use crate::node::probes::{Probes, blocking};
use crate::node::sandbox::{Mark, Records, Sandbox};
use crate::node::standing::Standing;
use crate::node::subject::{NodeWide, Subject};
use crate::node::want::{Criteria, Want, Why, want};
use crate::rules::PodRules;

/// Everything that steps act on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) link: Link,
    pub(crate) probes: Probes,
    pub(crate) notes: Notes,
    pub(crate) records: Records,
    pub(crate) metrics: Metrics,
    pub(crate) node: NodeWide,
    /// How the node's folders are seen from here.
    pub(crate) seen: Kubernetes,
    /// The node's own namespace, never to be taken for a pod's.
    pub(crate) home: NetnsId,
    /// This boot: the kernel's numbers of namespaces repeat after the next.
    pub(crate) boot: String,
    pub(crate) finder: Finder,
    pub(crate) installed: State,
    /// The mesh is leaving this node: nobody is in from now on.
    pub(crate) retired: watch::Sender<bool>,
    pub(crate) leave_wait: Duration,
    pub(crate) audit: Duration,
    /// Namespaces worked in at once: threads cost memory, and the kernel takes turns anyway.
    pub(crate) hands: Semaphore,
}

impl Ground {
    /// Whether a pod is to be in the mesh here and now.
    pub(crate) fn want(&self, pod: &Pod, namespace: Option<&Namespace>, by: &Criteria) -> Want {
        if *self.retired.borrow() { Want::Out(Why::Leaving) } else { want(pod, namespace, by) }
    }
}

/// Namespaces worked in at once.
pub(crate) const HANDS: usize = 4;

/// A namespace's work takes milliseconds; a kernel that is stuck must not hold up the plugin's answer.
const KERNEL_WAIT: Duration = Duration::from_secs(3);

/// A certificate takes milliseconds. A pod that runs is not redirected before it is there: its traffic would stop.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(2);
const CERTIFICATE_LOOK: Duration = Duration::from_millis(10);

/// A query for a name, of a pod that leaves, may wait this long for its answer: resolvers that heard nothing ask again
/// after five seconds only. The plugin's questions about the pod wait as long.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
const ANSWER_LOOK: Duration = Duration::from_millis(50);

/// Why a pod is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("the sandbox's network namespace cannot be used")]
    Netns(#[source] NetnsError),
    #[error("{0} is the node's own network namespace")]
    NodesOwn(PathBuf),
    #[error("ztunnel does not carry the pod")]
    Carry(#[from] CarryError),
    #[error("the pod's certificate did not come within {CERTIFICATE_WAIT:?}")]
    NoCertificate,
    #[error("the pod's traffic cannot be redirected")]
    Rules(#[source] ApplyError),
    #[error("the kernel did not finish within {KERNEL_WAIT:?}")]
    Stuck,
    #[error("probes cannot be let through")]
    Probes(#[source] ApplyError),
    #[error("the pod cannot be annotated")]
    Annotation(#[from] NoteError),
    #[error("{0} leads to another namespace than the pod's")]
    Replaced(PathBuf),
    #[error("no running process of the pod is in a namespace with one of its addresses")]
    NoSandbox,
}

impl EnrolError {
    /// Whether trying again soon can help without anybody doing something.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Carry(_) | Self::Stuck | Self::NoCertificate) || self.is_only_unsaid()
    }

    /// Whether all is as it should be, and only the API server could not be told yet.
    pub(crate) fn is_only_unsaid(&self) -> bool {
        matches!(self, Self::Annotation(error) if error.passes())
    }

    /// Whether what the sandbox's path leads to is not the pod's, now or ever again.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Netns(NetnsError::Open { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
            Self::Netns(NetnsError::NoNetns) | Self::Replaced(_) | Self::NodesOwn(_) => true,
            _ => false,
        }
    }
}

/// What joining came to.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Whether anything had to be done to the pod.
    pub(crate) change: Change,
    /// It is in, but the API server, which is away, could not be told yet.
    pub(crate) unsaid: Option<NoteError>,
    /// Whether its certificate is there, as far as ztunnel says.
    pub(crate) proven: Result<bool, CarryError>,
    /// What was said of that.
    pub(crate) standing: Option<Standing>,
}

/// Opens a sandbox's namespace, which must be the very one that it was when we were told of it.
pub(crate) fn open(ground: &Ground, sandbox: &Sandbox) -> Result<Arc<Netns>, EnrolError> {
    let netns = open_told(ground, sandbox)?;
    if sandbox.mark != Some(Mark::new(&ground.boot, netns.id())) {
        return Err(EnrolError::Replaced(sandbox.netns.clone()));
    }
    Ok(netns)
}

/// Opens a sandbox's namespace, which the runtime has just named.
pub(crate) fn open_told(ground: &Ground, sandbox: &Sandbox) -> Result<Arc<Netns>, EnrolError> {
    let netns = Netns::open(&sandbox.netns).map_err(EnrolError::Netns)?;
    if netns.id() == ground.home {
        return Err(EnrolError::NodesOwn(sandbox.netns.clone()));
    }
    Ok(Arc::new(netns))
}

/// Takes a pod in. On failure the steps done here are undone in reverse, unless the pod was in before: then it stays
/// redirected, so that nothing of it leaves in plain.
pub(crate) async fn join(
    ground: &Ground,
    subject: &Subject,
    netns: &Arc<Netns>,
    sandbox: &Sandbox,
) -> Result<Joined, EnrolError> {
    let uid = &subject.uid;
    // The kubelet tells of addresses once the sandbox stands, and starts containers after it.
    let life = if subject.ips.is_empty() { Life::Starts } else { Life::Runs };
    let mut watch = Phases::begin();
    let carried = ground.link.carry(uid, subject.info.clone(), Arc::clone(netns)).await;
    watch.end("carry");
    let ready = match carried {
        // The control plane knows no address of one that only starts. It waits for its first bytes.
        Ok(()) if life == Life::Runs && !subject.is_said_in() => certified(ground, subject, netns).await,
        carried => carried.map_err(EnrolError::from),
    };
    watch.end("certificate");
    if let Err(error) = ready {
        // Nothing was touched yet, so what is there now is what was there before.
        let was_in = redirected(ground, netns, &subject.rules).await;
        undo_carry(ground, subject, was_in.unwrap_or_else(|_| subject.is_said_in())).await;
        return Err(error);
    }
    let rules = subject.rules.clone();
    let visit = in_pod(ground, netns, move |netns| install_pod(netns, &rules, life)).await;
    watch.end("rules");
    let (was_in, installed) = match visit {
        Ok(visit) => (visit.was_redirected, visit.result.map_err(EnrolError::Rules)),
        Err(error) => (subject.is_said_in(), Err(error)),
    };
    let done = match installed {
        Ok(change) => {
            let finished = finish(ground, subject, (netns, sandbox), &mut watch).await;
            finished.map(|(proven, standing, unsaid)| Joined { change, unsaid, proven, standing })
        }
        Err(error) => Err(error),
    };
    if done.is_err() {
        undo_rules(ground, netns, was_in).await;
        undo_carry(ground, subject, was_in).await;
    }
    debug!(pod = %subject.object, phases = %watch, "joined");
    done
}

/// Waits for the pod's certificate, where ztunnel tells of it.
async fn certified(ground: &Ground, subject: &Subject, netns: &Arc<Netns>) -> Result<(), EnrolError> {
    let until = clock::now() + CERTIFICATE_WAIT;
    while !proven(ground, subject, netns).await? {
        if clock::now() >= until {
            return Err(EnrolError::NoCertificate);
        }
        tokio::time::sleep(CERTIFICATE_LOOK).await;
    }
    Ok(())
}

/// Whether nothing speaks against the pod's certificate being there.
pub(crate) async fn proven(
    ground: &Ground,
    subject: &Subject,
    netns: &Arc<Netns>,
) -> Result<bool, CarryError> {
    let said = ground.link.certificate(&subject.uid, subject.info.clone(), Arc::clone(netns)).await?;
    Ok(said != Some(Certificate::Awaited))
}

/// Whether a certificate is there, what was said of that, and what could not be said yet.
type Finished = (Result<bool, CarryError>, Option<Standing>, Option<NoteError>);

/// The steps after traffic is redirected. An API server that is away freezes what is known of pods, it does not keep
/// them from starting.
async fn finish(
    ground: &Ground,
    subject: &Subject,
    (netns, sandbox): (&Arc<Netns>, &Sandbox),
    watch: &mut Phases,
) -> Result<Finished, EnrolError> {
    let targets = subject.probe_targets(&sandbox.ips);
    ground.probes.want(&subject.uid, targets).await.map_err(EnrolError::Probes)?;
    watch.end("probes");
    let proven = proven(ground, subject, netns).await;
    watch.end("proof");
    // Without one it may come in a moment: that it does not is said by the pod's keeper.
    let standing = match proven {
        Ok(true) => Some(Standing::Proven),
        // What was said before is over, also where we have not heard it back yet; it costs no write of its own.
        Ok(false) if !subject.is_said_in() => Some(Standing::Awaited),
        _ => None,
    };
    let said = say(ground, subject, Word::Enabled, standing.as_ref()).await;
    watch.end("annotation");
    match said {
        Ok(()) => Ok((proven, standing, None)),
        Err(error) if error.passes() => Ok((proven, standing, Some(error))),
        Err(error) => Err(error.into()),
    }
}

/// How long each step took, for the log.
struct Phases {
    since: Instant,
    ended: Vec<(&'static str, Duration)>,
}

impl Phases {
    fn begin() -> Self {
        Self { since: clock::now(), ended: Vec::new() }
    }

    fn end(&mut self, phase: &'static str) {
        let now = clock::now();
        self.ended.push((phase, now.duration_since(std::mem::replace(&mut self.since, now))));
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ended.iter().try_for_each(|(phase, took)| write!(f, "{phase} {took:?} "))
    }
}

/// Takes a living pod out. Whatever fails can be tried again: nothing is forgotten before it is done. Peers are told
/// first, `if_said` to them that it is in; while the API server is away it therefore stays in.
pub(crate) async fn leave(
    ground: &Ground,
    subject: &Subject,
    netns: &Arc<Netns>,
    if_said: bool,
) -> Result<(), EnrolError> {
    if if_said {
        unsay(ground, subject).await?;
    }
    if ground.link.connected() > 0 && redirected(ground, netns, &subject.rules).await? {
        tokio::time::sleep(ground.leave_wait).await;
        // What is under way may end; it is cut with the listeners.
        let rules = subject.rules.clone();
        in_pod(ground, netns, move |netns| ease_pod(netns, &rules)).await?;
        tokio::time::sleep(ground.leave_wait).await;
        if subject.rules.dns {
            let rules = subject.rules.clone();
            in_pod(ground, netns, move |netns| part_pod(netns, &rules)).await?;
            tokio::time::sleep(ground.leave_wait).await;
            names_answered(ground, netns).await;
        }
    }
    in_pod(ground, netns, remove_pod).await?;
    forget(ground, subject).await
}

/// Waits for answers to what was asked before redirection ended: without the rules, none would arrive.
async fn names_answered(ground: &Ground, netns: &Arc<Netns>) {
    let until = clock::now() + ANSWER_WAIT;
    while clock::now() < until {
        match in_pod(ground, netns, asks_for_names).await {
            Ok(true) => tokio::time::sleep(ANSWER_LOOK).await,
            Ok(false) => return,
            Err(error) => return warn!(error = %chain(&error), "answers to queries for names may be lost"),
        }
    }
}

/// Lets go of a pod whose namespace is gone or about to be.
pub(crate) async fn forget(ground: &Ground, subject: &Subject) -> Result<(), EnrolError> {
    ground.link.release(&subject.uid).await?;
    ground.probes.want(&subject.uid, std::collections::BTreeSet::new()).await.map_err(EnrolError::Probes)
}

/// How a pod's namespace differs from what is wanted.
pub(crate) async fn drift(
    ground: &Ground,
    netns: &Arc<Netns>,
    rules: &PodRules,
) -> Result<Option<Drift>, EnrolError> {
    let rules = rules.clone();
    in_pod(ground, netns, move |netns| verify_pod(netns, &rules)).await
}

/// Tables of the older packet filter in a pod's namespace, which nobody here looks into.
pub(crate) async fn older_tables(ground: &Ground, netns: &Arc<Netns>) -> Result<Vec<String>, EnrolError> {
    in_pod(ground, netns, older_tables_of).await
}

/// Writes the word on a pod, and its standing if one is given, unless its object says so already. Should that be out of
/// date, its next change brings us back.
pub(crate) async fn say(
    ground: &Ground,
    subject: &Subject,
    word: Word,
    standing: Option<&Standing>,
) -> Result<(), NoteError> {
    let standing = standing.filter(|_| ground.notes.tells_standing());
    let is_told = standing.is_none_or(|it| it.is_told_by(subject.enrolled.as_deref()));
    if is_told && subject.redirection.as_deref() == word.text() {
        return Ok(());
    }
    ground.notes.write(subject, word, standing).await
}

/// Takes back what was said of a pod.
pub(crate) async fn unsay(ground: &Ground, subject: &Subject) -> Result<(), NoteError> {
    match ground.notes.write(subject, Word::Absent, None).await {
        // The mesh's rights were deleted before its pods: nobody may write it any more.
        Err(error) if *ground.retired.borrow() && error.is_forbidden() => {
            warn!(pod = %subject.object, error = %chain(&error), "the pod leaves with its annotation");
            Ok(())
        }
        said => said,
    }
}

/// Whether the pod's traffic is redirected now, by these rules or others: anything but a missing table.
async fn redirected(ground: &Ground, netns: &Arc<Netns>, rules: &PodRules) -> Result<bool, EnrolError> {
    Ok(drift(ground, netns, rules).await? != Some(Drift::NoTable))
}

async fn undo_rules(ground: &Ground, netns: &Arc<Netns>, was_in: bool) {
    if was_in {
        return;
    }
    if let Err(error) = in_pod(ground, netns, remove_pod).await {
        warn!(%error, "cannot undo redirection; the sandbox must not be used");
    }
}

async fn undo_carry(ground: &Ground, subject: &Subject, was_in: bool) {
    if was_in {
        return;
    }
    if let Err(error) = forget(ground, subject).await {
        warn!(%error, pod = %subject.object, "cannot undo what ztunnel was told");
    }
}

/// Works in a pod's namespace, on a thread that may block, for a bounded time.
async fn in_pod<T: Send + 'static>(
    ground: &Ground,
    netns: &Arc<Netns>,
    work: impl FnOnce(&Netns) -> Result<T, ApplyError> + Send + 'static,
) -> Result<T, EnrolError> {
    let netns = Arc::clone(netns);
    let done = async {
        let _hand = ground.hands.acquire().await;
        blocking(move || work(&netns)).await
    };
    match tokio::time::timeout(KERNEL_WAIT, done).await {
        Ok(result) => result.map_err(EnrolError::Rules),
        Err(_) => Err(EnrolError::Stuck),
    }
}
