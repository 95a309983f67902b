//! DestinationRules to how services' traffic is handled (`waypoint.md` 4.5): pure. Owns which rules are in force for a
//! host, who is in a subset, and which of a rule's parts goes before which. What a part means is `handling`'s, what
//! policies of the Gateway API say instead of a part `secured`'s.

pub mod credential;
mod handling;
pub mod secured;
mod tls;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_cluster::kinds::destination_rule::{
    DestinationRule, PortPolicy, Resilience, Subset as GivenSubset, TrafficPolicy,
};
use ambit_cluster::kinds::entry::ServiceEntry;
use ambit_cluster::kinds::meta::{Texts, selects};
use ambit_cluster::kinds::service::Service;
use ambit_model::name::{ServiceKey, WorkloadUid};
use ambit_model::traffic::{Handling, Subset, Traffic};

use self::credential::Within;
use self::handling::{Parts, handling};
use self::secured::{Secured, secured};
use crate::index::World;
use crate::translate::waypoint::{Asker, Attachment, attach};
use crate::translate::{is_exported, uid};

/// What is handled how: for whom rules are looked up.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// The service.
    pub key: &'a ServiceKey,
    /// The namespace of its waypoint; none: it has none.
    pub waypoint: Option<&'a str>,
}

/// How a host's traffic is handled; nothing, if no rule is for it, nor any policy.
#[must_use]
pub fn traffic(
    world: &World,
    host: Host<'_>,
    secured: &Secured,
    members: impl Fn(&Texts) -> BTreeSet<WorkloadUid>,
) -> Option<Traffic> {
    let rules = in_force(world, host);
    if rules.is_empty() && secured.is_empty() {
        return None;
    }
    let policy = rules.iter().find_map(|rule| rule.spec.traffic_policy.as_ref());
    let own = Parts::of(policy);
    let resilience = rules.iter().map(|rule| rule.resilience().0).find(|it| *it != Resilience::default());
    let resilience = resilience.unwrap_or_default();
    let within = Within { world, namespace: host.waypoint };
    let handled = |parts: Parts<'_>| resilient(&resilience, handling(parts.within(within), &mut Vec::new()));
    let mut traffic = Traffic::unsaid(host.key.clone());
    traffic.handling = handled(own.begun(secured.whole()));
    let on_port = |port: u16| handled(own.on(policy, port).begun(secured.on(port)));
    let ports = ports_of(policy, None).into_iter().chain(secured.ports());
    traffic.ports = ports.map(|port| (port, on_port(port))).collect();
    for subset in rules.iter().flat_map(|rule| &rule.spec.subsets) {
        // Of one name, the first: the oldest rule's.
        let known = traffic.subsets.contains_key(subset.name.as_str());
        if !known {
            let members = (members(&subset.labels), &resilience);
            let made = self::subset((own.within(within), policy, secured), subset, members);
            traffic.subsets.insert(subset.name.as_str().into(), made);
        }
    }
    Some(traffic)
}

/// The same for who may have a waypoint, by each of its names.
#[must_use]
pub fn of_asker<'a>(
    world: &World,
    asker: Asker<'_>,
    keys: impl IntoIterator<Item = &'a ServiceKey>,
    members: impl Fn(&Texts) -> BTreeSet<WorkloadUid>,
) -> Vec<Traffic> {
    let secured = asker.object().map(|at| secured(world, &at)).unwrap_or_default();
    if !world.has_rules() && secured.is_empty() {
        return Vec::new();
    }
    let waypoint = match attach(world, asker) {
        Attachment::Bound(bound) => Some(bound.waypoint.namespace),
        Attachment::Unasked | Attachment::Unbound(_) => None,
    };
    keys.into_iter().filter_map(|key| traffic(world, Host { key, waypoint }, &secured, &members)).collect()
}

