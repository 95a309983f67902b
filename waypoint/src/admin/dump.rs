//! What is known here, for people and for programs: `/config_dump`, bounded and as objects are called, and
//! `/resources`, as it was told. Owns the dump's keys; the world's shapes are `wire::local`'s.

use std::sync::Arc;

use ambit_model::delta::Change;
use ambit_model::route::Waypoint;
use ambit_model::snapshot::Snapshot;
use ambit_tls::vault::{ShownState, Vault};
use ambit_wire::local;
use serde_json::{Map, Value, json};

/// Objects of a kind that are shown; of more only how many. A dump is made in memory, beside the requests.
const SHOWN_MOST: usize = 5_000;

/// What is known of one kind.
struct Shelf {
    shown: Vec<Value>,
    left_out: usize,
}

/// All of it.
pub(super) fn dump(world: &Snapshot, waypoint: &Waypoint, vault: &Vault) -> Value {
    let local::Dump { workloads, services, policies, staged_services } = local::dump(world);
    let served = world.services().filter(|service| waypoint.serves(world, service));
    let mut served: Vec<_> = served.map(|service| service.key().to_string()).collect();
    served.sort_unstable();
    let mut whole = json!({
        "certificates": certificates(vault),
        "gateway": waypoint.service.to_string(),
        "gatewayName": waypoint.name(),
        "policies": policies,
        "served": served,
        "services": services,
        "stagedServices": staged_services,
        "version": env!("CARGO_PKG_VERSION"),
        "workloads": workloads,
    });
    let mut left_out = Map::new();
    for (name, Shelf { shown, left_out: more }) in [
        ("routes", shelf(world.routes(), |it| it.key.to_string(), local::route)),
        ("requestPolicies", shelf(world.request_policies(), |it| it.key.to_string(), local::request_policy)),
        ("traffic", shelf(world.traffic(), |it| it.service.to_string(), local::traffic)),
        ("credentials", shelf(world.credentials(), |it| it.name.to_string(), local::credential)),
        ("telemetry", shelf(world.telemetry(), |it| it.key.to_string(), local::telemetry)),
        ("rateLimits", shelf(world.rate_limits(), |it| it.key.to_string(), local::rate_limit)),
        ("extProcs", shelf(world.ext_procs(), |it| it.key.to_string(), local::ext_proc)),
        ("providers", shelf(world.providers(), |it| it.name.to_string(), local::provider)),
        ("authentications", shelf(world.authentications(), |it| it.key.to_string(), local::authentication)),
    ] {
        if more > 0 {
            left_out.insert(name.into(), more.into());
        }
        whole.as_object_mut().map(|members| members.insert(name.into(), shown.into()));
    }
    whole.as_object_mut().map(|members| members.insert("leftOut".into(), left_out.into()));
    whole
}

/// What nobody but waypoints is told, to decide by once more.
pub(super) fn resources(world: &Snapshot) -> String {
    let routes = world.routes().map(|it| Change::Route(Arc::clone(it)));
    let policies = world.request_policies().map(|it| Change::RequestPolicy(Arc::clone(it)));
    let limits = world.rate_limits().map(|it| Change::RateLimit(Arc::clone(it)));
    let limits = limits.chain(world.ext_procs().map(|it| Change::ExtProc(Arc::clone(it))));
    let authentications = world.authentications().map(|it| Change::Authentication(Arc::clone(it)));
    let traffic = world.traffic().map(|it| Change::Traffic(Arc::clone(it)));
    local::write_lines(routes.chain(policies).chain(limits).chain(authentications).chain(traffic))
}

fn shelf<'a, T: 'a>(
    all: impl Iterator<Item = &'a Arc<T>>,
    name: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Shelf {
    let mut all: Vec<_> = all.collect();
    all.sort_by_cached_key(|it| name(it));
    let left_out = all.len().saturating_sub(SHOWN_MOST);
    Shelf { shown: all.into_iter().take(SHOWN_MOST).map(|it| show(it)).collect(), left_out }
}

fn certificates(vault: &Vault) -> Vec<Value> {
    let shown = vault.dump().into_iter().map(|seat| {
        let state = match seat.state {
            ShownState::Initializing => "Initializing".to_owned(),
            ShownState::Available => "Available".to_owned(),
            ShownState::Unavailable(why) => {
                format!("Unavailable: {}", ambit_proxy::fault::chain(why.as_ref()))
            }
        };
        json!({ "identity": seat.identity.to_string(), "state": state })
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_shown_than_are_worth_it_and_the_others_are_counted() {
        let all: Vec<Arc<usize>> = (0..SHOWN_MOST + 3).rev().map(Arc::new).collect();
        let shelf = shelf(all.iter(), |it| format!("{it:06}"), |it| json!(it));
        assert_eq!((shelf.shown.len(), shelf.left_out), (SHOWN_MOST, 3));
        assert_eq!(shelf.shown.first(), Some(&json!(0)), "in order");
    }
}
