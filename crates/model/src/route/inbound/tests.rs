//! What may be asked for, by tables.

use super::*;
use crate::delta::Change;
use crate::sample::{by_address, by_host, ip, pod, service, socket, world};
use crate::workload::ApplicationTunnel;

const WEB: &str = "shop/web.shop.svc.cluster.local";
const WAYPOINT: &str = "shop/waypoint.shop.svc.cluster.local";

fn asked(world: &Snapshot, local: &str, authority: &str) -> Result<String, NotAdmitted> {
    let local = world.workload(&format!("Kubernetes//Pod/{local}").as_str().into()).unwrap();
    let here = ListenAddr::new(SocketAddr::new(local.addresses[0], 15008));
    let admitted = admit(world, local, here, &authority.parse().unwrap())?;
    Ok(match admitted.handed {
        Handed::Plain => admitted.target.to_string(),
        Handed::Proxy(named) => format!("{} as {named}", admitted.target),
    })
}

/// shop/web behind a waypoint, by service and by pod; shop/other behind none.
fn mesh() -> Snapshot {
    let mut behind = service(WEB, &["10.96.0.1"], &[(80, 8080)]);
    behind.waypoint = Some(by_host("shop/elsewhere.example"));
    behind.weighted_waypoints = vec![(by_host(WAYPOINT), 1)];
    let mut web = pod("shop/web", "10.0.0.1 fd00::1").serving(WEB, &[(80, 8080)]);
    web.waypoint = Some(by_address("10.0.0.5"));
    let other = pod("shop/other", "10.0.0.2").serving("shop/named.example", &[(80, 9090), (81, 0)]);
    let ports = [(80, 0), (81, 0), (82, 82), (15008, 15001)];
    let named = service("shop/named.example", &["10.96.0.2"], &ports);
    let waypoint = pod("shop/waypoint", "10.0.0.5").serving(WAYPOINT, &[]);
    let known = service(WAYPOINT, &["10.96.0.9"], &[(15008, 15008)]);
    let workloads: [Change; 3] = [web.into(), other.into(), waypoint.into()];
    world(workloads).with(&[behind.into(), named.into(), known.into()].into_iter().collect())
}

#[test]
fn a_target_is_an_address_of_the_pod_it_arrived_at() {
    let not_ours = |asked: &str, own: &str| Err(NotAdmitted::NotOurs { asked: ip(asked), own: ip(own) });
    for (local, authority, wanted) in [
        ("shop/web", "10.0.0.1:8080", Ok("10.0.0.1:8080")),
        ("shop/web", "[fd00::1]:8080", Ok("[fd00::1]:8080")),
        ("shop/web", "10.0.0.2:8080", not_ours("10.0.0.2", "10.0.0.1")),
        ("shop/web", "127.0.0.1:8080", not_ours("127.0.0.1", "10.0.0.1")),
        ("shop/web", "10.96.0.1:80", not_ours("10.96.0.1", "10.0.0.1")),
        ("shop/web", "192.0.2.1:80", not_ours("192.0.2.1", "10.0.0.1")),
        ("shop/other", "10.0.0.1:8080", not_ours("10.0.0.1", "10.0.0.2")),
        ("shop/web", "10.0.0.1:15001", Err(NotAdmitted::ReservedPort(15001))),
        ("shop/web", "10.0.0.1:15006", Err(NotAdmitted::ReservedPort(15006))),
        ("shop/web", "10.0.0.1:15008", Err(NotAdmitted::ReservedPort(15008))),
    ] {
        assert_eq!(asked(&mesh(), local, authority), wanted.map(String::from), "{local} {authority}");
    }
}

#[test]
fn a_waypoint_is_asked_for_what_it_stands_before() {
    let not_ours = |asked: &str| Err(NotAdmitted::NotOurs { asked: ip(asked), own: ip("10.0.0.5") });
    for (authority, wanted) in [
        ("10.0.0.1:8080", Ok("10.0.0.5:8080")),
        ("10.96.0.1:80", Ok("10.0.0.5:80")),
        ("10.0.0.2:8080", not_ours("10.0.0.2")),
        ("10.96.0.2:80", not_ours("10.96.0.2")),
    ] {
        assert_eq!(asked(&mesh(), "shop/waypoint", authority), wanted.map(String::from), "{authority}");
    }
}

#[test]
fn a_host_leads_to_the_workloads_own_port() {
    let host = || "named.example".parse().unwrap();
    for (local, authority, wanted) in [
        ("shop/other", "named.example:80", Ok("10.0.0.2:9090")),
        ("shop/other", "named.example:82", Ok("10.0.0.2:82")),
        ("shop/other", "named.example:81", Err(NotAdmitted::PortUnresolved { hostname: host(), port: 81 })),
        ("shop/other", "named.example:7", Err(NotAdmitted::PortUnresolved { hostname: host(), port: 7 })),
        ("shop/other", "named.example:15008", Err(NotAdmitted::ReservedPort(15001))),
        ("shop/web", "named.example:80", Err(NotAdmitted::HostNotOurs(host()))),
        ("shop/web", "none.example:80", Err(NotAdmitted::HostUnknown("none.example".parse().unwrap()))),
        ("shop/waypoint", "web.shop.svc.cluster.local:80", Ok("10.0.0.5:8080")),
    ] {
        assert_eq!(asked(&mesh(), local, authority), wanted.map(String::from), "{local} {authority}");
    }
}

#[test]
fn an_application_tunnel_takes_any_target_on_its_own_port() {
    let tunnelled = |protocol, port| {
        let mut workload = pod("shop/waypoint", "10.0.0.5").serving(WAYPOINT, &[]);
        workload.application_tunnel = Some(ApplicationTunnel { protocol, port });
        mesh().with(&[workload.into()].into_iter().collect())
    };
    for (protocol, port, authority, wanted) in [
        (Handover::Plain, Some(15088), "192.0.2.1:80", "10.0.0.5:15088"),
        (Handover::Plain, None, "192.0.2.1:80", "10.0.0.5:80"),
        (Handover::Proxy, Some(15088), "10.96.0.2:80", "10.0.0.5:15088 as 10.96.0.2:80"),
        (Handover::Proxy, Some(15088), "named.example:82", "10.0.0.5:15088 as 10.96.0.2:82"),
    ] {
        let world = tunnelled(protocol, port);
        assert_eq!(asked(&world, "shop/waypoint", authority), Ok(wanted.into()), "{authority}");
    }
}

#[test]
fn refusals_answer_with_the_specified_status() {
    for (refusal, status) in [
        (NotAdmitted::NotOurs { asked: ip("10.0.0.1"), own: ip("10.0.0.2") }, 400),
        (NotAdmitted::HostUnknown("x".parse().unwrap()), 503),
        (NotAdmitted::ReservedPort(15001), 503),
    ] {
        assert_eq!(refusal.status(), status, "{refusal}");
    }
}

#[test]
fn a_connection_counts_for_the_named_service_or_the_one_that_leads_there() {
    let world = mesh();
    let other = world.workload(&"Kubernetes//Pod/shop/other".into()).unwrap();
    let of = |named, target: &str| {
        served(&world, other, named, TargetAddr::new(socket(target))).map(|s| s.name.to_string())
    };
    assert_eq!(of(None, "10.0.0.2:9090").as_deref(), Some("named"));
    assert_eq!(of(None, "10.0.0.2:1").as_deref(), None);
    assert_eq!(of(Some("named.example"), "10.0.0.2:1").as_deref(), Some("named"));
    assert_eq!(of(Some("web.shop.svc.cluster.local"), "10.0.0.2:1").as_deref(), None);
}
