//! Which objects are in force for a host name that several claim (`control-plane.md` 1.9).

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::kinds::entry::ServiceEntry;
use ambit_cluster::kinds::mesh::Visible;
use ambit_model::name::ServiceKey;

use super::At;
use crate::index::World;
use crate::index::unit::{Unit, UnitKind};

/// The hosts for which a service entry is in force: in one namespace a Kubernetes service comes first, then the
/// oldest entry.
pub(super) fn in_force(at: &At<'_>, entry: &ServiceEntry) -> BTreeSet<ServiceKey> {
    if at.world.visibility(at.namespace) == Some(Visible::None) {
        return BTreeSet::new();
    }
    let hosts = entry.spec.hosts.iter().filter(|host| wins(at.world, at.namespace, at.name, &host.0));
    hosts.filter_map(|host| format!("{}/{}", at.namespace, host.0).parse().ok()).collect()
}

/// Whether a service entry is the one that is preferred outside of its namespace.
pub(super) fn is_canonical(at: &At<'_>, host: &str) -> bool {
    canonical(at.world, host).is_some_and(|it| {
        it.kind == UnitKind::ServiceEntry && *it.namespace == *at.namespace && *it.name == *at.name
    })
}

/// What a host is to those of a namespace: what is in force there, or else what is preferred elsewhere. What nobody is
/// told of, or not those, is nothing to them.
pub(super) fn known_as<'a>(world: &'a World, namespace: &str, host: &str) -> Option<&'a Unit> {
    let mut own = world.claims(host).filter(|it| *it.namespace == *namespace);
    let is_told = |it: &Unit| it.kind == UnitKind::Service || is_in_force(world, it, host);
    own.find(|it| is_told(it)).or_else(|| canonical(world, host))
}

/// What is preferred outside of its namespace: a Kubernetes service, or else the oldest entry that is for everybody.
fn canonical<'a>(world: &'a World, host: &str) -> Option<&'a Unit> {
    if let Some(service) = world.claims(host).find(|it| it.kind == UnitKind::Service) {
        return Some(service);
    }
    // One that is for its namespace is never preferred elsewhere.
    let public =
        |it: &&Unit| world.visibility(&it.namespace).is_none_or(|visible| visible == Visible::Public);
    let claims = world.claims(host).filter(public).filter(|it| wins(world, &it.namespace, &it.name, host));
    let aged = claims.filter_map(|it| Some((entry(world, it)?.metadata.age(), it)));
    aged.min_by_key(|(age, _)| *age).map(|(_, it)| it)
}

fn is_in_force(world: &World, unit: &Unit, host: &str) -> bool {
    world.visibility(&unit.namespace) != Some(Visible::None) && wins(world, &unit.namespace, &unit.name, host)
}

fn wins(world: &World, namespace: &str, name: &str, host: &str) -> bool {
    let rivals: Vec<_> = world.claims(host).filter(|it| it.namespace.as_ref() == namespace).collect();
    if rivals.iter().any(|it| it.kind == UnitKind::Service) {
        return false;
    }
    let oldest = rivals.into_iter().filter_map(|it| entry(world, it)).min_by_key(|it| it.metadata.age());
    oldest.is_some_and(|it| it.metadata.name == name)
}

fn entry<'a>(world: &'a World, unit: &Unit) -> Option<&'a Arc<ServiceEntry>> {
    world.space(&unit.namespace)?.entries.get(&unit.name)
}
