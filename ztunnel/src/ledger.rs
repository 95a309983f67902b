//! Live connections, re-judged on change. Owns the table and the cutting of connections.
//! Decides nothing (`model::judge`), logs nothing (`record`).
//!
//! A table is split into pages, one for each traffic thread of each pod, so that threads do not meet: a page's
//! lock is taken when a connection comes or goes, never while bytes flow and never across an await.
//!
//! A control plane may choose a policy for a workload before it tells of the policy. A live connection is then in
//! doubt: it goes on for a bounded time, and is cut if the policy has not come by then.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use ambit_hbone::cut::{self, Cut, Cutter, Why};
use ambit_model::address::{ClientAddr, OriginalDst};
use ambit_model::delta::{Change, Delta};
use ambit_model::judge::{Denial, Opinion, Verdict, consider, consider_led};
use ambit_model::name::{Identity, WorkloadUid};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::Workload;
use ambit_process::clock::Instant;

/// All live connections of the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger {
    pages: Arc<Mutex<Vec<Weak<Page>>>>,
    policy_wait: Duration,
}

/// What judging again came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejudged {
    /// Connections that were cut.
    pub cut: usize,
    /// When those in doubt must be judged again; none when none is.
    pub again_at: Option<Instant>,
}

/// The connections of one pod on one thread.
#[derive(Default)]
pub struct Page(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    next: u64,
    ended: bool,
    inbound: HashMap<u64, Entry<Admitted>>,
    outbound: HashMap<u64, Entry<Outbound>>,
}

/// An inbound connection as it is judged.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who the peer proved to be; none for plaintext.
    pub peer: Option<Identity>,
    /// For plaintext, the waypoint that it is led to first.
    pub through: Option<Identity>,
    /// The peer's address.
    pub from: ClientAddr,
    /// The application's address.
    pub to: OriginalDst,
    /// The workload it is for.
    pub dest: Arc<Workload>,
    /// The host that the client named, for dumps.
    pub host: Option<String>,
}

impl Admitted {
    /// Judges the connection against a world, with the workload as it is there.
    #[must_use]
    pub fn judge(&self, world: &Snapshot) -> Opinion {
        // A workload that has left the world is judged as it was last known: forgetting it allows nothing.
        let dest = world.workload(&self.dest.uid).unwrap_or(&self.dest);
        match &self.through {
            Some(waypoint) => consider_led(world, dest, waypoint, self.from, self.to),
            None => consider(world, dest, self.peer.as_ref(), self.from, self.to),
        }
    }
}

/// An outbound connection, for dumps.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// The application.
    pub from: ClientAddr,
    /// Where it meant to go.
    pub to: OriginalDst,
    /// Where we went.
    pub hop: SocketAddr,
    /// `TCP`, `HBONE` or `DOUBLEHBONE`.
    pub protocol: &'static str,
}

struct Entry<T> {
    what: T,
    cutter: Cutter,
    why: Arc<OnceLock<Denial>>,
    /// Since when a policy that applies is not known.
    in_doubt_since: Option<Instant>,
}

/// A place in the ledger; dropping it gives it up.
pub struct Seat {
    page: Arc<Page>,
    number: u64,
    cut: Option<Cut>,
    why: Arc<OnceLock<Denial>>,
}

impl Ledger {
    /// A ledger whose connections go on for `policy_wait` while a policy that was chosen for them is not known.
    #[must_use]
    pub fn new(policy_wait: Duration) -> Self {
        Self { policy_wait, ..Self::default() }
    }

    /// A new page, which lives as long as its seats and its holder.
    #[must_use]
    pub fn page(&self) -> Arc<Page> {
        let page = Arc::new(Page::default());
        let mut pages = lock(&self.pages);
        pages.retain(|page| page.strong_count() > 0);
        pages.push(Arc::downgrade(&page));
        page
    }

    /// Judges again all connections that a change may concern, and cuts those now denied.
    pub fn rejudge(&self, world: &Snapshot, delta: &Delta, now: Instant) -> Rejudged {
        self.judge_again(world, &Concerned::by(delta), now)
    }

    /// Judges again the connections in doubt, and cuts those that have been for too long.
    pub fn resolve(&self, world: &Snapshot, now: Instant) -> Rejudged {
        self.judge_again(world, &Concerned::InDoubt, now)
    }

    fn judge_again(&self, world: &Snapshot, concerned: &Concerned<'_>, now: Instant) -> Rejudged {
        let mut all = Rejudged::default();
        if concerned.nobody() {
            return all;
        }
        let pages: Vec<_> = lock(&self.pages).iter().filter_map(Weak::upgrade).collect();
        for page in pages {
            let Rejudged { cut, again_at } = page.rejudge(world, concerned, now, self.policy_wait);
            all.cut += cut;
            all.again_at = sooner(all.again_at, again_at);
        }
        all
    }
}

impl Page {
    /// Enters an inbound connection. From here on a change of policy finds it: judge it after, not before.
    #[must_use]
    pub fn enter(self: &Arc<Self>, admitted: Admitted) -> Seat {
        self.seat(|entries, number, entry| {
            entries.inbound.insert(number, entry.holding(admitted));
        })
    }

    /// Notes an outbound connection, which a stop finds.
    #[must_use]
    pub fn note(self: &Arc<Self>, outbound: Outbound) -> Seat {
        self.seat(|entries, number, entry| {
            entries.outbound.insert(number, entry.holding(outbound));
        })
    }

