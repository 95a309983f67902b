//! What is attached to other objects by reference: policies of requests, whose tokens are believed, limits, and
//! processors. Owns which kinds do that; what a reference means is `translate::target`'s.

use std::sync::Arc;

use ambit_cluster::kinds::policy::PolicyTarget;
use ambit_cluster::{Kind, ObjectRef};

use crate::index::Space;

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

    /// Whether it names this kind and this name.
    #[must_use]
    pub fn names(&self, kind: &str, name: &str) -> bool {
        self.targets.iter().any(|it| it.kind == kind && it.name == name)
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
