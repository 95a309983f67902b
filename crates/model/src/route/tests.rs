//! The outbound decision, by tables.

mod properties;

use super::*;
use crate::balance::{First, NoEndpoint};
use crate::delta::Change;
use crate::name::{Network, ServiceKey};
use crate::sample::{
    Always, at, balancing, by_address, by_host, flow, identity, ip, pod, service, socket, world,
};
use crate::service::{BalanceMode, Visibility};
use crate::workload::{GatewayDestination, Health};

const WEB: &str = "shop/web.shop.svc.cluster.local";
const WAYPOINT: &str = "shop/waypoint.shop.svc.cluster.local";

fn client() -> Workload {
    pod("shop/client", "10.0.0.9 fd00::9")
}

fn web() -> Workload {
    pod("shop/web", "10.0.0.1 fd00::1").serving(WEB, &[(80, 8080)])
}

fn web_service() -> Service {
    service(WEB, &["10.96.0.1", "fd00:96::1"], &[(80, 8080)])
}

/// A waypoint with its service on 10.96.0.9 and its pod on 10.0.0.5.
fn waypoint() -> [Change; 2] {
    let pod = pod("shop/waypoint", "10.0.0.5").serving(WAYPOINT, &[]);
    [service(WAYPOINT, &["10.96.0.9"], &[(15008, 15008)]).into(), pod.into()]
}

/// What a plan does, in a line: way, hop, authority, expected accounts.
fn shown(plan: Result<Plan, Refusal>) -> String {
    let accounts = |expect: &[Identity]| {
        expect.iter().map(|i| i.service_account.to_string()).collect::<Vec<_>>().join(",")
    };
    match plan {
        Ok(Plan::Tunnel(t)) => format!("tunnel {} for {} by {}", t.hop, t.authority, accounts(&t.expect)),
        Ok(Plan::ViaWaypoint(t)) => {
            format!("waypoint {} for {} by {}", t.hop, t.authority, accounts(&t.expect))
        }
        Ok(Plan::ViaGateway(r)) => {
            let outer = format!("gateway {} for {}", r.outer.hop, r.outer.authority);
            format!("{outer} by {} then {}", accounts(&r.outer.expect), accounts(&r.expect))
        }
        Ok(Plan::Direct(d)) => {
            format!(
                "direct {} to {}",
                d.hop,
                d.destination.map_or_else(|| "-".into(), |w| w.name.to_string())
            )
        }
        Err(refusal) => format!("refused: {refusal}"),
    }
}

fn planned(world: &Snapshot, dst: &str) -> String {
    shown(plan(world, &flow(&client(), dst), &mut First))
}

#[test]
fn destinations_without_a_waypoint_go_where_they_are() {
    let mut plain = pod("shop/plain", "10.0.0.2").serving("shop/plain.example", &[]);
    plain.tunnel = Tunnel::None;
    let mut host = pod("kube/agent", "10.0.0.3").serving("kube/agent.example", &[]);
    host.host_network = true;
    let mut outside = service("shop/outside.example", &["10.96.0.4"], &[(80, 80)]);
    outside.load_balancing = balancing(BalanceMode::Passthrough, &[]);
    let mut cousin = web_service();
    cousin.subject_alt_names =
        vec!["spiffe://cluster.local/ns/shop/sa/cousin".into(), "not an identity".into()];
    let world = world([
        web().into(),
        plain.into(),
        host.into(),
        outside.into(),
        cousin.into(),
        service("shop/plain.example", &["10.96.0.2"], &[(80, 81)]).into(),
        service("kube/agent.example", &["10.96.0.3"], &[(80, 81)]).into(),
        service("shop/empty.example", &["10.96.0.5"], &[(80, 81)]).into(),
    ]);
    for (dst, wanted) in [
        ("192.0.2.1:443", "direct 192.0.2.1:443 to -"),
        ("10.0.0.1:7070", "tunnel 10.0.0.1:15008 for 10.0.0.1:7070 by web"),
        ("[fd00::1]:7070", "tunnel [fd00::1]:15008 for [fd00::1]:7070 by web"),
        ("10.96.0.1:80", "tunnel 10.0.0.1:15008 for 10.0.0.1:8080 by cousin,web"),
        ("[fd00:96::1]:80", "tunnel [fd00::1]:15008 for [fd00::1]:8080 by cousin,web"),
        ("10.0.0.2:7070", "direct 10.0.0.2:7070 to plain"),
        ("10.96.0.2:80", "direct 10.0.0.2:81 to plain"),
        ("10.0.0.3:7070", "direct 10.0.0.3:7070 to -"),
        ("10.96.0.3:80", "tunnel 10.0.0.3:15008 for 10.0.0.3:81 by agent"),
        ("10.96.0.4:9999", "direct 10.96.0.4:9999 to -"),
        ("10.96.0.5:80", "refused: service shop/empty.example: it has no endpoints"),
        ("10.96.0.1:81", "refused: service shop/web.shop.svc.cluster.local: port 81 is not a port of it"),
        ("127.0.0.1:15001", "refused: port 15001 on this pod is the mesh's own"),
        ("127.0.0.1:80", "direct 127.0.0.1:80 to -"),
    ] {
        assert_eq!(planned(&world, dst), wanted, "{dst}");
    }
}

