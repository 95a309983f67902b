//! Routes to the mesh's nouns (`waypoint.md` 2): pure. Owns what they are attached to and what becomes of each of their
//! rules; what cannot be honoured is `Broken` there and noted for the author, never left out. Routes of gateways at the
//! mesh's border are left to those.

mod backends;
pub mod connections;
mod external;
mod filters;
mod matches;
mod session;
pub mod virtual_service;

use std::sync::Arc;
use std::time::Duration;

use ambit_cluster::kinds::meta::Meta;
use ambit_cluster::kinds::route::{
    BackendRef, Filter, GrpcRoute, HttpRoute, ParentRef, Retry as RetryObject, SessionPersistence,
    Timeouts as TimeoutsObject, duration,
};
use ambit_model::http_route::{
    Broken, Filters, Match, Parent, Retry, RetryOn, Route, RouteKey, RouteKind, Rule, TimeLimit, Timeouts,
};
use ambit_model::name::ServiceKey;
use ambit_wire::limits::{self, shortened};

use crate::index::World;

/// What the Gateway API tries again beside what is listed: whatever kept an attempt from having an answer.
const RETRIED: [RetryOn; 4] =
    [RetryOn::Reset, RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::AttemptTimeout];

/// How often is tried again where nobody said.
const ATTEMPTS: u32 = 2;

/// More often than this nothing is tried again.
const MOST: u32 = 100;

/// What became of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What waypoints are told; nothing, if it is attached to nothing of the mesh.
    pub route: Option<Route>,
    /// What it is attached to, of the mesh.
    pub parents: Vec<ReadParent>,
    /// What is not honoured.
    pub notes: Notes,
    /// No rule is left that does more than answer with an error.
    pub is_broken: bool,
}

/// A parent that is the mesh's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadParent {
    /// As it was written.
    pub written: ParentRef,
    /// Its services; nothing, if it is not there.
    pub services: Vec<ServiceKey>,
}

/// What is not honoured of a route, for its author.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// References that lead nowhere.
    pub unresolved: Vec<Unresolved>,
    /// What is not carried out, rule by rule.
    pub unsupported: Vec<String>,
}

/// A reference that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// Why, in a word of the Gateway API.
    pub reason: &'static str,
    /// Which.
    pub text: String,
}

/// What HTTP and gRPC rules have in common.
struct Common<'a> {
    name: &'a str,
    filters: &'a [Filter],
    backends: &'a [BackendRef],
    session: Option<&'a SessionPersistence>,
}

/// A route's own place, and what was found wrong so far.
struct Reader<'a> {
    world: &'a World,
    namespace: &'a str,
    notes: Notes,
    /// The rule that is read, for notes.
    rule: usize,
}

impl Reader<'_> {
    fn unsupported(&mut self, text: &str) -> Broken {
        let text = shortened(text, limits::ROUTE_TEXT);
        self.notes.unsupported.push(format!("rule {}: {text}", self.rule));
        Broken::because(text)
    }

    fn unresolved(&mut self, reason: &'static str, text: &str) -> Broken {
        let broken = Broken::because(shortened(text, limits::ROUTE_TEXT));
        self.notes.unresolved.push(Unresolved { reason, text: format!("rule {}: {text}", self.rule) });
        broken
    }
}

/// A route of HTTP requests.
#[must_use]
pub fn http(world: &World, object: &HttpRoute) -> Reading {
    let spec = &object.spec;
    let (meta, mut reader) = begin(world, &object.metadata);
    let mut rules = Vec::new();
    for (at, rule) in spec.rules.iter().enumerate() {
        reader.rule = at;
        let matches = reader.http_matches(&rule.matches);
        let common = Common {
            name: &rule.name,
            filters: &rule.filters,
            backends: &rule.backend_refs,
            session: rule.session_persistence.as_ref(),
        };
        let Some(mut read) = reader.rule(matches, &common) else { continue };
        read.timeouts = timeouts(&rule.timeouts);
        read.retry = rule.retry.as_ref().map(retry);
        rules.push(Arc::new(read));
    }
    reader.end(meta, RouteKind::Http, (&spec.parent_refs, rules))
}

/// A route of gRPC calls.
#[must_use]
pub fn grpc(world: &World, object: &GrpcRoute) -> Reading {
    let spec = &object.spec;
    let (meta, mut reader) = begin(world, &object.metadata);
    let mut rules = Vec::new();
    for (at, rule) in spec.rules.iter().enumerate() {
        reader.rule = at;
        let matches = reader.grpc_matches(&rule.matches);
        let common = Common {
            name: &rule.name,
            filters: &rule.filters,
            backends: &rule.backend_refs,
            session: rule.session_persistence.as_ref(),
        };
        rules.extend(reader.rule(matches, &common).map(Arc::new));
    }
    reader.end(meta, RouteKind::Grpc, (&spec.parent_refs, rules))
}

