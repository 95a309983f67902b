//! Policies of requests in the known world: by key, and by whose requests they judge.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::shelf::Shelf;
use crate::name::PolicyKey;
use crate::request_policy::{RequestPolicy, Target};

#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Demands {
    by_key: HashTrieMapSync<PolicyKey, Arc<RequestPolicy>>,
    by_target: Shelf<Target, RequestPolicy>,
}

impl Demands {
    pub(super) fn policy(&self, key: &PolicyKey) -> Option<&Arc<RequestPolicy>> {
        self.by_key.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<RequestPolicy>> {
        self.by_key.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.size()
    }

    /// Those of any of these, in their order, each once.
    pub(super) fn of(&self, targets: &[Target]) -> Vec<&RequestPolicy> {
        let mut found: Vec<&RequestPolicy> = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            // Attached to an earlier one as well, it is there already.
            let earlier = targets.get(..at).unwrap_or_default();
            let here = self.by_target.all(target).iter();
            let first = here.filter(|policy| !policy.targets.iter().any(|it| earlier.contains(it)));
            found.extend(first.map(AsRef::as_ref));
        }
        found
    }

    pub(super) fn put(&mut self, policy: &Arc<RequestPolicy>) {
        self.take(&policy.key);
        self.by_key.insert_mut(policy.key.clone(), Arc::clone(policy));
        for target in &policy.targets {
            self.by_target.put(target.clone(), policy, |it| it.key.clone());
        }
    }

    pub(super) fn take(&mut self, key: &PolicyKey) {
        let Some(old) = self.by_key.get(key).cloned() else { return };
        self.by_key.remove_mut(key);
        for target in &old.targets {
            self.by_target.take(target, |it| it.key == *key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_policy::RequestAction;

    fn policy(name: &str, targets: &[&Target]) -> Arc<RequestPolicy> {
        Arc::new(RequestPolicy {
            key: name.parse().unwrap(),
            targets: targets.iter().map(|it| (*it).clone()).collect(),
            action: RequestAction::Deny,
            rules: Vec::new(),
            dry_run: false,
        })
    }

    #[test]
    fn a_policy_is_found_by_each_of_its_targets_once_and_after_it_is_gone_by_none() {
        let service = Target::Service("shop/cart.shop.svc".parse().unwrap());
        let waypoint = Target::Waypoint { namespace: "shop".parse().unwrap(), name: "way".into() };
        let mut demands = Demands::default();
        demands.put(&policy("shop/both", &[&service, &waypoint]));
        demands.put(&policy("shop/all", &[&waypoint]));
        demands.put(&policy("istio-system/mesh", &[&Target::Mesh]));
        let found = |demands: &Demands, targets: &[Target]| -> Vec<String> {
            demands.of(targets).iter().map(|it| it.key.to_string()).collect()
        };
        let all = [Target::Mesh, waypoint.clone(), service.clone()];
        assert_eq!(found(&demands, &all), ["istio-system/mesh", "shop/all", "shop/both"]);
        assert_eq!(found(&demands, std::slice::from_ref(&service)), ["shop/both"]);
        // Replaced, it is of its new targets only.
        demands.put(&policy("shop/both", &[&Target::Mesh]));
        assert_eq!(found(&demands, &all), ["istio-system/mesh", "shop/both", "shop/all"]);
        demands.take(&"shop/both".parse().unwrap());
        demands.take(&"istio-system/mesh".parse().unwrap());
        demands.take(&"shop/all".parse().unwrap());
        assert!(demands == Demands::default());
    }
}
