//! What becomes of a request at a waypoint, by what that knows: the waypoint's own decisions (`model::http_route`,
//! `model::request_policy`), made here again in the order of its phases. Owns that order and what is told of each; the
//! words are `words`'. Tokens are not checked: there is none to check; limits and processors are named (`others`), not asked.

mod others;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_model::address::{Authority, ClientAddr};
use ambit_model::http_path::{Normalization, RequestTarget};
use ambit_model::http_route::{Around, Asked, Choice, Found, Redirected, Route, Rule, Scheme, Table};
use ambit_model::name::Identity;
use ambit_model::request_policy::{
    Facts, Http, RequestAction, RequestPolicy, Verdict, asks, judge, matched, remote,
};
use ambit_model::route::{Bound, Waypoint, bound};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Health, Workload};
use ambit_wire::local;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde_json::Value;

use super::told::{Told, ToldError};
use super::{Explanation, Path, find};
use crate::pod::Url;
pub(crate) use others::{LimitTold, ProcessorTold};

/// Rules that are told of although a request is not of them.
const PASSED_OVER_TOLD: usize = 5;

/// A request that is asked about.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

/// What is asked about is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRequest {
    /// Not a method.
    #[error("{0:?} is no method; give for example GET")]
    Method(String),
    /// Not a URL that we know.
    #[error("{0:?} is not of the form http://host[:port][/path]")]
    Url(String),
    /// Not a header.
    #[error("{0:?} is no header; give NAME: VALUE")]
    Header(String),
}

/// What would happen to a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestExplanation {
    /// For people: `GET http://cart/`.
    pub(crate) request: String,
    /// The connection that carries it.
    pub(crate) connection: Explanation,
    /// What a waypoint says; none where none is asked.
    pub(crate) waypoint: Option<AtWaypoint>,
}

/// What a waypoint says of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AtWaypoint {
    /// What it is asked for there: a service's port, or a workload.
    pub(crate) target: String,
    /// The path by which everything is decided.
    pub(crate) path: String,
    /// Whose tokens are believed.
    pub(crate) issuers: Vec<String>,
    /// The rule that it is of.
    pub(crate) rule: Option<RuleTold>,
    /// Rules before that, and why it is of none of them; of many the first.
    pub(crate) passed_over: Vec<String>,
    /// How many more there are.
    pub(crate) passed_over_more: usize,
    /// What each policy says.
    pub(crate) policies: Vec<PolicyTold>,
    /// Limits that count it.
    pub(crate) limits: Vec<LimitTold>,
    /// Processors that it goes by.
    pub(crate) processors: Vec<ProcessorTold>,
    /// What becomes of it, if those let it pass as it is.
    pub(crate) end: End,
}

/// A rule that a request is of.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleTold {
    /// `<kind>/<namespace>/<name>`.
    pub(crate) route: String,
    /// Which of its rules, from 0.
    pub(crate) index: usize,
    /// The rule, as dumps show it.
    pub(crate) rule: Value,
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyTold {
    /// `<namespace>/<name>`.
    pub(crate) name: String,
    /// What its rules do.
    pub(crate) action: &'static str,
    /// Its first rule that matches, from 0.
    pub(crate) rule: Option<usize>,
    /// It is only tried out.
    pub(crate) dry_run: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(crate) enum End {
    /// One of these gets it.
    #[serde(rename_all = "camelCase")]
    Sent {
        /// Each with its share.
        shares: Vec<Share>,
        /// Why it may.
        verdict: String,
    },
    /// Somebody else is asked first.
    Asked {
        /// Who.
        provider: String,
    },
    /// The waypoint answers itself.
    Answered {
        /// The status code.
        status: u16,
        /// Why.
        why: String,
    },
}

/// A backend's share of requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Share {
    /// `<namespace>/<host>:<port>`, or a workload.
    pub(crate) to: String,
    /// Of a hundred.
    pub(crate) percent: f64,
    /// Why it is answered with an error instead.
    pub(crate) broken: Option<String>,
    /// Endpoints that are well, and all.
    pub(crate) endpoints: (usize, usize),
}

