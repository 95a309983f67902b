//! Services and ServiceEntries against their pods and against each other.

use std::collections::BTreeMap;

use ambit_cluster::Kind;
use ambit_cluster::kinds::entry::ServiceEntry;
use ambit_cluster::kinds::meta::{Meta, selects};
use ambit_cluster::kinds::service::{Service, ServiceType};
use ambit_cluster::kinds::waypoint::{USE, USE_NAMESPACE};

use super::finding::{Finding, NO_ENDPOINTS, NO_WAYPOINT, SAME_HOST, TWO_PROTOCOLS};
use super::policies::conditions;
use super::view::View;

/// All that is wrong with services and entries.
pub(super) fn check(view: &View<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for service in &view.services {
        found.extend(no_endpoints(view, service));
        found.extend(no_waypoint(view, Kind::Service, &service.metadata));
        found.extend(conditions(Kind::Service, &service.metadata, &service.status.conditions));
    }
    for entry in &view.service_entries {
        found.extend(same_host(view, entry));
        found.extend(no_waypoint(view, Kind::ServiceEntry, &entry.metadata));
        found.extend(conditions(Kind::ServiceEntry, &entry.metadata, &entry.status.conditions));
    }
    found.extend(two_protocols(view));
    for namespace in view.namespaces.values() {
        found.extend(no_waypoint(view, Kind::Namespace, &namespace.metadata));
    }
    found
}

fn no_endpoints(view: &View<'_>, service: &Service) -> Option<Finding> {
    let (meta, spec) = (&service.metadata, &service.spec);
    if spec.selector.is_empty()
        || spec.kind == ServiceType::ExternalName
        || !view.knows_workloads(&meta.namespace)
    {
        return None;
    }
    let own = view.pods.iter().filter(|it| it.metadata.namespace == meta.namespace);
    let chosen: Vec<_> = own.filter(|it| selects(&spec.selector, &it.metadata.labels)).collect();
    let selector: Vec<_> = spec.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let entries = view.workload_entries.iter().filter(|it| it.metadata.namespace == meta.namespace);
    if entries.into_iter().any(|it| selects(&spec.selector, &it.spec.labels)) {
        return None;
    }
    let (what, remedy) = if chosen.is_empty() {
        ("its selector chooses no pod".to_owned(), "correct the selector, or start the pods")
    } else if !spec.publish_not_ready_addresses && !chosen.iter().any(|pod| pod.is_ready()) {
        (
            format!("none of its {} pods is ready", chosen.len()),
            "see what `kubectl describe pod` says of them",
        )
    } else {
        return None;
    };
    let finding = Finding::about(NO_ENDPOINTS, Kind::Service, meta, what, remedy);
    Some(finding.at("spec.selector", &selector.join(",")))
}

fn no_waypoint(view: &View<'_>, kind: Kind, meta: &Meta) -> Option<Finding> {
    let name = meta.label(USE).filter(|name| *name != "none")?;
    let own = if kind == Kind::Namespace { &meta.name } else { &meta.namespace };
    let namespace = meta.label(USE_NAMESPACE).unwrap_or(own);
    if view.has(Kind::Gateway, namespace, name) != Some(false) {
        return None;
    }
    let what = format!("there is no Gateway {name} in namespace {namespace}");
    let remedy = "make the Gateway, or remove the label";
    Some(Finding::about(NO_WAYPOINT, kind, meta, what, remedy).at(format!("metadata.labels: {USE}"), name))
}

/// Hosts that somebody else of the namespace has, and keeps.
fn same_host(view: &View<'_>, entry: &ServiceEntry) -> Vec<Finding> {
    let meta = &entry.metadata;
    let mut found = Vec::new();
    for (at, host) in entry.spec.hosts.iter().enumerate() {
        let host = host.0.as_str();
        let is_its = |service: &&&Service| {
            let start = format!("{}.{}.svc.", service.metadata.name, service.metadata.namespace);
            host.starts_with(&start)
        };
        let older = |other: &&&ServiceEntry| {
            let theirs = &other.metadata;
            theirs.namespace == meta.namespace
                && theirs.age() < meta.age()
                && other.spec.hosts.iter().any(|its| its.0.eq_ignore_ascii_case(host))
        };
        let counts = if let Some(service) = view.services.iter().find(is_its) {
            format!(
                "is the host of Service {}/{}, which counts",
                service.metadata.namespace, service.metadata.name
            )
        } else if let Some(other) = view.service_entries.iter().find(older) {
            format!(
                "ServiceEntry {}/{} has it, too, and is older: it counts",
                meta.namespace, other.metadata.name
            )
        } else {
            continue;
        };
        let finding =
            Finding::about(SAME_HOST, Kind::ServiceEntry, meta, counts, "name the host in one of the two");
        found.push(finding.at(format!("spec.hosts[{at}]"), host));
    }
    found
}

/// One port of one host, spoken to in two ways.
fn two_protocols(view: &View<'_>) -> Vec<Finding> {
    let mut said: BTreeMap<(String, u16), (&ServiceEntry, String)> = BTreeMap::new();
    let mut found = Vec::new();
    let mut entries = view.service_entries.clone();
    entries.sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
    for entry in entries {
        for host in &entry.spec.hosts {
            for (at, port) in entry.spec.ports.iter().enumerate() {
                let protocol = port.protocol.to_ascii_uppercase();
                let key = (host.0.to_ascii_lowercase(), port.number.0);
                let (first, before) = said.entry(key).or_insert_with(|| (entry, protocol.clone()));
                if *before == protocol || protocol.is_empty() || before.is_empty() {
                    continue;
                }
                let other = &first.metadata;
                let what = format!(
                    "ServiceEntry {}/{} says {before} for port {} of {}",
                    other.namespace, other.name, port.number.0, host.0
                );
                let remedy = "say the same protocol in both";
                let finding =
                    Finding::about(TWO_PROTOCOLS, Kind::ServiceEntry, &entry.metadata, what, remedy);
                found.push(finding.at(format!("spec.ports[{at}].protocol"), &port.protocol));
            }
        }
    }
    found
}
