//! Every index follows the nouns, in whatever order they come and go.

use proptest::prelude::*;

use super::*;
use crate::policy::{Action, Match};
use crate::sample::{at, pod, policy, service, world};

const WEB: &str = "shop/web.shop.svc.cluster.local";

fn owner(world: &Snapshot, address: &str) -> Option<String> {
    world.workload_by_address(&at(address)).map(|w| w.name.to_string())
}

#[test]
fn a_workload_is_found_by_uid_address_name_and_node() {
    let world = world([pod("shop/web", "10.0.0.1 fd00::1").into()]);
    assert!(world.workload(&"Kubernetes//Pod/shop/web".into()).is_some());
    assert_eq!(owner(&world, "10.0.0.1"), Some("web".into()));
    assert_eq!(owner(&world, "fd00::1"), Some("web".into()));
    assert_eq!(owner(&world, "other/10.0.0.1"), None);
    let local = |node: &str, account: &str, name| {
        let (namespace, account) = ("shop".parse().unwrap(), account.parse().unwrap());
        world.local_workload(&node.into(), &namespace, &account, name).is_some()
    };
    assert!(local("n1", "web", "web"));
    assert!(local("", "web", "web"), "no node name: any node");
    assert!(!local("n2", "web", "web"));
    assert!(!local("n1", "other", "web"));
    assert!(!local("n1", "web", "other"));
    assert_eq!(world.workloads_on(&"n1".into()).count(), 1);
}

#[test]
fn a_workload_on_its_nodes_network_is_never_found_by_address() {
    let mut host = pod("kube/agent", "10.0.0.1");
    host.host_network = true;
    let world = world([host.serving(WEB, &[(80, 8080)]).into()]);
    assert_eq!(owner(&world, "10.0.0.1"), None);
    assert_eq!(world.endpoints(&WEB.parse().unwrap()).count(), 1);
}

#[test]
fn of_several_owners_of_an_address_a_pod_goes_first_then_hbone_then_health() {
    let mut entry = pod("shop/entry", "10.0.0.1");
    entry.uid = "Kubernetes/networking.istio.io/WorkloadEntry/shop/entry".into();
    let mut plain = pod("shop/plain", "10.0.0.1");
    plain.tunnel = Tunnel::None;
    let mut leaving = pod("shop/leaving", "10.0.0.1");
    leaving.health = Health::Unhealthy;
    let fresh = pod("shop/web", "10.0.0.1");
    let order = [fresh, leaving, plain, entry];
    let changes = order.clone().map(Change::from);
    let mut world = world(changes);
    for winner in order {
        assert_eq!(owner(&world, "10.0.0.1"), Some(winner.name.to_string()));
        world = world.with(&Delta { changes: vec![Change::WorkloadGone(winner.uid)] });
    }
    assert_eq!(owner(&world, "10.0.0.1"), None);
}

#[test]
fn endpoints_wait_for_their_service_and_for_their_health() {
    let key: ServiceKey = WEB.parse().unwrap();
    let mut sick = pod("shop/web", "10.0.0.1").serving(WEB, &[(80, 8080)]);
    sick.health = Health::Unhealthy;
    let world = world([sick.into()]);
    assert_eq!(world.missing_services().collect::<Vec<_>>(), [&key]);
    let world = world.with(&Delta { changes: vec![service(WEB, &["10.96.0.1"], &[(80, 8080)]).into()] });
    assert_eq!(world.missing_services().count(), 0);
    assert_eq!(world.endpoints(&key).count(), 1);
}

#[test]
fn a_policy_that_changes_its_scope_leaves_its_old_index() {
    let of = |scope| policy("shop/p", scope, Action::Deny, vec![Match::default()]);
    let namespace: Namespace = "shop".parse().unwrap();
    let mut world = Snapshot::default();
    for (scope, global, namespaced) in
        [(PolicyScope::Global, 1, 0), (PolicyScope::Namespace, 0, 1), (PolicyScope::Selector, 0, 0)]
    {
        world = world.with(&Delta { changes: vec![of(scope).into()] });
        assert_eq!(world.global_policies().count(), global, "{scope:?}");
        assert_eq!(world.namespace_policies(&namespace).count(), namespaced, "{scope:?}");
    }
}

#[test]
fn a_range_of_one_is_an_address() {
    let mut one = service(WEB, &[], &[(80, 80)]);
    one.ranges = vec![crate::address::NetworkRange {
        network: crate::name::Network::default(),
        range: "10.9.0.1/32".parse().unwrap(),
    }];
    let world = world([one.into()]);
    assert_eq!(world.services_by_vip(&at("10.9.0.1")).len(), 1);
    assert_eq!(world.services_by_range(&at("10.9.0.1")).count(), 0);
}

#[test]
fn a_reader_keeps_what_it_holds() {
    let before = world([pod("shop/web", "10.0.0.1").into()]);
    let after =
        before.with(&Delta { changes: vec![Change::WorkloadGone("Kubernetes//Pod/shop/web".into())] });
    assert_eq!((before.generation(), after.generation()), (1, 2));
    assert_eq!(owner(&before, "10.0.0.1"), Some("web".into()));
    assert_eq!(after, Snapshot::default());
}