#[test]
fn an_address_that_is_a_workloads_is_that_workload_whatever_services_cover_it() {
    let mut covering = service("shop/all.example", &["10.0.0.1"], &[(80, 80)]);
    covering.ranges = vec![crate::address::NetworkRange {
        network: Network::default(),
        range: "10.0.0.0/8".parse().unwrap(),
    }];
    covering.load_balancing = balancing(BalanceMode::Passthrough, &[]);
    let world = world([web().into(), covering.into()]);
    assert_eq!(planned(&world, "10.0.0.1:80"), "tunnel 10.0.0.1:15008 for 10.0.0.1:80 by web");
    assert_eq!(planned(&world, "10.7.0.1:80"), "direct 10.7.0.1:80 to -");
}

#[test]
fn a_waypoint_is_gone_through_and_never_around() {
    let with = |reference: Option<GatewayRef>| {
        let mut service = web_service();
        service.waypoint = reference.clone();
        let mut workload = web();
        workload.waypoint = reference;
        [Change::from(service), workload.into()]
    };
    let by = |reference| world(with(Some(reference))).with(&waypoint().into_iter().collect());
    for reference in [by_host(WAYPOINT), by_address("10.96.0.9"), by_address("10.0.0.5")] {
        for dst in ["10.96.0.1:80", "10.0.0.1:8080", "[fd00:96::1]:80"] {
            let wanted = format!("waypoint 10.0.0.5:15008 for {dst} by waypoint");
            assert_eq!(planned(&by(reference.clone()), dst), wanted, "{reference:?}");
        }
    }
    // The source's own waypoint is irrelevant.
    let mut client = client();
    client.waypoint = Some(by_host(WAYPOINT));
    let reached = plan(&world(with(None)), &flow(&client, "10.0.0.1:80"), &mut First);
    assert_eq!(shown(reached), "tunnel 10.0.0.1:15008 for 10.0.0.1:80 by web");
    // Named but nowhere: refused, both ways.
    let nowhere = world(with(Some(by_host(WAYPOINT))));
    for dst in ["10.96.0.1:80", "10.0.0.1:8080"] {
        let refused = plan(&nowhere, &flow(&self::client(), dst), &mut First).unwrap_err();
        let key: ServiceKey = WAYPOINT.parse().unwrap();
        let why = Unresolved::UnknownHost(key.clone());
        assert_eq!(refused, Refusal::WaypointUnresolved { waypoint: GatewayDestination::Host(key), why });
    }
}

#[test]
fn a_waypoint_with_no_healthy_endpoint_refuses() {
    let mut service = web_service();
    service.waypoint = Some(by_host(WAYPOINT));
    let mut sick = pod("shop/waypoint", "10.0.0.5").serving(WAYPOINT, &[]);
    sick.health = Health::Unhealthy;
    let [known, _] = waypoint();
    let world = world([service.into(), web().into(), known, sick.into()]);
    let refused = plan(&world, &flow(&client(), "10.96.0.1:80"), &mut First).unwrap_err();
    let key: ServiceKey = WAYPOINT.parse().unwrap();
    let why = Unresolved::NoEndpoint { service: key.clone(), why: NoEndpoint::Unhealthy(1) };
    assert_eq!(refused, Refusal::WaypointUnresolved { waypoint: GatewayDestination::Host(key), why });
}

