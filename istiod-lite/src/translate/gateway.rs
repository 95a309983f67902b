//! Ways into other networks to workloads, and to where workloads of those networks are reached
//! (`control-plane.md` 1.10).

use std::sync::Arc;

use ambit_cluster::kinds::gateway::Gateway;
use ambit_model::address::NetworkAddress;
use ambit_model::delta::Change;
use ambit_model::workload::{GatewayDestination, GatewayRef, Tunnel, Workload};

use super::At;
use crate::index::World;
use crate::index::gateway::{NetworkGateway, Place, read};

/// How a workload on a network is reached from others: by the first way that there is.
pub(super) fn into(world: &World, network: &str) -> Option<GatewayRef> {
    let destination = |way: &NetworkGateway| match &way.address {
        Place::Ip(ip) => Some(GatewayDestination::Address(NetworkAddress::new(network.into(), *ip))),
        Place::Host(host) => format!("{}/{host}", way.namespace).parse().ok().map(GatewayDestination::Host),
    };
    world
        .gateways(network)
        .find_map(|way| Some(GatewayRef { destination: destination(way)?, hbone_port: way.port }))
}

/// Each way as a workload, so that its identity is known.
pub(super) fn translate(at: &At<'_>, object: &Gateway) -> Vec<Change> {
    let ways = read(object).into_iter().filter(|way| is_first(at, way));
    ways.filter_map(|way| workload(at, &way)).map(|it| Change::Workload(Arc::new(it))).collect()
}

/// Two gateways with one address have one name: the first of them counts.
fn is_first(at: &At<'_>, way: &NetworkGateway) -> bool {
    let mut same =
        at.world.gateways(&way.network).filter(|it| (&it.address, it.port) == (&way.address, way.port));
    same.next().is_none_or(|it| (&*it.namespace, &*it.name) == (at.namespace, at.name))
}

fn workload(at: &At<'_>, way: &NetworkGateway) -> Option<Workload> {
    let mut workload = at.blank(format!("NetworkGateway/{}/{}/{}", way.network, way.address, way.port))?;
    match &way.address {
        Place::Ip(ip) => workload.addresses = vec![*ip],
        Place::Host(host) => workload.hostname = host.as_ref().into(),
    }
    workload.network = way.network.as_ref().into();
    workload.network_gateway = None;
    workload.tunnel = Tunnel::Hbone;
    workload.service_account = way.account.parse().ok()?;
    workload.workload_name = at.name.into();
    workload.canonical_name = at.name.into();
    workload.canonical_revision = "latest".into();
    Some(workload)
}
