//! Who sees which routes (`waypoint.md` 2.1, and 1, 8 and 9 of the golden cases).

use super::*;
use crate::delta::{Change, Delta};
use crate::sample::{matching, parent, request, route, rule, world};
use crate::snapshot::Snapshot;

fn change(key: &str, parents: &str, matches: &str, to: &str) -> Change {
    let mut noun = route(key, "ns/s", vec![rule(vec![matching(matches)], &format!("ns/{to}"))]);
    noun.parents = parents.split(' ').map(parent).collect();
    noun.into()
}

/// Whom a request to a port of `ns/s` from a namespace goes to.
fn sent(world: &Snapshot, port: u16, from: &str, asked: &str) -> String {
    let from: Option<Namespace> = from.parse().ok();
    let table = world.tables_of(&"ns/s".parse().unwrap()).and_then(|all| all.table(port, from.as_ref()));
    let request = request(asked);
    match table.map_or(Choice::NoRoutes, |table| table.choose(&request.asked())) {
        Choice::NoRoutes => "default".into(),
        Choice::NoMatch(kind) => format!("none of {kind}"),
        Choice::Found(found) => found.rule.name.to_string(),
    }
}

#[test]
fn a_route_of_one_port_says_nothing_about_others() {
    let world = world([change("HTTPRoute/ns/r", "ns/s:80", "/a", "v1")]);
    assert_eq!(sent(&world, 80, "ns", "/a"), "ns/v1");
    assert_eq!(sent(&world, 80, "ns", "/b"), "none of HTTPRoute");
    assert_eq!(sent(&world, 8080, "ns", "/a"), "default");
}

#[test]
fn a_route_without_a_port_is_of_every_port_beside_those_of_one() {
    let world = world([
        change("HTTPRoute/ns/all", "ns/s", "/", "all"),
        change("HTTPRoute/ns/one", "ns/s:80", "/a", "one"),
    ]);
    for (port, asked, wanted) in
        [(80, "/a", "ns/one"), (80, "/b", "ns/all"), (8080, "/a", "ns/all"), (9090, "/", "ns/all")]
    {
        assert_eq!(sent(&world, port, "ns", asked), wanted, "{port} {asked}");
    }
}

#[test]
fn a_route_that_names_port_and_service_twice_is_there_once() {
    let world = world([change("HTTPRoute/ns/r", "ns/s ns/s:80 ns/s:80 ns/other", "/", "v1")]);
    let tables = world.tables_of(&"ns/s".parse().unwrap()).unwrap();
    assert_eq!(tables.table(80, None).unwrap().len(), 1);
    assert_eq!(sent(&world, 80, "ns", "/"), "ns/v1");
}

#[test]
fn virtual_services_are_for_all_who_ask_and_only_where_there_is_no_route() {
    let of_waypoint = change("VirtualService/infra/v", "ns/s", "/a", "infra");
    let own = change("VirtualService/ns/v", "ns/s", "/b", "own");
    let both = world([of_waypoint.clone(), own.clone()]);
    for from in ["ns", "infra", "shop"] {
        assert_eq!(sent(&both, 80, from, "/a"), "ns/infra", "{from}");
        assert_eq!(sent(&both, 80, from, "/b"), "ns/own", "{from}");
        assert_eq!(sent(&both, 80, from, "/c"), "none of VirtualService", "{from}");
    }
    let mixed = world([of_waypoint, own, change("HTTPRoute/ns/r", "ns/s:80", "/c", "route")]);
    assert_eq!(sent(&mixed, 80, "shop", "/c"), "ns/route");
    assert_eq!(sent(&mixed, 80, "shop", "/a"), "none of HTTPRoute");
    assert_eq!(sent(&mixed, 81, "shop", "/a"), "ns/infra");
}

#[test]
fn a_consumers_routes_are_its_own_and_nothing_falls_through_them() {
    let world = world([
        change("HTTPRoute/ns/producer", "ns/s", "/", "everybody"),
        change("HTTPRoute/shop/consumer", "ns/s", "/a", "shop"),
    ]);
    for (from, asked, wanted) in [
        ("shop", "/a", "ns/shop"),
        ("shop", "/b", "none of HTTPRoute"),
        ("ns", "/a", "ns/everybody"),
        ("other", "/a", "ns/everybody"),
        ("", "/a", "ns/everybody"), // nobody knows who
    ] {
        assert_eq!(sent(&world, 80, from, asked), wanted, "{from} {asked}");
    }
    let alone = crate::sample::world([change("HTTPRoute/shop/consumer", "ns/s", "/a", "shop")]);
    assert_eq!(sent(&alone, 80, "shop", "/b"), "none of HTTPRoute");
    assert_eq!(sent(&alone, 80, "other", "/b"), "default");
}

#[test]
fn routes_of_grpc_win_over_others_among_those_that_one_sees() {
    let world = world([
        change("HTTPRoute/ns/http", "ns/s", "/", "http"),
        change("GRPCRoute/ns/grpc", "ns/s:7070", "grpc:a.B/*", "grpc"),
        change("GRPCRoute/shop/grpc", "ns/s", "grpc:a.B/*", "shop"),
    ]);
    for (port, from, asked, wanted) in [
        (7070, "ns", "/a.B/C", "ns/grpc"),
        (7070, "ns", "/x", "none of GRPCRoute"),
        (80, "ns", "/a.B/C", "ns/http"),
        (80, "shop", "/a.B/C", "ns/shop"), // another's route of gRPC takes nothing from anybody else
    ] {
        assert_eq!(sent(&world, port, from, asked), wanted, "{port} {from} {asked}");
    }
}

#[test]
fn a_route_that_goes_elsewhere_or_away_leaves_nothing_behind() {
    let before =
        world([change("HTTPRoute/ns/r", "ns/s", "/", "v1"), change("HTTPRoute/ns/q", "ns/s:80", "/q", "q")]);
    let moved =
        before.with(&[change("HTTPRoute/ns/r", "ns/other", "/", "v1")].into_iter().collect::<Delta>());
    assert_eq!(sent(&moved, 8080, "ns", "/"), "default");
    assert_eq!(sent(&moved, 80, "ns", "/q"), "ns/q");
    assert_eq!(moved.routes_of(&"ns/other".parse().unwrap()).count(), 1);
    let gone = |key: &str| Change::RouteGone(key.parse().unwrap());
    let none =
        moved.with(&[gone("HTTPRoute/ns/q"), gone("HTTPRoute/ns/never")].into_iter().collect::<Delta>());
    assert!(none.tables_of(&"ns/s".parse().unwrap()).is_none());
    assert_eq!(none.routes().count(), 1);
    assert_eq!(sent(&before, 8080, "ns", "/"), "ns/v1", "the world from before is as it was");
}

#[test]
fn only_what_a_change_touches_is_made_anew() {
    let before =
        world([change("HTTPRoute/ns/r", "ns/s", "/", "v1"), change("HTTPRoute/ns/q", "ns/t", "/", "v1")]);
    let after = before.with(&[change("HTTPRoute/ns/q", "ns/t", "/x", "v2")].into_iter().collect::<Delta>());
    let tables = |world: &Snapshot, key: &str| Arc::clone(world.tables_of(&key.parse().unwrap()).unwrap());
    assert!(Arc::ptr_eq(&tables(&before, "ns/s"), &tables(&after, "ns/s")));
    assert!(!Arc::ptr_eq(&tables(&before, "ns/t"), &tables(&after, "ns/t")));
}