#[test]
fn a_waypoint_does_not_go_through_itself() {
    let mut service = web_service();
    service.waypoint = Some(by_host(WAYPOINT));
    let mut workload = web();
    workload.waypoint = Some(by_address("10.0.0.5"));
    let world = world([service.into(), workload.into()]).with(&waypoint().into_iter().collect());
    let own = world.workload(&"Kubernetes//Pod/shop/waypoint".into()).unwrap();
    for dst in ["10.96.0.1:80", "10.0.0.1:8080"] {
        let reached = shown(plan(&world, &flow(own, dst), &mut First));
        assert_eq!(reached, "tunnel 10.0.0.1:15008 for 10.0.0.1:8080 by web", "{dst}");
    }
    // Somebody else's address does not make a waypoint of its record.
    let mut forged = flow(own, "10.0.0.1:8080");
    forged.client = ClientAddr::new(socket("10.0.0.9:4000"));
    assert_eq!(
        shown(plan(&world, &forged, &mut First)),
        "waypoint 10.0.0.5:15008 for 10.0.0.1:8080 by waypoint"
    );
}

#[test]
fn weighted_waypoints_share_by_weight_and_fall_back_when_all_are_zero() {
    let canary = "shop/canary.shop.svc.cluster.local";
    let weighted = |a, b| {
        let mut service = web_service();
        service.waypoint = Some(by_host(WAYPOINT));
        service.weighted_waypoints = vec![(by_host(WAYPOINT), a), (by_host(canary), b)];
        let second = pod("shop/canary", "10.0.0.6").serving(canary, &[]);
        let known = crate::sample::service(canary, &[], &[(15008, 15008)]);
        world([service.into(), second.into(), known.into()]).with(&waypoint().into_iter().collect())
    };
    for (a, b, chance, wanted) in [
        (75, 25, 74, "10.0.0.5"),
        (75, 25, 75, "10.0.0.6"),
        (100, 0, 99, "10.0.0.5"),
        (0, 100, 0, "10.0.0.6"),
        (0, 0, 0, "10.0.0.5"),
    ] {
        let Plan::ViaWaypoint(t) =
            plan(&weighted(a, b), &flow(&client(), "10.96.0.1:80"), &mut Always(chance)).unwrap()
        else {
            panic!("not through a waypoint")
        };
        assert_eq!(t.hop.ip(), ip(wanted), "{a}/{b} at {chance}");
    }
}

#[test]
fn where_the_waypoint_that_was_chosen_has_nobody_to_go_to_another_of_the_services_is_gone_through() {
    let canary = "shop/canary.shop.svc.cluster.local";
    let mut service = web_service();
    service.waypoint = Some(by_host(WAYPOINT));
    service.weighted_waypoints = vec![(by_host(WAYPOINT), 0), (by_host(canary), 100)];
    let mut second = pod("shop/canary", "10.0.0.6").serving(canary, &[]);
    second.health = Health::Unhealthy;
    let endpoint = pod("shop/web", "10.0.0.1").serving(WEB, &[(80, 8080)]);
    let known = crate::sample::service(canary, &[], &[(15008, 15008)]);
    let all = |more: Vec<Change>| {
        let base = world([service.clone().into(), endpoint.clone().into()]);
        base.with(&more.into_iter().collect())
    };
    let [way, its_pod] = waypoint();
    let asked = |world| shown(plan(&world, &flow(&client(), "10.96.0.1:80"), &mut Always(0)));
    let by_first = "waypoint 10.0.0.5:15008 for 10.96.0.1:80 by waypoint";
    // Nobody of it is healthy; it has no pod; it is not even known.
    let unhealthy = vec![second.into(), known.clone().into(), way.clone(), its_pod.clone()];
    assert_eq!(asked(all(unhealthy)), by_first);
    assert_eq!(asked(all(vec![known.into(), way.clone(), its_pod.clone()])), by_first);
    assert_eq!(asked(all(vec![way.clone(), its_pod])), by_first);
    // Without any of them nothing is gone through: never directly.
    assert!(asked(all(vec![way])).starts_with("refused: "));
}

