//! What is demanded of requests in the known world - policies, whom to believe, how many may come, and by whom they
//! go: by key, and by whose requests it is for: those to targets, or those of routes.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::shelf::Shelf;
use crate::authentication::Authentication;
use crate::ext_proc::ExtProc;
use crate::http_route::{RouteKey, RouteTarget, RuleName};
use crate::name::PolicyKey;
use crate::rate_limit::RateLimit;
use crate::request_policy::{RequestPolicy, Target};

/// What is attached to targets.
pub(super) trait Attached: PartialEq {
    fn key(&self) -> &PolicyKey;
    fn targets(&self) -> &[Target];

    fn routes(&self) -> &[RouteTarget] {
        &[]
    }
}

impl Attached for RequestPolicy {
    fn key(&self) -> &PolicyKey {
        &self.key
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }
}

impl Attached for Authentication {
    fn key(&self) -> &PolicyKey {
        &self.key
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }
}

impl Attached for RateLimit {
    fn key(&self) -> &PolicyKey {
        &self.key
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn routes(&self) -> &[RouteTarget] {
        &self.routes
    }
}

impl Attached for ExtProc {
    fn key(&self) -> &PolicyKey {
        &self.key
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn routes(&self) -> &[RouteTarget] {
        &self.routes
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Demands<T: PartialEq> {
    by_key: HashTrieMapSync<PolicyKey, Arc<T>>,
    by_target: Shelf<Target, T>,
    by_route: Shelf<RouteKey, T>,
}

impl<T: PartialEq> Default for Demands<T> {
    fn default() -> Self {
        Self { by_key: HashTrieMapSync::new_sync(), by_target: Shelf::default(), by_route: Shelf::default() }
    }
}

impl<T: Attached> Demands<T> {
    pub(super) fn get(&self, key: &PolicyKey) -> Option<&Arc<T>> {
        self.by_key.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_key.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.size()
    }

    /// Those of any of these, in their order, each once.
    pub(super) fn of(&self, targets: &[Target]) -> Vec<&T> {
        let mut found: Vec<&T> = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            // Attached to an earlier one as well, it is there already.
            let earlier = targets.get(..at).unwrap_or_default();
            let here = self.by_target.all(target).iter();
            let first = here.filter(|one| !one.targets().iter().any(|it| earlier.contains(it)));
            found.extend(first.map(AsRef::as_ref));
        }
        found
    }

    /// The same, to be kept, and those that are attached to the rule that a request is of.
    pub(super) fn of_rule(&self, targets: &[Target], rule: Option<RuleName<'_>>) -> Vec<&Arc<T>> {
        let here = self.of(targets).into_iter().filter_map(|one| self.by_key.get(one.key()));
        let mut found: Vec<&Arc<T>> = here.collect();
        let Some(rule) = rule.filter(|_| !self.by_route.is_empty()) else { return found };
        let of_route = self.by_route.all(rule.route).iter();
        for one in of_route.filter(|one| one.routes().iter().any(|it| it.covers(rule))) {
            // Attached to its service as well, it is there already.
            if !found.iter().any(|it| it.key() == one.key()) {
                found.push(one);
            }
        }
        found
    }

    pub(super) fn put(&mut self, one: &Arc<T>) {
        self.take(one.key());
        self.by_key.insert_mut(one.key().clone(), Arc::clone(one));
        for target in one.targets() {
            self.by_target.put(target.clone(), one, |it| it.key().clone());
        }
        for it in one.routes() {
            self.by_route.put(it.route.clone(), one, |it| it.key().clone());
        }
    }

    pub(super) fn take(&mut self, key: &PolicyKey) {
        let Some(old) = self.by_key.get(key).cloned() else { return };
        self.by_key.remove_mut(key);
        for target in old.targets() {
            self.by_target.take(target, |it| it.key() == key);
        }
        for it in old.routes() {
            self.by_route.take(&it.route, |it| it.key() == key);
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
        let found = |demands: &Demands<RequestPolicy>, targets: &[Target]| -> Vec<String> {
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

    #[test]
    fn what_is_attached_to_a_route_is_of_the_requests_of_its_rules_alone_and_each_is_there_once() {
        let service = Target::Service("shop/cart.shop.svc".parse().unwrap());
        let limit = |name: &str, targets: &[Target], routes: &[(&str, Option<&str>)]| {
            let to = |(route, rule): &(&str, Option<&str>)| RouteTarget {
                route: route.parse().unwrap(),
                rule: rule.map(Into::into),
            };
            Arc::new(RateLimit {
                key: name.parse().unwrap(),
                targets: targets.to_vec(),
                routes: routes.iter().map(to).collect(),
                local: Vec::new(),
                global: None,
                tell: false,
                exhausted: false,
            })
        };
        let (cart, call) = ("HTTPRoute/shop/cart", "GRPCRoute/shop/cart");
        let mut demands = Demands::default();
        demands.put(&limit("shop/both", std::slice::from_ref(&service), &[(cart, None)]));
        demands.put(&limit("shop/rule", &[], &[(cart, Some("pay")), (cart, Some("buy"))]));
        demands.put(&limit("shop/all", &[], &[(cart, None), (cart, Some("pay"))]));
        demands.put(&limit("shop/grpc", &[], &[(call, None)]));
        let found = |demands: &Demands<RateLimit>, rule: Option<(&str, &str)>| -> Vec<String> {
            let key: Option<RouteKey> = rule.map(|(route, _)| route.parse().unwrap());
            let name = key.as_ref().zip(rule).map(|(route, (_, rule))| RuleName { route, rule });
            let all = demands.of_rule(std::slice::from_ref(&service), name);
            all.iter().map(|it| it.key.to_string()).collect()
        };
        assert_eq!(found(&demands, None), ["shop/both"]);
        assert_eq!(found(&demands, Some((cart, ""))), ["shop/both", "shop/all"]);
        assert_eq!(found(&demands, Some((cart, "pay"))), ["shop/both", "shop/all", "shop/rule"]);
        assert_eq!(found(&demands, Some((call, "pay"))), ["shop/both", "shop/grpc"]);
        // Replaced, it is of its new routes only.
        demands.put(&limit("shop/all", &[], &[(call, Some("x"))]));
        assert_eq!(found(&demands, Some((cart, ""))), ["shop/both"]);
        assert_eq!(found(&demands, Some((call, "x"))), ["shop/both", "shop/all", "shop/grpc"]);
        for name in ["both", "rule", "all", "grpc"] {
            demands.take(&format!("shop/{name}").parse().unwrap());
        }
        assert!(demands == Demands::default());
    }
}
