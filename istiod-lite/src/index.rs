//! Cluster objects and their links: what is there, and whose translation a change touches.
//! Owns the objects. Decides nothing about what they mean (`translate`).

pub mod accounts;
mod aside;
mod asked;
pub mod attached;
pub mod gateway;
pub mod governed;
mod links;
pub mod routed;
pub mod secured;
pub mod touch;
pub mod unit;
pub mod users;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ambit_cluster::kinds::authentication::RequestAuthentication;
use ambit_cluster::kinds::backend_tls::BackendTlsPolicy;
use ambit_cluster::kinds::core::{Namespace, Node, Pod};
use ambit_cluster::kinds::destination_rule::DestinationRule;
use ambit_cluster::kinds::entry::{ServiceEntry, WorkloadEntry};
use ambit_cluster::kinds::ext_proc::ExtProcPolicy;
use ambit_cluster::kinds::gateway::{Gateway, GatewayClass};
use ambit_cluster::kinds::mesh::{ConfigMap, Visible};
use ambit_cluster::kinds::meta::Texts;
use ambit_cluster::kinds::policy::{AuthorizationPolicy, PeerAuthentication};
use ambit_cluster::kinds::rate_limit::RateLimitPolicy;
use ambit_cluster::kinds::route::connection::ConnectionRoute;
use ambit_cluster::kinds::route::{GrpcRoute, HttpRoute};
use ambit_cluster::kinds::secret::Secret;
use ambit_cluster::kinds::service::{EndpointSlice, Service};
use ambit_cluster::kinds::telemetry::Telemetry;
use ambit_cluster::kinds::virtual_service::VirtualService;
use ambit_cluster::{Body, Fault, Kind, Object, ObjectRef};

use self::asked::Asked;
use self::gateway::NetworkGateway;
use self::routed::Routed;
use self::unit::Unit;
use self::users::Users;
use crate::deploy::overlay::Overlays;
use crate::mesh::Mesh;
use crate::trust;

/// Objects of one kind in one namespace, by name.
pub type Shelf<T> = BTreeMap<Arc<str>, Arc<T>>;

/// All that lives in one namespace.
#[derive(Debug, Default)]
pub struct Space {
    /// The namespace itself; it may come after what lives in it.
    pub object: Option<Arc<Namespace>>,
    /// Pods.
    pub pods: Shelf<Pod>,
    /// Services.
    pub services: Shelf<Service>,
    /// Endpoint slices.
    pub slices: Shelf<EndpointSlice>,
    /// Service entries.
    pub entries: Shelf<ServiceEntry>,
    /// Workload entries.
    pub workloads: Shelf<WorkloadEntry>,
    /// Authorization policies.
    pub policies: Shelf<AuthorizationPolicy>,
    /// Peer authentications.
    pub peers: Shelf<PeerAuthentication>,
    /// Authentications of requests.
    pub authentications: Shelf<RequestAuthentication>,
    /// Policies of limits.
    pub rate_limits: Shelf<RateLimitPolicy>,
    /// Policies of processors.
    pub ext_procs: Shelf<ExtProcPolicy>,
    /// Gateways.
    pub gateways: Shelf<Gateway>,
    /// Routes of HTTP requests.
    pub http_routes: Shelf<HttpRoute>,
    /// Routes of gRPC calls.
    pub grpc_routes: Shelf<GrpcRoute>,
    /// Routes of connections, by the server that is asked for with TLS.
    pub tls_routes: Shelf<ConnectionRoute>,
    /// Routes of connections.
    pub tcp_routes: Shelf<ConnectionRoute>,
    /// TLS that is begun to services.
    pub backend_tls: Shelf<BackendTlsPolicy>,
    /// Virtual services.
    pub virtual_services: Shelf<VirtualService>,
    /// How traffic to hosts is handled.
    pub destination_rules: Shelf<DestinationRule>,
    /// What is told of requests.
    pub telemetries: Shelf<Telemetry>,
    /// Config maps: of the mesh, and those that others refer to.
    pub configs: Shelf<ConfigMap>,
    /// Secrets that others refer to.
    pub secrets: Shelf<Secret>,
}

