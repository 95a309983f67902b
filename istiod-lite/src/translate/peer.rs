//! Peer authentications to policies (`control-plane.md` 4.4).
//!
//! For each workload there is one answer: must peers prove who they are, and on which ports is it the other way.
//! Both what is attached to a workload and what the attached policy says derive from that one answer, so a policy
//! that is attached always exists. Upstream computes the two apart and can attach one that it never sends.

use std::collections::BTreeSet;

use ambit_cluster::kinds::meta::{Texts, selects};
use ambit_cluster::kinds::policy::{MtlsMode, PeerAuthentication};
use ambit_model::name::PolicyKey;
use ambit_model::policy::{Action, Clause, Condition, Match, Policy, PolicyScope, Rule, TextMatch};

use super::At;
use crate::index::{Space, World};

/// What is demanded of a workload's peers.
struct Demand {
    /// They must prove who they are.
    strict: bool,
    /// Ports on which it is the other way.
    exceptions: BTreeSet<u16>,
}

/// The policy "peers must prove who they are", once anybody may demand it.
pub(super) fn strict(world: &World) -> Option<Policy> {
    let rules = vec![Rule { clauses: vec![clause(anonymous())] }];
    world.has_peers().then(|| deny(strict_key(world)?, rules)).flatten()
}

/// The policy of a peer authentication with exceptions by port.
pub(super) fn derived(at: &At<'_>, peer: &PeerAuthentication) -> Option<Policy> {
    let demand = demand(at, peer)?;
    if demand.exceptions.is_empty() {
        return None;
    }
    let port = |port: &u16| vec![*port];
    let rules = if demand.strict {
        let mut clauses = vec![clause(anonymous())];
        clauses.extend(demand.exceptions.iter().map(|exempt| {
            let destination_ports = Condition { any: Vec::new(), none: port(exempt) };
            clause(Match { destination_ports, ..Match::default() })
        }));
        vec![Rule { clauses }]
    } else {
        let rule = |strict: &u16| {
            let destination_ports = Condition { any: port(strict), none: Vec::new() };
            Rule { clauses: vec![clause(Match { destination_ports, ..anonymous() })] }
        };
        demand.exceptions.iter().map(rule).collect()
    };
    deny(derived_key(at, peer)?, rules)
}

/// The policy that is attached to a workload, if any.
pub(super) fn attached(at: &At<'_>, labels: &Texts) -> Option<PolicyKey> {
    let own = governing(at, labels);
    match own.and_then(|peer| Some((peer, demand(at, peer)?))) {
        Some((peer, demand)) if !demand.exceptions.is_empty() => derived_key(at, peer),
        Some((_, demand)) => demand.strict.then(|| strict_key(at.world)).flatten(),
        None => (inherited(at) == MtlsMode::Strict).then(|| strict_key(at.world)).flatten(),
    }
}

fn demand(at: &At<'_>, peer: &PeerAuthentication) -> Option<Demand> {
    if peer.selector().is_none() || at.namespace == at.world.mesh.root_namespace {
        return None;
    }
    let mode = if peer.mode() == MtlsMode::Unset { inherited(at) } else { peer.mode() };
    let strict = mode == MtlsMode::Strict;
    let ports = peer.spec.port_level_mtls.iter().filter(|(_, port)| port.mode != MtlsMode::Unset);
    let others = ports.filter(|(_, port)| (port.mode == MtlsMode::Strict) != strict);
    Some(Demand { strict, exceptions: others.map(|(port, _)| port.0).collect() })
}

/// The oldest one that selects the workload; those of the root namespace select nobody.
fn governing<'a>(at: &At<'a>, labels: &Texts) -> Option<&'a PeerAuthentication> {
    if at.namespace == at.world.mesh.root_namespace {
        return None;
    }
    let peers = at.space.peers.values().map(AsRef::as_ref);
    peers
        .filter(|peer: &&PeerAuthentication| {
            peer.selector().is_some_and(|selector| selects(selector, labels))
        })
        .min_by_key(|peer| peer.metadata.age())
}

/// What the namespace says, or else the mesh.
fn inherited(at: &At<'_>) -> MtlsMode {
    let root = at.world.space(&at.world.mesh.root_namespace);
    let said = [Some(at.space), root].into_iter().flatten().filter_map(for_all);
    said.into_iter().find(|mode| *mode != MtlsMode::Unset).unwrap_or(MtlsMode::Permissive)
}

fn for_all(space: &Space) -> Option<MtlsMode> {
    let peers = space.peers.values().filter(|peer| peer.selector().is_none());
    peers.min_by_key(|peer| peer.metadata.age()).map(|peer| peer.mode())
}

fn strict_key(world: &World) -> Option<PolicyKey> {
    let name = "istio_converted_static_strict".parse().ok()?;
    Some(PolicyKey { namespace: world.mesh.root_namespace.parse().ok()?, name })
}

/// All workloads that a peer authentication governs are in its namespace, so its content is the same for all of
/// them, and its name is enough of a name.
fn derived_key(at: &At<'_>, peer: &PeerAuthentication) -> Option<PolicyKey> {
    let name = format!("converted_peer_authentication_{}", peer.metadata.name).parse().ok()?;
    Some(PolicyKey { namespace: at.namespace.parse().ok()?, name })
}

fn deny(key: PolicyKey, rules: Vec<Rule>) -> Option<Policy> {
    Some(Policy { key, scope: PolicyScope::Selector, action: Action::Deny, rules, dry_run: false })
}

/// A peer that has proved nothing.
fn anonymous() -> Match {
    let principals = Condition { any: Vec::new(), none: vec![TextMatch::Presence] };
    Match { principals, ..Match::default() }
}

fn clause(only: Match) -> Clause {
    Clause { matches: vec![only] }
}
