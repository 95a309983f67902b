//! Connections against rules of VirtualServices, case by case.

use std::sync::Arc;

use super::*;
use crate::http_route::{Choice, Route, RouteKind};
use crate::sample::{pod, request, route, rule};

/// Demands: `tls:<server>`, `to:<range>`, `from:<range>`, `port:<port>`, `ns:<namespace>`, `app:<label>`.
fn demands(text: &str) -> Match {
    let mut more = More { connection: Some(ConnectionMatch::default()), ..More::default() };
    for (kind, value) in text.split_whitespace().filter_map(|it| it.split_once(':')) {
        let connection = more.connection.as_mut().unwrap();
        match kind {
            "tls" => more.servers.push(value.parse().unwrap()),
            "to" => connection.to.push(value.parse().unwrap()),
            "from" => connection.from = Some(value.parse().unwrap()),
            "port" => more.port = Some(value.parse().unwrap()),
            "ns" => more.from = Some(value.parse().unwrap()),
            _ => more.from_labels.push((kind.into(), value.into())),
        }
    }
    Match { more: Some(Box::new(more)), ..Match::default() }
}

fn of(name: &str, created_s: u64, rules: &[(&str, &str)]) -> Arc<Route> {
    let rules = rules.iter().map(|(text, to)| rule(vec![demands(text)], &format!("ns/{to}"))).collect();
    let mut made = route(&format!("VirtualService/ns/{name}"), "ns/s", rules);
    made.created_s = created_s;
    Arc::new(made)
}

/// To whom a connection is led.
fn led(table: &Table, opening: &Opening<'_>, server: &str) -> String {
    match table.lead(opening, Some(server).filter(|it| !it.is_empty())) {
        Led::Unsaid => "as asked".into(),
        Led::Nobody => "nobody".into(),
        Led::Found(found) => found.rule.name.as_str().trim_start_matches("ns/").into(),
    }
}

#[test]
fn the_first_rule_that_is_for_a_connection_leads_it() {
    let table = Table::new(
        RouteKind::VirtualService,
        [
            &of("b", 2, &[("port:9", "late")]),
            &of(
                "a",
                1,
                &[
                    ("tls:db.shop port:443", "db"),
                    ("tls:*.shop tls:x.org port:443", "under"),
                    ("to:10.1.0.0/16 port:80", "subnet"),
                    ("from:10.2.0.0/16 port:80", "source"),
                    ("app:web ns:shop port:80", "labels"),
                    ("port:8080", "all"),
                ],
            ),
        ],
    );
    let shop: Namespace = "shop".parse().unwrap();
    let mut web = pod("shop/web", "10.2.0.9");
    web.labels = [("app".into(), "web".into()), ("version".into(), "v1".into())].into();
    let other = pod("shop/other", "10.2.0.8");
    let base = Opening {
        port: 443,
        to: "10.0.0.1".parse().unwrap(),
        client: "10.3.0.1".parse().unwrap(),
        from: None,
        source: None,
    };
    for (opening, server, wanted) in [
        (base, "db.shop", "db"),
        (base, "DB.Shop", "db"),
        (base, "a.b.shop", "under"),
        (base, "x.org", "under"),
        (base, "shop", "nobody"),
        (base, ".shop", "nobody"),
        (base, "xshop", "nobody"),
        (base, "", "nobody"),
        (Opening { port: 80, ..base }, "", "as asked"),
        (Opening { port: 80, to: "10.1.2.3".parse().unwrap(), ..base }, "", "subnet"),
        (Opening { port: 80, client: "10.2.9.9".parse().unwrap(), ..base }, "db.shop", "source"),
        (Opening { port: 80, from: Some(&shop), source: Some(&web), ..base }, "", "labels"),
        (Opening { port: 80, from: Some(&shop), source: Some(&other), ..base }, "", "as asked"),
        (Opening { port: 80, from: Some(&shop), ..base }, "", "as asked"),
        (Opening { port: 80, source: Some(&web), ..base }, "", "as asked"),
        (Opening { port: 8080, ..base }, "", "all"),
        (Opening { port: 9, ..base }, "", "late"),
        (Opening { port: 7, ..base }, "", "as asked"),
    ] {
        assert_eq!(led(&table, &opening, server), wanted, "{opening:?} {server}");
    }
    for (port, wanted) in [(443, true), (80, false), (8080, false)] {
        assert_eq!(table.asks_for_server(&Opening { port, ..base }), wanted, "{port}");
    }
    assert!(!table.is_of_requests());
    let asked = request("/");
    assert!(matches!(table.choose(&asked.asked()), Choice::NoRoutes), "of requests it says nothing");
    assert_eq!(table.passed_over(&asked.asked()).count(), 0);
}

#[test]
fn rules_of_requests_and_of_connections_stand_beside_each_other() {
    let mut both = (*of("r", 1, &[("", "carried")])).clone();
    both.rules.insert(0, Arc::new(rule(vec![Match::default()], "ns/asked")));
    let table = Table::new(RouteKind::VirtualService, [&Arc::new(both)]);
    let asked = request("/");
    let Choice::Found(found) = table.choose(&asked.asked()) else { panic!("no rule") };
    assert_eq!(found.rule.name.as_str(), "ns/asked");
    let ip = "10.0.0.1".parse().unwrap();
    let opening = Opening { port: 1, to: ip, client: ip, from: None, source: None };
    assert_eq!(led(&table, &opening, ""), "carried");
}
