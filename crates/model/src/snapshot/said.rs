//! What is said in the known world of what is told of requests: by name, and by whose requests it is about. At each
//! scope there is one; whoever tells us of them sees to that, and of two it is the one with the smaller key.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::shelf::Shelf;
use crate::name::{Namespace, PolicyKey, ServiceKey};
use crate::telemetry::{Levels, Scope, Telemetry};

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Said {
    by_key: HashTrieMapSync<PolicyKey, Arc<Telemetry>>,
    by_scope: Shelf<Scope, Telemetry>,
}

impl Default for Said {
    fn default() -> Self {
        Self { by_key: HashTrieMapSync::new_sync(), by_scope: Shelf::default() }
    }
}

impl Said {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Telemetry>> {
        self.by_key.values()
    }

    /// From the least to the most special: the mesh's configuration, the mesh, the waypoint's namespace, the service's, the
    /// class, the waypoint, the service.
    pub(super) fn of(
        &self,
        (namespace, name): (&Namespace, &str),
        service: Option<&ServiceKey>,
    ) -> Option<Levels> {
        if self.by_key.is_empty() {
            return None;
        }
        let at = |scope: &Scope| self.by_scope.best(scope).cloned();
        let elsewhere = service.filter(|it| it.namespace != *namespace);
        let levels = Levels([
            at(&Scope::Usual),
            at(&Scope::Mesh),
            at(&Scope::Namespace(namespace.clone())),
            elsewhere.and_then(|it| at(&Scope::Namespace(it.namespace.clone()))),
            at(&Scope::Class),
            at(&Scope::Waypoint { namespace: namespace.clone(), name: name.into() }),
            service.and_then(|it| at(&Scope::Service(it.clone()))),
        ]);
        (!levels.is_empty()).then_some(levels)
    }

    pub(super) fn put(&mut self, one: &Arc<Telemetry>) {
        self.take(&one.key);
        self.by_key.insert_mut(one.key.clone(), Arc::clone(one));
        for scope in &one.scopes {
            self.by_scope.put(scope.clone(), one, |it| it.key.clone());
        }
    }

    pub(super) fn take(&mut self, key: &PolicyKey) {
        let Some(old) = self.by_key.get(key).cloned() else { return };
        self.by_key.remove_mut(key);
        for scope in &old.scopes {
            self.by_scope.take(scope, |it| it.key == *key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{HeaderWords, Metric};

    fn said(name: &str, scope: Scope, uncounted: Metric) -> Arc<Telemetry> {
        Arc::new(Telemetry {
            key: PolicyKey { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() },
            scopes: vec![scope],
            tracing: None,
            logging: vec![],
            uncounted: vec![uncounted],
            counted: Metric::ALL.into_iter().filter(|it| *it != uncounted).collect(),
            labels: vec![],
            headers: HeaderWords::default(),
        })
    }

    #[test]
    fn the_more_special_goes_first_and_after_it_is_gone_what_it_was_before() {
        let waypoints: Namespace = "infra".parse().unwrap();
        let service: ServiceKey = "shop/web.shop.svc".parse().unwrap();
        let waypoint = Scope::Waypoint { namespace: waypoints.clone(), name: "way".into() };
        let scopes = [
            Scope::Mesh,
            Scope::Namespace(waypoints.clone()),
            Scope::Namespace(service.namespace.clone()),
            Scope::Class,
            waypoint,
            Scope::Service(service.clone()),
        ];
        let all: Vec<_> = scopes.into_iter().zip(Metric::ALL).enumerate().collect();
        let mut shelf = Said::default();
        let counted = |shelf: &Said| {
            let levels = shelf.of((&waypoints, "way"), Some(&service));
            levels.and_then(|levels| Metric::ALL.into_iter().position(|it| !levels.counts(it)))
        };
        assert_eq!(counted(&shelf), None);
        let usual = said("usual", Scope::Usual, Metric::Sent);
        shelf.put(&usual);
        assert_eq!(counted(&shelf), Some(Metric::ALL.len() - 1));
        shelf.take(&usual.key);
        for (at, (scope, metric)) in &all {
            shelf.put(&said(&format!("it-{at}"), scope.clone(), *metric));
            assert_eq!(counted(&shelf), Some(*at), "{scope:?}");
        }
        assert!(shelf.of((&"other".parse().unwrap(), "way"), None).is_some(), "that of the mesh is for all");
        let last = all.len() - 1;
        let twin = said("twin", Scope::Service(service.clone()), Metric::Requests);
        shelf.put(&twin);
        assert_eq!(counted(&shelf), Some(last), "of two it is the one with the smaller key");
        shelf.take(&twin.key);
        for (at, _) in all.iter().rev() {
            assert_eq!(counted(&shelf), Some(*at));
            shelf.take(&said(&format!("it-{at}"), Scope::Mesh, Metric::Requests).key);
        }
        assert!(shelf == Said::default());
    }
}
