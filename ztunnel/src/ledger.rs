//! Live connections, re-judged on change. Owns the table and the cutting of connections.
//! Decides nothing (`model::judge`), logs nothing (`record`).
//!
//! A table is split into pages, one for each traffic thread of each pod, so that threads do not meet: a page's
//! lock is taken when a connection comes or goes, never while bytes flow and never across an await.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ambit_model::address::{ClientAddr, OriginalDst};
use ambit_model::delta::{Change, Delta};
use ambit_model::judge::{Denial, Verdict, judge};
use ambit_model::name::{Identity, WorkloadUid};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::Workload;
use tokio::sync::oneshot;

/// All live connections of the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Weak<Page>>>>);

/// The connections of one pod on one thread.
#[derive(Default)]
pub struct Page(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    next: u64,
    inbound: HashMap<u64, Entry>,
    outbound: HashMap<u64, Outbound>,
}

/// An inbound connection as it is judged.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who the peer proved to be; none for plaintext.
    pub peer: Option<Identity>,
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
    pub fn judge(&self, world: &Snapshot) -> Verdict {
        // A workload that has left the world is judged as it was last known: forgetting it allows nothing.
        let dest = world.workload(&self.dest.uid).unwrap_or(&self.dest);
        judge(world, dest, self.peer.as_ref(), self.from, self.to)
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

struct Entry {
    admitted: Admitted,
    cut: Option<oneshot::Sender<Denial>>,
}

/// A place in the ledger; dropping it gives it up.
pub struct Seat {
    page: Arc<Page>,
    number: u64,
    revoked: Option<oneshot::Receiver<Denial>>,
}

impl Ledger {
    /// A new page, which lives as long as its seats and its holder.
    #[must_use]
    pub fn page(&self) -> Arc<Page> {
        let page = Arc::new(Page::default());
        let mut pages = lock(&self.0);
        pages.retain(|page| page.strong_count() > 0);
        pages.push(Arc::downgrade(&page));
        page
    }

    /// Judges again all connections that a change may concern, and cuts those now denied. Returns how many.
    pub fn rejudge(&self, world: &Snapshot, delta: &Delta) -> usize {
        let concerned = Concerned::by(delta);
        if concerned.nobody() {
            return 0;
        }
        let pages: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        pages.iter().map(|page| page.rejudge(world, &concerned)).sum()
    }
}

impl Page {
    /// Enters an inbound connection. From here on a change of policy finds it: judge it after, not before.
    #[must_use]
    pub fn enter(self: &Arc<Self>, admitted: Admitted) -> Seat {
        let (cut, revoked) = oneshot::channel();
        let mut entries = lock(&self.0);
        let number = entries.take_number();
        entries.inbound.insert(number, Entry { admitted, cut: Some(cut) });
        drop(entries);
        Seat { page: Arc::clone(self), number, revoked: Some(revoked) }
    }

    /// Notes an outbound connection.
    #[must_use]
    pub fn note(self: &Arc<Self>, outbound: Outbound) -> Seat {
        let mut entries = lock(&self.0);
        let number = entries.take_number();
        entries.outbound.insert(number, outbound);
        drop(entries);
        Seat { page: Arc::clone(self), number, revoked: None }
    }

    /// The live connections, in the order they came.
    #[must_use]
    pub fn dump(&self) -> (Vec<Admitted>, Vec<Outbound>) {
        let entries = lock(&self.0);
        let mut inbound: Vec<_> = entries.inbound.iter().map(|(n, e)| (*n, e.admitted.clone())).collect();
        let mut outbound: Vec<_> = entries.outbound.iter().map(|(n, o)| (*n, o.clone())).collect();
        drop(entries);
        inbound.sort_by_key(|(number, _)| *number);
        outbound.sort_by_key(|(number, _)| *number);
        (inbound.into_iter().map(|(_, a)| a).collect(), outbound.into_iter().map(|(_, o)| o).collect())
    }

    fn rejudge(&self, world: &Snapshot, concerned: &Concerned<'_>) -> usize {
        let mut cut = 0;
        for entry in lock(&self.0).inbound.values_mut() {
            if !concerned.includes(&entry.admitted.dest.uid) {
                continue;
            }
            let Verdict::Deny(denial) = entry.admitted.judge(world) else { continue };
            if let Some(sender) = entry.cut.take() {
                // A connection that is just ending no longer listens.
                cut += usize::from(sender.send(denial).is_ok());
            }
        }
        cut
    }
}

impl Seat {
    /// Waits until the connection must end; for ever when it may go on. Cancel-safe.
    pub async fn revoked(&mut self) -> Denial {
        if let Some(revoked) = &mut self.revoked
            && let Ok(denial) = revoked.await
        {
            return denial;
        }
        std::future::pending().await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut entries = lock(&self.page.0);
        entries.inbound.remove(&self.number);
        entries.outbound.remove(&self.number);
    }
}

impl Entries {
    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Whose connections a change may concern.
enum Concerned<'a> {
    /// A policy changed: everybody's.
    All,
    /// Only workloads changed: theirs.
    These(Vec<&'a WorkloadUid>),
}

impl<'a> Concerned<'a> {
    fn by(delta: &'a Delta) -> Self {
        let mut these = Vec::new();
        for change in &delta.changes {
            match change {
                Change::Policy(_) | Change::PolicyGone(_) => return Self::All,
                Change::Workload(workload) => these.push(&workload.uid),
                Change::WorkloadGone(_) | Change::Service(_) | Change::ServiceGone(_) => {}
            }
        }
        these.sort_unstable();
        Self::These(these)
    }

    fn nobody(&self) -> bool {
        matches!(self, Self::These(these) if these.is_empty())
    }

    fn includes(&self, uid: &WorkloadUid) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.binary_search(&uid).is_ok(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
