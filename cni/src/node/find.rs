//! A pod's network namespace, found among the processes that run (`cni.md` 3.5): for pods whose runtime did not ask
//! our plugin, or whose record is lost.
//!
//! Believed is a process that is in the pod's control group *and* in a namespace that holds one of the pod's
//! addresses: a debugger may visit another pod's namespace. Of several, the oldest process wins; it is the sandbox's.
//! The node's own namespace is never a pod's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_process::clock;
use ambit_sys::netns::{Netns, NetnsId};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::apply::addresses;
use crate::node::cgroup::container_of;

/// A look at all processes serves all who ask within this time.
const FRESH: Duration = Duration::from_millis(500);

/// The same for pods that must be found before their first container starts.
const VERY_FRESH: Duration = Duration::from_millis(20);

/// `stat` and `cgroup` of a process are some hundred bytes; deep groups of many hierarchies some thousand.
const TEXT: u64 = 64 << 10;

/// A kernel that does not answer for one process must not hold up its pod's keeper.
const LOOK_WAIT: Duration = Duration::from_secs(3);

/// Looks for pods among processes.
#[derive(Debug)]
pub(crate) struct Finder {
    proc_dir: PathBuf,
    /// The daemon's own namespace, where node rules stand: no pod's.
    home: NetnsId,
    last: tokio::sync::Mutex<Option<Look>>,
    /// That looking fails is told once, until it succeeds.
    told: AtomicBool,
}

/// A pod's namespace as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) netns: Netns,
    pub(crate) path: PathBuf,
    pub(crate) container_id: String,
}

/// One look at all processes.
#[derive(Debug)]
struct Look {
    at: Instant,
    pods: Arc<Pods>,
}

/// The processes of each pod, one for each namespace, the oldest first.
type Pods = BTreeMap<String, Vec<Process>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    begun: u64,
    netns: NetnsId,
    container_id: String,
}

impl Finder {
    pub(crate) fn new(proc_dir: PathBuf, home: NetnsId) -> Self {
        Self { proc_dir, home, last: tokio::sync::Mutex::default(), told: AtomicBool::new(false) }
    }

    /// The namespace of the pod with this uid and these addresses. Without addresses nothing is believed.
    pub(crate) async fn find(&self, uid: &str, ips: &[IpAddr]) -> Option<Found> {
        if ips.is_empty() {
            return None;
        }
        let pods = self.look(FRESH).await?;
        let processes = pods.get(&spelled(uid))?.clone();
        let (proc_dir, uid) = (self.proc_dir.clone(), uid.to_owned());
        let ips: BTreeSet<IpAddr> = ips.iter().map(IpAddr::to_canonical).collect();
        let search = move || processes.iter().find_map(|it| believe(it, &proc_dir, &ips, &uid));
        bounded(search).await.flatten()
    }

    /// The namespace of a pod that is only starting, whose addresses nobody knows yet: the runtime starts its first
    /// process after all plugins. One with processes in several namespaces is no such pod.
    pub(crate) async fn find_new(&self, uid: &str) -> Option<Found> {
        let pods = self.look(VERY_FRESH).await?;
        let [process] = &pods.get(&spelled(uid))?[..] else { return None };
        let path = netns_path(&self.proc_dir, process.pid);
        let netns = Netns::open(&path).ok().filter(|it| it.id() == process.netns)?;
        Some(Found { netns, path, container_id: process.container_id.clone() })
    }

    async fn look(&self, fresh: Duration) -> Option<Arc<Pods>> {
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < fresh) {
            return Some(Arc::clone(&look.pods));
        }
        let (proc_dir, home) = (self.proc_dir.clone(), self.home);
        let begun = clock::now();
        let seen = bounded(move || scan(&proc_dir, home)).await?;
        let pods = match seen {
            Ok(pods) => Arc::new(pods),
            Err(error) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    warn!(folder = %self.proc_dir.display(), %error, "cannot look for pods among processes");
                }
                return None;
            }
        };
        self.told.store(false, Ordering::Relaxed);
        debug!(pods = pods.len(), took = ?begun.elapsed(), "looked for pods among processes");
        *last = Some(Look { at: clock::now(), pods: Arc::clone(&pods) });
        Some(pods)
    }
}

