//! A service entry to a service for each of its hosts and a workload for each of its endpoints
//! (`control-plane.md` 1.8).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_cluster::kinds::entry::{EntryEndpoint, EntryPort, Resolution, ServiceEntry};
use ambit_cluster::kinds::mesh::Visible;
use ambit_cluster::kinds::meta::{Texts, selects};
use ambit_model::address::{NetworkAddress, NetworkRange};
use ambit_model::delta::Change;
use ambit_model::name::ServiceKey;
use ambit_model::service::{Families, Service, ServicePort, Visibility};
use ambit_model::workload::Workload;

use super::waypoint::{self, Asker};
use super::{At, balance, destination, hosts, locality, membership, names, policy, protocol};

/// The services and workloads of an entry; none for hosts that another object is in force for.
pub(super) fn translate(at: &At<'_>, entry: &ServiceEntry) -> Vec<Change> {
    let keys = hosts::in_force(at, entry);
    let services =
        keys.iter().filter_map(|key| service(at, entry, key)).map(|it| Change::Service(Arc::new(it)));
    let workloads = workloads(at, entry, &keys).into_iter().map(|it| Change::Workload(Arc::new(it)));
    let members = |labels: &Texts| {
        let inline = endpoints(entry).into_iter().filter(|(_, it)| selects(labels, &it.labels));
        let mut members: BTreeSet<_> = inline.map(|(id, _)| uid(at, &id).into()).collect();
        members.extend(destination::labelled(at.world, at.namespace, labels, |own| {
            destination::is_of_entry(entry, own)
        }));
        members
    };
    let handled = destination::of_asker(at.world, Asker::Entry(entry), &keys, members);
    let handled = handled.into_iter().map(|it| Change::Traffic(Arc::new(it)));
    services.chain(workloads).chain(handled).collect()
}

fn service(at: &At<'_>, entry: &ServiceEntry, key: &ServiceKey) -> Option<Service> {
    let spec = &entry.spec;
    let (vips, ranges) = addresses(at, entry, key.hostname.as_str());
    let port = |port: &EntryPort| {
        let target = membership::entry_port(port);
        (port.number.0, ServicePort { target, protocol: protocol::of_entry(&port.protocol) })
    };
    let mut service = Service {
        name: at.name.into(),
        namespace: at.namespace.parse().ok()?,
        hostname: key.hostname.clone(),
        vips,
        ranges,
        ports: spec.ports.iter().map(port).collect(),
        subject_alt_names: spec.subject_alt_names.iter().map(|name| name.0.as_str().into()).collect(),
        waypoint: None,
        weighted_waypoints: Vec::new(),
        load_balancing: match spec.resolution {
            Resolution::None => Some(balance::passthrough()),
            _ => balance::preference(None, &entry.metadata, at.space),
        },
        families: Families::Automatic,
        canonical: hosts::is_canonical(at, key.hostname.as_str()),
        ingress_use_waypoint: false,
        visibility: match at.world.visibility(at.namespace) {
            Some(Visible::Namespace) => Visibility::Namespace,
            _ => Visibility::Public,
        },
    };
    waypoint::on_service(at.world, Asker::Entry(entry), &mut service);
    Some(service)
}

/// The addresses written down, or else those that were given to the host.
fn addresses(at: &At<'_>, entry: &ServiceEntry, host: &str) -> (Vec<NetworkAddress>, Vec<NetworkRange>) {
    let (spec, network) = (&entry.spec, at.network());
    let (mut vips, mut ranges) = (Vec::new(), Vec::new());
    for cidr in &spec.addresses {
        if cidr.0.prefix_len() == cidr.0.max_prefix_len() {
            vips.push(NetworkAddress::new(network.clone(), cidr.0.addr()));
        } else {
            ranges.push(NetworkRange { network: network.clone(), range: cidr.0.trunc() });
        }
    }
    let wildcard = host.starts_with('*') && spec.resolution != Resolution::DynamicDns;
    if spec.addresses.is_empty() && spec.resolution != Resolution::None && !wildcard {
        let given = entry.status.addresses.iter().filter(|it| it.host == host);
        vips.extend(given.map(|it| NetworkAddress::new(network.clone(), it.value.0)));
    }
    (vips, ranges)
}

