//! Which services TLS is begun to by policies of the Gateway API, and which objects those refer to. Owns finding them,
//! from either side.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::kinds::backend_tls::{BackendTarget, BackendTlsPolicy};
use ambit_cluster::kinds::destination_rule::DestinationRule;
use ambit_cluster::kinds::meta::is_object_name;
use ambit_cluster::{Kind, ObjectRef};

use crate::index::World;
use crate::index::unit::Unit;
use crate::translate::destination::credential::namespaces;

/// The kind of a target that waypoints send to.
#[must_use]
pub fn target_kind(target: &BackendTarget) -> Option<Kind> {
    match (target.group.as_str(), target.kind.as_str()) {
        ("" | "core", "Service") => Some(Kind::Service),
        ("networking.istio.io", "ServiceEntry") => Some(Kind::ServiceEntry),
        _ => None,
    }
}

/// The services and service entries that a policy names.
pub fn targets(policy: &BackendTlsPolicy) -> impl Iterator<Item = ObjectRef> {
    let home = &policy.metadata.namespace;
    let targets = policy.spec.target_refs.iter();
    targets.filter_map(|it| Some(ObjectRef::new(target_kind(it)?, home, &it.name)))
}

impl World {
    /// The policies that name a service or a service entry, the oldest first.
    #[must_use]
    pub fn securing(&self, at: &ObjectRef) -> Vec<&Arc<BackendTlsPolicy>> {
        let all = self.space(&at.namespace).into_iter().flat_map(|space| space.backend_tls.values());
        let mut named: Vec<_> = all.filter(|it| targets(it).any(|target| target == *at)).collect();
        named.sort_by_key(|it| it.metadata.age());
        named
    }

    /// The services and service entries that a policy names, if it is one.
    #[must_use]
    pub fn secured_near(&self, at: &ObjectRef) -> Vec<ObjectRef> {
        if at.kind != Kind::BackendTlsPolicy {
            return Vec::new();
        }
        let policy = self.space(&at.namespace).and_then(|space| space.backend_tls.get(&at.name));
        policy.into_iter().flat_map(|it| targets(it)).collect()
    }

    /// Whether a config map is that of the mesh.
    #[must_use]
    pub fn is_own(&self, map: &ObjectRef) -> bool {
        *map.namespace == *self.base.system_namespace && *map.name == *self.base.config_map()
    }

    /// The policies that refer to a config map.
    pub fn referring<'a>(&'a self, map: &'a ObjectRef) -> impl Iterator<Item = &'a Arc<BackendTlsPolicy>> {
        let all = self.space(&map.namespace).into_iter().flat_map(|space| space.backend_tls.values());
        all.filter(|it| it.config_maps().any(|name| *name == *map.name))
    }

    /// The services and service entries that are named by policies that refer to a config map.
    #[must_use]
    pub fn secured_by(&self, map: &ObjectRef) -> Vec<ObjectRef> {
        self.referring(map).flat_map(|it| targets(it)).collect()
    }

    /// The destination rules that name a secret, of whichever namespace.
    #[must_use]
    pub fn naming(&self, secret: &str) -> Vec<&DestinationRule> {
        let all = self.spaces().flat_map(|(_, space)| space.destination_rules.values());
        all.filter(|it| it.credentials().any(|name| name == secret)).map(AsRef::as_ref).collect()
    }

    /// What those rules are about.
    #[must_use]
    pub fn governed_naming(&self, secret: &str) -> BTreeSet<Unit> {
        self.naming(secret).into_iter().flat_map(|it| self.governed_by(it)).collect()
    }

    /// The secrets that destination rules name, in the namespaces of the waypoints that they are for.
    fn secrets_named(&self) -> BTreeSet<ObjectRef> {
        let mut named = BTreeSet::new();
        if !self.mesh.secrets {
            return named;
        }
        let rules = self.spaces().flat_map(|(_, space)| space.destination_rules.values());
        for rule in rules.filter(|it| it.credentials().next().is_some()) {
            for namespace in namespaces(self, rule) {
                let names = rule.credentials().filter(|name| is_object_name(name));
                named.extend(names.map(|name| ObjectRef::new(Kind::Secret, &namespace, name)));
            }
        }
        named
    }

    /// The objects that others refer to, beside the mesh's own configuration.
    #[must_use]
    pub fn referred(&self) -> BTreeSet<ObjectRef> {
        let policies = self.spaces().flat_map(|(_, space)| space.backend_tls.values());
        let maps = policies.flat_map(|it| {
            let home = it.metadata.namespace.as_str();
            // Another word could lead to another path.
            let names = it.config_maps().filter(|name| is_object_name(name));
            names.map(move |name| ObjectRef::new(Kind::ConfigMap, home, name))
        });
        maps.filter(|it| !self.is_own(it)).chain(self.secrets_named()).collect()
    }
}
