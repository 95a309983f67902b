//! Service addresses outside the mesh: where a connection to one goes from a node, as its kube-proxy would have
//! it. Pure: which endpoints there are; `rules` puts them into a node's packet filter, `keeper` keeps them there.

mod keeper;
mod rules;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ambit_cluster::kinds::core::Pod;
use ambit_cluster::kinds::meta::selects;
use ambit_cluster::kinds::scalar::PortName;
use ambit_cluster::kinds::service::{EndpointSlice, Service, ServicePort};
use ambit_cluster::object::ObjectRef;

pub(crate) use self::keeper::ServiceKeeper;
use super::world::World;

/// What a node does with service addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Services {
    pub(crate) balances: BTreeSet<Balance>,
    /// All service addresses: what no balance takes is refused, rather than lost on some default route.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// One address and port, and where connections to it go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Balance {
    pub(crate) to: SocketAddr,
    pub(crate) protocol: Transport,
    pub(crate) choice: Choice,
    /// Of the address's family.
    pub(crate) endpoints: BTreeSet<SocketAddr>,
}

/// What ports belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    Chance,
    /// `sessionAffinity: ClientIP`: by the client's address alone, for as long as the endpoints are the same.
    ByClient,
}

/// What the cluster's services mean on this node.
pub(crate) fn services(world: &World, node: &str) -> Services {
    let mut found = Services::default();
    for (reference, service) in world.services() {
        let vips = service.spec.vips();
        found.addresses.extend(&vips);
        let choice = if world.has_affinity(reference) { Choice::ByClient } else { Choice::Chance };
        for port in &service.spec.ports {
            let Some(protocol) = transport(&port.protocol) else { continue };
            let all = endpoints(world, reference, service, port, node);
            for vip in &vips {
                let endpoints: BTreeSet<_> =
                    all.iter().copied().filter(|it| it.is_ipv4() == vip.is_ipv4()).collect();
                if !endpoints.is_empty() {
                    let to = SocketAddr::new(*vip, port.port.0);
                    found.balances.insert(Balance { to, protocol, choice, endpoints });
                }
            }
        }
    }
    found
}

fn endpoints(
    world: &World,
    reference: &ObjectRef,
    service: &Service,
    port: &ServicePort,
    node: &str,
) -> Vec<SocketAddr> {
    let local_only = service.spec.internal_traffic_policy == "Local";
    if service.spec.selector.is_empty() {
        let own = world.slices().filter(|(at, slice)| {
            at.namespace == reference.namespace && slice.service() == Some(&reference.name)
        });
        return own.flat_map(|(_, slice)| of_slice(slice, port, local_only.then_some(node))).collect();
    }
    let pods = world.behind(reference, service).filter(|pod| !local_only || pod.spec.node_name == node);
    pods.flat_map(|pod| {
        let target = target(pod, port);
        pod.ips().into_iter().filter_map(move |ip| Some(SocketAddr::new(ip, target?)))
    })
    .collect()
}

fn of_slice(slice: &EndpointSlice, port: &ServicePort, only: Option<&str>) -> Vec<SocketAddr> {
    let target = slice.ports.iter().find(|given| given.name == port.name);
    let Some(target) = target.and_then(|given| given.port) else { return Vec::new() };
    let usable = slice.endpoints.iter().filter(|endpoint| {
        endpoint.conditions.ready != Some(false) && only.is_none_or(|node| endpoint.node_name == node)
    });
    let first = usable.filter_map(|endpoint| endpoint.addresses.first()?.parse::<IpAddr>().ok());
    first.map(|ip| SocketAddr::new(ip, target.0)).collect()
}

/// The port of a pod that a service's port stands for; none where it names one that the pod does not have.
fn target(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port.0),
        Some(PortName::Number(number)) => Some(*number),
        Some(PortName::Name(name)) => {
            let mut all = pod.spec.containers.iter().flat_map(|container| &container.ports);
            let named =
                all.find(|own| own.name == *name && transport(&own.protocol) == transport(&port.protocol));
            named.map(|own| own.container_port.0)
        }
    }
}

fn transport(text: &str) -> Option<Transport> {
    match text {
        "" | "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        _ => None,
    }
}

/// Whether a pod is behind a service by its labels.
pub(super) fn is_behind(service: &Service, pod: &Pod) -> bool {
    let selector = &service.spec.selector;
    !selector.is_empty() && selects(selector, &pod.metadata.labels)
}

#[cfg(test)]
mod tests;
