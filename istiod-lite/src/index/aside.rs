//! Which objects are looked at: those of namespaces that the mesh discovers, and of Istio's own kinds those that
//! are not another revision's (`control-plane.md` 1.1). The others are kept aside, for what decides it may change:
//! labels of namespaces, the mesh's configuration, the tags of our revision.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::kinds::meta::{Meta, Texts};
use ambit_cluster::{Body, Kind, ObjectRef};

use super::touch;
use super::unit::Unit;
use super::{Space, World};

/// The label that leaves an object to one of several control planes.
const REVISION: &str = "istio.io/rev";

/// The label of a service that gives a revision another name.
const TAG: &str = "istio.io/tag";

impl World {
    /// Takes an object in, or puts it aside.
    pub(super) fn sort(&mut self, at: &ObjectRef, body: Body) -> BTreeSet<Unit> {
        if self.is_looked_at(at, body.meta()) {
            self.aside.remove(at);
            return self.take_in(at, body);
        }
        let touched = self.take_out(at);
        self.aside.insert(at.clone(), body);
        touched
    }

    /// What follows from a change of an object that decides about others.
    pub(super) fn consequences(&mut self, at: &ObjectRef) -> BTreeSet<Unit> {
        match at.kind {
            Kind::Namespace if !self.mesh.discovery.is_empty() => self.sort_again(Some(&at.name)),
            Kind::ConfigMap if *at.namespace == *self.base.system_namespace => self.configure(),
            Kind::Service if *at.namespace == *self.base.system_namespace => {
                let tags = self.tags_now();
                if tags == self.tags {
                    return BTreeSet::new();
                }
                self.tags = tags;
                self.sort_again(None)
            }
            _ => BTreeSet::new(),
        }
    }

    fn configure(&mut self) -> BTreeSet<Unit> {
        let name = self.base.config_map();
        let map = self.space(&self.base.system_namespace).and_then(|space| space.configs.get(name.as_str()));
        // One that does not read never comes this far.
        let config = map.and_then(|map| map.mesh().ok().flatten());
        let mesh = config.map_or_else(|| self.base.clone(), |config| self.base.with(config));
        if mesh == self.mesh {
            return BTreeSet::new();
        }
        let mut touched = BTreeSet::new();
        touch::all(self, &mut touched);
        self.mesh = mesh;
        touched.extend(self.sort_again(None));
        touch::all(self, &mut touched);
        touched
    }

    fn is_looked_at(&self, at: &ObjectRef, meta: &Meta) -> bool {
        let discovered =
            || self.mesh.discovery.is_empty() || self.mesh.discovers(&self.labels_of(&at.namespace));
        match at.kind {
            Kind::Node | Kind::Namespace | Kind::GatewayClass | Kind::ConfigMap | Kind::Secret => true,
            Kind::ServiceAccount
            | Kind::Pod
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Gateway
            | Kind::HttpRoute
            | Kind::GrpcRoute
            | Kind::TlsRoute
            | Kind::TcpRoute
            | Kind::BackendTlsPolicy => discovered(),
            Kind::AuthorizationPolicy
            | Kind::PeerAuthentication
            | Kind::RequestAuthentication
            | Kind::RateLimitPolicy
            | Kind::ExtProcPolicy
            | Kind::ServiceEntry
            | Kind::WorkloadEntry
            | Kind::VirtualService
            | Kind::DestinationRule
            | Kind::Telemetry => discovered() && self.is_ours(&meta.labels),
        }
    }

    fn is_ours(&self, labels: &Texts) -> bool {
        let (own, said) = (self.mesh.revision.as_str(), labels.get(REVISION));
        own.is_empty() || said.is_none_or(|said| said == own || self.tags.contains(said.as_str()))
    }

    /// Whether what a gateway asks for is this control plane's to make: the one that its label names, or that of its
    /// namespace; without a word, the one that has no revision.
    pub(crate) fn deploys(&self, meta: &Meta) -> bool {
        let around = || self.space(&meta.namespace)?.object.as_ref()?.metadata.label(REVISION);
        match (meta.label(REVISION).or_else(around), self.mesh.revision.as_str()) {
            (None | Some("default"), own) => own.is_empty(),
            (Some(said), own) => !own.is_empty() && (said == own || self.tags.contains(said)),
        }
    }

    fn tags_now(&self) -> BTreeSet<Box<str>> {
        let own = self.mesh.revision.as_str();
        let services =
            self.space(&self.base.system_namespace).into_iter().flat_map(|it| it.services.values());
        let ours = services.filter(|it| !own.is_empty() && it.metadata.label(REVISION) == Some(own));
        ours.filter_map(|it| it.metadata.label(TAG)).map(Into::into).collect()
    }

    /// Sorts the objects of one namespace, or all, again.
    fn sort_again(&mut self, only: Option<&str>) -> BTreeSet<Unit> {
        let meant = |namespace: &str| only.is_none_or(|only| only == namespace);
        let inside =
            self.spaces.iter().filter(|(name, _)| meant(name)).flat_map(|(name, it)| objects(name, it));
        let mut moving: Vec<(ObjectRef, Body)> =
            inside.filter(|(at, body)| !self.is_looked_at(at, body.meta())).collect();
        let aside =
            self.aside.iter().filter(|(at, body)| meant(&at.namespace) && self.is_looked_at(at, body.meta()));
        moving.extend(aside.map(|(at, body)| (at.clone(), body.clone())));
        let mut touched = BTreeSet::new();
        for (at, body) in moving {
            touched.extend(self.sort(&at, body));
        }
        touched
    }
}

