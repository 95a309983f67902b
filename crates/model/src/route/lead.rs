//! Who comes in plaintext to a pod that has a waypoint: whether that one is led there first, on which way, and as whom
//! the waypoint takes it. Owns those decisions, the pod's side and the waypoint's. Whether the pod's own policies let it
//! so far is `judge::consider_led`'s.
//!
//! A pod's proxy leads strangers in the pod's own name, for it has no other. So it says that it asks for somebody else,
//! who has proven nothing, and where that one is. This can only lower what the pod is, and is believed of nobody but the
//! pod that is asked for: whoever says it gains nothing.

use std::net::SocketAddr;

use super::refusal::{Unresolved, unresolved_waypoint};
use super::{Bound, Flow, Hints, Plan, Planner, Refusal, gateway};
use crate::address::{ClientAddr, NetworkAddress};
use crate::balance::Pick;
use crate::name::Identity;
use crate::snapshot::Snapshot;
use crate::workload::GatewayRef;

/// The waypoint that whoever opened `flow` in plaintext is to be led to first; the flow's source is the pod that it
/// came to. None when the pod has no waypoint, is it, or is asked by it: who was led once is not led again.
#[must_use]
pub fn leads<'a>(world: &Snapshot, flow: &'a Flow) -> Option<&'a GatewayRef> {
    let pod = &flow.source;
    let from = NetworkAddress::new(pod.network.clone(), flow.client.ip());
    let reference = pod.waypoint.as_ref()?;
    let is = |workload| gateway::is(world, reference, workload);
    let by_itself = is(pod) || world.workload_by_address(&from).is_some_and(|from| is(from));
    (!by_itself).then_some(reference)
}

/// The way to that waypoint, which is asked for what the stranger asked for.
///
/// # Errors
/// Why there is none. It means: close the connection, never go around the waypoint.
pub fn plan_led(
    world: &Snapshot,
    flow: &Flow,
    to: &GatewayRef,
    hints: &Hints,
    pick: &mut impl Pick,
) -> Result<Plan, Refusal> {
    Planner { world, flow, hints, pick }.by_waypoint(to)
}

impl<P: Pick> Planner<'_, P> {
    /// To the waypoint of the workload that was addressed.
    pub(super) fn by_waypoint(&mut self, reference: &GatewayRef) -> Result<Plan, Refusal> {
        let waypoint = self.waypoint(reference)?;
        if waypoint.workload.network != self.flow.source.network {
            // A gateway is asked for a service's host, and there is none here.
            return Err(unresolved_waypoint(reference, Unresolved::OtherNetwork));
        }
        self.through(&waypoint, None).map(Plan::ViaWaypoint)
    }
}

/// Who asks a waypoint for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Who it has proven to be; none: it has proven nothing.
    pub identity: Option<Identity>,
    /// Where it is.
    pub from: ClientAddr,
}

/// Why whoever says that it leads a stranger is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLed {
    /// It asks for something else than a workload.
    #[error("strangers are led to the waypoint by the workload that they came to, and this is a service's")]
    NoWorkload,
    /// It is not the workload that it asks for.
    #[error(
        "strangers are led to the waypoint by the workload that they came to, and {peer} is not at {from}"
    )]
    Another {
        /// Who it is.
        peer: Identity,
        /// Where it is.
        from: ClientAddr,
    },
    /// It does not say where the stranger is.
    #[error("nothing is said of where the stranger is")]
    Nowhere,
}

