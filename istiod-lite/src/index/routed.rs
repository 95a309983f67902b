//! Which routes name which services: as what they are attached to, or as where they lead. Owns finding, by a service, the
//! routes that have to be looked at again when it changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ambit_cluster::kinds::route::{BackendRef, Filter, GrpcRoute, HttpRoute, ParentRef};
use ambit_cluster::kinds::virtual_service::VirtualService;
use ambit_cluster::{Kind, ObjectRef};

use crate::index::World;
use crate::translate::route::virtual_service::{destination_hosts, host_of, services};

/// What a route names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Mention {
    /// A service or a service entry: namespace and name.
    Object(Box<str>, Box<str>),
    /// Whatever has this host name.
    Host(Box<str>),
    /// Whatever has a host name: a wildcard may be any.
    Any,
}

/// Routes by what they name.
pub(super) type Routed = HashMap<Mention, BTreeSet<ObjectRef>>;

impl World {
    /// The routes that name a service, a service entry or one of its hosts.
    #[must_use]
    pub fn routes_of(&self, at: &ObjectRef) -> BTreeSet<ObjectRef> {
        let own = Mention::Object(at.namespace.as_ref().into(), at.name.as_ref().into());
        let hosts = self.claimed_by(at).into_iter().map(|(host, _)| Mention::Host(host));
        let any = matches!(at.kind, Kind::Service | Kind::ServiceEntry).then_some(Mention::Any);
        let named = std::iter::once(own).chain(any).chain(hosts).filter_map(|it| self.routed.get(&it));
        named.flatten().cloned().collect()
    }

    /// The same, with those that delegate to one of them: where that leads is theirs to say.
    #[must_use]
    pub fn routes_by_way_of(&self, at: &ObjectRef) -> BTreeSet<ObjectRef> {
        let mut all = self.routes_of(at);
        let is_part = |it: &&ObjectRef| self.virtual_service(it).is_some_and(|it| it.spec.hosts.is_empty());
        let roots: Vec<_> = all.iter().filter(is_part).flat_map(|it| self.roots_of(it)).collect();
        all.extend(roots);
        all
    }

    /// The virtual services that delegate to one, with whatever else names it.
    #[must_use]
    pub fn roots_of(&self, at: &ObjectRef) -> BTreeSet<ObjectRef> {
        let is_one = at.kind == Kind::VirtualService;
        let named = if is_one { self.routes_of(at) } else { BTreeSet::new() };
        named.into_iter().filter(|it| it.kind == Kind::VirtualService).collect()
    }

    /// The services and service entries that a route is attached to.
    #[must_use]
    pub fn parents_of(&self, at: &ObjectRef) -> Vec<ObjectRef> {
        if let Some(object) = self.virtual_service(at) {
            let hosts = services(self, object).into_iter();
            return hosts.flat_map(|it| it.objects).collect();
        }
        let refs = self.route(at).map(|(parents, _)| parents).unwrap_or_default();
        let object = |it: &ParentRef| {
            let kind = parent_kind(it)?;
            Some(ObjectRef::new(kind, it.namespace.as_deref().unwrap_or(&at.namespace), &it.name))
        };
        refs.iter().filter_map(object).collect()
    }

    /// What a route names.
    pub(super) fn mentions(&self, at: &ObjectRef) -> Vec<Mention> {
        if let Some(object) = self.virtual_service(at) {
            return self.mentions_in_order(object);
        }
        let Some((_, backends)) = self.route(at) else { return Vec::new() };
        let object = |namespace: Option<&str>, name: &str| {
            Mention::Object(namespace.unwrap_or(&at.namespace).into(), name.into())
        };
        let parents = self.parents_of(at).into_iter().map(|it| object(Some(&it.namespace), &it.name));
        let backends = backends.into_iter().map(|it| match it.kind.as_str() {
            "Hostname" => Mention::Host(it.name.as_str().into()),
            _ => object(it.namespace.as_deref(), &it.name),
        });
        parents.chain(backends).collect()
    }

    fn virtual_service(&self, at: &ObjectRef) -> Option<&VirtualService> {
        let is_one = at.kind == Kind::VirtualService;
        self.space(&at.namespace)?.virtual_services.get(&at.name).filter(|_| is_one).map(AsRef::as_ref)
    }

    /// What a virtual service names: its own hosts, where it leads to, and those that it delegates to.
    fn mentions_in_order(&self, object: &VirtualService) -> Vec<Mention> {
        let home = object.metadata.namespace.as_str();
        let own = object.spec.hosts.iter().map(|it| {
            let host = host_of(self, home, it);
            host.map_or(Mention::Any, |host| Mention::Host(host.into()))
        });
        let to = destination_hosts(self, object).into_iter().map(|host| Mention::Host(host.into()));
        let delegates = object.spec.http.iter().filter_map(|it| it.delegate.as_ref()).map(|it| {
            let namespace = if it.namespace.is_empty() { home } else { &it.namespace };
            Mention::Object(namespace.into(), it.name.as_str().into())
        });
        own.chain(to).chain(delegates).collect()
    }

    fn route(&self, at: &ObjectRef) -> Option<(&[ParentRef], Vec<&BackendRef>)> {
        let space = self.space(&at.namespace)?;
        match at.kind {
            Kind::HttpRoute => {
                let route: &Arc<HttpRoute> = space.http_routes.get(&at.name)?;
                let rules = route.spec.rules.iter().flat_map(|it| backends(&it.backend_refs, &it.filters));
                Some((&route.spec.parent_refs, rules.collect()))
            }
            Kind::GrpcRoute => {
                let route: &Arc<GrpcRoute> = space.grpc_routes.get(&at.name)?;
                let rules = route.spec.rules.iter().flat_map(|it| backends(&it.backend_refs, &it.filters));
                Some((&route.spec.parent_refs, rules.collect()))
            }
            Kind::TlsRoute | Kind::TcpRoute => {
                let all = if at.kind == Kind::TlsRoute { &space.tls_routes } else { &space.tcp_routes };
                let route = all.get(&at.name)?;
                let rules = route.spec.rules.iter().flat_map(|it| &it.backend_refs);
                Some((&route.spec.parent_refs, rules.collect()))
            }
            _ => None,
        }
    }

    /// What a route is attached to, as it is written.
    #[must_use]
    pub fn parent_refs(&self, at: &ObjectRef) -> &[ParentRef] {
        self.route(at).map(|(parents, _)| parents).unwrap_or_default()
    }
}

/// The kind of a parent that is the mesh's.
#[must_use]
pub fn parent_kind(parent: &ParentRef) -> Option<Kind> {
    parent.kind_in_mesh()
}

fn backends<'a>(refs: &'a [BackendRef], filters: &'a [Filter]) -> impl Iterator<Item = &'a BackendRef> {
    let own = refs.iter().flat_map(|it| &it.filters);
    let mirrors = filters.iter().chain(own).filter_map(|it| it.request_mirror.as_ref());
    let asked = filters.iter().filter_map(|it| it.external_auth.as_ref());
    refs.iter().chain(mirrors.map(|it| &it.backend_ref)).chain(asked.map(|it| &it.backend_ref))
}
