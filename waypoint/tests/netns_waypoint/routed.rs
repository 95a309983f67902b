//! Routes of connections in force (`waypoint.md` 2.17): by the server that is asked for with TLS, and by weight.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_hbone::pool::OpenError;
use ambit_model::delta::Change;
use ambit_model::http_route::{
    Backend, Broken, ConnectionMatch, Filters, Match, More, Parent, Route, Rule, Timeouts, Upstream,
};
use ambit_model::service::AppProtocol;

use crate::backend::{Speaks, backend};
use crate::client::raw;
use crate::scene::{Scene, endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

/// The service `web`, and `other` beside it, whose endpoint `two` is at 127.0.0.3.
fn world(protocol: AppProtocol) -> Vec<Change> {
    let mut world = shop(protocol);
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Tcp))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))));
    world
}

/// Both endpoints say who they are, and end.
async fn backends(scene: &mut Scene) {
    backend(scene, "one", "127.0.0.2", Speaks::Raw("one")).await;
    backend(scene, "two", "127.0.0.3", Speaks::Raw("two")).await;
}

fn to(name: &str, weight: u32) -> Backend {
    let service = format!("shop/{name}.shop.svc.cluster.local").parse().unwrap();
    let to = match name {
        "broken" => Err(Broken::because("there is no such service")),
        _ => Ok(Upstream { service, port: 80, subset: None }),
    };
    Backend { to, weight, filters: Ok(Filters::default()) }
}

fn rule(servers: &[&str], backends: Vec<Backend>) -> Arc<Rule> {
    let more =
        More { servers: servers.iter().map(|name| name.parse().unwrap()).collect(), ..More::default() };
    Arc::new(Rule {
        name: "".into(),
        matches: vec![Match { more: Some(Box::new(more)), ..Match::default() }],
        filters: Ok(Filters::default()),
        backends,
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    })
}

/// A route `<kind>/shop/<name>` of port 80 of `web`.
fn route(key: &str, rules: Vec<Arc<Rule>>) -> Change {
    let service = "shop/web.shop.svc.cluster.local".parse().unwrap();
    let parents = vec![Parent { service, port: Some(80) }];
    Change::Route(Arc::new(Route { key: key.parse().unwrap(), created_s: 1, parents, rules }))
}

/// How a client of TLS begins that asks for a server, or for none.
pub(crate) fn hello(server: &str) -> Vec<u8> {
    let counted =
        |width: usize, bytes: Vec<u8>| [bytes.len().to_be_bytes()[8 - width..].to_vec(), bytes].concat();
    let name = counted(2, [vec![0], counted(2, server.into())].concat());
    let extensions = if server.is_empty() { vec![] } else { [vec![0, 0], counted(2, name)].concat() };
    let body = [vec![3; 34], vec![0], counted(2, vec![0x13, 1]), vec![1, 0], counted(2, extensions)].concat();
    let message = [vec![1], counted(3, body)].concat();
    // Of two records, which nobody has to put into one packet.
    let (first, second) = message.split_at(20);
    let record = |part: &[u8]| [vec![22, 3, 1], counted(2, part.to_vec())].concat();
    [record(first), record(second)].concat()
}

#[test]
fn a_client_of_tls_gets_to_whom_it_asks_for_by_name_and_others_get_nowhere() {
    let mut world = world(AppProtocol::Tls);
    world.push(route("TLSRoute/shop/a", vec![rule(&["db.shop"], vec![to("web", 1)])]));
    world.push(route("TLSRoute/shop/b", vec![rule(&["*.shop"], vec![to("other", 1)])]));
    scene(&world, async |scene| {
        backends(scene).await;
        for (bytes, wanted) in [
            (hello("db.shop"), "one"),
            (hello("DB.shop"), "one"),
            (hello("a.shop"), "two"),
            (hello("a.db.shop"), "two"),
            (hello("elsewhere"), ""),
            (hello(""), ""),
            (b"GET / HTTP/1.1\r\nhost: db.shop\r\n\r\n".to_vec(), ""),
        ] {
            let stream = scene.open("cart", WEB).await.unwrap();
            assert_eq!(raw(stream, &bytes).await, wanted, "{}", String::from_utf8_lossy(&bytes));
        }
        scene.logged(&["connection complete", "response_flags=\"NR\"", "no route matches"]);
        // Whoever has been let in under a route goes on; the next one finds what is in force then.
        let gone = Change::RouteGone("TLSRoute/shop/a".parse().unwrap());
        scene.plane.publish(&[gone].into_iter().collect());
        assert_eq!(raw(scene.open("cart", WEB).await.unwrap(), &hello("db.shop")).await, "two");
    });
}