fn workloads(at: &At<'_>, entry: &ServiceEntry, keys: &BTreeSet<ServiceKey>) -> Vec<Workload> {
    let spec = &entry.spec;
    let by_name = match spec.resolution {
        Resolution::DynamicDns => true,
        Resolution::Dns | Resolution::DnsRoundRobin => {
            spec.endpoints.is_empty() && spec.workload_selector.is_none()
        }
        Resolution::None | Resolution::Static => false,
    };
    if by_name {
        // Each host is its own endpoint, found by its name.
        let named = |key: &ServiceKey| {
            let endpoint = EntryEndpoint { address: key.hostname.to_string(), ..EntryEndpoint::default() };
            workload(at, entry, (&endpoint, key.hostname.as_str()), std::iter::once(key))
        };
        return keys.iter().filter_map(named).collect();
    }
    if keys.is_empty() {
        return Vec::new();
    }
    let all = endpoints(entry).into_iter();
    all.filter_map(|(id, endpoint)| workload(at, entry, (endpoint, &id), keys.iter())).collect()
}

/// The endpoints of an entry, each with a name of its own.
fn endpoints(entry: &ServiceEntry) -> Vec<(String, &EntryEndpoint)> {
    let mut uses = BTreeMap::new();
    let named = entry.spec.endpoints.iter().map(|endpoint| {
        let count: &mut u32 = uses.entry(endpoint.address.as_str()).or_default();
        *count += 1;
        // The first of an address has upstream's name; upstream lets the others collide with it.
        let id = if *count == 1 { endpoint.address.clone() } else { format!("{}#{count}", endpoint.address) };
        (id, endpoint)
    });
    named.collect()
}

fn uid(at: &At<'_>, id: &str) -> String {
    let cluster = &at.world.mesh.cluster;
    format!("{cluster}/networking.istio.io/ServiceEntry/{}/{}/{id}", at.namespace, at.name)
}

fn workload<'k>(
    at: &At<'_>,
    entry: &ServiceEntry,
    (endpoint, id): (&EntryEndpoint, &str),
    keys: impl Iterator<Item = &'k ServiceKey>,
) -> Option<Workload> {
    let mut workload = at.blank(uid(at, id))?;
    match endpoint.address.parse::<IpAddr>() {
        Ok(ip) => workload.addresses = vec![ip.to_canonical()],
        Err(_) => workload.hostname = endpoint.address.as_str().into(),
    }
    at.place(&mut workload, &endpoint.network);
    if !endpoint.service_account.is_empty() {
        workload.service_account = endpoint.service_account.parse().ok()?;
    }
    if endpoint.weight > 0 {
        workload.capacity = endpoint.weight;
    }
    workload.locality = locality(&endpoint.locality);
    let target = |port: &EntryPort| {
        endpoint.ports.get(&port.name).map_or_else(|| membership::entry_port(port), |own| own.0)
    };
    let ports: BTreeMap<_, _> = entry.spec.ports.iter().map(|port| (port.number.0, target(port))).collect();
    workload.services = keys.map(|key| (key.clone(), ports.clone())).collect();
    // An endpoint is known by the labels of the entry; its own are for choosing a waypoint.
    let labels = &entry.metadata.labels;
    let named = labels.get("service.istio.io/workload-name").map_or(at.name, String::as_str);
    workload.workload_name = named.into();
    names::canonical(&mut workload, labels);
    names::tunnel(&mut workload, labels, &entry.metadata.annotations);
    workload.policies = policy::attached(at, labels);
    let (labels, account) = (&endpoint.labels, endpoint.service_account.as_str());
    let asker = Asker::Workload { namespace: at.namespace, labels, account };
    workload.waypoint = waypoint::of_workload(at.world, asker);
    Some(workload)
}
