//! Routes of connections (`waypoint.md` 2.17): the servers that they are for, and where those lead.

use std::sync::Arc;

use ambit_cluster::kinds::route::connection::ConnectionRoute;
use ambit_model::http_route::{Match, More, RouteKind};

use super::{Common, Reading, begin};
use crate::index::World;

/// A TLSRoute or a TCPRoute.
#[must_use]
pub fn connections(world: &World, object: &ConnectionRoute, kind: RouteKind) -> Reading {
    let spec = &object.spec;
    let (meta, mut reader) = begin(world, &object.metadata);
    // A name that does not read never comes this far.
    let servers = spec.hostnames.iter().filter_map(|it| it.parse().ok()).collect();
    let matches = match kind {
        RouteKind::Tls => {
            let more = Some(Box::new(More { servers, ..More::default() }));
            vec![Match { more, ..Match::default() }]
        }
        RouteKind::Tcp | RouteKind::Grpc | RouteKind::Http | RouteKind::VirtualService => Vec::new(),
    };
    let mut rules = Vec::new();
    for (at, rule) in spec.rules.iter().enumerate() {
        reader.rule = at;
        let common = Common { name: &rule.name, filters: &[], backends: &rule.backend_refs, session: None };
        rules.extend(reader.rule((matches.clone(), None), &common).map(Arc::new));
    }
    reader.end(meta, kind, (&spec.parent_refs, rules))
}

#[cfg(test)]
mod tests {
    use ambit_cluster::{Kind, ObjectRef};
    use ambit_model::http_route::Route;

    use super::*;
    use crate::conditions::route::route;
    use crate::testing;

    const AROUND: &str = "
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {ports: [{name: sql, port: 5432}, {name: web, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: next, namespace: other}, spec: {ports: [{port: 5432}]}}
";

    const AT_DB: &str = "parentRefs: [{group: '', kind: Service, name: db, port: 5432}]";

    fn object(kind: &str, name: &str, spec: &str) -> String {
        format!(
            "---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: shop}}, spec: {{{spec}}}}}\n"
        )
    }

    fn translated(world: &World, kind: RouteKind) -> Route {
        let space = world.space("shop").unwrap();
        let shelf = if kind == RouteKind::Tls { &space.tls_routes } else { &space.tcp_routes };
        connections(world, &shelf["r"], kind).route.unwrap()
    }

    #[test]
    fn backends_are_shared_by_weight_and_those_that_are_not_there_keep_their_share() {
        let rule = "rules: [{backendRefs: [{name: db, port: 5432, weight: 9}, {name: next, namespace: other, port: 5432}, \
                    {name: nobody, port: 1}]}]";
        let tcp = object("TCPRoute", "r", &format!("{AT_DB}, {rule}"));
        let tls = object("TLSRoute", "r", &format!("{AT_DB}, hostnames: [DB.shop, '*.shop'], {rule}"));
        let world = testing::world(&format!("{AROUND}{tcp}{tls}"));
        for kind in [RouteKind::Tls, RouteKind::Tcp] {
            let route = translated(&world, kind);
            assert_eq!(route.key.to_string(), format!("{kind}/shop/r"));
            assert_eq!(route.parents[0].port, Some(5432));
            let to = |it: &ambit_model::http_route::Backend| {
                let to = it.to.as_ref().map_or_else(|why| format!("broken: {why}"), ToString::to_string);
                format!("{} {to}", it.weight)
            };
            let [rule] = route.rules.as_slice() else { panic!("{route:?}") };
            let wanted = [
                "9 shop/db.shop.svc.cluster.local:5432",
                "1 other/next.other.svc.cluster.local:5432",
                "1 broken: there is no service shop/nobody",
            ];
            assert_eq!(rule.backends.iter().map(to).collect::<Vec<_>>(), wanted);
            let servers = rule.matches.iter().flat_map(|it| it.more.iter().flat_map(|more| &more.servers));
            let servers: Vec<_> = servers.map(ToString::to_string).collect();
            assert_eq!(servers, if kind == RouteKind::Tls { &["db.shop", "*.shop"][..] } else { &[] });
        }
    }

    /// What is said of a route: types, status and reason.
    fn said(world: &World, kind: Kind) -> Vec<String> {
        let all = route(world, &ObjectRef::new(kind, "shop", "r"));
        let all = all.iter().flat_map(|(_, conditions)| conditions);
        all.map(|it| format!("{}={} {}", it.kind, it.status, it.reason)).collect()
    }

    #[test]
    fn a_route_is_told_what_it_leads_to_and_which_kind_comes_before_it() {
        let (good, bad) = (
            "rules: [{backendRefs: [{name: db, port: 5432}]}]",
            "rules: [{backendRefs: [{name: nobody, port: 1}]}]",
        );
        let unasked = "ResolvedWaypoints=False MissingUseWaypointLabel";
        let resolved = "ResolvedRefs=True ResolvedRefs";
        let named = |rule: &str| object("TLSRoute", "r", &format!("{AT_DB}, hostnames: [db.shop], {rule}"));
        let tcp = |rule: &str| object("TCPRoute", "r", &format!("{AT_DB}, {rule}"));
        let elsewhere =
            good.replace("rules", "parentRefs: [{group: '', kind: Service, name: db, port: 80}], rules");
        for (kind, routes, wanted) in [
            (Kind::TcpRoute, tcp(good), vec!["Accepted=True Accepted", resolved, unasked]),
            (
                Kind::TcpRoute,
                tcp(bad),
                vec!["Accepted=True Accepted", "ResolvedRefs=False BackendNotFound", unasked],
            ),
            (Kind::TcpRoute, tcp(good) + &named(good), vec!["Accepted=False Conflicted", resolved]),
            (Kind::TlsRoute, tcp(good) + &named(good), vec!["Accepted=True Accepted", resolved, unasked]),
            (
                Kind::TcpRoute,
                tcp(good) + &object("HTTPRoute", "h", &elsewhere),
                vec!["Accepted=True Accepted", resolved, unasked],
            ),
            (
                Kind::TlsRoute,
                named(good) + &object("HTTPRoute", "h", &format!("{AT_DB}, rules: [{{}}]")),
                vec!["Accepted=False Conflicted", resolved],
            ),
            // Of several TCPRoutes all are attached, and the oldest serves.
            (
                Kind::TcpRoute,
                tcp(good) + &object("TCPRoute", "older", &format!("{AT_DB}, {good}")),
                vec!["Accepted=True Accepted", resolved, unasked],
            ),
        ] {
            let world = testing::world(&format!("{AROUND}{routes}"));
            assert_eq!(said(&world, kind), wanted, "{routes}");
        }
    }
}
