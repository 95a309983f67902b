//! Endpoint choice, by tables.

use super::*;
use crate::sample::{Always, balancing, pod, service, world};
use crate::workload::{ApplicationTunnel, Handover, Tunnel};

const WEB: &str = "shop/web.shop.svc.cluster.local";

/// A weighted endpoint at a place `region/zone/node/network`.
fn placed(name: &str, place: &str) -> Workload {
    let mut w = pod(&format!("shop/{name}"), "10.0.0.1").serving(WEB, &[]);
    let parts: Vec<&str> = place.split('/').collect();
    (w.locality.region, w.locality.zone) = (parts[0].into(), parts[1].into());
    (w.node, w.network) = (parts[2].into(), parts[3].into());
    w.network_gateway = Some(crate::sample::by_address("other/1.2.3.4"));
    w
}

/// Who takes port 80 of the service for the client?
fn ask<'a>(client: &'a Workload, service: &'a Service) -> Ask<'a> {
    Ask { client, service, port: 80, role: Role::Destination, avoid: &[], left: &[] }
}

/// The names of all endpoints that chance could choose, or why there are none.
fn choices(
    service: &Service,
    workloads: Vec<Workload>,
    client: &Workload,
) -> Result<Vec<String>, NoEndpoint> {
    let total: u64 = workloads.iter().map(|w| u64::from(w.capacity)).sum();
    let mut world = world([service.clone().into()]);
    world = world.with(&workloads.into_iter().map(Into::into).collect());
    let ask = ask(client, service);
    let mut names = Vec::new();
    for chance in 0..total.max(1) {
        let chosen = choose(&world, &ask, &mut Always(chance))?;
        names.push(chosen.workload.name.to_string());
    }
    names.dedup();
    Ok(names)
}

#[test]
fn scopes_decide_by_mode_and_order() {
    use Scope::{Network, Node, Region, Zone};
    let client = placed("client", "r1/z1/n1/");
    let near = || placed("near", "r1/z1/n1/");
    let zone = || placed("zone", "r1/z1/n2/");
    let region = || placed("region", "r1/z2/n2/");
    let far = || placed("far", "r2/z1/n2/");
    let abroad = || placed("abroad", "r1/z1/n1/other");
    let (strict, failover, standard) = (BalanceMode::Strict, BalanceMode::Failover, BalanceMode::Standard);
    type Case<'a> = (BalanceMode, &'a [Scope], Vec<Workload>, Result<Vec<&'a str>, NoEndpoint>);
    let cases: Vec<Case<'_>> = vec![
        (standard, &[Node], vec![near(), far()], Ok(vec!["far", "near"])),
        (strict, &[Node], vec![near(), zone()], Ok(vec!["near"])),
        (strict, &[Node], vec![zone()], Err(NoEndpoint::OutOfScope)),
        (strict, &[Region, Zone], vec![zone(), region()], Ok(vec!["zone"])),
        (strict, &[Network, Region], vec![abroad()], Err(NoEndpoint::OutOfScope)),
        (failover, &[Region, Zone, Node], vec![near(), zone(), region(), far()], Ok(vec!["near"])),
        (failover, &[Region, Zone, Node], vec![zone(), region(), far()], Ok(vec!["zone"])),
        // The walk ends at the first scope that differs: far's equal zone name counts for nothing.
        (failover, &[Region, Zone], vec![region(), far()], Ok(vec!["region"])),
        (failover, &[Zone], vec![far(), region()], Ok(vec!["far"])),
        (failover, &[Region], vec![far()], Ok(vec!["far"])),
        // The network in first place outweighs everything, but does not end the walk.
        (failover, &[Network, Region, Zone], vec![far(), abroad()], Ok(vec!["far"])),
        (
            failover,
            &[Network, Region, Zone],
            vec![abroad(), placed("abroad-far", "r2/z1/n1/other")],
            Ok(vec!["abroad"]),
        ),
        // Elsewhere it is a scope like the others.
        (failover, &[Region, Network], vec![far(), abroad()], Ok(vec!["abroad"])),
    ];
    for (i, (mode, preference, endpoints, wanted)) in cases.into_iter().enumerate() {
        let mut service = service(WEB, &[], &[(80, 8080)]);
        service.load_balancing = balancing(mode, preference);
        let wanted = wanted.map(|names| names.into_iter().map(String::from).collect::<Vec<_>>());
        assert_eq!(choices(&service, endpoints, &client), wanted, "case {i}: {mode:?} {preference:?}");
    }
}