#[test]
fn one_change_among_fifty_thousand_workloads_does_not_copy_them() {
    let many = (0..50_000_u32).map(|i| {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + i).to_string();
        Change::from(pod(&format!("ns-{}/pod-{i}", i % 100), &address).serving(WEB, &[(80, 8080)]))
    });
    let mut world = Snapshot::default().with(&many.collect());
    let before = on_processor();
    for i in 0..1000_u32 {
        let mut changed = pod(&format!("ns-7/pod-{}07", i % 100), "10.0.0.7").serving(WEB, &[(80, 8080)]);
        changed.capacity = i;
        world = world.with(&Delta { changes: vec![changed.into()] });
    }
    // A copy of the maps takes milliseconds each; the bound is wide, since tests run unoptimised.
    let each = (on_processor() - before) / 1000;
    assert!(each < std::time::Duration::from_millis(2), "{each:?} a change");
}

/// Time this thread was given so far: the clock would also count what a busy machine gives to others.
fn on_processor() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Few names and addresses, so that changes collide.
fn change() -> impl Strategy<Value = Change> {
    let workload = (0..4_u8, 0..3_u8, any::<[bool; 4]>(), 0..3_u8).prop_map(|(name, ip, flags, host)| {
        let [hbone, healthy, host_network, serving] = flags;
        let mut w = pod(&format!("shop/p{name}"), &format!("10.0.0.{ip} fd00::{ip}"));
        w.tunnel = if hbone { Tunnel::Hbone } else { Tunnel::None };
        w.health = if healthy { Health::Healthy } else { Health::Unhealthy };
        w.host_network = host_network;
        w.node = format!("n{ip}").into();
        w.hostname = if host == 0 { Label::default() } else { format!("h{host}.example").into() };
        if serving { w.serving(WEB, &[(80, 8080)]) } else { w }.into()
    });
    let service = (0..3_u8, 0..3_u8, 8..33_u8).prop_map(|(namespace, ip, length)| {
        let key = format!("ns{namespace}/web.shop.svc.cluster.local");
        let mut s = service(&key, &[&format!("10.96.0.{ip}")], &[(80, 8080)]);
        let range = ipnet::IpNet::new(format!("10.97.{ip}.0").parse().unwrap(), length).unwrap();
        s.ranges = vec![crate::address::NetworkRange { network: "".into(), range }];
        s.into()
    });
    let policy = (0..3_u8, 0..3_u8).prop_map(|(name, scope)| {
        let scope = [PolicyScope::Global, PolicyScope::Namespace, PolicyScope::Selector][usize::from(scope)];
        policy(&format!("shop/p{name}"), scope, Action::Deny, vec![]).into()
    });
    let gone = prop_oneof![
        (0..4_u8).prop_map(|n| Change::WorkloadGone(format!("Kubernetes//Pod/shop/p{n}").into())),
        (0..3_u8)
            .prop_map(|n| Change::ServiceGone(format!("ns{n}/web.shop.svc.cluster.local").parse().unwrap())),
        (0..3_u8).prop_map(|n| Change::PolicyGone(format!("shop/p{n}").parse().unwrap())),
    ];
    prop_oneof![3 => workload, 2 => service, 2 => policy, 2 => gone]
}

/// The same nouns put into an empty world, in the order of a number that has nothing to do with them.
fn rebuilt(world: &Snapshot, salt: usize) -> Snapshot {
    let mut changes: Vec<Change> = world.workloads().cloned().map(Change::Workload).collect();
    changes.extend(world.services().cloned().map(Change::Service));
    changes.extend(world.policies().cloned().map(Change::Policy));
    if !changes.is_empty() {
        let at = salt % changes.len();
        changes.rotate_left(at);
    }
    if salt % 2 == 1 {
        changes.reverse();
    }
    Snapshot::default().with(&Delta { changes })
}

proptest! {
    #[test]
    fn a_world_equals_the_one_built_from_what_it_holds_in_any_order(
        changes in prop::collection::vec(change(), 0..40), salt in any::<usize>(), cut in 1..6_usize,
    ) {
        let mut world = Snapshot::default();
        for part in changes.chunks(cut) {
            world = world.with(&Delta { changes: part.to_vec() });
        }
        prop_assert!(world == rebuilt(&world, salt), "an index remembers more than the nouns");
    }

    #[test]
    fn a_world_from_which_everything_is_gone_is_empty(changes in prop::collection::vec(change(), 0..40)) {
        let world = Snapshot::default().with(&Delta { changes });
        let gone: Vec<Change> = world.workloads().map(|w| Change::WorkloadGone(w.uid.clone()))
            .chain(world.services().map(|s| Change::ServiceGone(s.key())))
            .chain(world.policies().map(|p| Change::PolicyGone(p.key.clone())))
            .collect();
        let emptied = world.with(&Delta { changes: gone });
        prop_assert!(emptied == Snapshot::default());
    }
}