impl Space {
    fn is_empty(&self) -> bool {
        self.object.is_none()
            && self.pods.is_empty()
            && self.services.is_empty()
            && self.slices.is_empty()
            && self.entries.is_empty()
            && self.workloads.is_empty()
            && self.policies.is_empty()
            && self.peers.is_empty()
            && self.authentications.is_empty()
            && self.rate_limits.is_empty()
            && self.ext_procs.is_empty()
            && self.gateways.is_empty()
            && self.http_routes.is_empty()
            && self.grpc_routes.is_empty()
            && self.tls_routes.is_empty()
            && self.tcp_routes.is_empty()
            && self.backend_tls.is_empty()
            && self.virtual_services.is_empty()
            && self.destination_rules.is_empty()
            && self.telemetries.is_empty()
            && self.configs.is_empty()
            && self.secrets.is_empty()
    }

    /// An annotation of the namespace.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.object.as_ref()?.metadata.annotation(key)
    }
}

/// The cluster's objects.
#[derive(Debug)]
pub struct World {
    /// Mesh-wide settings.
    pub mesh: Mesh,
    /// As flags have them, without the config map.
    base: Mesh,
    /// Names that stand for our revision.
    tags: BTreeSet<Box<str>>,
    /// Objects that are there and not looked at.
    aside: BTreeMap<ObjectRef, Body>,
    nodes: HashMap<Arc<str>, Arc<Node>>,
    classes: BTreeMap<Arc<str>, Arc<GatewayClass>>,
    spaces: BTreeMap<Arc<str>, Space>,
    /// Who claims a host name, in any namespace.
    hosts: HashMap<Box<str>, BTreeSet<Unit>>,
    /// Pods, and slices of endpoints, by the node they run on.
    placed: HashMap<Box<str>, BTreeSet<ObjectRef>>,
    /// Ways into networks, by network, in the order in which they are preferred.
    networks: BTreeMap<Box<str>, BTreeMap<ObjectRef, Vec<NetworkGateway>>>,
    /// Who names which gateway.
    users: Users,
    routed: Routed,
    asked: Asked,
    peers: usize,
    /// How many destination rules there are.
    rules: usize,
    /// How many secrets.
    secrets: usize,
    /// How what is made for gateways is to be; none where nobody reads that.
    pub overlays: Option<Arc<Overlays>>,
}

impl World {
    /// An empty cluster.
    #[must_use]
    pub fn new(mesh: Mesh) -> Self {
        Self {
            base: mesh.clone(),
            mesh,
            tags: BTreeSet::new(),
            aside: BTreeMap::new(),
            networks: BTreeMap::new(),
            nodes: HashMap::new(),
            classes: BTreeMap::new(),
            spaces: BTreeMap::new(),
            hosts: HashMap::new(),
            placed: HashMap::new(),
            users: Users::default(),
            routed: Routed::default(),
            asked: Asked::default(),
            peers: 0,
            rules: 0,
            secrets: 0,
            overlays: None,
        }
    }