#[test]
fn a_service_without_a_fit_endpoint_says_what_is_wrong() {
    let client = pod("shop/client", "10.0.0.9");
    let web = |ports: &[(u16, u16)]| service(WEB, &[], ports);
    let fit = || pod("shop/web", "10.0.0.1").serving(WEB, &[]);
    let with = |change: fn(&mut Workload)| {
        let mut w = fit();
        change(&mut w);
        vec![w]
    };
    let cases: Vec<(Service, Vec<Workload>, NoEndpoint)> = vec![
        (web(&[(81, 8080)]), vec![fit()], NoEndpoint::PortNotOnService(80)),
        (web(&[(80, 8080)]), vec![], NoEndpoint::None),
        (web(&[(80, 0)]), vec![fit()], NoEndpoint::PortUnresolved(80)),
        (web(&[(80, 8080)]), with(|w| w.health = Health::Unhealthy), NoEndpoint::Unhealthy(1)),
        (web(&[(80, 8080)]), with(|w| w.addresses.clear()), NoEndpoint::Unreachable),
        (web(&[(80, 8080)]), with(|w| w.network = "far".into()), NoEndpoint::Unreachable),
        (web(&[(80, 8080)]), with(|w| w.capacity = 0), NoEndpoint::Weightless),
    ];
    for (service, endpoints, wanted) in cases {
        assert_eq!(choices(&service, endpoints, &client), Err(wanted), "{wanted}");
    }
}

#[test]
fn ranks_that_were_tried_are_left_as_long_as_there_are_others() {
    let client = placed("client", "r/z/n/");
    let mut service = service(WEB, &[], &[(80, 80)]);
    service.load_balancing = balancing(BalanceMode::Failover, &[Scope::Region, Scope::Zone, Scope::Node]);
    let all = [placed("near", "r/z/n/"), placed("zone", "r/z/m/"), placed("far", "s/z/n/")];
    let world = world([service.clone().into()]).with(&all.clone().map(Into::into).into_iter().collect());
    let [near, zone, far] = all.map(Arc::new);
    let hints = |tried: &[&Arc<Workload>]| crate::route::Hints {
        tried: tried.iter().map(|it| Arc::clone(it)).collect(),
        ..Default::default()
    };
    for (tried, wanted) in [
        (&[][..], "near"),
        (&[&near], "near"),
        (&[&near, &near], "zone"),
        (&[&near, &near, &zone], "zone"),
        (&[&near, &near, &zone, &zone], "far"),
        (&[&near, &near, &zone, &zone, &far, &far], "near"),
    ] {
        let hints = hints(tried);
        let ask = Ask { left: hints.left(), ..ask(&client, &service) };
        let chosen = choose(&world, &ask, &mut First).unwrap();
        assert_eq!(chosen.workload.name.to_string(), wanted, "{} tried", tried.len());
    }
}

#[test]
fn unhealthy_endpoints_come_back_when_a_service_starts_to_accept_them() {
    let client = pod("shop/client", "10.0.0.9");
    let mut sick = pod("shop/web", "10.0.0.1").serving(WEB, &[(80, 8080)]);
    sick.health = Health::Unhealthy;
    let mut service = service(WEB, &[], &[(80, 8080)]);
    assert_eq!(choices(&service, vec![sick.clone()], &client), Err(NoEndpoint::Unhealthy(1)));
    let mut rule = balancing(BalanceMode::Standard, &[]).unwrap();
    rule.health = HealthRule::AllowAll;
    service.load_balancing = Some(rule);
    assert_eq!(choices(&service, vec![sick], &client), Ok(vec!["web".into()]));
}

#[test]
fn the_port_is_the_endpoints_own_then_the_services() {
    let web = service(WEB, &[], &[(80, 8080), (81, 0)]);
    let own = pod("shop/a", "10.0.0.1").serving(WEB, &[(80, 9090), (81, 0)]);
    let mut tunnelled = pod("shop/b", "10.0.0.1");
    tunnelled.application_tunnel = Some(ApplicationTunnel { protocol: Handover::Plain, port: Some(15088) });
    for (workload, port, wanted) in [
        (&own, 80, Some(9090)),
        (&own, 81, None),
        (&tunnelled, 80, Some(8080)),
        (&tunnelled, 81, Some(81)),
        (&tunnelled, 82, Some(82)),
    ] {
        assert_eq!(target_port(&web, workload, port), wanted, "{} {port}", workload.name);
    }
}

