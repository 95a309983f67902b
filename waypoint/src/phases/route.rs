//! Where a request goes (`waypoint.md` 2.1, 2.14): by the routes of the service it asked for, or on to that service.
//! Owns asking, in one world; every decision is the model's.

use std::sync::{Arc, LazyLock};

use ambit_model::balance::Pick;
use ambit_model::http_path::{Normalization, RequestTarget};
use ambit_model::http_route::{
    Backend, Broken, Choice, Filters, Found, Redirected, Retry, Rewrite, Rule, Scheme, Timeouts,
};
use ambit_model::name::Label;
use ambit_model::route::Bound;
use ambit_model::service::{AppProtocol, Service};
use ambit_model::snapshot::Snapshot;
use http::header::HeaderMap;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};

use super::identify::Asked;
use crate::refused::Refused;
use crate::stream::Inbound;

static UNASKED: LazyLock<Retry> = LazyLock::new(Retry::unasked);

/// Where a request goes, and as what.
pub(crate) struct Route {
    /// To whom.
    pub(crate) to: Bound,
    /// Its path, in the form that was decided by or as a route rewrites it, and its query as it came.
    pub(crate) target: PathAndQuery,
    /// Another authority, if a route says so.
    pub(crate) authority: Option<Authority>,
    /// The path that was rewritten.
    pub(crate) original: Option<String>,
    /// The route's name; empty without one.
    pub(crate) name: Label,
    rule: Option<Chosen>,
}

/// The rule of a request, and which of its backends.
struct Chosen {
    rule: Arc<Rule>,
    /// What is changed for this backend alone.
    own: Option<Filters>,
}

impl Route {
    /// When it is tried again.
    pub(crate) fn retry(&self) -> &Retry {
        self.rule.as_ref().and_then(|chosen| chosen.rule.retry.as_ref()).unwrap_or(&UNASKED)
    }

    /// How long it may take.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.rule.as_ref().map(|chosen| chosen.rule.timeouts).unwrap_or_default()
    }

    /// What is spoken at the port it goes to.
    pub(crate) fn protocol(&self) -> AppProtocol {
        match &self.to {
            Bound::Service { service, port } => {
                service.ports.get(port).map_or(AppProtocol::Unknown, |port| port.protocol)
            }
            Bound::Workload { .. } => AppProtocol::Unknown,
        }
    }

    /// Changes the request's headers: as the rule says, then as its backend does.
    pub(crate) fn edit_request(&self, headers: &mut HeaderMap) {
        for filters in self.rule.iter().flat_map(Chosen::filters) {
            filters.request_headers.apply(headers);
        }
    }

    /// Changes the answer's headers: as the backend says, then as the rule does.
    pub(crate) fn edit_answer(&self, headers: &mut HeaderMap) {
        for filters in self.rule.iter().flat_map(|chosen| chosen.filters().rev()) {
            filters.response_headers.apply(headers);
        }
    }
}

impl Chosen {
    fn filters(&self) -> impl DoubleEndedIterator<Item = &Filters> {
        self.rule.filters.iter().chain(&self.own)
    }
}

/// Finds it.
pub(crate) fn route(
    inbound: &Inbound,
    parts: &Parts,
    asked: &Asked,
    pick: &mut impl Pick,
) -> Result<Route, Refused> {
    let whole = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let target = RequestTarget::read(whole, Normalization::default())?;
    let onward = |to| -> Result<Route, Refused> {
        let target = put_together(target.path.as_str(), target.query)?;
        let (authority, original, name) = (None, None, Label::default());
        Ok(Route { to, target, authority, original, name, rule: None })
    };
    let Bound::Service { service, port } = &inbound.bound else { return onward(inbound.bound.clone()) };
    let world = inbound.lane.shared.world.load();
    let tables = world.tables_of(&service.key());
    let Some(table) = tables.and_then(|tables| tables.table(*port, Some(&inbound.caller.peer.namespace)))
    else {
        // As it is now: the stream may be older than its endpoints' ports.
        let service = world.service(&service.key()).unwrap_or(service);
        return onward(Bound::Service { service: Arc::clone(service), port: *port });
    };
    let request = ambit_model::http_route::Asked {
        path: &target.path,
        query: target.query,
        method: &parts.method,
        headers: &parts.headers,
    };
    match table.choose(&request) {
        Choice::NoRoutes => onward(inbound.bound.clone()),
        Choice::NoMatch(_) => Err(Refused::NoRoute),
        Choice::Found(found) => {
            let from = From { world: &world, service, port: *port, target: &target, asked };
            from.follow(&found, pick)
        }
    }
}