    /// What is wrong with the mesh's configuration, though it reads.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let map = trust::config_map(&self.base.system_namespace, &self.base.config_map());
        self.mesh.trust.fault(&map)
    }

    /// A namespace and what lives in it.
    #[must_use]
    pub fn space(&self, namespace: &str) -> Option<&Space> {
        self.spaces.get(namespace)
    }

    /// All namespaces, by name.
    pub fn spaces(&self) -> impl Iterator<Item = (&Arc<str>, &Space)> {
        self.spaces.iter()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(AsRef::as_ref)
    }

    /// A class of gateways.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&GatewayClass> {
        self.classes.get(name).map(AsRef::as_ref)
    }

    /// The names of all classes of gateways.
    pub fn classes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.classes.keys()
    }

    /// Who claims a host name.
    pub fn claims(&self, host: &str) -> impl Iterator<Item = &Unit> {
        self.hosts.get(host).into_iter().flatten()
    }

    /// Every host name that is claimed, with who claims it.
    pub fn claimed(&self) -> impl Iterator<Item = (&str, &Unit)> {
        self.hosts.iter().flat_map(|(host, units)| units.iter().map(move |unit| (&**host, unit)))
    }

    /// Whether any peer authentication exists.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.peers > 0
    }

    /// Whether any destination rule exists.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.rules > 0
    }

    /// The network of the cluster: a label of the control plane's namespace.
    #[must_use]
    pub fn network(&self) -> &str {
        let root = self.space(&self.mesh.system_namespace).and_then(|space| space.object.as_ref());
        root.and_then(|object| object.metadata.label("topology.istio.io/network")).unwrap_or_default()
    }

    /// The ways into a network, the preferred one first.
    pub fn gateways(&self, network: &str) -> impl Iterator<Item = &NetworkGateway> {
        self.networks.get(network).into_iter().flat_map(BTreeMap::values).flatten()
    }

    /// The labels of a namespace, with its name, which Kubernetes adds and manifests leave out.
    #[must_use]
    pub fn labels_of(&self, namespace: &str) -> Texts {
        let object = self.space(namespace).and_then(|space| space.object.as_ref());
        let mut labels = object.map(|it| it.metadata.labels.clone()).unwrap_or_default();
        if !labels.contains_key("kubernetes.io/metadata.name") {
            labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
        }
        labels
    }

    /// For whom the service entries of a namespace are; none when that is not configured.
    #[must_use]
    pub fn visibility(&self, namespace: &str) -> Option<Visible> {
        self.mesh.visibility.as_ref()?;
        self.mesh.visibility(&self.labels_of(namespace))
    }

    /// The host name of a service.
    #[must_use]
    pub fn hostname(&self, namespace: &str, service: &str) -> String {
        format!("{service}.{namespace}.svc.{}", self.mesh.domain)
    }

    /// Pods on a node, with the account they run as, that have not failed (`control-plane.md` 6.4).
    pub fn running_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Pod> {
        let pods = self.placed.get(node).into_iter().flatten().filter(|it| it.kind == Kind::Pod);
        pods.filter_map(|pod| {
            let pod = self.space(&pod.namespace)?.pods.get(&pod.name)?;
            (pod.status.phase != ambit_cluster::kinds::core::Phase::Failed).then_some(pod.as_ref())
        })
    }

    /// Takes an object in. Returns what has to be translated again.
    pub fn apply(&mut self, object: Object) -> BTreeSet<Unit> {
        let Object { reference, body, .. } = object;
        let mut touched = self.sort(&reference, body);
        touched.extend(self.consequences(&reference));
        touched
    }

    /// Takes an object out. Returns what has to be translated again.
    pub fn remove(&mut self, reference: &ObjectRef) -> BTreeSet<Unit> {
        self.aside.remove(reference);
        let mut touched = self.take_out(reference);
        touched.extend(self.consequences(reference));
        touched
    }

    fn take_in(&mut self, reference: &ObjectRef, body: Body) -> BTreeSet<Unit> {
        let (mut touched, asked) = (touch::of(self, reference), self.asked.changes());
        self.detach(reference);
        self.put(reference, body);
        self.attach(reference);
        touched.extend(touch::of(self, reference));
        if asked != self.asked.changes() {
            touch::workloads(self, &mut touched);
        }
        touched
    }

    fn take_out(&mut self, reference: &ObjectRef) -> BTreeSet<Unit> {
        let (mut touched, asked) = (touch::of(self, reference), self.asked.changes());
        self.detach(reference);
        self.drop(reference);
        if asked != self.asked.changes() {
            touch::workloads(self, &mut touched);
        }
        touched
    }

    fn put(&mut self, at: &ObjectRef, body: Body) {
        let name = at.name.clone();
        let body = match body {
            Body::Node(node) => return drop(self.nodes.insert(name, node)),
            Body::GatewayClass(class) => return drop(self.classes.insert(name, class)),
            body => body,
        };
        let home = if at.kind == Kind::Namespace { &at.name } else { &at.namespace };
        let space = self.spaces.entry(home.clone()).or_default();
        match body {
            Body::Namespace(it) => space.object = Some(it),
            Body::Pod(it) => drop(space.pods.insert(name, it)),
            Body::Service(it) => drop(space.services.insert(name, it)),
            Body::EndpointSlice(it) => drop(space.slices.insert(name, it)),
            Body::ServiceEntry(it) => drop(space.entries.insert(name, it)),
            Body::WorkloadEntry(it) => drop(space.workloads.insert(name, it)),
            Body::AuthorizationPolicy(it) => drop(space.policies.insert(name, it)),
            Body::PeerAuthentication(it) => {
                self.peers += usize::from(space.peers.insert(name, it).is_none());
            }
            Body::RequestAuthentication(it) => drop(space.authentications.insert(name, it)),
            Body::RateLimitPolicy(it) => drop(space.rate_limits.insert(name, it)),
            Body::ExtProcPolicy(it) => drop(space.ext_procs.insert(name, it)),
            Body::Gateway(it) => drop(space.gateways.insert(name, it)),
            Body::HttpRoute(it) => drop(space.http_routes.insert(name, it)),
            Body::GrpcRoute(it) => drop(space.grpc_routes.insert(name, it)),
            Body::TlsRoute(it) => drop(space.tls_routes.insert(name, it)),
            Body::TcpRoute(it) => drop(space.tcp_routes.insert(name, it)),
            Body::BackendTlsPolicy(it) => drop(space.backend_tls.insert(name, it)),
            Body::DestinationRule(it) => {
                self.rules += usize::from(space.destination_rules.insert(name, it).is_none());
            }
            Body::VirtualService(it) => {
                self.asked.enter(&it);
                space.virtual_services.insert(name, it).iter().for_each(|old| self.asked.leave(old));
            }
            Body::Telemetry(it) => drop(space.telemetries.insert(name, it)),
            Body::ConfigMap(it) => drop(space.configs.insert(name, it)),
            Body::Secret(it) => self.secrets += usize::from(space.secrets.insert(name, it).is_none()),
            Body::Node(_) | Body::ServiceAccount(_) | Body::GatewayClass(_) => {}
        }
    }

    fn drop(&mut self, at: &ObjectRef) {
        match at.kind {
            Kind::Node => return drop(self.nodes.remove(&at.name)),
            Kind::GatewayClass => return drop(self.classes.remove(&at.name)),
            _ => {}
        }
        let home = if at.kind == Kind::Namespace { &at.name } else { &at.namespace };
        let Some(space) = self.spaces.get_mut(home) else { return };
        match at.kind {
            Kind::Namespace => space.object = None,
            Kind::Pod => drop(space.pods.remove(&at.name)),
            Kind::Service => drop(space.services.remove(&at.name)),
            Kind::EndpointSlice => drop(space.slices.remove(&at.name)),
            Kind::ServiceEntry => drop(space.entries.remove(&at.name)),
            Kind::WorkloadEntry => drop(space.workloads.remove(&at.name)),
            Kind::AuthorizationPolicy => drop(space.policies.remove(&at.name)),
            Kind::PeerAuthentication => self.peers -= usize::from(space.peers.remove(&at.name).is_some()),
            Kind::RequestAuthentication => drop(space.authentications.remove(&at.name)),
            Kind::RateLimitPolicy => drop(space.rate_limits.remove(&at.name)),
            Kind::ExtProcPolicy => drop(space.ext_procs.remove(&at.name)),
            Kind::Gateway => drop(space.gateways.remove(&at.name)),
            Kind::HttpRoute => drop(space.http_routes.remove(&at.name)),
            Kind::GrpcRoute => drop(space.grpc_routes.remove(&at.name)),
            Kind::TlsRoute => drop(space.tls_routes.remove(&at.name)),
            Kind::TcpRoute => drop(space.tcp_routes.remove(&at.name)),
            Kind::BackendTlsPolicy => drop(space.backend_tls.remove(&at.name)),
            Kind::DestinationRule => {
                self.rules -= usize::from(space.destination_rules.remove(&at.name).is_some());
            }
            Kind::VirtualService => {
                space.virtual_services.remove(&at.name).iter().for_each(|old| self.asked.leave(old));
            }
            Kind::Telemetry => drop(space.telemetries.remove(&at.name)),
            Kind::ConfigMap => drop(space.configs.remove(&at.name)),
            Kind::Secret => self.secrets -= usize::from(space.secrets.remove(&at.name).is_some()),
            Kind::Node | Kind::ServiceAccount | Kind::GatewayClass => {}
        }
        if space.is_empty() {
            self.spaces.remove(home);
        }
    }
}
