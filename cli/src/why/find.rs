//! From what a person types to workloads and addresses: pods by name, destinations by address, host or pod.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_model::address::{ClientAddr, NetworkAddress, OriginalDst};
use ambit_model::route::{Flow, service_by_address};
use ambit_model::service::Service;
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Health, Workload};

/// What a person meant cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    /// No such pod.
    #[error("no pod {name} is known to the mesh; give <pod> or <namespace>/<pod>")]
    NoPod {
        /// As given.
        name: String,
    },
    /// Several pods of that name.
    #[error("several pods are called {name}: {}; give the namespace, too", .found.join(", "))]
    SeveralPods {
        /// As given.
        name: String,
        /// All of them.
        found: Vec<String>,
    },
    /// Not `<destination>:<port>`.
    #[error("destination {text:?} has no port; give <ip, host or pod>:<port>, an IPv6 address in brackets")]
    NoPort {
        /// As given.
        text: String,
    },
    /// No service and no pod of that name.
    #[error("neither a service nor a pod {name} is known to the mesh")]
    NoDestination {
        /// As given.
        name: String,
    },
    /// It is known but has no address.
    #[error("{name} has no address")]
    NoAddress {
        /// Its name.
        name: String,
    },
}

/// A pod by `<name>` or `<namespace>/<name>`.
pub(super) fn source(world: &Snapshot, text: &str) -> Result<Arc<Workload>, Unclear> {
    let named = |w: &&Arc<Workload>| match text.split_once('/') {
        Some((namespace, name)) => w.namespace.as_str() == namespace && w.name.as_str() == name,
        None => w.name.as_str() == text,
    };
    let mut found: Vec<&Arc<Workload>> = world.workloads().filter(named).collect();
    // A service entry's endpoint may share its name with a pod; the pod is meant.
    if found.iter().any(|w| is_pod(w)) {
        found.retain(|w| is_pod(w));
    }
    found.sort_by(|a, b| a.uid.cmp(&b.uid));
    match found.as_slice() {
        [] => Err(Unclear::NoPod { name: text.into() }),
        [one] => Ok(Arc::clone(one)),
        several => Err(Unclear::SeveralPods {
            name: text.into(),
            found: several.iter().map(|w| format!("{}/{}", w.namespace, w.name)).collect(),
        }),
    }
}

fn is_pod(workload: &Workload) -> bool {
    workload.uid.as_str().contains("//Pod/")
}

/// The address an application would dial.
pub(super) fn target(world: &Snapshot, source: &Workload, text: &str) -> Result<OriginalDst, Unclear> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(OriginalDst::new(address));
    }
    let no_port = || Unclear::NoPort { text: text.into() };
    let (name, port) = text.rsplit_once(':').ok_or_else(no_port)?;
    let port = port.parse().map_err(|_| no_port())?;
    let ip = match by_host(world, source, name) {
        Some(service) => service_ip(world, source, service),
        None => {
            let namespaced = format!("{}/{name}", source.namespace);
            let text = if name.contains('/') { name } else { &namespaced };
            let missing = |_| Unclear::NoDestination { name: name.into() };
            self::source(world, text).map_err(missing)?.addresses.first().copied()
        }
    };
    let ip = ip.ok_or_else(|| Unclear::NoAddress { name: name.into() })?;
    Ok(OriginalDst::new(SocketAddr::new(ip, port)))
}

/// A service by its host, or by what is left of it in a pod's search path.
fn by_host<'a>(world: &'a Snapshot, source: &Workload, name: &str) -> Option<&'a Arc<Service>> {
    let name = name.trim_end_matches('.');
    let start = match name.split('.').collect::<Vec<_>>().as_slice() {
        [service] => format!("{service}.{}.svc.", source.namespace),
        [service, namespace] | [service, namespace, "svc"] => format!("{service}.{namespace}.svc."),
        _ => format!("{name}."),
    };
    let matching = |s: &&Arc<Service>| {
        let host = s.hostname.as_str();
        host.eq_ignore_ascii_case(name) || host.starts_with(&start)
    };
    world
        .services()
        .filter(matching)
        .min_by_key(|s| (s.hostname.as_str() != name, s.namespace != source.namespace, !s.canonical, s.key()))
}

/// The address a name is answered with: a virtual one on the client's network, or an endpoint's.
fn service_ip(world: &Snapshot, source: &Workload, service: &Service) -> Option<IpAddr> {
    let own = service.vips.iter().filter(|vip| vip.network == source.network);
    if let Some(vip) = own.min_by_key(|vip| vip.ip.is_ipv6()) {
        return Some(vip.ip);
    }
    let key = service.key();
    let mut endpoints = world.endpoints(&key).filter(|w| w.health == Health::Healthy);
    endpoints.find_map(|w| w.addresses.first().copied())
}

/// The source's address towards a destination.
pub(super) fn client(source: &Workload, to: OriginalDst) -> Result<ClientAddr, Unclear> {
    let alike = |ip: &&IpAddr| ip.is_ipv4() == to.ip().is_ipv4();
    let ip = source.addresses.iter().find(alike).or_else(|| source.addresses.first());
    let ip =
        ip.ok_or_else(|| Unclear::NoAddress { name: format!("{}/{}", source.namespace, source.name) })?;
    Ok(ClientAddr::new(SocketAddr::new(*ip, 0)))
}

/// The workload that is addressed.
pub(super) fn workload<'a>(world: &'a Snapshot, flow: &Flow) -> Option<&'a Arc<Workload>> {
    world.workload_by_address(&NetworkAddress::new(flow.source.network.clone(), flow.dst.ip()))
}

/// The service that is addressed.
pub(super) fn service<'a>(world: &'a Snapshot, flow: &Flow) -> Option<&'a Arc<Service>> {
    if workload(world, flow).is_some() {
        return None;
    }
    let address = NetworkAddress::new(flow.source.network.clone(), flow.dst.ip());
    service_by_address(world, &address, Some(&flow.source.namespace))
}
