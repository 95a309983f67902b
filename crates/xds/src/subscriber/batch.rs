//! One response read into a batch. Everything is parsed before anything counts.

use std::sync::Arc;

use ambit_model::delta::{Change, Delta};
use ambit_model::name::WorkloadUid;
use ambit_model::request_policy::RequestPolicy;
use ambit_wire::convert::{ResourceKey, ResourceType, decode};
use ambit_wire::pb::discovery::{DeltaDiscoveryResponse, Resource};

use super::{Batch, Demand, Refused, Subscriber};

/// Reads a response. The table of what is retained is brought up to date at once: batches take effect in the order
/// they are handed on, so what is handed on is as good as held.
pub(super) fn read(
    kind: ResourceType,
    response: DeltaDiscoveryResponse,
    subscriber: &mut Subscriber,
) -> Batch {
    let DeltaDiscoveryResponse {
        resources,
        removed_resources,
        system_version_info: _,
        type_url: _,
        nonce: _,
    } = response;
    let mut changes = Vec::with_capacity(resources.len() + removed_resources.len());
    let (mut found, mut missing, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    let bytes = resources.iter().filter_map(|each| each.resource.as_ref()).map(|any| any.value.len()).sum();
    for resource in resources {
        let Resource { version, resource, name, aliases, ttl: _, cache_control: _ } = resource;
        for known_as in aliases.iter().chain([&name]) {
            if subscriber.answered(known_as, Demand::Found) {
                found.push(known_as.clone());
            }
        }
        match decode(kind, &name, resource) {
            Ok(decoded) => {
                subscriber.retained.insert(decoded.key, version.into());
                changes.push(decoded.change);
            }
            Err(error) => {
                changes.extend(in_its_place(kind, &name, subscriber));
                refused.push(Refused { name, reason: error.in_full() });
            }
        }
    }
    for name in removed_resources {
        match removed(kind, &name, subscriber) {
            Some(change) => changes.push(change),
            None if subscriber.answered(&name, Demand::Missing) => missing.push(name),
            None => {} // never had it: removals may name what this subscriber was never told of
        }
    }
    Batch { kind, bytes, delta: Delta { changes }, found, missing, refused }
}

/// What stands in for what cannot be read. Mostly nothing, or what was there before. What is demanded of requests must
/// not be passed by only because nobody can read it: while nothing else is known under its name, nobody is let in.
/// Its version is none, so that it is sent again to whoever comes back and may read it then.
fn in_its_place(kind: ResourceType, name: &str, subscriber: &mut Subscriber) -> Option<Change> {
    if kind != ResourceType::Policy {
        return None;
    }
    let policy = RequestPolicy::closed(name.parse().ok()?);
    let key = ResourceKey::RequestPolicy(policy.key.clone());
    if subscriber.retained.contains_key(&key) {
        return None;
    }
    subscriber.retained.insert(key, "".into());
    Some(Change::RequestPolicy(Arc::new(policy)))
}

/// The change that removes what is held under a name: a workload's uid first, then a service's or policy's name.
fn removed(kind: ResourceType, name: &str, subscriber: &mut Subscriber) -> Option<Change> {
    let candidates = match kind {
        ResourceType::Address => [
            Some(ResourceKey::Workload(WorkloadUid::from(name))),
            name.parse().ok().map(ResourceKey::Service),
        ],
        ResourceType::Authorization => [name.parse().ok().map(ResourceKey::Policy), None],
        ResourceType::Route => [name.parse().ok().map(ResourceKey::Route), None],
        ResourceType::Policy => [name.parse().ok().map(ResourceKey::RequestPolicy), None],
        ResourceType::RateLimit => [name.parse().ok().map(ResourceKey::RateLimit), None],
        ResourceType::ExtProc => [name.parse().ok().map(ResourceKey::ExtProc), None],
        ResourceType::Authentication => [name.parse().ok().map(ResourceKey::Authentication), None],
        ResourceType::Traffic => [name.parse().ok().map(ResourceKey::Traffic), None],
        ResourceType::Provider => [Some(ResourceKey::Provider(name.into())), None],
        ResourceType::Credential => [Some(ResourceKey::Credential(name.into())), None],
        ResourceType::Telemetry => [name.parse().ok().map(ResourceKey::Telemetry), None],
    };
    let held = candidates.into_iter().flatten().find(|key| subscriber.retained.contains_key(key))?;
    subscriber.retained.remove(&held);
    Some(held.gone())
}
