//! Where a request goes (`waypoint.md` 2.1, 2.14): by the routes of the service it asked for, or on to that service.
//! Owns asking, in one world; every decision is the model's.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use ambit_model::balance::Pick;
use ambit_model::http_path::{Normalization, RequestTarget};
use ambit_model::http_route::{
    Around, Backend, Broken, Choice, Cors, Fault, Filters, Found, HeaderEdits, Redirected, Retry, Rewrite,
    RouteKind, Rule, RuleName, Scheme, Timeouts, Upstream,
};
use ambit_model::name::{Label, WorkloadUid};
use ambit_model::provider::{Authorizer, QueryChanges};
use ambit_model::request_policy::Token;
use ambit_model::route::Bound;
use ambit_model::service::{AppProtocol, Service};
use ambit_model::snapshot::Snapshot;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, ORIGIN};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};

use super::filled::Told;
use super::identify::{Asked, scheme_of};
use crate::refused::Refused;
use crate::session::Stay;
use crate::stream::Inbound;
use crate::upstream::Met;

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
    /// Who gets copies.
    pub(crate) mirrors: Vec<Bound>,
    /// What copies are sent as, before a backend changes it for itself.
    pub(crate) copied: (PathAndQuery, Option<Authority>),
    /// The page that asks.
    origin: Option<HeaderValue>,
    rule: Option<Chosen>,
    /// Its session, if its rule keeps any.
    stay: Option<Box<Stay>>,
    /// What is put into headers, where its rule or its backend wants that.
    told: Option<Box<Told>>,
}

/// The rule of a request, and which of its backends.
struct Chosen {
    rule: Arc<Rule>,
    /// What is changed for this backend alone.
    own: Option<Filters>,
}

impl Route {
    /// To where it was asked for, as it is.
    fn plain(to: Bound, target: PathAndQuery) -> Self {
        let copied = (target.clone(), None);
        let (authority, original, name, origin) = (None, None, Label::default(), None);
        Self {
            to,
            target,
            authority,
            original,
            name,
            mirrors: Vec::new(),
            copied,
            origin,
            rule: None,
            stay: None,
            told: None,
        }
    }

    /// The endpoint that its session stays with.
    pub(crate) fn stays_with(&self) -> Option<WorkloadUid> {
        self.stay.as_ref()?.with().cloned()
    }

    /// Tells the client which endpoint its session is to stay with.
    pub(crate) fn tell_session(&self, met: &Met, headers: &mut HeaderMap) {
        let session = self.rule.as_ref().and_then(|chosen| chosen.rule.session.as_ref());
        if let (Some(stay), Some(session)) = (&self.stay, session) {
            stay.tell(session, met, headers);
        }
    }

    /// Who is asked whether it may go on.
    pub(crate) fn asks(&self) -> Option<Arc<Authorizer>> {
        self.rule.as_ref()?.rule.filters.as_ref().ok()?.ask.clone()
    }

    /// Changes the query, as whoever was asked has said.
    pub(crate) fn change_query(&mut self, changes: &QueryChanges) {
        if !changes.is_empty() {
            let changed = |target: &PathAndQuery| {
                put_together(target.path(), changes.apply(target.query()).as_deref()).ok()
            };
            self.target = changed(&self.target).unwrap_or_else(|| self.target.clone());
            self.copied.0 = changed(&self.copied.0).unwrap_or_else(|| self.copied.0.clone());
        }
    }

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
        protocol_of(&self.to)
    }

    /// Changes the request's headers as the rule says; copies are taken of that.
    pub(crate) fn edit_request(&self, headers: &mut HeaderMap) {
        if let Some(filters) = self.rule.as_ref().and_then(|chosen| chosen.rule.filters.as_ref().ok()) {
            filled(&filters.request_headers, self.told.as_deref()).apply(headers);
        }
    }

    /// Changes them as the backend says.
    pub(crate) fn edit_request_of_backend(&self, headers: &mut HeaderMap) {
        if let Some(filters) = self.rule.as_ref().and_then(|chosen| chosen.own.as_ref()) {
            filled(&filters.request_headers, self.told.as_deref()).apply(headers);
        }
    }

    /// Changes the answer's headers: as the backend says, then as the rule does.
    pub(crate) fn edit_answer(&self, (status, met): (StatusCode, &Met), headers: &mut HeaderMap) {
        let told = self.told.as_ref().map(|told| told.answered(status, met, headers));
        for filters in self.rule.iter().flat_map(|chosen| chosen.filters().rev()) {
            filled(&filters.response_headers, told.as_ref()).apply(headers);
        }
        if let Some(cors) = self.rule.as_ref().and_then(|chosen| cors(&chosen.rule)) {
            cors.mark(self.origin.as_ref(), headers);
        }
    }
}

