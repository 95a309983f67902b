//! Which services a workload is an endpoint of, and on which of its ports (`control-plane.md` 1.4.3, 1.5).
//! Endpoint slices that Kubernetes would derive from a selector need not exist: the selector itself is read.

use std::collections::BTreeMap;

use ambit_cluster::kinds::core::{Container, Pod};
use ambit_cluster::kinds::entry::{EntryPort, ServiceEntry, WorkloadEntry};
use ambit_cluster::kinds::meta::{Texts, selects};
use ambit_cluster::kinds::scalar::PortName;
use ambit_cluster::kinds::service::{Service, ServicePort, ServiceType};
use ambit_model::name::ServiceKey;

use super::{At, hosts};

/// Service port to the workload's port.
pub(super) type Ports = BTreeMap<u16, u16>;

/// A workload's services.
pub(super) type Memberships = BTreeMap<ServiceKey, Ports>;

/// The services of a pod.
pub(super) fn of_pod(at: &At<'_>, pod: &Pod) -> Memberships {
    let mut found = Memberships::new();
    for (name, service) in services(at, &pod.metadata.labels, |name| is_endpoint(at, name, pod)) {
        let ports = service.spec.ports.iter();
        add(at, &mut found, name, ports.filter_map(|port| Some((port.port.0, pod_port(pod, port)?))));
    }
    for (host, entry) in entries(at, &pod.metadata.labels) {
        let target = |port: &EntryPort| container_port(pod, &port.name).unwrap_or_else(|| entry_port(port));
        let ports = entry.spec.ports.iter().map(|port| (port.number.0, target(port)));
        found.insert(host, ports.collect());
    }
    found
}

/// The services of a workload entry, whose labels are given.
pub(super) fn of_entry(at: &At<'_>, workload: &WorkloadEntry, labels: &Texts) -> Memberships {
    let own = &workload.spec.ports;
    let mut found = Memberships::new();
    for (name, service) in services(at, labels, |_| false) {
        let target = |port: &ServicePort| match &port.target_port {
            Some(PortName::Name(target)) => own.get(target).map(|port| port.0),
            Some(PortName::Number(target)) => Some(own.get(&port.name).map_or(*target, |port| port.0)),
            None => Some(own.get(&port.name).map_or(port.port.0, |port| port.0)),
        };
        let ports = service.spec.ports.iter();
        add(at, &mut found, name, ports.filter_map(|port| Some((port.port.0, target(port)?))));
    }
    for (host, entry) in entries(at, labels) {
        let target = |port: &EntryPort| own.get(&port.name).map_or_else(|| entry_port(port), |own| own.0);
        let ports = entry.spec.ports.iter().map(|port| (port.number.0, target(port)));
        found.insert(host, ports.collect());
    }
    found
}

/// The endpoint's port for a service entry's port, when the endpoint does not say otherwise.
pub(super) fn entry_port(port: &EntryPort) -> u16 {
    port.target_port.map_or(port.number.0, |target| target.0)
}

fn add(at: &At<'_>, found: &mut Memberships, service: &str, ports: impl Iterator<Item = (u16, u16)>) {
    let host = at.world.hostname(at.namespace, service);
    if let Ok(key) = format!("{}/{host}", at.namespace).parse() {
        let known: &mut Ports = found.entry(key).or_default();
        for (port, target) in ports {
            // The same number over TCP and UDP: the first one, which is TCP where both are given.
            known.entry(port).or_insert(target);
        }
    }
}

/// Services whose selector chooses the labels, or that name the workload otherwise.
fn services<'a>(
    at: &At<'a>,
    labels: &Texts,
    otherwise: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (&'a str, &'a Service)> {
    at.space.services.iter().map(|(name, service)| (name.as_ref(), service.as_ref())).filter(
        move |(name, it)| {
            let spec = &it.spec;
            let by_label = !spec.selector.is_empty() && selects(&spec.selector, labels);
            spec.kind != ServiceType::ExternalName
                && (by_label || (spec.selector.is_empty() && otherwise(name)))
        },
    )
}

/// Hosts in force of service entries whose selector chooses the labels.
fn entries<'a>(at: &At<'a>, labels: &Texts) -> impl Iterator<Item = (ServiceKey, &'a ServiceEntry)> {
    let chosen = at.space.entries.iter().filter(|(_, entry)| {
        let selector = entry.spec.workload_selector.as_ref();
        selector.is_some_and(|it| !it.labels.is_empty() && selects(&it.labels, labels))
    });
    let (world, space, namespace) = (at.world, at.space, at.namespace);
    chosen.flat_map(move |(name, entry)| {
        let home = At { world, space, namespace, name };
        hosts::in_force(&home, entry).into_iter().map(move |key| (key, entry.as_ref()))
    })
}

/// Whether a hand-made slice of a service without selector names the pod.
fn is_endpoint(at: &At<'_>, service: &str, pod: &Pod) -> bool {
    let of_service = at.space.slices.values().filter(|slice| slice.service() == Some(service));
    let meta = &pod.metadata;
    of_service.flat_map(|slice| &slice.endpoints).filter_map(|it| it.target_ref.as_ref()).any(|target| {
        // A pod that was made again under its name is another pod; without an id there is no telling.
        target.kind == "Pod" && *target.name == meta.name && !meta.uid.is_empty() && target.uid == meta.uid
    })
}

fn pod_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port.0),
        Some(PortName::Number(target)) => Some(*target),
        Some(PortName::Name(name)) => container_port(pod, name),
    }
}

/// A port by its name: of the containers, then of those that run beside them.
fn container_port(pod: &Pod, name: &str) -> Option<u16> {
    let beside = pod.spec.init_containers.iter().filter(|it| it.restart_policy == "Always");
    let mut ports = pod.spec.containers.iter().chain(beside).flat_map(|it: &Container| &it.ports);
    let tcp = |protocol: &str| protocol.is_empty() || protocol == "TCP";
    ports
        .find(|port| !name.is_empty() && port.name == name && tcp(&port.protocol))
        .map(|port| port.container_port.0)
}