impl Wanted {
    /// What a person asks about.
    pub(crate) fn read(method: &str, url: &str, headers: &[String]) -> Result<Self, NoRequest> {
        let no_method = |_| NoRequest::Method(method.into());
        let read = Self {
            method: method.to_ascii_uppercase().parse().map_err(no_method)?,
            url: url.parse().map_err(|_| NoRequest::Url(url.into()))?,
            headers: headers.iter().map(|it| header(it)).collect::<Result<_, _>>()?,
        };
        if url.starts_with("https:") { Err(NoRequest::Url(url.into())) } else { Ok(read) }
    }

    /// Host and port, as a client dials them.
    pub(crate) fn dialled(&self) -> String {
        self.url.authority()
    }

    /// The host as it is sent.
    fn host(&self) -> String {
        let given = self.headers.get(HOST).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let plain = || self.url.authority().trim_end_matches(":80").to_owned();
        given.unwrap_or_else(plain)
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), NoRequest> {
    let wrong = || NoRequest::Header(text.into());
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    Ok((name.trim().parse().map_err(|_| wrong())?, value.trim().parse().map_err(|_| wrong())?))
}

/// The pod of the waypoint that a connection goes to: `<namespace>/<name>`.
pub(crate) fn waypoint_of(connection: &Explanation) -> Option<&str> {
    match &connection.path {
        Path::Waypoint(leg) => Some(&leg.to.name),
        Path::Tunnel(_) | Path::Gateway(_) | Path::Plaintext { .. } | Path::Refused { .. } => None,
    }
}

/// Explains a request, of which the connection is known, by what the waypoint told that it goes to.
pub(crate) fn explain_request(
    wanted: &Wanted,
    connection: Explanation,
    told: Option<&Told>,
) -> Result<RequestExplanation, ToldError> {
    let waypoint = match (&connection.path, told) {
        (Path::Waypoint(leg), Some(told)) => {
            let (world, waypoint) = told.read(&leg.to.name)?;
            let source = find::source(&world, &connection.source.name)?;
            let asked: Option<Authority> = leg.authority.parse().ok();
            let dialled: Option<SocketAddr> = connection.dialled.parse().ok();
            match (asked, dialled) {
                (Some(asked), Some(dialled)) => {
                    let eye = Eye { world: &world, waypoint: &waypoint, source: &source, wanted, dialled };
                    Some(eye.look(&asked))
                }
                _ => None,
            }
        }
        _ => None,
    };
    let request = format!("{} http://{}{}", wanted.method, wanted.host(), wanted.url.path);
    Ok(RequestExplanation { request, connection, waypoint })
}

/// A waypoint that looks at a request.
struct Eye<'a> {
    world: &'a Snapshot,
    waypoint: &'a Waypoint,
    source: &'a Workload,
    wanted: &'a Wanted,
    dialled: SocketAddr,
}

/// What was found out so far.
struct Routed<'a> {
    table: Option<&'a Arc<Table>>,
    found: Option<Found<'a>>,
}

