//! Objects side by side, as checks need them. Owns what is there; what is wrong with it is the checks'.

use std::collections::{BTreeMap, BTreeSet};

use ambit_cluster::kinds::core::{Namespace, Pod};
use ambit_cluster::kinds::entry::{ServiceEntry, WorkloadEntry};
use ambit_cluster::kinds::meta::{Meta, Texts};
use ambit_cluster::kinds::policy::{AuthorizationPolicy, PeerAuthentication};
use ambit_cluster::kinds::service::Service;
use ambit_cluster::{Body, Kind, Object};
use serde_json::Value;

/// Where the mesh's own objects are when nobody says otherwise.
const SYSTEM: &str = "istio-system";

/// What is beside the objects.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// These are all objects of a cluster: what is not among them is not there.
    pub(crate) whole: bool,
    /// The mesh's namespace, whose policies are for everyone.
    pub(crate) system: String,
    /// The node daemon's settings, as its daemon set has them.
    pub(crate) daemon_set: Option<Value>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { whole: false, system: SYSTEM.into(), daemon_set: None }
    }
}

/// Objects by kind.
pub(super) struct View<'a> {
    pub(super) around: &'a Surroundings,
    pub(super) namespaces: BTreeMap<&'a str, &'a Namespace>,
    pub(super) pods: Vec<&'a Pod>,
    pub(super) services: Vec<&'a Service>,
    pub(super) policies: Vec<&'a AuthorizationPolicy>,
    pub(super) peers: Vec<&'a PeerAuthentication>,
    pub(super) service_entries: Vec<&'a ServiceEntry>,
    pub(super) workload_entries: Vec<&'a WorkloadEntry>,
    /// Accounts, as namespace and name.
    pub(super) accounts: BTreeSet<(&'a str, &'a str)>,
    /// Gateways, as namespace and name.
    pub(super) gateways: BTreeSet<(&'a str, &'a str)>,
    /// The mesh's trust domain; none: nobody says.
    pub(super) trust: Option<String>,
    /// Its other names.
    pub(super) aliases: Vec<String>,
}

impl<'a> View<'a> {
    pub(super) fn of(objects: &'a [Object], around: &'a Surroundings) -> Self {
        let mut view = Self {
            around,
            namespaces: BTreeMap::new(),
            pods: Vec::new(),
            services: Vec::new(),
            policies: Vec::new(),
            peers: Vec::new(),
            service_entries: Vec::new(),
            workload_entries: Vec::new(),
            accounts: BTreeSet::new(),
            gateways: BTreeSet::new(),
            trust: around.whole.then(|| "cluster.local".into()),
            aliases: Vec::new(),
        };
        for object in objects {
            view.take(object);
        }
        view
    }

    fn take(&mut self, object: &'a Object) {
        let reference = &object.reference;
        match &object.body {
            Body::Namespace(it) => drop(self.namespaces.insert(&it.metadata.name, it)),
            Body::Pod(it) if !it.is_over() => self.pods.push(it),
            Body::Service(it) => self.services.push(it),
            Body::AuthorizationPolicy(it) => self.policies.push(it),
            Body::PeerAuthentication(it) => self.peers.push(it),
            Body::ServiceEntry(it) => self.service_entries.push(it),
            Body::WorkloadEntry(it) => self.workload_entries.push(it),
            Body::ServiceAccount(_) => drop(self.accounts.insert((&reference.namespace, &reference.name))),
            Body::Gateway(_) => drop(self.gateways.insert((&reference.namespace, &reference.name))),
            Body::ConfigMap(it)
                if *reference.namespace == self.around.system && &*reference.name == "istio" =>
            {
                if let Ok(Some(mesh)) = it.mesh() {
                    self.aliases = mesh.trust_domain_aliases;
                    self.trust = Some(mesh.trust_domain.unwrap_or_else(|| "cluster.local".into()));
                }
            }
            Body::Pod(_)
            | Body::Node(_)
            | Body::EndpointSlice(_)
            | Body::GatewayClass(_)
            | Body::HttpRoute(_)
            | Body::GrpcRoute(_)
            | Body::TlsRoute(_)
            | Body::TcpRoute(_)
            | Body::BackendTlsPolicy(_)
            | Body::RequestAuthentication(_)
            | Body::RateLimitPolicy(_)
            | Body::ExtProcPolicy(_)
            | Body::VirtualService(_)
            | Body::DestinationRule(_)
            | Body::Telemetry(_)
            | Body::ConfigMap(_)
            | Body::Secret(_) => {}
        }
    }

    /// Whether what is missing among the workloads of a namespace is really missing: some are there, or all.
    pub(super) fn knows_workloads(&self, namespace: &str) -> bool {
        self.around.whole || self.workloads(namespace).next().is_some()
    }

    /// The labels of the workloads of a namespace; of all where it is the mesh's own.
    pub(super) fn workloads(&self, namespace: &str) -> impl Iterator<Item = &'a Texts> {
        let everywhere = namespace == self.around.system;
        let pods = self.pods.iter().map(|it: &&'a Pod| (&it.metadata, &it.metadata.labels));
        let entries =
            self.workload_entries.iter().map(|it: &&'a WorkloadEntry| (&it.metadata, &it.spec.labels));
        let is_meant = move |meta: &Meta| everywhere || meta.namespace == namespace;
        pods.chain(entries).filter(move |(meta, _)| is_meant(meta)).map(|(_, labels)| labels)
    }

    /// Whether an object of this kind and name is there; none where that cannot be told.
    pub(super) fn has(&self, kind: Kind, namespace: &str, name: &str) -> Option<bool> {
        let named = |meta: &Meta| meta.namespace == namespace && meta.name == name;
        let (found, some) = match kind {
            Kind::Service => (
                self.services.iter().any(|it| named(&it.metadata)),
                self.services.iter().any(|it| it.metadata.namespace == namespace),
            ),
            Kind::ServiceEntry => (
                self.service_entries.iter().any(|it| named(&it.metadata)),
                self.service_entries.iter().any(|it| it.metadata.namespace == namespace),
            ),
            Kind::Gateway => (
                self.gateways.contains(&(namespace, name)),
                self.gateways.iter().any(|(of, _)| *of == namespace),
            ),
            _ => return None,
        };
        (found || some || self.around.whole).then_some(found)
    }
}
