//! Routes of requests. Owns which messages are routes, with the counts that the Gateway API allows; what is over them
//! is refused whole, for half a route would send requests where nobody meant them to go.

mod cors;
mod filters;
mod instead;
mod matching;
mod more;
mod retry;
mod session;

use std::sync::Arc;
use std::time::Duration;

use ambit_model::http_route::{
    Backend, Broken, Parent, PathChange, PathMatch, Route, RouteKey, RouteKind, Rule, TimeLimit, Timeouts,
    Upstream,
};

pub(super) use self::filters::header_name;
use self::filters::{filters_from_pb, filters_to_pb};
use self::matching::{match_from_pb, match_to_pb};
use self::retry::{retry_from_pb, retry_to_pb};
use self::session::{session_from_pb, session_to_pb};
use super::{ConvertError, check_count, known, name, port, text};
use crate::limits;
use crate::pb::waypoint as pb;

/// A route from its message.
pub fn route_from_pb(raw: pb::Route) -> Result<Route, ConvertError> {
    let pb::Route { kind, namespace, name: own_name, created_s, parents, rules } = raw;
    let kind = match known("kind", kind)? {
        pb::Kind::Unspecified => return Err(ConvertError::UnknownValue { field: "kind", value: kind }),
        pb::Kind::Grpc => RouteKind::Grpc,
        pb::Kind::Http => RouteKind::Http,
        pb::Kind::VirtualService => RouteKind::VirtualService,
        pb::Kind::Tls => RouteKind::Tls,
        pb::Kind::Tcp => RouteKind::Tcp,
    };
    let [most_parents, most_rules, most_matches] = most(kind);
    let parents = at_most("parents", most_parents, parents)?;
    let rules = at_most("rules", most_rules, rules)?;
    let matches = rules.iter().map(|rule| rule.matches.len()).sum();
    check_count("matches", most_matches, matches)?;
    Ok(Route {
        key: RouteKey { kind, namespace: name("namespace", &namespace)?, name: name("name", &own_name)? },
        created_s,
        parents: parents.into_iter().map(parent).collect::<Result<_, _>>()?,
        rules: rules.into_iter().map(|raw| rule(raw).map(Arc::new)).collect::<Result<_, _>>()?,
    })
}

/// How many parents, rules and matches a route may have.
fn most(kind: RouteKind) -> [usize; 3] {
    match kind {
        RouteKind::Grpc | RouteKind::Http | RouteKind::Tls | RouteKind::Tcp => {
            [limits::ROUTE_PARENTS, limits::ROUTE_RULES, limits::ROUTE_MATCHES]
        }
        RouteKind::VirtualService => {
            [limits::VIRTUAL_PARENTS, limits::VIRTUAL_RULES, limits::VIRTUAL_MATCHES]
        }
    }
}

fn parent(raw: pb::Parent) -> Result<Parent, ConvertError> {
    let pb::Parent { service, port: number } = raw;
    let port = port("parents.port", number)?;
    Ok(Parent { service: name("parents.service", &service)?, port: (port != 0).then_some(port) })
}

fn rule(raw: pb::Rule) -> Result<Rule, ConvertError> {
    let pb::Rule {
        name,
        matches,
        change,
        backends,
        request_timeout_ms,
        backend_request_timeout_ms,
        retry,
        session,
    } = raw;
    let filters = match change {
        None => Ok(filters_from_pb(pb::Filters::default())?),
        Some(pb::rule::Change::Filters(raw)) => Ok(filters_from_pb(*raw)?),
        Some(pb::rule::Change::Broken(why)) => Err(broken(why)?),
    };
    let matches: Vec<_> = matches.into_iter().map(match_from_pb).collect::<Result<_, _>>()?;
    let backends = at_most("backends", limits::ROUTE_BACKENDS, backends)?;
    let rule = Rule {
        name: text("rules.name", limits::ROUTE_TEXT, name)?.into(),
        matches,
        filters,
        backends: backends.into_iter().map(backend).collect::<Result<_, _>>()?,
        timeouts: Timeouts {
            request: time_limit(request_timeout_ms),
            backend_request: time_limit(backend_request_timeout_ms),
        },
        retry: retry.map(retry_from_pb).transpose()?,
        session: session.map(session_from_pb).transpose()?,
    };
    if needs_prefix(&rule) && !rule.matches.iter().all(|one| matches!(one.path, PathMatch::Prefix(_))) {
        return Err(ConvertError::NoPrefix);
    }
    Ok(rule)
}

/// Whether something puts another path in the place of the prefix that matched.
fn needs_prefix(rule: &Rule) -> bool {
    let all = std::iter::once(&rule.filters).chain(rule.backends.iter().map(|backend| &backend.filters));
    let changes = all.flatten().flat_map(|filters| {
        let redirect = filters.redirect.as_ref().and_then(|it| it.path.as_ref());
        redirect.into_iter().chain(filters.rewrite.as_ref().and_then(|it| it.path.as_ref()))
    });
    changes.into_iter().any(|change| matches!(change, PathChange::Prefix(_)))
}