/// The objects of a namespace that may have to be put aside.
fn objects<'a>(namespace: &'a Arc<str>, space: &'a Space) -> impl Iterator<Item = (ObjectRef, Body)> + 'a {
    fn all<'a, T>(
        (namespace, kind): (&'a Arc<str>, Kind),
        shelf: &'a super::Shelf<T>,
        body: fn(Arc<T>) -> Body,
    ) -> impl Iterator<Item = (ObjectRef, Body)> + 'a {
        let at = move |name: &Arc<str>| ObjectRef { kind, namespace: namespace.clone(), name: name.clone() };
        shelf.iter().map(move |(name, it)| (at(name), body(Arc::clone(it))))
    }
    all((namespace, Kind::Pod), &space.pods, Body::Pod)
        .chain(all((namespace, Kind::Service), &space.services, Body::Service))
        .chain(all((namespace, Kind::EndpointSlice), &space.slices, Body::EndpointSlice))
        .chain(all((namespace, Kind::ServiceEntry), &space.entries, Body::ServiceEntry))
        .chain(all((namespace, Kind::WorkloadEntry), &space.workloads, Body::WorkloadEntry))
        .chain(all((namespace, Kind::AuthorizationPolicy), &space.policies, Body::AuthorizationPolicy))
        .chain(all((namespace, Kind::PeerAuthentication), &space.peers, Body::PeerAuthentication))
        .chain(all(
            (namespace, Kind::RequestAuthentication),
            &space.authentications,
            Body::RequestAuthentication,
        ))
        .chain(all((namespace, Kind::RateLimitPolicy), &space.rate_limits, Body::RateLimitPolicy))
        .chain(all((namespace, Kind::ExtProcPolicy), &space.ext_procs, Body::ExtProcPolicy))
        .chain(all((namespace, Kind::Gateway), &space.gateways, Body::Gateway))
        .chain(all((namespace, Kind::HttpRoute), &space.http_routes, Body::HttpRoute))
        .chain(all((namespace, Kind::GrpcRoute), &space.grpc_routes, Body::GrpcRoute))
        .chain(all((namespace, Kind::TlsRoute), &space.tls_routes, Body::TlsRoute))
        .chain(all((namespace, Kind::TcpRoute), &space.tcp_routes, Body::TcpRoute))
        .chain(all((namespace, Kind::BackendTlsPolicy), &space.backend_tls, Body::BackendTlsPolicy))
        .chain(all((namespace, Kind::VirtualService), &space.virtual_services, Body::VirtualService))
        .chain(all((namespace, Kind::DestinationRule), &space.destination_rules, Body::DestinationRule))
        .chain(all((namespace, Kind::Telemetry), &space.telemetries, Body::Telemetry))
}

#[cfg(test)]
mod tests {
    use ambit_cluster::files::Event;
    use ambit_xds::library::Library;

    use super::*;
    use crate::catalog::Catalog;
    use crate::dump;
    use crate::mesh::Mesh;
    use crate::testing::objects;

    /// A policy for each way to name a revision, and a tag that belongs to `canary`.
    const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: { name: tag, namespace: istio-system, labels: { istio.io/rev: canary, istio.io/tag: prod } }
spec: { ports: [{ port: 15012 }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: everybodys, namespace: a }
spec: { rules: [{}] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: canarys, namespace: a, labels: { istio.io/rev: canary } }
spec: { rules: [{}] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: tagged, namespace: a, labels: { istio.io/rev: prod } }
spec: { rules: [{}] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: anothers, namespace: a, labels: { istio.io/rev: stable } }
spec: { rules: [{}] }
";

    #[test]
    fn a_revision_takes_what_names_none_itself_or_its_tag_and_passes_over_all_others() {
        for (revision, tag_is_there, wanted) in [
            ("", true, &["anothers", "canarys", "everybodys", "tagged"][..]),
            ("canary", true, &["canarys", "everybodys", "tagged"]),
            // Without the tag, or with one that is another's, its name is nobody's.
            ("canary", false, &["canarys", "everybodys"]),
            ("stable", true, &["anothers", "everybodys"]),
        ] {
            let mesh = Mesh { revision: revision.into(), ..Mesh::default() };
            let mut catalog = Catalog::new(World::new(mesh));
            let tag = ObjectRef::new(Kind::Service, "istio-system", "tag");
            let objects = objects(OBJECTS).into_iter().filter(|it| tag_is_there || it.reference != tag);
            objects.for_each(|object| catalog.take(Event::Applied(object)));
            let all = dump::resources(&Library::default().with(&catalog.settle()), None);
            let names = all.iter().filter_map(|it| it["name"].as_str()?.strip_prefix("a/"));
            assert_eq!(names.collect::<Vec<_>>(), wanted, "{revision} {tag_is_there}");
        }
    }
}