impl Eye<'_> {
    fn look(&self, asked: &Authority) -> AtWaypoint {
        let mut seen = AtWaypoint {
            target: asked.to_string(),
            path: self.wanted.url.path.clone(),
            issuers: Vec::new(),
            rule: None,
            passed_over: Vec::new(),
            passed_over_more: 0,
            policies: Vec::new(),
            limits: Vec::new(),
            processors: Vec::new(),
            end: answered(404, "it goes through another waypoint, or through none"),
        };
        let bound = match bound(self.world, self.waypoint, asked, &self.source.namespace) {
            Ok(bound) => bound,
            Err(not) => {
                seen.end = answered(404, &not.to_string());
                return seen;
            }
        };
        seen.target = match &bound {
            Bound::Service { service, port, .. } => format!("service {}, port {port}", service.key()),
            Bound::Workload { workload, target } => format!("workload {}, {target}", workload.uid),
        };
        match RequestTarget::read(&self.wanted.url.path, Normalization::default()) {
            Ok(target) => self.decide(&mut seen, &bound, &target),
            Err(bad) => seen.end = answered(400, &bad.to_string()),
        }
        seen
    }

    /// In the order of the waypoint's phases: routes are looked up, policies judge, then the route is followed.
    fn decide(&self, seen: &mut AtWaypoint, bound: &Bound, target: &RequestTarget<'_>) {
        seen.path = target.path.as_str().to_owned();
        let targets = self.waypoint.targets(bound);
        let believed = self.world.authentications_of(&targets);
        seen.issuers =
            believed.iter().flat_map(|it| it.rules.iter().map(|rule| rule.issuer.to_string())).collect();
        let host = self.wanted.host();
        let port = match bound {
            Bound::Service { port, .. } => *port,
            Bound::Workload { target, .. } => target.port(),
        };
        let from = Some(&self.source.namespace);
        let around = Around { scheme: "http", authority: &host, port, from, source: None, token: None };
        let Wanted { method, headers, .. } = self.wanted;
        let asked = Asked { path: &target.path, query: target.query, method, headers, around };
        let routed = self.route(bound, &asked);
        if let Some(table) = routed.table {
            let all: Vec<_> = table.passed_over(&asked).collect();
            seen.passed_over_more = all.len().saturating_sub(PASSED_OVER_TOLD);
            let told = |(found, miss): &(Found<'_>, _)| {
                format!("{} rule {}: {miss}", found.key(), index(found.route, found.rule))
            };
            seen.passed_over = all.iter().take(PASSED_OVER_TOLD).map(told).collect();
        }
        seen.rule = routed.found.as_ref().map(told);
        let policies = self.world.request_policies_of(&targets);
        if let Some(found) = &routed.found
            && let Ok(filters) = &found.rule.filters
            && let Some(cors) = &filters.cors
            && cors.preflight(&self.wanted.method, &self.wanted.headers).is_some()
        {
            seen.end = answered(200, "a browser asks what pages may do, and its rule says so, whoever asks");
            return;
        }
        let peer = self.source.identity();
        let facts = self.facts((&peer, &host), target);
        seen.policies = policies.iter().map(|it| policy(it, &facts)).collect();
        let verdict = self.judge(&policies, &facts);
        // Who may not ask is counted by nobody, and goes by nobody.
        if !matches!(verdict, Err(End::Answered { .. })) {
            let whose = (targets.as_slice(), routed.found.as_ref().map(Found::name));
            seen.limits = others::limits(self.world, whose, &facts);
            seen.processors = others::processors(self.world, whose, &facts);
        }
        seen.end = match verdict {
            Err(end) => end,
            Ok(verdict) => self.follow(bound, &routed, (target, &host), verdict),
        };
    }

    fn route<'a>(&'a self, bound: &Bound, asked: &Asked<'_>) -> Routed<'a> {
        let Bound::Service { service, port, .. } = bound else { return Routed { table: None, found: None } };
        let tables = self.world.tables_of(&service.key());
        let table = tables.and_then(|tables| tables.table(*port, Some(&self.source.namespace)));
        let found = table.and_then(|table| match table.choose(asked) {
            Choice::Found(found) => Some(found),
            Choice::NoRoutes | Choice::NoMatch(_) => None,
        });
        Routed { table, found }
    }

    fn facts<'a>(
        &'a self,
        (peer, host): (&'a Identity, &'a str),
        target: &'a RequestTarget<'a>,
    ) -> Facts<'a> {
        let from = find::client(self.source, ambit_model::address::OriginalDst::new(self.dialled));
        let from = from.map_or_else(|_| self.dialled.ip(), |it: ClientAddr| it.ip());
        let Wanted { method, headers, .. } = self.wanted;
        let mut facts = Facts::new(Some(peer), from, self.dialled);
        facts.remote = remote(headers).unwrap_or(from);
        facts.http = Some(Http { host, method, path: &target.path, headers, token: None });
        facts
    }

    /// Why it may be asked, or how it ends.
    fn judge(&self, policies: &[&RequestPolicy], facts: &Facts<'_>) -> Result<String, End> {
        if policies.is_empty() {
            return Ok("no policy of requests applies".into());
        }
        match asks(policies, facts).map(|asked| asked.first().map(|(who, _)| who.to_string())) {
            Err(denial) => return Err(answered(403, &denial.to_string())),
            Ok(Some(provider)) => return Err(End::Asked { provider }),
            Ok(None) => {}
        }
        match judge(policies, facts).verdict {
            Verdict::Deny(denial) => Err(answered(403, &denial.to_string())),
            Verdict::Allow(Some(by)) => Ok(format!("allowed by rule {} of policy {}", by.rule, by.policy)),
            Verdict::Allow(None) => Ok("allowed: no policy that allows applies".into()),
        }
    }

    fn follow(
        &self,
        bound: &Bound,
        routed: &Routed<'_>,
        (target, host): (&RequestTarget<'_>, &str),
        verdict: String,
    ) -> End {
        let Some(found) = &routed.found else {
            return match routed.table {
                Some(_) => answered(404, "routes are attached, and it is of no rule of them"),
                None => End::Sent { shares: vec![self.plain(bound)], verdict },
            };
        };
        let filters = match &found.rule.filters {
            Ok(filters) => filters,
            Err(why) => return answered(500, &why.to_string()),
        };
        if let Some(redirect) = &filters.redirect {
            let port = self.dialled.port();
            let to = redirect.location(&Redirected { scheme: Scheme::Http, host, port, target }, found);
            let status = redirect.status.code();
            return match to {
                Some(to) => answered(status, &format!("the client is sent to {to}")),
                None => answered(500, "the redirect replaces a prefix where none matched"),
            };
        }
        if let Some(answer) = &filters.direct {
            return answered(answer.status, "its rule holds an answer ready");
        }
        let shares = self.shares(found.rule);
        if shares.is_empty() {
            answered(500, "the rule has no backend with a weight")
        } else {
            End::Sent { shares, verdict }
        }
    }

    /// To where it was asked for.
    fn plain(&self, bound: &Bound) -> Share {
        match bound {
            Bound::Service { service, port, .. } => Share {
                to: format!("{}:{port}", service.key()),
                percent: 100.0,
                broken: None,
                endpoints: self.endpoints(&service.key()),
            },
            Bound::Workload { workload, .. } => Share {
                to: workload.uid.to_string(),
                percent: 100.0,
                broken: None,
                endpoints: (usize::from(workload.health == Health::Healthy), 1),
            },
        }
    }

    fn shares(&self, rule: &Rule) -> Vec<Share> {
        let total: u64 = rule.backends.iter().map(|it| u64::from(it.weight)).sum();
        let weighted = rule.backends.iter().filter(|it| it.weight > 0);
        let share = |backend: &ambit_model::http_route::Backend| {
            let percent = percent(backend.weight.into(), total);
            let wrong = backend.filters.as_ref().err().map(ToString::to_string);
            match &backend.to {
                Err(why) => {
                    Share { to: "nobody".into(), percent, broken: Some(why.to_string()), endpoints: (0, 0) }
                }
                Ok(to) => {
                    let known = self.world.service(&to.service).filter(|it| it.ports.contains_key(&to.port));
                    let unknown = known.is_none().then(|| format!("the backend {to} is not known"));
                    let endpoints = self.endpoints(&to.service);
                    Share { to: to.to_string(), percent, broken: wrong.or(unknown), endpoints }
                }
            }
        };
        weighted.map(share).collect()
    }

    fn endpoints(&self, service: &ambit_model::name::ServiceKey) -> (usize, usize) {
        let all: Vec<_> = self.world.endpoints(service).collect();
        (all.iter().filter(|it| it.health == Health::Healthy).count(), all.len())
    }
}