/// The changes of headers, with what is known of a request put in.
fn filled<'a>(edits: &'a HeaderEdits, told: Option<&Told>) -> Cow<'a, HeaderEdits> {
    told.map_or(Cow::Borrowed(edits), |told| edits.filled(told))
}

/// What is spoken at a port.
pub(crate) fn protocol_of(to: &Bound) -> AppProtocol {
    match to {
        Bound::Service { service, port, .. } => {
            service.ports.get(port).map_or(AppProtocol::Unknown, |port| port.protocol)
        }
        Bound::Workload { .. } => AppProtocol::Unknown,
    }
}

impl Chosen {
    fn filters(&self) -> impl DoubleEndedIterator<Item = &Filters> {
        self.rule.filters.iter().chain(&self.own)
    }
}

/// A request's path and query, in the one form that policies, routes and endpoints are shown.
pub(crate) fn target(parts: &Parts) -> Result<RequestTarget<'_>, Refused> {
    let whole = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Ok(RequestTarget::read(whole, Normalization::default())?)
}

/// A request, as routes see it.
pub(crate) struct Seen<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) asked: &'a Asked,
    pub(crate) target: &'a RequestTarget<'a>,
    /// A token of it that is believed.
    pub(crate) token: Option<&'a Token>,
}

impl Seen<'_> {
    /// The target in its one form, as it goes on where no route says otherwise: mostly it came so.
    fn onward(&self) -> Result<PathAndQuery, Refused> {
        let (path, query) = (self.target.path.as_str(), self.target.query);
        let came = self.parts.uri.path_and_query();
        match came.filter(|came| came.path() == path && came.query() == query) {
            Some(came) => Ok(came.clone()),
            None => put_together(path, query),
        }
    }
}

/// What routes say of a request.
pub(crate) struct Routed {
    /// Where it goes, or what it is answered.
    pub(crate) route: Result<Route, Refused>,
    /// The rule that says so; none: it goes on as it was asked for, or is of no rule.
    pub(crate) by: Option<By>,
    /// What is put in its way first.
    pub(crate) fault: Option<Fault>,
}

/// What a route says of pages of other origins, for answers of our own.
pub(crate) struct Pages {
    rule: Arc<Rule>,
    origin: Option<HeaderValue>,
}

impl Pages {
    /// Says it in an answer.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if let Some(cors) = cors(&self.rule) {
            cors.mark(self.origin.as_ref(), headers);
        }
    }
}

fn cors(rule: &Rule) -> Option<&Cors> {
    rule.filters.as_ref().ok()?.cors.as_deref()
}

impl Routed {
    /// What is said of pages, where anything is; what browsers ask beforehand has its answer already.
    pub(crate) fn pages(&self, headers: &HeaderMap) -> Option<Pages> {
        let rule = &self.by.as_ref()?.rule;
        let is_asked = matches!(self.route, Err(Refused::Preflight { .. }));
        cors(rule).filter(|_| !is_asked)?;
        Some(Pages { rule: Arc::clone(rule), origin: headers.get(ORIGIN).cloned() })
    }
}

impl From<Result<Route, Refused>> for Routed {
    fn from(route: Result<Route, Refused>) -> Self {
        Self { route, by: None, fault: None }
    }
}

/// The rule that a request is of.
#[derive(Debug, Clone)]
pub(crate) struct By {
    route: Arc<ambit_model::http_route::Route>,
    rule: Arc<Rule>,
}

impl By {
    fn of(found: &Found<'_>) -> Self {
        Self { route: Arc::clone(found.route), rule: Arc::clone(found.rule) }
    }

    pub(crate) fn name(&self) -> RuleName<'_> {
        RuleName { route: &self.route.key, rule: self.rule.name.as_str() }
    }
}

/// What is attached to the rule that a request is of now, the last one of these, and was not to those before: what has
/// had its say about a request does not have it twice.
pub(crate) fn only_last<'w, T>(
    rules: &[Option<By>],
    all: impl Fn(Option<RuleName<'_>>) -> Vec<&'w Arc<T>>,
) -> Vec<&'w Arc<T>> {
    let Some((now, before)) = rules.split_last() else { return Vec::new() };
    let mut found = all(now.as_ref().map(By::name));
    for rule in before {
        let had = all(rule.as_ref().map(By::name));
        found.retain(|one| !had.iter().any(|it| Arc::ptr_eq(it, one)));
    }
    found
}

