//! Cluster objects to the mesh's nouns: pure, a file per kind. Owns what objects mean to the mesh.
//! What a layer cannot express is read strictly: an allow rule is dropped, a deny rule loses the condition.

mod alias;
pub mod authentication;
mod balance;
mod collector;
pub mod demand;
pub mod destination;
pub mod ext_proc;
mod gateway;
mod hosts;
mod line;
mod membership;
mod names;
mod peer;
mod pod;
mod policy;
mod protocol;
pub mod provider;
pub mod rate_limit;
pub mod route;
mod service;
mod service_entry;
mod slice;
pub(crate) mod target;
pub mod telemetry;
mod uid;
pub mod waypoint;
mod workload_entry;

use std::sync::Arc;

use ambit_cluster::kinds::meta::Texts;
use ambit_cluster::kinds::route::connection::ConnectionRoute;
use ambit_cluster::kinds::secret::Secret;
use ambit_cluster::kinds::service::Service;
use ambit_model::delta::Change;
use ambit_model::http_route::RouteKind;
use ambit_model::name::{ClusterId, Label, Network, TrustDomain};
use ambit_model::workload::{Health, Locality, Tunnel, Workload, WorkloadKind};

use crate::index::World;
use crate::index::unit::{Unit, UnitKind};
use crate::mesh::Mesh;

pub use self::policy::{Reason, Verdict, verdict};

/// Whether an object of a namespace is for another: all are that say nothing of it.
fn is_exported(to: &[String], own: &str, other: &str) -> bool {
    to.is_empty() || to.iter().any(|it| it == "*" || it == other || it == "." && own == other)
}

/// What an object is to the mesh now. Nothing: it is not in it.
#[must_use]
pub fn unit(world: &World, unit: &Unit) -> Vec<Change> {
    let nouns = || -> Option<Vec<Change>> {
        if unit.kind == UnitKind::Strict {
            return peer::strict(world).map(|it| vec![Change::Policy(Arc::new(it))]);
        }
        if unit.kind == UnitKind::Providers {
            return Some(configured(&world.mesh));
        }
        let space = world.space(&unit.namespace)?;
        let home = At { world, space, namespace: &unit.namespace, name: &unit.name };
        Some(match unit.kind {
            UnitKind::Pod => workload(pod::translate(&home, space.pods.get(&unit.name)?)),
            UnitKind::WorkloadEntry => {
                workload(workload_entry::translate(&home, space.workloads.get(&unit.name)?))
            }
            UnitKind::EndpointSlice => slice::translate(&home, space.slices.get(&unit.name)?),
            UnitKind::ServiceEntry => service_entry::translate(&home, space.entries.get(&unit.name)?),
            UnitKind::Service => served(&home, space.services.get(&unit.name)?),
            UnitKind::Policy => match verdict(world, space.policies.get(&unit.name)?) {
                Verdict::Sent { policy, .. } => vec![Change::Policy(Arc::new(policy))],
                Verdict::NotSent(Reason::Targeted) => {
                    let demand = demand::demand(world, space.policies.get(&unit.name)?);
                    demand.map(|it| Change::RequestPolicy(Arc::new(it))).into_iter().collect()
                }
                Verdict::NotSent(_) => Vec::new(),
            },
            UnitKind::Peer => peer::derived(&home, space.peers.get(&unit.name)?)
                .map(|it| vec![Change::Policy(Arc::new(it))])
                .unwrap_or_default(),
            UnitKind::Authentication => {
                let reading = authentication::authentication(world, space.authentications.get(&unit.name)?);
                reading.authentication.map(|it| Change::Authentication(Arc::new(it))).into_iter().collect()
            }
            UnitKind::Telemetry => {
                let reading = telemetry::telemetry(world, space.telemetries.get(&unit.name)?);
                reading.telemetry.map(|it| Change::Telemetry(Arc::new(it))).into_iter().collect()
            }
            UnitKind::RateLimit => {
                let limit = rate_limit::rate_limit(world, space.rate_limits.get(&unit.name)?)?;
                vec![Change::RateLimit(Arc::new(limit))]
            }
            UnitKind::ExtProc => {
                vec![Change::ExtProc(Arc::new(ext_proc::ext_proc(world, space.ext_procs.get(&unit.name)?)?))]
            }
            UnitKind::Gateway => gateway::translate(&home, space.gateways.get(&unit.name)?),
            UnitKind::HttpRoute => routed(route::http(world, space.http_routes.get(&unit.name)?).route),
            UnitKind::GrpcRoute => routed(route::grpc(world, space.grpc_routes.get(&unit.name)?).route),
            UnitKind::TlsRoute => connected(world, space.tls_routes.get(&unit.name)?, RouteKind::Tls),
            UnitKind::TcpRoute => connected(world, space.tcp_routes.get(&unit.name)?, RouteKind::Tcp),
            UnitKind::Credential => shown(world, space.secrets.get(&unit.name)?),
            UnitKind::VirtualService => {
                let object = space.virtual_services.get(&unit.name)?;
                routed(route::virtual_service::virtual_service(world, object).route)
            }
            UnitKind::Strict | UnitKind::Providers => Vec::new(),
        })
    };
    nouns().unwrap_or_default()
}

