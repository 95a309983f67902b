//! Endpoints of a slice that are no pods to workloads (`control-plane.md` 1.7). Those that are pods are left to
//! `pod`, which reads the service's selector, or the slice, itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_cluster::kinds::service::{Endpoint, EndpointSlice, Service, ServiceType};
use ambit_model::delta::Change;
use ambit_model::name::ServiceKey;
use ambit_model::workload::{Health, Workload, WorkloadKind};

use super::membership::Ports;
use super::{At, pod};

/// The workloads of a slice.
pub(super) fn translate(at: &At<'_>, slice: &EndpointSlice) -> Vec<Change> {
    let Some((key, ports)) = service(at, slice) else { return Vec::new() };
    let mut seen = BTreeSet::new();
    let endpoints =
        slice.endpoints.iter().filter(|it| it.target_ref.as_ref().is_none_or(|it| it.kind != "Pod"));
    endpoints
        .filter(|it| seen.insert(it.addresses.first()))
        .filter_map(|it| endpoint(at, it, (&key, &ports)))
        .map(|it| Change::Workload(Arc::new(it)))
        .collect()
}

fn endpoint(at: &At<'_>, endpoint: &Endpoint, (key, ports): (&ServiceKey, &Ports)) -> Option<Workload> {
    let first = endpoint.addresses.first()?;
    let mesh = &at.world.mesh;
    let uid = format!("{}/discovery.k8s.io/EndpointSlice/{}/{}/{first}", mesh.cluster, at.namespace, at.name);
    let mut workload = at.blank(uid)?;
    let addresses = endpoint.addresses.iter().map(|it| it.parse::<IpAddr>().map(|ip| ip.to_canonical()));
    workload.addresses = addresses.collect::<Result<_, _>>().ok()?;
    let ready = endpoint.conditions.ready.unwrap_or(true);
    workload.health = if ready { Health::Healthy } else { Health::Unhealthy };
    workload.host_network = true;
    // Upstream reads neither node nor zone, so such endpoints are near to nobody.
    workload.node = endpoint.node_name.as_str().into();
    workload.locality = pod::place(at, &endpoint.node_name);
    if workload.locality.zone.is_empty() {
        workload.locality.zone = endpoint.zone.as_str().into();
    }
    // Upstream leaves the kind of such endpoints at the schema's first value.
    workload.kind = WorkloadKind::Deployment;
    workload.services = BTreeMap::from([(key.clone(), ports.clone())]);
    Some(workload)
}

/// The service a slice belongs to, and its ports there.
fn service(at: &At<'_>, slice: &EndpointSlice) -> Option<(ServiceKey, Ports)> {
    let name = slice.service()?;
    let service = at.space.services.get(name).filter(|it| it.spec.kind != ServiceType::ExternalName)?;
    if slice.address_type == "FQDN" {
        return None;
    }
    let key = format!("{}/{}", at.namespace, at.world.hostname(at.namespace, name)).parse().ok()?;
    Some((key, ports(service, slice)))
}

fn ports(service: &Service, slice: &EndpointSlice) -> Ports {
    let is_tcp = |protocol: &str| protocol.is_empty() || protocol == "TCP";
    let own = slice.ports.iter().filter(|port| is_tcp(&port.protocol));
    own.filter_map(|own| {
        let of_service = service.spec.ports.iter().find(|it| it.name == own.name)?;
        Some((of_service.port.0, own.port?.0))
    })
    .collect()
}
