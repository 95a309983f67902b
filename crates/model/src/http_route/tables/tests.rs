//! Who sees which routes (`waypoint.md` 2.1, and 1, 8 and 9 of the golden cases).

use super::*;
use crate::delta::{Change, Delta};
use crate::http_route::{Match, More, ServerName};
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

fn server(text: &str) -> ServerName {
    text.parse().unwrap()
}

/// A TLSRoute or TCPRoute that is made at a time, for these servers.
fn connections(key: &str, parents: &str, servers: &str, created_s: u64) -> Change {
    let more = More { servers: servers.split_whitespace().map(server).collect(), ..More::default() };
    let matches = if servers.is_empty() {
        Vec::new()
    } else {
        vec![Match { more: Some(Box::new(more)), ..Match::default() }]
    };
    let name = key.rsplit('/').next().unwrap();
    let mut noun = route(key, "ns/s", vec![rule(matches, &format!("ns/{name}"))]);
    noun.parents = parents.split(' ').map(parent).collect();
    noun.created_s = created_s;
    noun.into()
}

/// Whom a connection to a port of `ns/s` from a namespace goes to; an empty name is none.
fn carried(world: &Snapshot, port: u16, from: &str, asked: &str) -> String {
    let from: Option<Namespace> = from.parse().ok();
    let table = world.tables_of(&"ns/s".parse().unwrap()).and_then(|all| all.table(port, from.as_ref()));
    let Some(table) = table else { return "default".into() };
    assert!(table.kind().is_of_connections());
    let found = table.connection(Some(asked).filter(|name| !name.is_empty()));
    found.map_or_else(|| "none".into(), |found| found.rule.name.to_string())
}

#[test]
fn a_connection_is_of_the_very_name_then_of_the_longest_it_is_under_then_of_what_demands_none() {
    let routes = [
        connections("TLSRoute/ns/exact", "ns/s", "db.shop", 9),
        connections("TLSRoute/ns/long", "ns/s", "*.db.shop *.x.shop", 9),
        connections("TLSRoute/ns/short", "ns/s", "*.shop db.shop", 10),
        connections("TLSRoute/ns/tie", "ns/s", "db.shop *.db.shop", 9),
    ];
    let all = connections("TLSRoute/ns/all", "ns/s", "", 11);
    let (named, every) = (world(routes.clone()), Delta::from_iter(routes.into_iter().chain([all])));
    let every = Snapshot::default().with(&every);
    for (asked, wanted, of_all) in [
        ("db.shop", "ns/exact", "ns/exact"),
        ("DB.shop", "ns/exact", "ns/exact"),
        ("a.db.shop", "ns/long", "ns/long"),
        ("a.b.db.shop", "ns/long", "ns/long"),
        ("a.shop", "ns/short", "ns/short"),
        ("x.shop", "ns/short", "ns/short"),
        ("shop", "none", "ns/all"),
        ("adb.shop", "ns/short", "ns/short"),
        ("other", "none", "ns/all"),
        ("", "none", "ns/all"),
    ] {
        assert_eq!(carried(&named, 80, "ns", asked), wanted, "{asked}");
        assert_eq!(carried(&every, 80, "ns", asked), of_all, "{asked}");
    }
    let table = |world: &Snapshot| {
        Arc::clone(world.tables_of(&"ns/s".parse().unwrap()).unwrap().table(80, None).unwrap())
    };
    assert!(table(&named).asks_for_servers());
    let asked = request("/");
    assert!(matches!(table(&named).choose(&asked.asked()), Choice::NoRoutes), "of requests they say nothing");
}

#[test]
fn of_several_tcp_routes_the_oldest_serves_and_every_other_kind_goes_before_them() {
    let newer = connections("TCPRoute/ns/a", "ns/s:80", "", 2);
    let older = connections("TCPRoute/ns/z", "ns/s:80", "", 1);
    let both = world([newer.clone(), older.clone()]);
    assert_eq!(
        (carried(&both, 80, "ns", ""), carried(&both, 81, "ns", "")),
        ("ns/z".into(), "default".into())
    );
    let with_tls =
        world([newer.clone(), older.clone(), connections("TLSRoute/ns/t", "ns/s:80", "db.shop", 9)]);
    assert_eq!(carried(&with_tls, 80, "ns", "db.shop"), "ns/t");
    assert_eq!(carried(&with_tls, 80, "ns", ""), "none", "nothing falls through to another kind");
    let with_http = world([newer, older, change("HTTPRoute/ns/r", "ns/s:80", "/a", "v1")]);
    assert_eq!(sent(&with_http, 80, "ns", "/a"), "ns/v1");
    // A consumer's are its own.
    let own = world([
        connections("TCPRoute/ns/producer", "ns/s", "", 1),
        connections("TCPRoute/shop/consumer", "ns/s", "", 2),
    ]);
    assert_eq!(
        (carried(&own, 80, "shop", ""), carried(&own, 80, "x", "")),
        ("ns/consumer".into(), "ns/producer".into())
    );
}