/// Finds it.
pub(crate) fn route(inbound: &Inbound, seen: &Seen<'_>, pick: &mut impl Pick) -> Routed {
    let Seen { parts, target, .. } = *seen;
    let onward = |to| Routed::from(seen.onward().map(|target| Route::plain(to, target)));
    let Bound::Service { service, port, .. } = &inbound.bound else { return onward(inbound.bound.clone()) };
    let world = inbound.lane.shared.world.load();
    let Some(table) = inbound.table_in(&world) else {
        // As it is now: the stream may be older than its endpoints' ports.
        let service = world.service(&service.key()).unwrap_or(service);
        return onward(Bound::Service { service: Arc::clone(service), port: *port, subset: None });
    };
    let request = ambit_model::http_route::Asked {
        path: &target.path,
        query: target.query,
        method: &parts.method,
        headers: &parts.headers,
        around: Around { source: inbound.source_in(&world, table), ..around(inbound, seen, *port) },
    };
    match table.choose(&request) {
        Choice::NoRoutes => onward(inbound.bound.clone()),
        Choice::NoMatch(_) => Err(Refused::NoRoute).into(),
        Choice::Found(found) => {
            let from = Follower { inbound, world: &world, service, port: *port, seen };
            let filters = found.rule.filters.as_ref().ok();
            let fault = filters.and_then(|filters| filters.fault.as_deref().copied());
            Routed { route: from.follow(&found, pick), by: Some(By::of(&found)), fault }
        }
    }
}

/// What is known of a request beside its head.
fn around<'a>(inbound: &'a Inbound, seen: &Seen<'a>, port: u16) -> Around<'a> {
    let (scheme, authority, from) = (scheme_of(&seen.parts.uri), seen.asked.host(), inbound.namespace());
    Around { scheme, authority, port, from, source: None, token: seen.token }
}

/// What a rule is followed from.
struct Follower<'a> {
    inbound: &'a Inbound,
    world: &'a Snapshot,
    service: &'a Arc<Service>,
    port: u16,
    seen: &'a Seen<'a>,
}