fn begin<'a>(world: &'a World, meta: &'a Meta) -> (&'a Meta, Reader<'a>) {
    (meta, Reader { world, namespace: &meta.namespace, notes: Notes::default(), rule: 0 })
}

impl Reader<'_> {
    /// A rule; none, if it is for no request that can be told from others.
    fn rule(&mut self, matches: (Vec<Match>, Option<Broken>), common: &Common<'_>) -> Option<Rule> {
        let (matches, broken) = matches;
        if matches.is_empty() && broken.is_some() {
            return None;
        }
        let session = self.session(common.session);
        let filters = self.filters(common.filters);
        let (session, unkept) = session.map_or_else(|why| (None, Some(why)), |it| (it, None));
        let filters = match broken.or(unkept) {
            Some(broken) => Err(broken),
            None => filters,
        };
        let backends = common.backends.iter().map(|it| self.backend(it)).collect();
        Some(Rule {
            name: common.name.into(),
            matches,
            filters,
            backends,
            timeouts: Timeouts::default(),
            retry: None,
            session,
        })
    }

    fn end(self, meta: &Meta, kind: RouteKind, (parents, rules): (&[ParentRef], Vec<Arc<Rule>>)) -> Reading {
        let parents: Vec<ReadParent> = parents.iter().filter_map(|it| self.parent(it)).collect();
        let is_broken = !self.notes.unsupported.is_empty() && rules.iter().all(|it| it.filters.is_err());
        let bound = parents.iter().flat_map(|it| {
            let port = it.written.port.map(|port| port.0);
            it.services.iter().map(move |service| Parent { service: service.clone(), port })
        });
        let bound: Vec<Parent> = bound.take(limits::ROUTE_PARENTS).collect();
        let route = made(meta, kind, (bound, rules));
        Reading { route, parents, notes: self.notes, is_broken }
    }

    /// A parent that is the mesh's: a service or a service entry.
    fn parent(&self, written: &ParentRef) -> Option<ReadParent> {
        let namespace = written.namespace.as_deref().unwrap_or(self.namespace);
        let space = self.world.space(namespace);
        let key = |host: &str| format!("{namespace}/{host}").parse().ok();
        let has = |port: u16, name: &str| {
            let is_named = written.section_name.as_deref().is_none_or(|it| it == name);
            is_named && written.port.is_none_or(|it| it.0 == port)
        };
        let services = match (written.group.as_str(), written.kind.as_str()) {
            ("" | "core", "Service") => {
                let service = space.and_then(|it| it.services.get(written.name.as_str()));
                let service = service.filter(|it| it.spec.ports.iter().any(|it| has(it.port.0, &it.name)));
                let host = service.map(|_| self.world.hostname(namespace, &written.name));
                host.and_then(|host| key(&host)).into_iter().collect()
            }
            ("networking.istio.io", "ServiceEntry") => {
                let entry = space.and_then(|it| it.entries.get(written.name.as_str()));
                let entry = entry.filter(|it| it.spec.ports.iter().any(|it| has(it.number.0, &it.name)));
                entry.iter().flat_map(|it| &it.spec.hosts).filter_map(|host| key(&host.0)).collect()
            }
            _ => return None,
        };
        Some(ReadParent { written: written.clone(), services })
    }
}

/// What waypoints are told of an object; nothing, if it is attached to nothing.
fn made(meta: &Meta, kind: RouteKind, (parents, rules): (Vec<Parent>, Vec<Arc<Rule>>)) -> Option<Route> {
    if parents.is_empty() {
        return None;
    }
    let key = RouteKey { kind, namespace: meta.namespace.parse().ok()?, name: meta.name.parse().ok()? };
    let created = meta.creation_timestamp.map(|it| it.as_second().try_into().unwrap_or_default());
    Some(Route { key, created_s: created.unwrap_or(u64::MAX), parents, rules })
}

fn timeouts(it: &TimeoutsObject) -> Timeouts {
    Timeouts { request: limit(it.request.as_deref()), backend_request: limit(it.backend_request.as_deref()) }
}

fn limit(text: Option<&str>) -> TimeLimit {
    // One that does not read never comes this far.
    text.and_then(duration).map_or(TimeLimit::Unset, TimeLimit::from)
}

fn retry(it: &RetryObject) -> Retry {
    let backoff: Option<Duration> = it.backoff.as_deref().and_then(duration);
    Retry {
        attempts: it.attempts.unwrap_or(ATTEMPTS).min(MOST),
        codes: it.codes.clone(),
        on: RETRIED.to_vec(),
        backoff,
        ..Retry::unasked()
    }
}

/// Filters that change nothing.
fn none() -> Filters {
    Filters::default()
}

#[cfg(test)]
mod tests;
