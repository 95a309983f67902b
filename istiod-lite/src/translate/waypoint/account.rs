//! What goes through the waypoint of a service account: workloads that run as it, and services all of whose endpoints do.
//! Owns that decision alone; what stands above it and below it is the parent's.

use ambit_cluster::kinds::gateway::Gateway;

use super::{Asker, is_waypoint};
use crate::index::World;
use crate::index::accounts::{behind, for_accounts, served};
use crate::index::users::Named;

/// What the waypoints of accounts have to do with somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim<'a> {
    /// Nothing.
    Nobody,
    /// All of it is for this one.
    All(Named<'a>),
    /// Some endpoints run as this one's account, others do not.
    Part(Named<'a>),
}

/// Whose is somebody's traffic, by the accounts it leads to?
pub(super) fn claim<'a>(world: &'a World, asker: Asker<'a>) -> Claim<'a> {
    let namespace = asker.namespace();
    let Some(space) = world.space(namespace) else { return Claim::Nobody };
    if for_accounts(space).next().is_none() {
        return Claim::Nobody;
    }
    let accounts = match asker {
        Asker::Workload { account, .. } => vec![Some(account)],
        Asker::Service(service) => behind(space, service),
        // Its hosts are elsewhere, and as whom they run is what their endpoints say one by one.
        Asker::Entry(_) => Vec::new(),
    };
    let claims: Vec<_> = accounts.iter().map(|it| waypoint_of(world, namespace, (*it)?)).collect();
    let mut claimed: Vec<&Gateway> = claims.iter().flatten().copied().collect();
    claimed.sort_by_key(|it| it.metadata.age());
    let Some(first) = claimed.first() else { return Claim::Nobody };
    let name = Named { namespace, name: &first.metadata.name };
    let is_its = |it: &Option<&Gateway>| it.is_some_and(|it| it.metadata.name == first.metadata.name);
    if claims.iter().all(is_its) { Claim::All(name) } else { Claim::Part(name) }
}

/// The waypoint for an account of a namespace: of several the oldest.
pub(crate) fn waypoint_of<'a>(world: &'a World, namespace: &str, account: &str) -> Option<&'a Gateway> {
    let all =
        for_accounts(world.space(namespace)?).filter(|(it, of)| *of == account && is_waypoint(world, it));
    all.map(|(it, _)| it.as_ref()).min_by_key(|it| it.metadata.age())
}

/// The account that a gateway is for, and the other gateway that is there for it already.
#[must_use]
pub(crate) fn standing<'a>(world: &'a World, gateway: &'a Gateway) -> Option<(&'a str, Option<&'a Gateway>)> {
    let account = served(gateway)?;
    let first = waypoint_of(world, &gateway.metadata.namespace, account);
    Some((account, first.filter(|it| it.metadata.name != gateway.metadata.name)))
}

#[cfg(test)]
mod tests;
