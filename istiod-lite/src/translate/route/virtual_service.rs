//! VirtualServices to routes (`waypoint.md` 4.1): pure. Owns which of their rules there are, in their order, and for
//! which services; what cannot be honoured is `Broken` there and noted for the author, as of any other route.

mod actions;
mod connections;
mod delegates;
mod hosts;
mod matches;
mod retries;

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::kinds::duration::span;
use ambit_cluster::kinds::virtual_service::{Destination, HttpDestination, HttpRule, VirtualService};
use ambit_model::http_route::{
    Backend, Broken, More, Parent, Route, RouteKind, Rule, TimeLimit, Timeouts, Upstream,
};
use ambit_wire::limits;

use self::delegates::Delegated;
pub use self::hosts::{ReadHost, destination_hosts, host_of, services};
use super::{Notes, Reader, made};
use crate::index::World;

/// What became of a VirtualService.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What waypoints are told; nothing, if it is for no service of the mesh.
    pub route: Option<Route>,
    /// Its hosts, each with its services.
    pub hosts: Vec<ReadHost>,
    /// What is not honoured.
    pub notes: Notes,
    /// What is passed over, without an error for any request.
    pub ignored: Vec<String>,
    /// No rule is left that does more than answer with an error.
    pub is_broken: bool,
}

/// The ports that a destination may mean.
enum Port {
    One(u16),
    /// It has several, and the one that was asked is meant.
    AsAsked,
}

/// Reads one.
#[must_use]
pub fn virtual_service(world: &World, object: &VirtualService) -> Reading {
    let meta = &object.metadata;
    let mut reader = Reader { world, namespace: &meta.namespace, notes: Notes::default(), rule: 0 };
    let hosts = services(world, object);
    let mut seen = BTreeSet::new();
    let services = hosts.iter().flat_map(|it| &it.services).filter(|it| seen.insert(*it));
    let parents: Vec<Parent> = services
        .map(|service| Parent { service: service.clone(), port: None })
        .take(limits::VIRTUAL_PARENTS)
        .collect();
    // Few rules ask for them.
    let ports = LazyCell::new(|| ports_of(world, &parents));
    let mut rules = Vec::new();
    for (at, rule) in object.spec.http.iter().enumerate() {
        reader.rule = at;
        for Delegated { namespace, rule } in delegates::expanded(&mut reader, object, rule) {
            let mut own = Reader { world, namespace, notes: std::mem::take(&mut reader.notes), rule: at };
            rules.extend(own.ordered(&rule, &ports).into_iter().map(Arc::new));
            reader.notes = own.notes;
        }
    }
    rules.extend(
        reader.of_connections(&object.spec, || ports.iter().copied().collect()).into_iter().map(Arc::new),
    );
    if rules.len() > limits::VIRTUAL_RULES {
        reader.unsupported("there are more rules than any waypoint takes");
        rules.truncate(limits::VIRTUAL_RULES);
    }
    let is_broken = !reader.notes.unsupported.is_empty() && rules.iter().all(|it| it.filters.is_err());
    let notes = reader.notes;
    drop(ports);
    // Without a rule of HTTP it says nothing of requests, and without any, nothing at all.
    let says = !object.spec.http.is_empty() || !rules.is_empty();
    let route = says.then(|| made(meta, RouteKind::VirtualService, (parents, rules))).flatten();
    Reading { route, hosts, notes, ignored: ignored(object), is_broken }
}

/// What is written and does not change what becomes of requests here.
fn ignored(object: &VirtualService) -> Vec<String> {
    let spec = &object.spec;
    let mut all = Vec::new();
    for (at, rule) in spec.http.iter().enumerate() {
        if rule.matches.iter().any(|it| !it.stat_prefix.is_empty()) {
            all.push(format!("rule {at}: match.statPrefix"));
        }
    }
    all
}

/// All ports of services.
fn ports_of(world: &World, parents: &[Parent]) -> BTreeSet<u16> {
    parents.iter().flat_map(|it| hosts::ports(world, &it.service).unwrap_or_default()).collect()
}