fn subset(
    (own, policy, secured): (Parts<'_>, Option<&TrafficPolicy>, &Secured),
    subset: &GivenSubset,
    (members, resilience): (BTreeSet<WorkloadUid>, &Resilience),
) -> Subset {
    let given = subset.traffic_policy.as_ref();
    let handled = |parts: Parts<'_>| resilient(resilience, handling(parts, &mut Vec::new()));
    let on_port = |port: u16| {
        let parts = Parts::of(given).over(own.on(policy, port)).on(given, port);
        handled(parts.begun(secured.on(port)))
    };
    let ports = ports_of(policy, given).into_iter().chain(secured.ports());
    let ports: BTreeMap<u16, Handling> = ports.map(|port| (port, on_port(port))).collect();
    Subset { members, handling: handled(Parts::of(given).over(own).begun(secured.whole())), ports }
}

/// What annotations say is of all ports and subsets.
fn resilient(said: &Resilience, handling: Handling) -> Handling {
    let Resilience { probe, hedge_after, adaptive } = said.clone();
    Handling { probe, hedge_after, adaptive, ..handling }
}

/// Ports of which something of their own was said.
fn ports_of(policy: Option<&TrafficPolicy>, subset: Option<&TrafficPolicy>) -> BTreeSet<u16> {
    let all = policy.into_iter().chain(subset).flat_map(|it| &it.port_level_settings);
    all.filter_map(|it: &PortPolicy| it.port.as_ref()).map(|port| port.number.0).collect()
}

/// The rules in force for a host: those of the waypoint's namespace, or else the service's, or else the mesh's, that
/// name it best, the oldest first.
#[must_use]
pub fn in_force<'a>(world: &'a World, host: Host<'_>) -> Vec<&'a Arc<DestinationRule>> {
    let own = host.key.namespace.as_str();
    let asks = host.waypoint.unwrap_or(own);
    let root = world.mesh.root_namespace.as_str();
    let mut looked = Vec::new();
    for namespace in [asks, own, root] {
        if looked.contains(&namespace) {
            continue;
        }
        looked.push(namespace);
        let Some(space) = world.space(namespace) else { continue };
        let visible =
            space.destination_rules.values().filter(|it| is_for_waypoints(it) && is_visible(it, asks));
        let mut named: Vec<_> = visible
            .filter_map(|it| Some((how_well(world, it, host.key.hostname.as_str())?, it.metadata.age(), it)))
            .collect();
        named.sort_by(|(one, age, _), (other, other_age, _)| other.cmp(one).then(age.cmp(other_age)));
        if let Some((best, ..)) = named.first().map(|(best, age, it)| (*best, age, it)) {
            return named.into_iter().filter(|(well, ..)| *well == best).map(|(.., it)| it).collect();
        }
    }
    Vec::new()
}

/// Whether nothing in it keeps waypoints from going by it.
#[must_use]
pub fn is_for_waypoints(rule: &DestinationRule) -> bool {
    rule.spec.workload_selector.as_ref().is_none_or(|it| it.match_labels.is_empty())
}

fn is_visible(rule: &DestinationRule, to: &str) -> bool {
    is_exported(&rule.spec.export_to, &rule.metadata.namespace, to)
}

/// How well a rule names a host: in full, or by how much of it; not at all.
#[must_use]
pub fn how_well(world: &World, rule: &DestinationRule, host: &str) -> Option<usize> {
    names_well(&full_name(world, rule), host)
}

/// How well the full name of a rule's host names one.
#[must_use]
pub fn names_well(named: &str, host: &str) -> Option<usize> {
    match named.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix).then_some(suffix.len()),
        None => (named == host).then_some(usize::MAX),
    }
}

/// The host of a rule in full: one word is a service of its namespace.
#[must_use]
pub fn full_name<'a>(world: &World, rule: &'a DestinationRule) -> Cow<'a, str> {
    let host = rule.spec.host.as_str();
    match host.contains(['.', '*']) {
        true => host.into(),
        false => world.hostname(&rule.metadata.namespace, host).into(),
    }
}

/// What of a rule waypoints do not go by, for its author.
#[must_use]
pub fn notes(rule: &DestinationRule, within: Within<'_>) -> Vec<String> {
    let unread = rule.resilience().1.into_iter();
    let mut notes: Vec<_> =
        unread.map(|(key, unread)| format!("annotation {key} has no effect: {unread}")).collect();
    let mut read = |field: &str, policy: Option<&TrafficPolicy>| {
        let mut own = Vec::new();
        let parts = Parts::of(policy);
        handling(parts.within(within), &mut own);
        notes.extend(own.iter().map(|note| format!("{field}.{note}")));
        for (at, port) in policy.iter().flat_map(|it| &it.port_level_settings).enumerate() {
            let mut own = Vec::new();
            handling(Parts::of_port(port).within(within), &mut own);
            notes.extend(own.iter().map(|note| format!("{field}.portLevelSettings[{at}].{note}")));
        }
    };
    read("trafficPolicy", rule.spec.traffic_policy.as_ref());
    for (at, subset) in rule.spec.subsets.iter().enumerate() {
        read(&format!("subsets[{at}].trafficPolicy"), subset.traffic_policy.as_ref());
    }
    notes
}

/// The workloads of a namespace that are chosen, and have all of these labels.
#[must_use]
pub fn labelled(
    world: &World,
    namespace: &str,
    labels: &Texts,
    is_chosen: impl Fn(&Texts) -> bool,
) -> BTreeSet<WorkloadUid> {
    let Some(space) = world.space(namespace) else { return BTreeSet::new() };
    let is_meant = |own: &Texts| selects(labels, own) && is_chosen(own);
    let pods = space.pods.iter().filter(|(_, it)| is_meant(&it.metadata.labels));
    let pods = pods.map(|(name, _)| uid::pod(world, namespace, name).into());
    let entries = space.workloads.iter().filter(|(_, it)| is_meant(&it.labels()));
    pods.chain(entries.map(|(name, _)| uid::workload_entry(world, namespace, name).into())).collect()
}

/// Whether a workload may be an endpoint of a service: by its labels, or where only slices say so, in any case.
#[must_use]
pub fn is_of_service(service: &Service, labels: &Texts) -> bool {
    let selector = &service.spec.selector;
    selector.is_empty() || selects(selector, labels)
}

/// The same of a service entry, which chooses by labels or not at all.
#[must_use]
pub fn is_of_entry(entry: &ServiceEntry, labels: &Texts) -> bool {
    let selector = entry.spec.workload_selector.as_ref();
    selector.is_some_and(|it| !it.labels.is_empty() && selects(&it.labels, labels))
}

#[cfg(test)]
mod tests;