/// What waypoints are told of the mesh's configuration.
fn configured(mesh: &Mesh) -> Vec<Change> {
    let all = provider::providers(mesh).map(|it| Change::Provider(Arc::new(it)));
    let usual = line::usual(mesh).map(|it| Change::Telemetry(Arc::new(it)));
    all.chain(usual).collect()
}

/// A service, and how its traffic is handled.
fn served(home: &At<'_>, object: &Service) -> Vec<Change> {
    let Some(service) = service::translate(home, object) else { return Vec::new() };
    let is_of = |own: &Texts| destination::is_of_service(object, own);
    let members = |labels: &Texts| destination::labelled(home.world, home.namespace, labels, is_of);
    let asker = waypoint::Asker::Service(object);
    let traffic = destination::of_asker(home.world, asker, [&service.key()], members);
    let traffic = traffic.into_iter().map(|it| Change::Traffic(Arc::new(it)));
    std::iter::once(Change::Service(Arc::new(service))).chain(traffic).collect()
}

fn connected(world: &World, object: &ConnectionRoute, kind: RouteKind) -> Vec<Change> {
    routed(route::connections::connections(world, object, kind).route)
}

/// A certificate that endpoints are shown.
fn shown(world: &World, object: &Secret) -> Vec<Change> {
    let found = destination::credential::credential(world, object);
    found.map(|it| Change::Credential(Arc::new(it))).into_iter().collect()
}

fn routed(route: Option<ambit_model::http_route::Route>) -> Vec<Change> {
    route.map(|it| Change::Route(Arc::new(it))).into_iter().collect()
}

fn workload(workload: Option<Workload>) -> Vec<Change> {
    workload.map(|it| Change::Workload(Arc::new(it))).into_iter().collect()
}

/// Where an object lives.
struct At<'a> {
    world: &'a World,
    space: &'a crate::index::Space,
    namespace: &'a str,
    name: &'a str,
}

impl At<'_> {
    /// A workload of which nothing is known but where it lives.
    fn blank(&self, uid: String) -> Option<Workload> {
        Some(Workload {
            uid: uid.into(),
            name: self.name.into(),
            namespace: self.namespace.parse().ok()?,
            addresses: Vec::new(),
            hostname: Label::default(),
            network: self.network(),
            tunnel: Tunnel::None,
            native_tunnel: false,
            trust_domain: self.trust_domain(),
            service_account: ambit_model::name::ServiceAccount::default(),
            waypoint: None,
            network_gateway: gateway::into(self.world, self.world.network()),
            node: ambit_model::name::NodeName::default(),
            canonical_name: Label::default(),
            canonical_revision: Label::default(),
            kind: WorkloadKind::Pod,
            workload_name: Label::default(),
            application_tunnel: None,
            services: std::collections::BTreeMap::new(),
            policies: Vec::new(),
            health: Health::Healthy,
            cluster: self.cluster(),
            locality: Locality::default(),
            host_network: false,
            capacity: 1,
            labels: Default::default(),
        })
    }

    /// Says that a workload is on another network than the cluster's.
    fn place(&self, workload: &mut Workload, network: &str) {
        if !network.is_empty() {
            workload.network = network.into();
            workload.network_gateway = gateway::into(self.world, network);
        }
    }

    fn network(&self) -> Network {
        self.world.network().into()
    }

    fn trust_domain(&self) -> TrustDomain {
        self.world.mesh.trust.domain()
    }

    fn cluster(&self) -> ClusterId {
        self.world.mesh.cluster.clone()
    }
}

/// A locality written as `region/zone/subzone`.
fn locality(text: &str) -> Locality {
    let mut parts = text.splitn(3, '/');
    let mut next = || Label::from(parts.next().unwrap_or_default());
    Locality { region: next(), zone: next(), subzone: next() }
}

#[cfg(test)]
mod tests;