impl Reader<'_> {
    /// What is made of a rule: one, or one for each port where where it leads depends on the port that was asked.
    fn ordered(
        &mut self,
        rule: &HttpRule,
        ports: &LazyCell<BTreeSet<u16>, impl FnOnce() -> BTreeSet<u16>>,
    ) -> Vec<Rule> {
        let all = rule.route.iter().map(|it| &it.destination);
        let mirrors = rule.mirror.iter().chain(rule.mirrors.iter().map(|it| &it.destination));
        let by_port = all.chain(mirrors).any(|it| self.is_as_asked(it));
        if !by_port {
            return self.in_order(rule, None).into_iter().collect();
        }
        let before = self.notes.clone();
        let mut rules = Vec::new();
        for port in LazyCell::force(ports) {
            self.notes = before.clone();
            rules.extend(self.in_order(rule, Some(*port)));
        }
        rules
    }

    /// A rule, of requests to one port or to any; none, if it is for no request that can be told from others.
    fn in_order(&mut self, rule: &HttpRule, asked: Option<u16>) -> Option<Rule> {
        let (mut matches, broken) = self.matches_in_order(&rule.matches);
        if matches.is_empty() && (broken.is_some() || !rule.matches.is_empty()) {
            return None;
        }
        if let Some(port) = asked {
            if matches.is_empty() {
                matches.push(ambit_model::http_route::Match::default());
            }
            matches.retain(|it| it.more.as_ref().and_then(|it| it.port).is_none_or(|it| it == port));
            for one in &mut matches {
                one.more.get_or_insert_default().port = Some(port);
            }
            if matches.is_empty() {
                return None;
            }
        }
        let filters = self.actions(rule, asked);
        let filters = match broken {
            Some(broken) => Err(broken),
            None => filters,
        };
        let alone = rule.route.len() == 1;
        // One that gets nothing beside others is not looked at.
        let taken = rule.route.iter().filter(|it| alone || it.weight > 0);
        let mut backends: Vec<Backend> = taken.map(|it| self.destination(it, alone, asked)).collect();
        let filters = match backends.len() > limits::ROUTE_BACKENDS {
            true => Err(self.unsupported("there are more than 16 destinations")),
            false => filters,
        };
        backends.truncate(limits::ROUTE_BACKENDS);
        let attempt = rule.retries.as_ref().and_then(|it| it.per_try_timeout.as_deref());
        Some(Rule {
            name: rule.name.as_str().into(),
            matches,
            filters,
            backends,
            timeouts: Timeouts { request: limit(rule.timeout.as_deref()), backend_request: limit(attempt) },
            retry: rule.retries.as_ref().map(retries::retry),
            session: None,
        })
    }

    fn destination(&mut self, it: &HttpDestination, alone: bool, asked: Option<u16>) -> Backend {
        let to = self.led(&it.destination, asked);
        let filters = self.headers_of(&it.headers);
        // Alone, all of them go there, whatever it says.
        let weight = if alone { 1 } else { it.weight };
        if weight > limits::ROUTE_WEIGHT {
            let why = self.unsupported(&format!("the weight {weight} is larger than any"));
            return Backend { to, weight: limits::ROUTE_WEIGHT, filters: Err(why) };
        }
        Backend { to, weight, filters }
    }

    /// The service's port that a destination leads to.
    fn led(&mut self, it: &Destination, asked: Option<u16>) -> Result<Upstream, Broken> {
        let host = hosts::full(self.world, self.namespace, &it.host);
        let Some(service) = hosts::found(self.world, self.namespace, &host) else {
            return Err(self.unresolved("BackendNotFound", &format!("nothing has the host name {host}")));
        };
        let ports = hosts::ports(self.world, &service).unwrap_or_default();
        let port = match (meant(it, &ports), asked) {
            (Some(Port::One(port)), _) if ports.contains(&port) => port,
            (Some(Port::One(port)), _) => {
                return Err(self.unresolved("BackendNotFound", &format!("{service} has no port {port}")));
            }
            // Who asks for another port is led nowhere, which is nobody's mistake.
            (Some(Port::AsAsked), Some(asked)) if ports.contains(&asked) => asked,
            (Some(Port::AsAsked), Some(asked)) => {
                return Err(Broken::because(&format!("{service} has no port {asked}")));
            }
            (Some(Port::AsAsked) | None, _) => {
                return Err(self.unresolved("BackendNotFound", &format!("{service} has no port")));
            }
        };
        let subset = (!it.subset.is_empty()).then(|| it.subset.as_str().into());
        Ok(Upstream { service, port, subset })
    }

    /// Whether a destination leads to the port that was asked for, whichever that is.
    fn is_as_asked(&self, it: &Destination) -> bool {
        let ports = || {
            let host = hosts::full(self.world, self.namespace, &it.host);
            let service = hosts::found(self.world, self.namespace, &host)?;
            hosts::ports(self.world, &service)
        };
        // Where a port is given, no service has to be looked for.
        !has_port(it) && matches!(meant(it, &ports().unwrap_or_default()), Some(Port::AsAsked))
    }
}

fn has_port(it: &Destination) -> bool {
    it.port.as_ref().is_some_and(|it| it.number.is_some())
}

/// Which port a destination means, of those of its service; none: there is none.
fn meant(it: &Destination, ports: &[u16]) -> Option<Port> {
    if let Some(port) = it.port.as_ref().and_then(|it| it.number) {
        return Some(Port::One(port.0));
    }
    match ports {
        [] => None,
        [port] => Some(Port::One(*port)),
        _ => Some(Port::AsAsked),
    }
}

fn limit(text: Option<&str>) -> TimeLimit {
    // One that does not read never comes this far.
    text.and_then(span).map_or(TimeLimit::Unset, TimeLimit::from)
}

/// Demands that are none take no room.
fn boxed(more: More) -> Option<Box<More>> {
    (more != More::default()).then(|| Box::new(more))
}

#[cfg(test)]
mod tests;