    /// Cuts all connections, and those that still come.
    pub fn end(&self) {
        let mut entries = lock(&self.0);
        entries.ended = true;
        let inbound = entries.inbound.values().map(|entry| &entry.cutter);
        for cutter in inbound.chain(entries.outbound.values().map(|entry| &entry.cutter)) {
            cutter.cut(Why::Stopped);
        }
    }

    fn seat(self: &Arc<Self>, put: impl FnOnce(&mut Entries, u64, Entry<()>)) -> Seat {
        let (cutter, cut) = cut::pair();
        let why = Arc::new(OnceLock::new());
        let mut entries = lock(&self.0);
        if entries.ended {
            cutter.cut(Why::Stopped);
        }
        entries.next += 1;
        let number = entries.next;
        let entry = Entry { what: (), cutter, why: Arc::clone(&why), in_doubt_since: None };
        put(&mut entries, number, entry);
        drop(entries);
        Seat { page: Arc::clone(self), number, cut: Some(cut), why }
    }

    /// The live connections, in the order they came.
    #[must_use]
    pub fn dump(&self) -> (Vec<Admitted>, Vec<Outbound>) {
        let entries = lock(&self.0);
        let mut inbound: Vec<_> = entries.inbound.iter().map(|(n, e)| (*n, e.what.clone())).collect();
        let mut outbound: Vec<_> = entries.outbound.iter().map(|(n, e)| (*n, e.what.clone())).collect();
        drop(entries);
        inbound.sort_by_key(|(number, _)| *number);
        outbound.sort_by_key(|(number, _)| *number);
        (inbound.into_iter().map(|(_, a)| a).collect(), outbound.into_iter().map(|(_, o)| o).collect())
    }

    fn rejudge(
        &self,
        world: &Snapshot,
        concerned: &Concerned<'_>,
        now: Instant,
        policy_wait: Duration,
    ) -> Rejudged {
        let mut all = Rejudged::default();
        for entry in lock(&self.0).inbound.values_mut() {
            if !concerned.includes(entry) || entry.why.get().is_some() {
                continue;
            }
            match entry.what.judge(world).verdict {
                Verdict::Allow { .. } => entry.in_doubt_since = None,
                Verdict::Deny(Denial::PolicyMissing(_)) if entry.may_go_on(now, policy_wait) => {
                    let until = entry.in_doubt_since.map(|since| since + policy_wait);
                    all.again_at = sooner(all.again_at, until);
                }
                Verdict::Deny(denial) => {
                    entry.revoke(denial);
                    all.cut += 1;
                }
            }
        }
        all
    }
}

impl Entry<Admitted> {
    /// Whether a policy may be missing for a while yet. The time runs from the first that is missing: further ones
    /// do not lengthen it.
    fn may_go_on(&mut self, now: Instant, policy_wait: Duration) -> bool {
        now < *self.in_doubt_since.get_or_insert(now) + policy_wait
    }

    fn revoke(&self, denial: Denial) {
        // The reason first: the connection looks for it as soon as it is cut.
        let _ = self.why.set(denial);
        self.cutter.cut(Why::Revoked);
    }
}

impl<T> Entry<T> {
    fn holding<U>(self, what: U) -> Entry<U> {
        Entry { what, cutter: self.cutter, why: self.why, in_doubt_since: self.in_doubt_since }
    }
}

impl Seat {
    /// What tells the connection to end; to be taken once, by whoever carries the bytes.
    #[must_use]
    pub fn cut(&mut self) -> Cut {
        self.cut.take().unwrap_or_else(|| cut::pair().1)
    }

    /// Why the connection is no longer allowed, once it is not.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        self.why.get()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut entries = lock(&self.page.0);
        entries.inbound.remove(&self.number);
        entries.outbound.remove(&self.number);
    }
}

/// Whose connections a change may concern.
enum Concerned<'a> {
    /// A policy changed: everybody's.
    All,
    /// Only workloads changed: theirs.
    These(Vec<&'a WorkloadUid>),
    /// Nothing changed but the time: those for which a policy is missing.
    InDoubt,
}

impl<'a> Concerned<'a> {
    fn by(delta: &'a Delta) -> Self {
        let mut these = Vec::new();
        for change in &delta.changes {
            match change {
                Change::Policy(_) | Change::PolicyGone(_) => return Self::All,
                Change::Workload(workload) => these.push(&workload.uid),
                Change::WorkloadGone(_) | Change::Service(_) | Change::ServiceGone(_) => {}
                // Of requests, which are a waypoint's.
                Change::Route(_)
                | Change::RouteGone(_)
                | Change::RequestPolicy(_)
                | Change::RequestPolicyGone(_)
                | Change::RateLimit(_)
                | Change::RateLimitGone(_)
                | Change::ExtProc(_)
                | Change::ExtProcGone(_)
                | Change::Authentication(_)
                | Change::Traffic(_)
                | Change::TrafficGone(_)
                | Change::Credential(_)
                | Change::CredentialGone(_)
                | Change::Telemetry(_)
                | Change::TelemetryGone(_)
                | Change::AuthenticationGone(_)
                | Change::Provider(_)
                | Change::ProviderGone(_) => {}
            }
        }
        these.sort_unstable();
        Self::These(these)
    }

    fn nobody(&self) -> bool {
        matches!(self, Self::These(these) if these.is_empty())
    }

    fn includes(&self, entry: &Entry<Admitted>) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.binary_search(&&entry.what.dest.uid).is_ok(),
            Self::InDoubt => entry.in_doubt_since.is_some(),
        }
    }
}

/// The sooner of two moments, where either may be never.
pub(crate) fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