/// Who asks for `bound`: the tunnel's other end `peer`, at `from`, or the stranger for whom it asks, as far as it says
/// where that one is.
///
/// # Errors
/// [`NotLed`] when it may not ask for strangers.
pub fn asker(
    bound: &Bound,
    (peer, from): (&Identity, ClientAddr),
    stranger: Option<Option<SocketAddr>>,
) -> Result<Asker, NotLed> {
    let Some(stranger) = stranger else { return Ok(Asker { identity: Some(peer.clone()), from }) };
    let Bound::Workload { workload, .. } = bound else { return Err(NotLed::NoWorkload) };
    if workload.identity() != *peer || !workload.addresses.contains(&from.ip()) {
        return Err(NotLed::Another { peer: peer.clone(), from });
    }
    let from = stranger.map(ClientAddr::new).ok_or(NotLed::Nowhere)?;
    Ok(Asker { identity: None, from })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::address::OriginalDst;
    use crate::balance::First;
    use crate::sample::{by_host, identity, pod, service, socket, world};
    use crate::snapshot::Snapshot;
    use crate::workload::{Health, Workload};

    const WAY: &str = "shop/way.shop.svc";

    /// A pod with a waypoint whose two replicas are at 10.0.0.8 and 10.0.0.9, and one without.
    fn shop(health: Health) -> Snapshot {
        let replica = |name: &str, ip: &str| {
            let pod = pod(name, ip).serving(WAY, &[]);
            Workload { health, service_account: "way".parse().unwrap(), ..pod }
        };
        world([
            service(WAY, &["10.1.0.9"], &[(15008, 15008)]).into(),
            replica("shop/way-1", "10.0.0.8").into(),
            replica("shop/way-2", "10.0.0.9").into(),
            Workload { waypoint: Some(by_host(WAY)), ..pod("shop/web", "10.0.0.1 fd00::1") }.into(),
            pod("shop/free", "10.0.0.2").into(),
            pod("shop/cart", "10.0.0.3").into(),
        ])
    }

    fn flow(world: &Snapshot, from: &str, to: &str) -> Flow {
        let dst = OriginalDst::new(socket(to));
        let at = NetworkAddress::new("".into(), dst.ip());
        let source = Arc::clone(world.workload_by_address(&at).unwrap());
        Flow { source, client: ClientAddr::new(socket(from)), dst }
    }

    #[test]
    fn whoever_comes_in_plaintext_is_led_to_the_waypoint_but_for_the_waypoint_itself() {
        let world = shop(Health::Healthy);
        for (from, to, led) in [
            // Nobody that is known.
            ("192.0.2.7:999", "10.0.0.1:8080", true),
            ("[2001:db8::7]:999", "[fd00::1]:8080", true),
            // One of the mesh proves who it is in a tunnel; here it has proven nothing either.
            ("10.0.0.3:999", "10.0.0.1:8080", true),
            // Either replica of the waypoint.
            ("10.0.0.8:999", "10.0.0.1:8080", false),
            ("10.0.0.9:999", "10.0.0.1:8080", false),
            // No waypoint.
            ("192.0.2.7:999", "10.0.0.2:8080", false),
            // The waypoint's own pods have none.
            ("192.0.2.7:999", "10.0.0.8:8080", false),
        ] {
            let flow = flow(&world, from, to);
            assert_eq!(leads(&world, &flow).is_some(), led, "{from} to {to}");
        }
    }

    #[test]
    fn the_waypoint_is_asked_for_the_very_port_and_without_one_there_is_no_way() {
        let world = shop(Health::Healthy);
        let flow = flow(&world, "192.0.2.7:999", "10.0.0.1:8080");
        let reference = leads(&world, &flow).unwrap().clone();
        let mut hints = Hints::default();
        for hop in ["10.0.0.8:15008", "10.0.0.9:15008"] {
            let plan = plan_led(&world, &flow, &reference, &hints, &mut First).unwrap();
            let Plan::ViaWaypoint(to) = plan else { panic!("{plan:?}") };
            assert_eq!((to.hop.socket(), to.authority.to_string()), (socket(hop), "10.0.0.1:8080".into()));
            assert_eq!(to.expect, [identity("shop/way")]);
            hints.avoid.push(to.destination.uid.clone());
        }
        for world in [shop(Health::Unhealthy), crate::sample::world([])] {
            let refused = plan_led(&world, &flow, &reference, &Hints::default(), &mut First).unwrap_err();
            assert_eq!(refused.label(), "waypoint_unresolved");
        }
    }

    #[test]
    fn a_stranger_is_taken_for_one_only_of_the_pod_that_it_came_to() {
        let world = shop(Health::Healthy);
        let web = flow(&world, "192.0.2.7:999", "10.0.0.1:8080").source;
        let of_web = Bound::Workload { workload: web, target: socket("10.0.0.1:8080") };
        let service = Arc::clone(world.service(&WAY.parse().unwrap()).unwrap());
        let of_service = Bound::Service { service, port: 15008, subset: None };
        let stranger = socket("192.0.2.7:999");
        let led = Some(Some(stranger));
        let own = |who: &str, from: &str| {
            let identity = Some(identity(who));
            Ok(Asker { identity, from: ClientAddr::new(socket(from)) })
        };
        let unknown = Ok(Asker { identity: None, from: ClientAddr::new(stranger) });
        let another = |who: &str, from: &str| {
            Err(NotLed::Another { peer: identity(who), from: ClientAddr::new(socket(from)) })
        };
        for (bound, who, from, said, wanted) in [
            // Without a word of strangers everybody asks for itself, the pod included.
            (&of_web, "shop/cart", "10.0.0.3:1", None, own("shop/cart", "10.0.0.3:1")),
            (&of_web, "shop/web", "10.0.0.1:1", None, own("shop/web", "10.0.0.1:1")),
            (&of_service, "shop/web", "10.0.0.1:1", None, own("shop/web", "10.0.0.1:1")),
            (&of_web, "shop/web", "10.0.0.1:1", led, unknown.clone()),
            (&of_web, "shop/web", "[fd00::1]:1", led, unknown),
            // Another one, another one's place, another thing, and nowhere.
            (&of_web, "shop/cart", "10.0.0.3:1", led, another("shop/cart", "10.0.0.3:1")),
            (&of_web, "shop/cart", "10.0.0.1:1", led, another("shop/cart", "10.0.0.1:1")),
            (&of_web, "shop/web", "10.0.0.3:1", led, another("shop/web", "10.0.0.3:1")),
            (&of_service, "shop/web", "10.0.0.1:1", led, Err(NotLed::NoWorkload)),
            (&of_web, "shop/web", "10.0.0.1:1", Some(None), Err(NotLed::Nowhere)),
        ] {
            let peer = (&identity(who), ClientAddr::new(socket(from)));
            assert_eq!(asker(bound, peer, said), wanted, "{who} at {from}, {said:?}");
        }
    }
}
