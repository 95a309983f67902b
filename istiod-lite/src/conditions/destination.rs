//! What is said of DestinationRules (`waypoint.md` 4.5): who goes by them, and what of them is not gone by.

use ambit_cluster::kinds::destination_rule::{DestinationRule, TrafficPolicy};
use ambit_cluster::{Kind, ObjectRef};

use super::{Condition, WAYPOINT_ACCEPTED};
use crate::index::World;
use crate::index::unit::{Unit, UnitKind};
use crate::translate::destination::credential::{Within, namespaces};
use crate::translate::destination::secured::secured;
use crate::translate::destination::{Host, full_name, how_well, in_force, is_for_waypoints, notes};
use crate::translate::waypoint::{Asker, Attachment, attach, class_of};

/// Hosts that are named; of more it is said how many there are.
const SHOWN: usize = 5;

/// What there is to say of a rule.
pub(super) fn said(world: &World, rule: &DestinationRule) -> Condition {
    let no = |reason, text: String| Condition::new(WAYPOINT_ACCEPTED, "False", reason, text);
    if !is_for_waypoints(rule) {
        let text = "it is for the traffic of chosen workloads, which only sidecars tell apart; leave workloadSelector out";
        return no("UnsupportedValue", text.into());
    }
    let governed = world.governed_by(rule);
    if governed.is_empty() {
        return no("TargetNotFound", format!("nothing has the host {}", full_name(world, rule)));
    }
    let found: Vec<(String, Found)> = governed
        .iter()
        .flat_map(|unit| hosts(world, unit, rule).into_iter().map(move |host| (host, unit)))
        .map(|(host, unit)| {
            let found = look(world, unit, (&host, rule));
            (host, found)
        })
        .collect();
    let by = |wanted: &Found| -> Vec<&str> {
        found.iter().filter(|(_, it)| it == wanted).map(|(host, _)| host.as_str()).collect()
    };
    let goes = by(&Found::GoneBy);
    if goes.is_empty() {
        let behind = by(&Found::Behind);
        if !behind.is_empty() {
            return no("Conflicted", format!("another rule goes before it for {}", listed(&behind)));
        }
        let text = "no waypoint of ours goes by it, for none is attached to what has the host";
        return no("AncestorNotBound", text.into());
    }
    let mut text = format!("gone by by waypoints, for {}", listed(&goes));
    let behind = by(&Found::Behind);
    if !behind.is_empty() {
        text += &format!("; another rule goes before it for {}", listed(&behind));
    }
    let mut notes = all_notes(world, rule);
    notes.extend(secured_otherwise(world, rule));
    if !notes.is_empty() {
        text += &format!("; not honoured: {}", notes.join("; "));
    }
    let is_whole = behind.is_empty() && notes.is_empty();
    let reason = if is_whole { "Accepted" } else { "PartiallyInvalid" };
    Condition::new(WAYPOINT_ACCEPTED, "True", reason, text)
}

/// What of a rule waypoints do not go by; of which secrets there are, each namespace of waypoints has its own say.
fn all_notes(world: &World, rule: &DestinationRule) -> Vec<String> {
    let spaces = namespaces(world, rule);
    let mut spaces: Vec<Option<&str>> = spaces.iter().map(|it| Some(it.as_str())).collect();
    if spaces.is_empty() {
        spaces.push(None);
    }
    let mut all = Vec::new();
    for note in spaces.into_iter().flat_map(|namespace| notes(rule, Within { world, namespace })) {
        if !all.contains(&note) {
            all.push(note);
        }
    }
    all
}

/// What is said of TLS by a rule, where policies of the Gateway API say something as well.
fn secured_otherwise(world: &World, rule: &DestinationRule) -> Option<String> {
    let subsets = rule.spec.subsets.iter().filter_map(|it| it.traffic_policy.as_ref());
    let mut policies = rule.spec.traffic_policy.iter().chain(subsets);
    let says =
        |it: &TrafficPolicy| it.tls.is_some() || it.port_level_settings.iter().any(|it| it.tls.is_some());
    if !policies.any(says) {
        return None;
    }
    let all = world.governed_by(rule);
    let secured = all.iter().find(|unit| !secured(world, &object_of(unit)).is_empty())?;
    Some(format!("tls: BackendTLSPolicies go before it for {}/{}", secured.namespace, secured.name))
}

/// What becomes of a rule for one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A waypoint goes by it.
    GoneBy,
    /// Others go before it.
    Behind,
    /// There is no waypoint to go by it.
    NoWaypoint,
}

fn look(world: &World, unit: &Unit, (host, rule): (&str, &DestinationRule)) -> Found {
    let attachment = Asker::of(world, &object_of(unit)).map(|it| attach(world, it));
    let Some(Attachment::Bound(bound)) = attachment else { return Found::NoWaypoint };
    let namespace = bound.waypoint.namespace;
    let waypoint = world.space(namespace).and_then(|space| space.gateways.get(bound.waypoint.name));
    let is_ours = waypoint.and_then(|it| class_of(world, it)).is_some_and(|class| class.is_ours);
    let Ok(key) = format!("{}/{host}", unit.namespace).parse() else { return Found::NoWaypoint };
    let first = in_force(world, Host { key: &key, waypoint: Some(namespace) });
    let own = &rule.metadata;
    let is_in_force =
        first.iter().any(|it| it.metadata.name == own.name && it.metadata.namespace == own.namespace);
    match (is_ours, is_in_force) {
        (false, _) => Found::NoWaypoint,
        (true, true) => Found::GoneBy,
        (true, false) => Found::Behind,
    }
}

/// The hosts of a service or a service entry that a rule names.
fn hosts(world: &World, unit: &Unit, rule: &DestinationRule) -> Vec<String> {
    let all = world.claimed_by(&object_of(unit)).into_iter().map(|(host, _)| host.into_string());
    all.filter(|host| how_well(world, rule, host).is_some()).collect()
}

/// Of what rules govern, the object.
fn object_of(unit: &Unit) -> ObjectRef {
    let kind = if unit.kind == UnitKind::Service { Kind::Service } else { Kind::ServiceEntry };
    ObjectRef::new(kind, &unit.namespace, &unit.name)
}

fn listed(hosts: &[&str]) -> String {
    let more = hosts.len().saturating_sub(SHOWN);
    let shown = hosts.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