#[test]
fn connections_are_shared_by_weight_and_what_is_broken_keeps_its_share() {
    let mut world = world(AppProtocol::Unknown);
    let shares = vec![to("web", 2), to("other", 1), to("broken", 1)];
    world.push(route("TCPRoute/shop/t", vec![rule(&[], shares)]));
    scene(&world, async |scene| {
        backends(scene).await;
        let mut seen = BTreeMap::<String, u32>::new();
        for _ in 0..120 {
            let answer = match scene.open("cart", WEB).await {
                Ok(stream) => raw(stream, b"hello").await,
                Err(OpenError::Refused { status }) => status.to_string(),
                Err(error) => panic!("{error}"),
            };
            *seen.entry(answer).or_default() += 1;
        }
        // Expected are 60, 30 and 30: seven standard deviations to both sides, or as many as there are.
        let share = |name: &str| seen.get(name).copied().unwrap_or_default();
        assert!((22..=98).contains(&share("one")), "{seen:?}");
        for name in ["two", "503 Service Unavailable"] {
            assert!((1..=63).contains(&share(name)), "{name}: {seen:?}");
        }
        assert_eq!(seen.len(), 3, "{seen:?}");
        let line =
            scene.logged(&["connection complete", "the route cannot be honoured: there is no such service"]);
        assert!(line.contains("protocol=\"tcp\""), "{line}");
    });
}

/// A rule of a VirtualService for connections.
fn carried(more: More, to_whom: Backend) -> Arc<Rule> {
    let more = More { connection: Some(more.connection.unwrap_or_default()), ..more };
    let mut rule = (*rule(&[], vec![to_whom])).clone();
    rule.matches = vec![Match { more: Some(Box::new(more)), ..Match::default() }];
    Arc::new(rule)
}

#[test]
fn virtual_services_lead_connections_by_name_by_who_dials_and_by_where_to() {
    let named = |name: &str| More { servers: vec![name.parse().unwrap()], port: Some(80), ..More::default() };
    let labelled = More { from_labels: vec![("app".into(), "cart".into())], ..More::default() };
    let elsewhere = ConnectionMatch {
        to: vec!["10.9.0.0/16".parse().unwrap()],
        from: Some("127.0.0.9/32".parse().unwrap()),
    };
    let elsewhere = More { connection: Some(elsewhere), ..More::default() };
    let mut cart = endpoint_of("none", "cart", "127.0.0.9");
    cart.labels = [("app".into(), "cart".into())].into();
    for (protocol, rules, bytes, from, wanted) in [
        (
            AppProtocol::Tls,
            vec![carried(named("db.shop"), to("other", 1))],
            hello("db.shop"),
            "127.0.0.8",
            "two",
        ),
        (AppProtocol::Tls, vec![carried(named("db.shop"), to("other", 1))], hello("other"), "127.0.0.8", ""),
        (
            AppProtocol::Unknown,
            vec![carried(named("db.shop"), to("other", 1)), carried(More::default(), to("web", 1))],
            hello("other"),
            "127.0.0.8",
            "one",
        ),
        (
            AppProtocol::Tcp,
            vec![carried(labelled.clone(), to("other", 1))],
            b"x".to_vec(),
            "127.0.0.9",
            "two",
        ),
        (AppProtocol::Tcp, vec![carried(labelled, to("other", 1))], b"x".to_vec(), "127.0.0.8", "one"),
        (AppProtocol::Tcp, vec![carried(elsewhere, to("other", 1))], b"x".to_vec(), "127.0.0.9", "one"),
    ] {
        let mut world = world(protocol);
        world.push(Change::Workload(Arc::new(cart.clone())));
        world.push(route("VirtualService/shop/v", rules));
        scene(&world, async |scene| {
            backends(scene).await;
            let (stream, _) = scene.lead(("cart", from), None, WEB).await.unwrap();
            assert_eq!(raw(stream, &bytes).await, wanted, "{from} {}", String::from_utf8_lossy(&bytes));
        });
    }
}