#[test]
fn another_network_is_reached_through_its_gateway_or_not_at_all() {
    let far = |gateway: Option<&str>| {
        let mut remote = pod("shop/remote", "").serving(WEB, &[(80, 8080)]);
        remote.network = "far".into();
        remote.network_gateway = gateway.map(by_address);
        remote
    };
    let mut gateway = pod("istio/gateway", "192.0.2.7");
    gateway.network = "far".into();
    let mut named = web_service();
    named.subject_alt_names = vec!["spiffe://far.local/ns/shop/sa/inside".into()];
    let all =
        |remote: Workload, service: Service| world([service.into(), remote.into(), gateway.clone().into()]);
    let (host, dst) = ("web.shop.svc.cluster.local", "10.96.0.1:80");
    for (world, wanted) in [
        (
            all(far(Some("far/192.0.2.7")), named.clone()),
            format!("gateway 192.0.2.7:15008 for {host}:80 by gateway then inside"),
        ),
        (
            // A stand-in for many workloads says nothing about who they are.
            all(far(Some("far/192.0.2.7")), web_service()),
            "refused: workload Kubernetes//Pod/shop/remote is on another network, \
             and its service lists no identity that may answer there"
                .into(),
        ),
        (
            all(far(Some("far/192.0.2.8")), named.clone()),
            "refused: network gateway far/192.0.2.8: nothing is known at far/192.0.2.8".into(),
        ),
    ] {
        assert_eq!(planned(&world, dst), wanted);
    }
    let refused = plan(&all(far(None), named.clone()), &flow(&client(), dst), &mut First).unwrap_err();
    assert_eq!(refused, Refusal::NoEndpoint { service: WEB.parse().unwrap(), why: NoEndpoint::Unreachable });
    // Its address means nothing on our own network.
    let mut addressed = far(Some("far/192.0.2.7"));
    addressed.addresses = vec![ip("10.0.0.1")];
    assert_eq!(planned(&all(addressed.clone(), named), "10.0.0.1:80"), "direct 10.0.0.1:80 to -");
    // A waypoint over there is reached the same way, under the same name.
    let mut behind = web_service();
    behind.waypoint = Some(by_host(WAYPOINT));
    addressed.services.clear();
    let world = all(addressed.serving(WAYPOINT, &[]), behind);
    let mut known = service(WAYPOINT, &[], &[(15008, 15008)]);
    let with = |known: &Service| world.with(&[known.clone().into()].into_iter().collect());
    let nobody = Refusal::NobodyExpected { workload: "Kubernetes//Pod/shop/remote".into() };
    assert_eq!(plan(&with(&known), &flow(&client(), dst), &mut First), Err(nobody));
    known.subject_alt_names = vec!["spiffe://far.local/ns/shop/sa/waypoint".into(), "no identity".into()];
    let wanted = format!("gateway 192.0.2.7:15008 for {host}:80 by gateway then waypoint");
    assert_eq!(planned(&with(&known), dst), wanted);
}

#[test]
fn families_of_a_service_choose_the_address() {
    for (families, dst, wanted) in [
        (Families::Dual, "10.96.0.1:80", "10.0.0.1"),
        (Families::Dual, "[fd00:96::1]:80", "fd00::1"),
        (Families::V4, "[fd00:96::1]:80", "10.0.0.1"),
        (Families::V6, "10.96.0.1:80", "fd00::1"),
    ] {
        let mut service = web_service();
        service.families = families;
        let Plan::Tunnel(t) =
            plan(&world([web().into(), service.into()]), &flow(&client(), dst), &mut First).unwrap()
        else {
            panic!("no tunnel")
        };
        assert_eq!(t.hop.ip(), ip(wanted), "{families:?} {dst}");
    }
    let mut service = web_service();
    service.families = Families::V6;
    let only_v4 = pod("shop/web", "10.0.0.1").serving(WEB, &[]);
    let refused =
        plan(&world([only_v4.into(), service.into()]), &flow(&client(), "10.96.0.1:80"), &mut First);
    assert_eq!(refused, Err(Refusal::NoAddress { workload: "Kubernetes//Pod/shop/web".into() }));
}