fn backend(raw: pb::Backend) -> Result<Backend, ConvertError> {
    let pb::Backend { to, weight, change } = raw;
    if weight > limits::ROUTE_WEIGHT {
        return Err(ConvertError::TooMany {
            field: "backends.weight",
            found: usize::try_from(weight).unwrap_or(usize::MAX),
            limit: usize::try_from(limits::ROUTE_WEIGHT).unwrap_or(usize::MAX),
        });
    }
    Ok(Backend {
        to: match to.ok_or(ConvertError::NoAlternative { field: "backends.to" })? {
            pb::backend::To::Upstream(raw) => Ok(upstream(raw)?),
            pb::backend::To::Broken(why) => Err(broken(why)?),
        },
        weight,
        filters: match change {
            None => Ok(filters_from_pb(pb::Filters::default())?),
            Some(pb::backend::Change::Filters(raw)) => Ok(filters_from_pb(*raw)?),
            Some(pb::backend::Change::BrokenFilters(why)) => Err(broken(why)?),
        },
    })
}

fn upstream(raw: pb::Upstream) -> Result<Upstream, ConvertError> {
    let pb::Upstream { service, port: number, subset } = raw;
    let subset = text("upstream.subset", limits::ROUTE_TEXT, subset)?;
    Ok(Upstream {
        service: name("upstream.service", &service)?,
        port: port("upstream.port", number)?,
        subset: (!subset.is_empty()).then(|| subset.into()),
    })
}

fn broken(why: String) -> Result<Broken, ConvertError> {
    Ok(Broken { why: text("broken", limits::ROUTE_TEXT, why)?.into() })
}

fn time_limit(ms: Option<u64>) -> TimeLimit {
    ms.map_or(TimeLimit::Unset, |ms| Duration::from_millis(ms).into())
}

fn at_most<T>(field: &'static str, limit: usize, items: Vec<T>) -> Result<Vec<T>, ConvertError> {
    check_count(field, limit, items.len())?;
    Ok(items)
}

/// A route's message.
#[must_use]
pub fn route_to_pb(route: &Route) -> pb::Route {
    let Route { key: RouteKey { kind, namespace, name }, created_s, parents, rules } = route;
    let kind = match kind {
        RouteKind::Grpc => pb::Kind::Grpc,
        RouteKind::Http => pb::Kind::Http,
        RouteKind::VirtualService => pb::Kind::VirtualService,
        RouteKind::Tls => pb::Kind::Tls,
        RouteKind::Tcp => pb::Kind::Tcp,
    };
    let parent = |Parent { service, port }: &Parent| pb::Parent {
        service: service.to_string(),
        port: port.unwrap_or_default().into(),
    };
    pb::Route {
        kind: kind.into(),
        namespace: namespace.to_string(),
        name: name.to_string(),
        created_s: *created_s,
        parents: parents.iter().map(parent).collect(),
        rules: rules.iter().map(|rule| rule_to_pb(rule)).collect(),
    }
}

fn rule_to_pb(rule: &Rule) -> pb::Rule {
    let Rule { name, matches, filters, backends, timeouts, retry, session } = rule;
    let Timeouts { request, backend_request } = timeouts;
    pb::Rule {
        name: name.to_string(),
        matches: matches.iter().map(match_to_pb).collect(),
        change: match filters {
            Ok(filters) => filters_to_pb(filters).map(|it| pb::rule::Change::Filters(Box::new(it))),
            Err(Broken { why }) => Some(pb::rule::Change::Broken(why.to_string())),
        },
        backends: backends.iter().map(backend_to_pb).collect(),
        request_timeout_ms: time_limit_to_pb(*request),
        backend_request_timeout_ms: time_limit_to_pb(*backend_request),
        retry: retry.as_ref().map(retry_to_pb),
        session: session.as_ref().map(session_to_pb),
    }
}

fn backend_to_pb(backend: &Backend) -> pb::Backend {
    let Backend { to, weight, filters } = backend;
    pb::Backend {
        to: Some(match to {
            Ok(upstream) => pb::backend::To::Upstream(upstream_to_pb(upstream)),
            Err(Broken { why }) => pb::backend::To::Broken(why.to_string()),
        }),
        weight: *weight,
        change: match filters {
            Ok(filters) => filters_to_pb(filters).map(|it| pb::backend::Change::Filters(Box::new(it))),
            Err(Broken { why }) => Some(pb::backend::Change::BrokenFilters(why.to_string())),
        },
    }
}

fn upstream_to_pb(upstream: &Upstream) -> pb::Upstream {
    let Upstream { service, port, subset } = upstream;
    pb::Upstream {
        service: service.to_string(),
        port: (*port).into(),
        subset: subset.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn time_limit_to_pb(limit: TimeLimit) -> Option<u64> {
    match limit {
        TimeLimit::Unset => None,
        TimeLimit::Off => Some(0),
        TimeLimit::After(limit) => Some(ms(limit)),
    }
}

/// Whole milliseconds; a limit is never made none by being short.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