#[test]
fn a_waypoint_needs_the_port_unless_it_has_an_application_tunnel() {
    let client = pod("shop/client", "10.0.0.9");
    let service = service(WEB, &[], &[(80, 80)]);
    let mut waypoint = pod("shop/waypoint", "10.0.0.1").serving(WEB, &[]);
    let ask = Ask { port: 15008, role: Role::Waypoint, ..ask(&client, &service) };
    let bare = world([service.clone().into(), waypoint.clone().into()]);
    assert_eq!(choose(&bare, &ask, &mut First), Err(NoEndpoint::PortNotOnService(15008)));
    waypoint.application_tunnel = Some(ApplicationTunnel { protocol: Handover::Proxy, port: Some(15088) });
    let sandwiched = world([service.clone().into(), waypoint.into()]);
    assert_eq!(choose(&sandwiched, &ask, &mut First).unwrap().target_port, 15008);
}

#[test]
fn capacity_is_the_share_of_the_connections() {
    let client = pod("shop/client", "10.0.0.9");
    let weighted = |name: &str, capacity| {
        let mut w = pod(&format!("shop/{name}"), "10.0.0.1").serving(WEB, &[]);
        w.capacity = capacity;
        w.tunnel = Tunnel::None;
        w
    };
    let service = service(WEB, &[], &[(80, 8080)]);
    let endpoints = [weighted("a", 3), weighted("b", 0), weighted("c", 1)];
    let world = world(endpoints.map(Into::into));
    let mut ask = ask(&client, &service);
    let chosen: Vec<String> =
        (0..4).map(|c| choose(&world, &ask, &mut Always(c)).unwrap().workload.name.to_string()).collect();
    assert_eq!(chosen, ["a", "a", "a", "c"]);
    let failed = [WorkloadUid::from("Kubernetes//Pod/shop/a")];
    ask.avoid = &failed;
    assert_eq!(choose(&world, &ask, &mut Always(0)).unwrap().workload.name.to_string(), "c");
}

/// Chance that is the same each time, and endpoints that have so much to do.
struct Loaded(u64, Vec<(&'static str, u32)>);

impl Pick for Loaded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn busy(&self, endpoint: &WorkloadUid) -> Option<u32> {
        self.1.iter().find(|(name, _)| endpoint.as_str().ends_with(name)).map(|(_, busy)| *busy)
    }
}

#[test]
fn of_two_that_come_by_chance_the_less_busy_for_its_capacity_is_chosen() {
    let of = |name: &str, capacity| Workload { capacity, ..placed(name, "r/z/n/") };
    let service = service(WEB, &[], &[(80, 80)]);
    let client = placed("client", "r/z/n/");
    let world =
        world([service.clone().into()]).with(&[of("a", 1).into(), of("b", 3).into()].into_iter().collect());
    let ask = ask(&client, &service);
    for (load, wanted) in [
        // Who is idle is chosen by capacity alone, and so is everybody where nothing is known.
        (vec![("/a", 0), ("/b", 0)], 235..265),
        (vec![], 235..265),
        // As busy for what they are.
        (vec![("/a", 1), ("/b", 3)], 235..265),
        // Only where it comes twice.
        (vec![("/a", 1), ("/b", 0)], 50..75),
        (vec![("/a", 9), ("/b", 9)], 50..75),
        // Always, but where the other comes twice.
        (vec![("/a", 0), ("/b", 9)], 420..455),
        (vec![("/a", u32::MAX), ("/b", u32::MAX)], 50..75),
    ] {
        let mut chance = Loaded(1, load.clone());
        let chosen = (0..10_000).map(|_| choose(&world, &ask, &mut chance).unwrap());
        let count = chosen.filter(|it| it.workload.name.as_str() == "a").count();
        assert!(wanted.contains(&(count / 10)), "{load:?}: a got {count} of 10000");
    }
}