/// What a rule is followed from.
struct From<'a> {
    world: &'a Snapshot,
    service: &'a Arc<Service>,
    port: u16,
    target: &'a RequestTarget<'a>,
    asked: &'a Asked,
}

impl From<'_> {
    fn follow(&self, found: &Found<'_>, pick: &mut impl Pick) -> Result<Route, Refused> {
        let filters = honoured(&found.rule.filters)?;
        if let Some(redirect) = &filters.redirect {
            let status = redirect.status.code();
            let location = self.location(found, filters)?;
            return Err(Refused::Elsewhere { status, location, headers: filters.response_headers.clone() });
        }
        let backend = found.rule.backend(pick).map_err(|none| Refused::Broken(none.to_string()))?;
        let to = self.upstream(backend)?;
        let own = honoured(&backend.filters)?;
        let mut route = Route {
            to,
            target: put_together(self.target.path.as_str(), self.target.query)?,
            authority: None,
            original: None,
            name: found.route.key.to_string().into(),
            rule: Some(Chosen { rule: Arc::clone(found.rule), own: None }),
        };
        for rewrite in [&filters.rewrite, &own.rewrite].into_iter().flatten() {
            self.rewrite(&mut route, rewrite, found)?;
        }
        if *own != Filters::default()
            && let Some(chosen) = &mut route.rule
        {
            chosen.own = Some(own.clone());
        }
        Ok(route)
    }

    /// The service that a backend means. Its own routes are not asked again.
    fn upstream(&self, backend: &Backend) -> Result<Bound, Refused> {
        let to = backend.to.as_ref().map_err(broken)?;
        let service = self.world.service(&to.service);
        match service.filter(|service| service.ports.contains_key(&to.port)) {
            Some(service) => Ok(Bound::Service { service: Arc::clone(service), port: to.port }),
            None => Err(Refused::Broken(format!("the backend {to} is not known"))),
        }
    }

    fn location(&self, found: &Found<'_>, filters: &Filters) -> Result<String, Refused> {
        let host = self.asked.authority.as_ref().map_or(self.service.hostname.as_str(), Authority::as_str);
        let asked = Redirected { scheme: Scheme::Http, host, port: self.port, target: self.target };
        let location = filters.redirect.as_ref().and_then(|redirect| redirect.location(&asked, found));
        location.ok_or_else(|| Refused::Broken("the redirect replaces a prefix where none matched".into()))
    }

    fn rewrite(&self, route: &mut Route, rewrite: &Rewrite, found: &Found<'_>) -> Result<(), Refused> {
        if let Some(change) = &rewrite.path {
            let path = change.apply(self.target.path.as_str(), found);
            let path = path
                .ok_or_else(|| Refused::Broken("the rewrite replaces a prefix where none matched".into()))?;
            route.original = Some(self.target.path.as_str().to_owned());
            route.target = put_together(&path, self.target.query)?;
        }
        if let Some(host) = &rewrite.hostname {
            let authority = host.as_str().parse();
            route.authority = Some(authority.map_err(|_| Refused::Broken(format!("{host} is no host")))?);
        }
        Ok(())
    }
}

/// What can be done of what is demanded: all of it, or the request is not sent on.
fn honoured(filters: &Result<Filters, Broken>) -> Result<&Filters, Refused> {
    let filters = filters.as_ref().map_err(broken)?;
    if filters.cors.is_some() || !filters.mirrors.is_empty() {
        return Err(Refused::Broken("CORS and mirrors are not in force in this version".into()));
    }
    Ok(filters)
}

fn broken(why: &Broken) -> Refused {
    Refused::Broken(why.to_string())
}

fn put_together(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refused> {
    let whole = query.map(|query| format!("{path}?{query}"));
    let target = whole.map_or_else(|| path.parse(), PathAndQuery::try_from);
    target.map_err(|_| Refused::Bad("the target holds what no target may"))
}