/// A uid as control groups are read: some static pods have theirs without dashes.
fn spelled(uid: &str) -> String {
    let plain: String = uid.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect();
    let mut text = String::new();
    for (at, c) in plain.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(c);
    }
    text
}

/// Opens a process's namespace, if it still is that namespace and holds one of the addresses.
fn believe(process: &Process, proc_dir: &Path, ips: &BTreeSet<IpAddr>, uid: &str) -> Option<Found> {
    let path = netns_path(proc_dir, process.pid);
    let netns = Netns::open(&path).ok().filter(|it| it.id() == process.netns)?;
    let has = match addresses(&netns) {
        Ok(has) => has,
        Err(error) => {
            warn!(pod = uid, pid = process.pid, %error, "cannot read the addresses of a namespace");
            return None;
        }
    };
    if has.is_disjoint(ips) {
        warn!(pod = uid, pid = process.pid, "a process of the pod is in a namespace without its addresses");
        return None;
    }
    Some(Found { netns, path, container_id: process.container_id.clone() })
}

fn scan(proc_dir: &Path, home: NetnsId) -> io::Result<Pods> {
    // Without knowing the node's namespace nothing may be taken for a pod's.
    let nodes_own = BTreeSet::from([home, identity(&netns_path(proc_dir, 1))?]);
    let mut pods = Pods::new();
    for entry in fs::read_dir(proc_dir)? {
        let pid = entry.ok().and_then(|it| it.file_name().to_str()?.parse::<u32>().ok());
        // A process that ends while we look is no process.
        let Some((pod, process)) = pid.and_then(|pid| process(proc_dir, pid, &nodes_own)) else { continue };
        let known: &mut Vec<Process> = pods.entry(pod).or_default();
        match known.iter_mut().find(|it| it.netns == process.netns) {
            Some(same) if same.begun <= process.begun => {}
            Some(same) => *same = process,
            None => known.push(process),
        }
    }
    for processes in pods.values_mut() {
        processes.sort_by_key(|it| (it.begun, it.pid));
    }
    Ok(pods)
}

fn process(proc_dir: &Path, pid: u32, nodes_own: &BTreeSet<NetnsId>) -> Option<(String, Process)> {
    let netns = identity(&netns_path(proc_dir, pid)).ok().filter(|it| !nodes_own.contains(it))?;
    let folder = proc_dir.join(pid.to_string());
    let container = match container_of(&text(&folder.join("cgroup")).ok()?) {
        Ok(container) => container?,
        Err(error) => {
            debug!(pid, %error, "a process is passed over");
            return None;
        }
    };
    let begun = begun(&text(&folder.join("stat")).ok()?)?;
    Some((container.pod, Process { pid, begun, netns, container_id: container.id }))
}

fn netns_path(proc_dir: &Path, pid: u32) -> PathBuf {
    proc_dir.join(format!("{pid}/ns/net"))
}

fn identity(path: &Path) -> io::Result<NetnsId> {
    fs::metadata(path).map(|meta| NetnsId { device: meta.dev(), inode: meta.ino() })
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(TEXT).read_to_string(&mut text)?;
    Ok(text)
}

/// When a process began, in ticks since the boot: field 22 of its `stat`. The second field, a name, may hold anything.
fn begun(stat: &str) -> Option<u64> {
    const AFTER_NAME: usize = 22 - 3;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(AFTER_NAME)?.parse().ok()
}

/// Off the daemon's one thread, and for a bounded time.
async fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::time::timeout(LOOK_WAIT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(_)) | Err(_) => {
            warn!("looking for pods among processes did not end");
            None
        }
    }
}

#[cfg(test)]
mod tests;
