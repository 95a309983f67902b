//! Making a namespace's packet filter and routing what the rules say, by netlink, without starting a process.
//! Owns reading, comparing, installing and removing. Decides nothing: `rules` says what is to stand there.
//!
//! Everything here runs in the calling thread's namespace, is short and blocks only on the kernel; callers enter with
//! `Netns::run` and bound the time.

mod address;
mod flows;
mod names;
mod nft;
mod older;
mod open;
mod probes;
mod route;
mod upstream;

use ambit_sys::netns::{Netns, NetnsError};
use tracing::warn;

use crate::apply::nft::Whose;
use crate::rules::{
    Families, NodeRules, PodRules, Table, leaving_table, node_table, parting_table, pod_table,
};

pub use address::addresses;
pub use ambit_sys::netlink::talk::TalkError;
pub use probes::{ProbeChange, ProbeTarget, Surplus, sync_probes};

/// What a pod may have opened when its rules come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its first process has yet to start: nothing is open, and looking would hold its start up by as much again.
    Starts,
    /// Anything may be open.
    Runs,
}

/// Why a namespace could not be brought to what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The namespace could not be entered.
    #[error("cannot work in the namespace")]
    Netns(#[from] NetnsError),
    /// The kernel refused or did not answer.
    #[error("cannot {what}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What came back.
        source: TalkError,
    },
    /// Two cannot redirect the same traffic.
    #[error("the pod's traffic is redirected to a sidecar already; restart it without one")]
    Sidecar,
    /// The kernel took the rules, but other rules stand there.
    #[error("the rules read back are not those installed: {0}")]
    NotAsInstalled(Drift),
}

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// All stood there already; nothing was touched.
    None,
    /// Something was installed.
    Made,
}

/// How a namespace differs from what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Drift {
    /// Our table is not there.
    #[error("the table is missing")]
    NoTable,
    /// A chain is missing, foreign, or of another kind.
    #[error("chain {0} differs")]
    Chain(String),
    /// A chain's rules are other rules, or in another order.
    #[error("the rules of chain {0} differ")]
    Rules(String),
    /// A set is missing.
    #[error("set {0} is missing")]
    Set(String),
    /// A table of another agent stands beside ours.
    #[error("table {0} of another agent is there")]
    Foreign(String),
    /// A chain of upstream's agent, made by iptables, redirects to the same ports.
    #[error("chain {0} of another agent is there")]
    Upstream(String),
    /// The rule or route for answers on delivered connections is missing.
    #[error("policy routing for {0} is missing")]
    Routing(&'static str),
}

/// What one visit to a pod's namespace found and did.
#[derive(Debug)]
pub struct Visit {
    /// Whether traffic was redirected before, by these rules or others: anything but a missing table.
    pub was_redirected: bool,
    /// How installing went.
    pub result: Result<Change, ApplyError>,
}

/// Brings a pod's namespace to its rules. Doing it twice changes nothing.
pub fn install_pod(netns: &Netns, wanted: &PodRules, life: Life) -> Result<Visit, ApplyError> {
    netns.run(|| {
        let table = pod_table(wanted);
        let site = nft::Site::visit(Whose::Pod)?;
        let was_redirected = site.drift(&table) != Some(Drift::NoTable);
        // Until ours stand, and only where nothing is redirected yet: then every flow is one from before.
        let _tracked = (life == Life::Runs && !was_redirected).then(open::remember).and_then(|it| {
            it.inspect_err(|error| warn!(%error, "connections that are open now will end")).ok().flatten()
        });
        // Routing first: a rule that marks packets for a route that is not there yet would lose them.
        let result = route::install(wanted.families).and_then(|routed| {
            let filtered = site.install(&table)?;
            Ok(if routed == Change::Made { routed } else { filtered })
        });
        Ok(Visit { was_redirected, result })
    })?
}

/// Compares a pod's namespace with its rules; `None` when all is there, nothing less and nothing more.
pub fn verify_pod(netns: &Netns, wanted: &PodRules) -> Result<Option<Drift>, ApplyError> {
    netns.run(|| match nft::Site::visit(Whose::Pod)?.drift(&pod_table(wanted)) {
        None => route::verify(wanted.families),
        drift => Ok(drift),
    })?
}

/// Redirects nothing new in a pod's namespace; connections that are carried go on, until all is removed. Where nothing
/// is redirected this changes nothing.
pub fn ease_pod(netns: &Netns, wanted: &PodRules) -> Result<(), ApplyError> {
    replace(netns, &leaving_table(wanted))
}

/// Leads no query for a name to ztunnel any more, from whatever port; before all is removed, and a moment after
/// [`ease_pod`].
pub fn part_pod(netns: &Netns, wanted: &PodRules) -> Result<(), ApplyError> {
    replace(netns, &parting_table(wanted))
}

fn replace(netns: &Netns, table: &Table) -> Result<(), ApplyError> {
    netns.run(|| {
        let site = nft::Site::visit(Whose::Pod)?;
        match site.drift(table) {
            Some(Drift::NoTable) => Ok(()),
            _ => site.install(table).map(drop),
        }
    })?
}

/// Takes everything of ours, and what an earlier agent left, out of a pod's namespace. Nothing there is success.
pub fn remove_pod(netns: &Netns) -> Result<(), ApplyError> {
    netns.run(|| {
        // While the kernel takes the rules away one by one, an answer could be taken for one of ztunnel's.
        if let Err(error) = names::forget() {
            warn!(%error, "queries for names are remembered from before and may be led astray");
        }
        nft::remove(Whose::Pod)?;
        route::remove()
    })?
}

/// Tables of the kernel's older packet filter (iptables-legacy) in a pod's namespace that could redirect, for people.
pub fn older_tables(netns: &Netns) -> Result<Vec<String>, ApplyError> {
    Ok(netns.run(older::tables)?)
}

/// Whether somebody in a pod's namespace waits for ztunnel's answer to a query for a name.
pub fn asks_for_names(netns: &Netns) -> Result<bool, ApplyError> {
    let asked = netns.run(names::are_asked)?;
    asked.map_err(|source| ApplyError::Kernel { what: "read the list of flows", source })
}

/// Brings the calling thread's namespace, the node's, to its rules. Sets keep their elements if nothing else differs.
pub fn install_node(wanted: &NodeRules) -> Result<Change, ApplyError> {
    nft::Site::visit(Whose::Node)?.install(&node_table(wanted))
}

/// Takes everything of ours out of the node's namespace.
pub fn remove_node() -> Result<(), ApplyError> {
    nft::remove(Whose::Node)
}

/// The families that the calling thread's namespace can use at all: without IPv6 in the kernel there is only one.
#[must_use]
pub fn usable_families() -> Families {
    if std::path::Path::new("/proc/sys/net/ipv6").exists() { Families::Both } else { Families::V4 }
}

#[cfg(test)]
mod pair;
#[cfg(test)]
mod tests;
