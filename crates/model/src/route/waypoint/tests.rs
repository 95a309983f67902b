//! What a waypoint is asked for, by a world of two services, of which one is its own.

use std::sync::Arc;

use super::*;
use crate::address::OriginalDst;
use crate::sample::{Always, at, by_address, by_host, flow, pod, service, socket, world};
use crate::service::Visibility;

const OWN: &str = "shop/way.shop.svc.cluster.local";

fn waypoint() -> Waypoint {
    Waypoint {
        gateway: "way".into(),
        service: OWN.parse().unwrap(),
        network: Network::default(),
        addresses: vec![at("10.0.0.9")],
    }
}

fn through(reference: GatewayRef) -> Option<GatewayRef> {
    Some(reference)
}

/// `web` is the waypoint's by name, `db` by its service's address, `other` is nobody's, and so is `free`.
fn shop() -> Snapshot {
    let web = service("shop/web.shop.svc", &["10.1.0.1"], &[(80, 8080)]);
    let db = service("shop/db.shop.svc", &["10.1.0.2"], &[(5432, 5432)]);
    let split = service("shop/split.shop.svc", &["10.1.0.4"], &[(80, 8080)]);
    let pods = pod("shop/cart", "10.0.0.1");
    let reference = by_host(OWN);
    world([
        service(OWN, &["10.1.0.9"], &[(15008, 15008)]).into(),
        Service { waypoint: through(reference.clone()), ..web }.into(),
        Service { waypoint: through(by_address("10.1.0.9")), ..db }.into(),
        Service {
            waypoint: through(by_host("shop/old.shop.svc")),
            weighted_waypoints: vec![(reference.clone(), 10)],
            ..split
        }
        .into(),
        service("shop/other.shop.svc", &["10.1.0.3"], &[(80, 8080)]).into(),
        Workload { waypoint: through(reference), ..pods }.serving("shop/web.shop.svc", &[(80, 8080)]).into(),
        pod("shop/free", "10.0.0.2").into(),
    ])
}

fn asked(authority: &str) -> Result<String, NotBound> {
    let found = bound(&shop(), &waypoint(), &authority.parse().unwrap(), &"shop".parse().unwrap());
    found.map(|found| match found {
        Bound::Service { service, port, .. } => format!("{}:{port}", service.key()),
        Bound::Workload { workload, target } => format!("{} at {target}", workload.uid),
    })
}

#[test]
fn a_waypoint_is_asked_for_its_own_services_and_workloads_and_for_no_others() {
    let no_port = |service: &str, port| NotBound::NoSuchPort { service: service.parse().unwrap(), port };
    let elsewhere = |found: &str| NotBound::Elsewhere { found: found.into() };
    for (authority, wanted) in [
        ("10.1.0.1:80", Ok("shop/web.shop.svc:80")),
        ("web.shop.svc:80", Ok("shop/web.shop.svc:80")),
        ("10.1.0.2:5432", Ok("shop/db.shop.svc:5432")),
        ("10.1.0.4:80", Ok("shop/split.shop.svc:80")),
        ("10.0.0.1:9000", Ok("Kubernetes//Pod/shop/cart at 10.0.0.1:9000")),
        ("10.1.0.1:81", Err(no_port("shop/web.shop.svc", 81))),
        ("10.1.0.3:80", Err(elsewhere("shop/other.shop.svc"))),
        ("other.shop.svc:80", Err(elsewhere("shop/other.shop.svc"))),
        ("10.0.0.2:80", Err(elsewhere("Kubernetes//Pod/shop/free"))),
        ("10.9.9.9:80", Err(NotBound::UnknownAddress(at("10.9.9.9")))),
        ("nobody.svc:80", Err(NotBound::UnknownHost("nobody.svc".parse().unwrap()))),
    ] {
        assert_eq!(asked(authority), wanted.map(String::from), "{authority}");
    }
}

#[test]
fn of_services_with_one_address_the_clients_own_goes_first_and_hidden_ones_are_not_seen() {
    let with = |key: &str, visibility| {
        let waypoint = through(by_host(OWN));
        Service { waypoint, visibility, ..service(key, &["10.1.0.1"], &[(80, 80)]) }.into()
    };
    let world = world([
        with("a/api.example", Visibility::Public),
        with("b/api.example", Visibility::Public),
        with("c/api.example", Visibility::Namespace),
    ]);
    for (client, wanted) in [("a", "a"), ("b", "b"), ("c", "c"), ("d", "a")] {
        for authority in ["10.1.0.1:80", "api.example:80"] {
            let found = bound(&world, &waypoint(), &authority.parse().unwrap(), &client.parse().unwrap());
            let Ok(Bound::Service { service, .. }) = found else { panic!("{client} {found:?}") };
            assert_eq!(service.namespace.as_str(), wanted, "{client} {authority}");
        }
    }
}

#[test]
fn the_way_on_leads_to_an_endpoint_and_never_back_to_a_waypoint() {
    let world = shop();
    let own = pod("shop/way", "10.0.0.9");
    let service = world.service(&"shop/web.shop.svc".parse().unwrap()).unwrap();
    let towards = Flow { dst: OriginalDst::new(socket("10.1.0.1:80")), ..flow(&own, "10.1.0.1:80") };
    let plan = plan_endpoint(&world, &towards, service, &Hints::default(), &mut Always(0)).unwrap();
    let Plan::Tunnel(to) = plan else { panic!("{plan:?}") };
    assert_eq!(
        (to.hop.to_string().as_str(), to.authority.to_string().as_str()),
        ("10.0.0.1:15008", "10.0.0.1:8080")
    );
    assert_eq!(to.expect, [to.destination.identity()]);
    let cart: Arc<Workload> = to.destination;
    let Plan::Tunnel(to) = plan_workload(&world, &flow(&own, "10.0.0.1:9000"), &cart, &mut Always(0)) else {
        panic!("no tunnel")
    };
    assert_eq!(to.authority.to_string(), "10.0.0.1:9000");
}
