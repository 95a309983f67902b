//! Policies of limits to what waypoints count by (`waypoint.md` 4.10): pure. Owns what is meant where something is left
//! out. Conditions that cannot be read do not keep a limit from being a request's; what admission refuses and got in all
//! the same - an attribute that nobody knows, numbers that are no rate - is left out of what is told, and a service that
//! does not read is one that never answers.

use std::time::Duration;

use ambit_cluster::kinds::rate_limit::{
    Descriptor as GivenDescriptor, Entry as GivenEntry, GlobalLimit as GivenGlobal, GrpcStatus,
    LocalLimit as GivenLocal, OnFailure, RateLimitPolicy,
};
use ambit_cluster::kinds::route::duration;
use ambit_model::name::PolicyKey;
use ambit_model::rate_limit::{
    Descriptor, Entry, EntryValue, GlobalLimit, LocalLimit, PATIENCE, Rate, RateLimit,
};

use crate::index::World;
use crate::translate::demand::rule;
use crate::translate::target::{Attached, attached};
use crate::translate::{alias, provider};

/// As waypoints count by it; nothing, if it is attached to nothing of theirs.
#[must_use]
pub fn rate_limit(world: &World, object: &RateLimitPolicy) -> Option<RateLimit> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let Attached { targets, routes } = attached(world, &meta.namespace, &spec.target_refs)?;
    let home: &str = &meta.namespace;
    let mut limit = RateLimit {
        key: PolicyKey { namespace: meta.namespace.parse().ok()?, name: meta.name.parse().ok()? },
        targets,
        routes,
        local: spec.local.iter().filter_map(|it| local(it, home)).collect(),
        global: spec.global.as_ref().map(|it| global(world, it, home)),
        tell: spec.tell_limits,
        exhausted: spec.grpc_status == GrpcStatus::ResourceExhausted,
    };
    alias::widen_rules(limit.local.iter_mut().map(|it| &mut it.rule), &world.mesh);
    let descriptors = limit.global.iter_mut().flat_map(|it| &mut it.descriptors);
    alias::widen_rules(descriptors.map(|it| &mut it.rule), &world.mesh);
    Some(limit)
}

fn local(given: &GivenLocal, home: &str) -> Option<LocalLimit> {
    let GivenLocal { matching, key, requests, per, burst } = given;
    Some(LocalLimit {
        rule: rule(matching, home),
        key: key.iter().filter_map(|it| it.parse().ok()).collect(),
        rate: Rate::new(*requests, duration(per)?, burst.unwrap_or(*requests)).ok()?,
    })
}

fn global(world: &World, given: &GivenGlobal, home: &str) -> GlobalLimit {
    let GivenGlobal { service, port, domain, descriptors, hits, timeout, on_failure } = given;
    GlobalLimit {
        at: provider::service(world, home, (service, *port)),
        domain: domain.as_str().into(),
        descriptors: descriptors.iter().filter_map(|it| descriptor(it, home)).collect(),
        hits: hits.unwrap_or(1),
        patience: duration(timeout).filter(|it| *it > Duration::ZERO).unwrap_or(PATIENCE),
        fail_closed: *on_failure == OnFailure::Deny,
    }
}

/// With all of its parts, or not at all: with fewer it would be another one.
fn descriptor(given: &GivenDescriptor, home: &str) -> Option<Descriptor> {
    let GivenDescriptor { matching, entries } = given;
    let entries = entries.iter().map(entry).collect::<Option<_>>()?;
    Some(Descriptor { rule: rule(matching, home), entries })
}

fn entry(given: &GivenEntry) -> Option<Entry> {
    let GivenEntry { key, value, from } = given;
    let value = if from.is_empty() {
        EntryValue::Fixed(value.as_str().into())
    } else {
        EntryValue::Of(from.parse().ok()?)
    };
    Some(Entry { key: key.as_str().into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const POLICY: &str = "
apiVersion: ambit.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: limits, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}]
  local:
  - match: {to: [{operation: {paths: [/cart/*]}}]}
    key: [source.principal]
    requests: 10
    per: 1m
  - {requests: 100, per: 1s, burst: 5}
  global:
    service: limits
    port: 8081
    domain: shop
    descriptors: [{entries: [{key: who, from: source.namespace}, {key: what, value: cart}]}]
    onFailure: Deny
";

    fn read(text: &str) -> Option<RateLimit> {
        let world = world(text);
        let object = world.space("shop").unwrap().rate_limits.get("limits").cloned().unwrap();
        rate_limit(&world, &object)
    }

    #[test]
    fn limits_are_told_with_what_their_author_left_out() {
        let limit = read(POLICY).unwrap();
        assert_eq!(limit.key.to_string(), "shop/limits");
        assert_eq!((limit.tell, limit.exhausted), (false, false));
        let [cart, all] = limit.local.as_slice() else { panic!("{limit:?}") };
        assert_eq!((cart.rate.requests(), cart.rate.burst(), cart.rule.to.len()), (10, 10, 1));
        assert_eq!(cart.rate.per(), Duration::from_secs(60));
        assert_eq!(cart.key, ["source.principal".parse().unwrap()]);
        assert_eq!((all.rate.burst(), all.key.len()), (5, 0));
        let global = limit.global.unwrap();
        assert_eq!(global.at.unwrap().to_string(), "shop/limits.shop.svc.cluster.local:8081");
        assert_eq!((global.hits, global.patience, global.fail_closed), (1, PATIENCE, true));
        assert_eq!(global.descriptors[0].entries.len(), 2);
    }

    #[test]
    fn a_service_elsewhere_is_meant_by_its_host_and_what_is_attached_to_nothing_is_not_told() {
        let elsewhere = POLICY.replace("service: limits", "service: tools/limits.example");
        let at = |text: &str| read(text).unwrap().global.unwrap().at.map(|it| it.to_string());
        assert_eq!(at(&elsewhere).as_deref(), Some("tools/limits.example:8081"));
        let pod = POLICY.replace("kind: Service, name: web", "kind: Pod, name: web");
        assert_eq!(read(&pod), None);
    }

    #[test]
    fn a_service_that_does_not_read_is_one_that_never_answers() {
        for wrong in ["service: a b", "service: a/b/c"] {
            let global = read(&POLICY.replace("service: limits", wrong)).unwrap().global.unwrap();
            assert_eq!((global.at, global.fail_closed), (None, true), "{wrong}");
        }
    }
}