fn answered(status: u16, why: &str) -> End {
    End::Answered { status, why: why.into() }
}

fn policy(policy: &RequestPolicy, facts: &Facts<'_>) -> PolicyTold {
    PolicyTold {
        name: policy.key.to_string(),
        action: match &policy.action {
            RequestAction::Allow => "ALLOW",
            RequestAction::Deny => "DENY",
            RequestAction::Audit => "AUDIT",
            RequestAction::Custom { .. } => "CUSTOM",
        },
        rule: matched(policy, facts).map(|by| by.rule),
        dry_run: policy.dry_run,
    }
}

fn told(found: &Found<'_>) -> RuleTold {
    let index = index(found.route, found.rule);
    let rule = local::route(found.route).pointer(&format!("/rules/{index}")).cloned().unwrap_or_default();
    RuleTold { route: found.key().to_string(), index, rule }
}

fn index(route: &Route, rule: &Arc<Rule>) -> usize {
    route.rules.iter().position(|it| Arc::ptr_eq(it, rule)).unwrap_or_default()
}

/// Shown, not calculated with.
#[expect(
    clippy::cast_precision_loss,
    reason = "weights are far below what a floating point number holds exactly"
)]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1000.0 / whole as f64).round() / 10.0 }
}

#[cfg(test)]
mod tests;