#[test]
fn a_name_is_asked_for_and_then_used() {
    let mut named = pod("shop/named", "").serving(WEB, &[]);
    (named.hostname, named.tunnel) = ("db.example.org".into(), Tunnel::None);
    let world = world([named.into(), web_service().into()]);
    let flow = flow(&client(), "[fd00:96::1]:80");
    let hostname: Label = "db.example.org".into();
    assert_eq!(plan(&world, &flow, &mut First), Err(Refusal::NameNeeded { hostname: hostname.clone() }));
    for (answers, wanted) in [
        (vec!["192.0.2.1", "2001:db8::1"], "direct [2001:db8::1]:8080 to named"),
        (vec!["192.0.2.1"], "direct 192.0.2.1:8080 to named"),
        (vec![], "refused: name db.example.org resolves to no address"),
    ] {
        let mut hints = Hints::default();
        hints.names.insert(hostname.clone(), answers.into_iter().map(ip).collect());
        assert_eq!(shown(plan_with(&world, &flow, &hints, &mut First)), wanted);
    }
}

#[test]
fn an_endpoint_that_could_not_be_reached_is_not_chosen_again() {
    let other = pod("shop/web-2", "10.0.0.2").serving(WEB, &[]);
    let world = world([web().into(), other.into(), web_service().into()]);
    let flow = flow(&client(), "10.96.0.1:80");
    let hints = Hints { avoid: vec!["Kubernetes//Pod/shop/web".into()], ..Hints::default() };
    let again = shown(plan_with(&world, &flow, &hints, &mut First));
    assert_eq!(again, "tunnel 10.0.0.2:15008 for 10.0.0.2:8080 by web-2");
}

#[test]
fn the_service_of_an_address_is_the_one_the_client_sees_nearest() {
    let ranged = |key: &str, range: &str, canonical| {
        let mut s = service(key, &[], &[(80, 80)]);
        s.ranges = vec![crate::address::NetworkRange { network: "".into(), range: range.parse().unwrap() }];
        s.canonical = canonical;
        s
    };
    let exact = |key: &str, canonical, visibility| {
        let mut s = service(key, &["10.1.0.1"], &[(80, 80)]);
        (s.canonical, s.visibility) = (canonical, visibility);
        s
    };
    let (public, private) = (Visibility::Public, Visibility::Namespace);
    let world = world([
        exact("a/x.example", false, public).into(),
        exact("b/x.example", true, public).into(),
        exact("c/x.example", true, private).into(),
        ranged("d/wide.example", "10.0.0.0/8", true).into(),
        ranged("e/narrow.example", "10.2.0.0/16", false).into(),
        ranged("f/narrow.example", "10.2.0.0/16", true).into(),
        ranged("g/six.example", "fd00::/8", true).into(),
    ]);
    for (address, client, wanted) in [
        ("10.1.0.1", Some("a"), Some("a/x.example")),
        ("10.1.0.1", Some("c"), Some("c/x.example")),
        ("10.1.0.1", Some("z"), Some("b/x.example")),
        ("10.1.0.1", None, Some("b/x.example")),
        ("10.1.0.2", Some("z"), Some("d/wide.example")),
        ("10.2.0.1", Some("z"), Some("f/narrow.example")),
        ("10.2.0.1", Some("e"), Some("e/narrow.example")),
        ("10.2.0.1", Some("d"), Some("d/wide.example")),
        ("fd12::1", Some("z"), Some("g/six.example")),
        ("far/10.2.0.1", Some("z"), None),
        ("11.0.0.1", Some("z"), None),
    ] {
        let namespace = client.map(|c| c.parse().unwrap());
        let found = service_by_address(&world, &at(address), namespace.as_ref()).map(|s| s.key().to_string());
        assert_eq!(found.as_deref(), wanted, "{address} for {client:?}");
    }
    let named = |client: &str| {
        let host = "x.example".parse().unwrap();
        service_by_host(&world, &host, Some(&client.parse().unwrap())).map(|s| s.namespace.to_string())
    };
    assert_eq!((named("a").as_deref(), named("z").as_deref()), (Some("a"), Some("b")));
}

#[test]
fn what_must_be_tunnelled_is_never_planned_in_plaintext() {
    // Whatever chance and health say, an HBONE workload is met through a tunnel under its own identity.
    let service = web_service();
    for health in [Health::Healthy, Health::Unhealthy] {
        let mut workload = web();
        workload.health = health;
        let world = world([workload.into(), service.clone().into()]);
        for dst in ["10.0.0.1:80", "[fd00::1]:80", "10.96.0.1:80"] {
            match plan(&world, &flow(&client(), dst), &mut First) {
                Ok(Plan::Tunnel(t)) => assert!(t.expect.contains(&identity("shop/web"))),
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => assert_eq!(refusal.label(), "no_healthy_upstream"),
            }
        }
    }
}
