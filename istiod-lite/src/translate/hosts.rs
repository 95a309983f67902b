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
    if at.world.claims(host).any(|it| it.kind == UnitKind::Service) {
        return false;
    }
    // One that is for its namespace is never preferred elsewhere.
    let public =
        |it: &&Unit| at.world.visibility(&it.namespace).is_none_or(|visible| visible == Visible::Public);
    let claims = at.world.claims(host).filter(public);
    let claims = claims.filter(|it| wins(at.world, &it.namespace, &it.name, host));
    let oldest = claims.filter_map(|it| entry(at.world, it)).min_by_key(|it| it.metadata.age());
    oldest.is_some_and(|it| it.metadata.namespace == at.namespace && it.metadata.name == at.name)
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
