//! Which routes the requests to a service's port are of (`waypoint.md` 2.1). Owns who sees which: a route in the
//! service's own namespace is everybody's (a producer's), one of another namespace is that namespace's own (a
//! consumer's), and whoever has one of its own sees no other. Of several kinds on one port the first wins, GRPCRoute
//! before HTTPRoute, TLSRoute and TCPRoute, among those that one sees: nobody's route takes away another's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Asked, Found, Route, RouteKind, Table};
use crate::name::{Namespace, ServiceKey};

/// The tables of one service.
#[derive(Debug, Default)]
pub struct Tables {
    /// Of ports that some route names.
    ports: BTreeMap<u16, Sides>,
    /// Of all others.
    rest: Sides,
}

/// Who sees what.
#[derive(Debug, Default)]
struct Sides {
    everybody: Option<Arc<Table>>,
    own: BTreeMap<Namespace, Arc<Table>>,
}

/// What routes say of a request.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'t> {
    /// There are none: it goes on to the service it asked for.
    NoRoutes,
    /// It is of no rule of them: answered 404 (gRPC: unimplemented).
    NoMatch(RouteKind),
    /// It is of this rule.
    Found(Found<'t>),
}

impl Tables {
    /// The tables of a service, from the routes that are attached to it, in whatever order they come.
    #[must_use]
    pub fn new<'r>(service: &ServiceKey, routes: impl IntoIterator<Item = &'r Arc<Route>>) -> Self {
        let mut attached: Vec<(Option<u16>, &Arc<Route>)> = Vec::new();
        for route in routes {
            let here = route.parents.iter().filter(|parent| parent.service == *service);
            attached.extend(here.map(|parent| (parent.port, route)));
        }
        let sides = |port: Option<u16>| {
            // Attached twice to one port, it is there once.
            let of_port = attached.iter().filter(|(at, _)| at.is_none() || *at == port);
            let mut seen = BTreeSet::new();
            let once = of_port.map(|(_, route)| *route).filter(|route| seen.insert(&route.key));
            Sides::new(&service.namespace, once)
        };
        let ports: BTreeSet<u16> = attached.iter().filter_map(|(port, _)| *port).collect();
        Self { ports: ports.into_iter().map(|port| (port, sides(Some(port)))).collect(), rest: sides(None) }
    }

    /// The table for requests to a port that come from a namespace, where that is known.
    #[must_use]
    pub fn table(&self, port: u16, from: Option<&Namespace>) -> Option<&Arc<Table>> {
        let sides = self.ports.get(&port).unwrap_or(&self.rest);
        from.and_then(|from| sides.own.get(from)).or(sides.everybody.as_ref())
    }
}

impl Table {
    /// What it says of a request. Routes of connections say nothing of requests on one that was there before them.
    #[must_use]
    pub fn choose(&self, asked: &Asked<'_>) -> Choice<'_> {
        if !self.is_of_requests() {
            return Choice::NoRoutes;
        }
        match self.find(asked) {
            Some(found) => Choice::Found(found),
            None => Choice::NoMatch(self.kind()),
        }
    }
}

impl Sides {
    fn new<'r>(producer: &Namespace, routes: impl Iterator<Item = &'r Arc<Route>>) -> Self {
        let mut by_namespace: BTreeMap<&Namespace, Vec<&Arc<Route>>> = BTreeMap::new();
        for route in routes {
            // A VirtualService is for all who ask, also where it is of the waypoint's namespace.
            let home = match route.key.kind {
                RouteKind::VirtualService => producer,
                RouteKind::Grpc | RouteKind::Http | RouteKind::Tls | RouteKind::Tcp => &route.key.namespace,
            };
            by_namespace.entry(home).or_default().push(route);
        }
        let everybody = by_namespace.remove(producer).map(|routes| table(&routes));
        let own = by_namespace.into_iter().map(|(namespace, routes)| (namespace.clone(), table(&routes)));
        Self { everybody, own: own.collect() }
    }
}

/// The table of those of the kind that goes first.
fn table(routes: &[&Arc<Route>]) -> Arc<Table> {
    let winner = routes.iter().map(|route| route.key.kind).min().unwrap_or(RouteKind::Http);
    let of_kind = routes.iter().copied().filter(|route| route.key.kind == winner);
    Arc::new(Table::new(winner, of_kind))
}

#[cfg(test)]
mod tests;
