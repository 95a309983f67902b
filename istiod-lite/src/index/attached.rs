//! What is attached to other objects by reference: policies of requests, whose tokens are believed, limits, and
//! processors. Owns which kinds do that, and which of them may be attached to a route; what a reference means is
//! `translate::target`'s.

use std::sync::Arc;

use ambit_cluster::kinds::policy::PolicyTarget;
use ambit_cluster::{Kind, ObjectRef};

use crate::index::{Space, World};

/// An object of a namespace that names what it is attached to.
#[derive(Debug)]
pub struct Attached<'a> {
    kind: Kind,
    name: &'a Arc<str>,
    /// What it names, in its own namespace; never nothing.
    pub targets: Vec<&'a PolicyTarget>,
}

impl Attached<'_> {
    /// Its full name, as it is in this namespace.
    #[must_use]
    pub fn reference(&self, namespace: &str) -> ObjectRef {
        ObjectRef::new(self.kind, namespace, self.name)
    }

    /// The routes that it names, and that it can be attached to.
    pub fn routes(&self) -> impl Iterator<Item = (Kind, &str)> {
        let can = matches!(self.kind, Kind::RateLimitPolicy | Kind::ExtProcPolicy);
        let named = self.targets.iter().filter(move |_| can);
        named.filter_map(|it| Some((route_kind(it)?, it.name.as_str())))
    }

    /// Whether it names this kind and this name.
    #[must_use]
    pub fn names(&self, kind: &str, name: &str) -> bool {
        self.targets.iter().any(|it| it.kind == kind && it.name == name)
    }
}

/// The kind of route that a reference names; none: it names something else.
#[must_use]
pub fn route_kind(target: &PolicyTarget) -> Option<Kind> {
    match (target.group.as_str(), target.kind.as_str()) {
        ("gateway.networking.k8s.io", "HTTPRoute") => Some(Kind::HttpRoute),
        ("gateway.networking.k8s.io", "GRPCRoute") => Some(Kind::GrpcRoute),
        _ => None,
    }
}

impl World {
    /// The services and service entries of its own namespace that a route is attached to: whoever governs them may say
    /// what holds of all requests to them. A route of another namespace is for the requests of that one only.
    #[must_use]
    pub fn own_parents(&self, route: &ObjectRef) -> Vec<ObjectRef> {
        let parents = self.parents_of(route).into_iter();
        parents.filter(|it| it.namespace == route.namespace).collect()
    }

    /// Whether a limit or a processor is attached to a route of a service, of the service's own namespace.
    #[must_use]
    pub fn is_limited_by_route(&self, at: &ObjectRef) -> bool {
        let Some(space) = self.space(&at.namespace) else { return false };
        let routes = space.attached().flat_map(|it| {
            it.routes().map(|(kind, name)| ObjectRef::new(kind, &at.namespace, name)).collect::<Vec<_>>()
        });
        routes.into_iter().any(|route| self.own_parents(&route).contains(at))
    }

    /// What is attached to a route.
    pub fn attached_to_route<'a>(&'a self, route: &'a ObjectRef) -> impl Iterator<Item = ObjectRef> + 'a {
        let attached = self.space(&route.namespace).into_iter().flat_map(Space::attached);
        let is_to_it = move |it: (Kind, &str)| it == (route.kind, &*route.name);
        let to_it = attached.filter(move |it| it.routes().any(is_to_it));
        to_it.map(move |it| it.reference(&route.namespace))
    }
}

impl Space {
    /// All that is attached by reference.
    pub fn attached(&self) -> impl Iterator<Item = Attached<'_>> {
        let policies = self.policies.iter().map(|(name, it)| {
            let targets = it.spec.targets().collect();
            Attached { kind: Kind::AuthorizationPolicy, name, targets }
        });
        let tokens = self.authentications.iter().map(|(name, it)| {
            let targets = it.spec.targets().collect();
            Attached { kind: Kind::RequestAuthentication, name, targets }
        });
        let limits = self.rate_limits.iter().map(|(name, it)| {
            let targets = it.spec.target_refs.iter().collect();
            Attached { kind: Kind::RateLimitPolicy, name, targets }
        });
        let processors = self.ext_procs.iter().map(|(name, it)| {
            let targets = it.spec.target_refs.iter().collect();
            Attached { kind: Kind::ExtProcPolicy, name, targets }
        });
        policies.chain(tokens).chain(limits).chain(processors).filter(|it| !it.targets.is_empty())
    }

    /// What one object is attached to.
    #[must_use]
    pub fn targets_of(&self, at: &ObjectRef) -> Vec<&PolicyTarget> {
        match at.kind {
            Kind::AuthorizationPolicy => {
                self.policies.get(&at.name).into_iter().flat_map(|it| it.spec.targets()).collect()
            }
            Kind::RequestAuthentication => {
                self.authentications.get(&at.name).into_iter().flat_map(|it| it.spec.targets()).collect()
            }
            Kind::RateLimitPolicy => {
                self.rate_limits.get(&at.name).into_iter().flat_map(|it| &it.spec.target_refs).collect()
            }
            Kind::ExtProcPolicy => {
                self.ext_procs.get(&at.name).into_iter().flat_map(|it| &it.spec.target_refs).collect()
            }
            _ => Vec::new(),
        }
    }
}
