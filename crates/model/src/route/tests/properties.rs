//! What holds for every plan in every world: plaintext only to who takes plaintext, identities always expected, and
//! both ends agree on what may be asked for.

use proptest::prelude::*;

use super::*;
use crate::address::ListenAddr;
use crate::delta::Delta;
use crate::workload::Handover;

const HOSTS: [&str; 3] = ["a/web.example", "a/waypoint.example", "b/web.example"];

fn reference() -> impl Strategy<Value = Option<GatewayRef>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(by_host(HOSTS[1]))),
        1 => Just(Some(by_host("a/nowhere.example"))),
        1 => (0..4_u8).prop_map(|ip| Some(by_address(&format!("10.0.0.{ip}")))),
        1 => (0..2_u8).prop_map(|ip| Some(by_address(&format!("10.96.0.{ip}")))),
    ]
}

fn workload(nth: usize) -> impl Strategy<Value = Change> {
    let endpoint =
        prop::collection::vec((0..HOSTS.len(), prop_oneof![Just(0_u16), Just(8080), Just(15008)]), 0..3);
    let tunnel = prop_oneof![6 => Just(None), 1 => Just(Some(None)), 1 => Just(Some(Some(15088)))];
    (0..4_u8, any::<[bool; 4]>(), endpoint, reference(), tunnel).prop_map(
        move |(ip, [hbone, healthy, host_network, far], endpoints, waypoint, tunnel)| {
            let mut w = pod(&format!("a/p{nth}"), &format!("10.0.0.{ip} fd00::{ip}"));
            w.tunnel = if hbone { Tunnel::Hbone } else { Tunnel::None };
            w.health = if healthy { Health::Healthy } else { Health::Unhealthy };
            w.host_network = host_network;
            if far && nth > 2 {
                (w.network, w.network_gateway) = ("far".into(), Some(by_address("10.0.0.0")));
            }
            w.waypoint = waypoint;
            w.application_tunnel =
                tunnel.map(|port| crate::workload::ApplicationTunnel { protocol: Handover::Plain, port });
            for (host, port) in endpoints {
                w = w.serving(HOSTS[host], &[(80, port), (15008, 15008)]);
            }
            w.into()
        },
    )
}

fn known(nth: usize) -> impl Strategy<Value = Change> {
    let target = prop_oneof![Just(0_u16), Just(8080)];
    (0..2_u8, target, any::<[bool; 2]>(), reference(), reference()).prop_map(
        move |(ip, target, [private, ranged], waypoint, weighted)| {
            let vip = format!("10.96.0.{ip}");
            let mut s = service(HOSTS[nth], &[&vip, "fd00:96::1"], &[(80, target), (15008, 15008)]);
            s.visibility = if private { Visibility::Namespace } else { Visibility::Public };
            if ranged {
                let range = "10.0.0.0/8".parse().unwrap();
                s.ranges = vec![crate::address::NetworkRange { network: "".into(), range }];
            }
            s.waypoint = waypoint;
            s.weighted_waypoints = weighted.map(|w| vec![(w, 1)]).unwrap_or_default();
            s.into()
        },
    )
}

fn worlds() -> impl Strategy<Value = Snapshot> {
    let workloads = (0..6).map(workload).collect::<Vec<_>>();
    let services = prop::collection::vec((0..HOSTS.len()).prop_flat_map(known), 0..4);
    (workloads, services).prop_map(|(mut changes, services)| {
        changes.extend(services);
        Snapshot::default().with(&Delta { changes })
    })
}

const TARGETS: [&str; 8] = [
    "10.0.0.0:80",
    "10.0.0.1:8080",
    "[fd00::2]:80",
    "10.96.0.0:80",
    "10.96.0.1:80",
    "[fd00:96::1]:80",
    "10.96.0.1:81",
    "10.200.0.1:80",
];

/// The far end's answer to what a plan asks of it.
fn answered(world: &Snapshot, tunnel: &Tunnelled) -> Result<Admission, NotAdmitted> {
    admit(world, &tunnel.destination, ListenAddr::new(tunnel.hop.socket()), &tunnel.authority)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn plans_keep_what_the_mesh_promises(world in worlds(), target in 0..TARGETS.len(), chance in 0..9_u64) {
        let flow = flow(&pod("a/client", "10.0.0.9 fd00::9"), TARGETS[target]);
        match plan(&world, &flow, &mut Always(chance)) {
            Ok(Plan::Direct(direct)) => {
                // Plaintext goes to who takes plaintext, or to where the application said.
                let known = direct.destination;
                prop_assert!(known.as_ref().is_none_or(|w| w.tunnel == Tunnel::None));
                prop_assert!(known.is_some() || direct.hop.socket() == flow.dst.socket());
                let at = NetworkAddress::new("".into(), direct.hop.ip());
                prop_assert!(known.is_some() || world.workload_by_address(&at).is_none());
            }
            Ok(Plan::Tunnel(t)) => {
                prop_assert!(t.destination.tunnel == Tunnel::Hbone && t.destination.waypoint_is_past(&flow, &t));
                prop_assert!(t.expect.contains(&t.destination.identity()));
                match answered(&world, &t) {
                    Ok(admission) => prop_assert_eq!(admission.target.ip(), t.hop.ip()),
                    Err(refused) => prop_assert!(matches!(refused, NotAdmitted::ReservedPort(_)), "{refused}"),
                }
            }
            Ok(Plan::ViaWaypoint(t)) => {
                prop_assert!(t.expect.contains(&t.destination.identity()));
                // Reached by the address of its own record, a waypoint is asked for what it stands before.
                let refused = answered(&world, &t).err();
                prop_assert!(refused.is_none(), "{refused:?}");
            }
            Ok(Plan::ViaGateway(r)) => prop_assert!(!r.outer.expect.is_empty() && !r.expect.is_empty()),
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        }
    }

    #[test]
    fn what_is_admitted_is_dialled_at_the_pod_itself(
        world in worlds(), local in 0..6_usize, asked in 0..TARGETS.len(),
    ) {
        let uid = format!("Kubernetes//Pod/a/p{local}").into();
        let Some(local) = world.workload(&uid) else { return Ok(()) };
        let at = ListenAddr::new(SocketAddr::new(local.addresses[0], HBONE_PORT));
        if let Ok(admission) = admit(&world, local, at, &TARGETS[asked].parse().unwrap()) {
            prop_assert!(local.addresses.contains(&admission.target.ip()));
            prop_assert!(!RESERVED_PORTS.contains(&admission.target.port()));
        }
    }
}

impl Workload {
    /// A tunnel straight to a workload is right when no waypoint stands before what was addressed.
    fn waypoint_is_past(&self, flow: &Flow, tunnel: &Tunnelled) -> bool {
        match &tunnel.service {
            Some(service) => service.waypoint.is_none() && service.weighted_waypoints.is_empty(),
            None => self.waypoint.is_none() && self.addresses.contains(&flow.dst.ip()),
        }
    }
}