impl Follower<'_> {
    fn follow(&self, found: &Found<'_>, pick: &mut impl Pick) -> Result<Route, Refused> {
        let filters = found.rule.filters.as_ref().map_err(broken)?;
        let preflight = filters.cors.as_ref();
        let preflight =
            preflight.and_then(|cors| cors.preflight(&self.seen.parts.method, &self.seen.parts.headers));
        if let Some(mut headers) = preflight {
            self.edits_of_answer(filters, found).apply(&mut headers);
            return Err(Refused::Preflight { headers });
        }
        if let Some(answer) = &filters.direct {
            let headers = self.edits_of_answer(filters, found);
            return Err(Refused::Direct { answer: answer.clone(), headers });
        }
        if let Some(redirect) = &filters.redirect {
            let status = redirect.status.code();
            let location = self.location(found, filters)?;
            let headers = self.edits_of_answer(filters, found);
            return Err(Refused::Elsewhere { status, location, headers });
        }
        let (stay, backend) = self.backend(found, pick)?;
        let to = self.upstream(backend, found)?;
        let own = for_backend(backend.filters.as_ref().map_err(broken)?)?;
        let target = self.seen.onward()?;
        let mut route = Route {
            name: found.route.key.to_string().into(),
            mirrors: self.mirrors(filters, pick),
            origin: self.seen.parts.headers.get(ORIGIN).cloned(),
            rule: Some(Chosen { rule: Arc::clone(found.rule), own: None }),
            stay: stay.map(Box::new),
            told: self.told([filters, own], found).map(Box::new),
            ..Route::plain(to, target)
        };
        if let Some(rewrite) = &filters.rewrite {
            self.rewrite(&mut route, rewrite, found)?;
        }
        route.copied = (route.target.clone(), route.authority.clone());
        if let Some(rewrite) = &own.rewrite {
            self.rewrite(&mut route, rewrite, found)?;
        }
        if *own != Filters::default()
            && let Some(chosen) = &mut route.rule
        {
            chosen.own = Some(own.clone());
        }
        Ok(route)
    }

    /// What is put into headers, where any of these wants that.
    fn told<'f>(&self, of: impl IntoIterator<Item = &'f Filters>, found: &Found<'_>) -> Option<Told> {
        let edits = of.into_iter().flat_map(|it| [&it.request_headers, &it.response_headers]);
        let all: Vec<_> = edits.flat_map(HeaderEdits::fillings).collect();
        let name = || found.route.key.to_string();
        (!all.is_empty()).then(|| Told::new(self.inbound, (self.seen.parts, self.seen.asked), name(), &all))
    }

    /// Changes of the headers of an answer of our own.
    fn edits_of_answer(&self, filters: &Filters, found: &Found<'_>) -> HeaderEdits {
        filled(&filters.response_headers, self.told([filters], found).as_ref()).into_owned()
    }

    /// The backend that a session stays with, or else one by weight.
    fn backend<'f>(
        &self,
        found: &Found<'f>,
        pick: &mut impl Pick,
    ) -> Result<(Option<Stay>, &'f Backend), Refused> {
        let parts = self.seen.parts;
        let is_https = scheme_of(&parts.uri) == "https";
        let (stay, at) =
            Stay::find((&self.inbound.lane, self.world), found, (&parts.headers, is_https)).unzip();
        let kept = at.flatten().and_then(|at| found.rule.backends.get(at));
        let by_weight = || found.rule.backend(pick).map_err(|none| Refused::Broken(none.to_string()));
        Ok((stay, kept.map_or_else(by_weight, Ok)?))
    }

    /// The service that a backend means.
    fn upstream(&self, backend: &Backend, found: &Found<'_>) -> Result<Bound, Refused> {
        let unknown = |why| match found.key().kind {
            RouteKind::VirtualService => Refused::Nowhere(why),
            RouteKind::Grpc | RouteKind::Http | RouteKind::Tls | RouteKind::Tcp => Refused::Broken(why),
        };
        let to = backend.to.as_ref().map_err(|why| unknown(why.to_string()))?;
        known(self.world, to).ok_or_else(|| unknown(format!("the backend {to} is not known")))
    }

    /// Who gets copies of this very request. What is broken gets none, and the request goes on.
    fn mirrors(&self, filters: &Filters, pick: &mut impl Pick) -> Vec<Bound> {
        let mut taken = Vec::new();
        for mirror in &filters.mirrors {
            let known = mirror.to.as_ref().ok().and_then(|to| known(self.world, to));
            taken.extend(known.filter(|_| mirror.share.takes(pick)));
        }
        taken
    }

    fn location(&self, found: &Found<'_>, filters: &Filters) -> Result<String, Refused> {
        let Seen { asked, target, .. } = *self.seen;
        let host = asked.authority.as_ref().map_or(self.service.hostname.as_str(), Authority::as_str);
        let asked = Redirected { scheme: Scheme::Http, host, port: self.port, target };
        let location = filters.redirect.as_ref().and_then(|redirect| redirect.location(&asked, found));
        location.ok_or_else(|| Refused::Broken("the redirect replaces a prefix where none matched".into()))
    }

    fn rewrite(&self, route: &mut Route, rewrite: &Rewrite, found: &Found<'_>) -> Result<(), Refused> {
        if let Some(change) = &rewrite.path {
            let target = self.seen.target;
            let path = change.apply(target.path.as_str(), found);
            let path = path
                .ok_or_else(|| Refused::Broken("the rewrite replaces a prefix where none matched".into()))?;
            route.original = Some(target.path.as_str().to_owned());
            route.target = put_together(&path, target.query)?;
        }
        if let Some(host) = &rewrite.hostname {
            let with_port = rewrite.port.map(|port| format!("{host}:{port}"));
            let authority = with_port.as_deref().unwrap_or(host.as_str()).parse();
            route.authority = Some(authority.map_err(|_| Refused::Broken(format!("{host} is no host")))?);
        }
        Ok(())
    }
}

/// A service's port. Its own routes are not asked again.
pub(crate) fn known(world: &Snapshot, to: &Upstream) -> Option<Bound> {
    let service = world.service(&to.service).filter(|service| service.ports.contains_key(&to.port))?;
    Some(Bound::Service { service: Arc::clone(service), port: to.port, subset: to.subset.clone() })
}

/// What one backend alone can change: more, and its requests are not sent on.
fn for_backend(filters: &Filters) -> Result<&Filters, Refused> {
    let of_rules = filters.redirect.is_some()
        || filters.direct.is_some()
        || filters.fault.is_some()
        || filters.ask.is_some();
    if of_rules || filters.cors.is_some() || !filters.mirrors.is_empty() {
        return Err(Refused::Broken("a backend has a filter that only a rule may have".into()));
    }
    Ok(filters)
}

fn broken(why: &Broken) -> Refused {
    Refused::Broken(why.to_string())
}

/// A target of this path and this query.
pub(super) fn put_together(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refused> {
    let whole = query.map(|query| format!("{path}?{query}"));
    let target = whole.map_or_else(|| path.parse(), PathAndQuery::try_from);
    target.map_err(|_| Refused::Bad("the target holds what no target may"))
}
