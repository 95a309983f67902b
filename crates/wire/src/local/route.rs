//! Routes as people read them in dumps: shaped as the objects they come from, what is not set left out. Written, never
//! read back.

use ambit_model::http_route::{
    AbortWith, Backend, Broken, ClaimMatch, ConnectionMatch, Cors, Direct, Fault, Filling, Filters,
    HeaderEdits, Kept, Match, Mirror, More, Names, PathChange, PathMatch, Redirect, Retry, Rewrite, Route,
    Rule, Session, Share, TimeLimit, Timeouts, Upstream, ValueMatch,
};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::provider::authorizer;

/// One route.
#[must_use]
pub fn route(route: &Route) -> Value {
    let Route { key, created_s, parents, rules } = route;
    let parent = |it: &ambit_model::http_route::Parent| {
        object([("service", Some(json!(it.service.to_string()))), ("port", it.port.map(Value::from))])
    };
    object([
        ("kind", Some(key.kind.as_str().into())),
        ("namespace", Some(key.namespace.as_str().into())),
        ("name", Some(key.name.as_str().into())),
        ("createdSeconds", Some((*created_s).into())),
        ("parents", list(parents, parent)),
        ("rules", list(rules, |it| rule(it))),
    ])
}

fn rule(rule: &Rule) -> Value {
    let Rule { name, matches, filters, backends, timeouts, retry, session } = rule;
    let Timeouts { request, backend_request } = timeouts;
    object([
        ("name", (!name.is_empty()).then(|| name.as_str().into())),
        ("matches", list(matches, one_match)),
        ("filters", change(filters)),
        ("backends", list(backends, backend)),
        ("requestTimeout", limit(*request)),
        ("backendRequestTimeout", limit(*backend_request)),
        ("retry", retry.as_ref().map(self::retry)),
        ("session", session.as_ref().map(self::session)),
    ])
}

fn one_match(one: &Match) -> Value {
    let Match { path, method, headers, query, more } = one;
    object([
        ("path", Some(self::path(path))),
        ("method", method.as_ref().map(|it| it.as_str().into())),
        ("headers", list(headers, |it| named(it.name.as_str(), &it.value))),
        ("queryParams", list(query, |it| named(&it.name, &it.value))),
        ("more", more.as_deref().map(self::more)),
    ])
}

fn more(more: &More) -> Value {
    let More {
        method,
        scheme,
        authority,
        port,
        from,
        from_labels,
        without_headers,
        claims,
        without_claims,
        servers,
        connection,
    } = more;
    let labels: Map<String, Value> =
        from_labels.iter().map(|(key, value)| (key.to_string(), (**value).into())).collect();
    let one = |it: &Option<ValueMatch>| it.as_ref().map(|it| object([value(it)]));
    let claim = |ClaimMatch { path, value }: &ClaimMatch| named(&path.join("."), value);
    object([
        ("method", one(method)),
        ("scheme", one(scheme)),
        ("authority", one(authority)),
        ("port", port.map(Value::from)),
        ("sourceNamespace", from.as_ref().map(|it| it.as_str().into())),
        ("withoutHeaders", list(without_headers, |it| named(it.name.as_str(), &it.value))),
        ("claims", list(claims, claim)),
        ("withoutClaims", list(without_claims, claim)),
        ("servers", list(servers, |it| it.to_string().into())),
        ("sourceLabels", (!labels.is_empty()).then_some(Value::Object(labels))),
        ("connection", connection.as_ref().map(self::connection)),
    ])
}

fn connection(ConnectionMatch { to, from }: &ConnectionMatch) -> Value {
    object([
        ("destinationSubnets", list(to, |it| it.to_string().into())),
        ("sourceSubnet", from.map(|it| it.to_string().into())),
    ])
}

fn session(Session { kept, absolute, idle }: &Session) -> Value {
    let time = |it: &Option<std::time::Duration>| it.map(|it| Value::from(format!("{it:?}")));
    let kept = match kept {
        Kept::Header(name) => ("header", Some(name.as_str().into())),
        Kept::Cookie { name, path, permanent } => (
            "cookie",
            Some(
                json!({ "name": name.as_str(), "path": path.as_ref().map(|it| it.as_str()), "permanent": permanent }),
            ),
        ),
    };
    object([kept, ("absoluteTimeout", time(absolute)), ("idleTimeout", time(idle))])
}

fn path(path: &PathMatch) -> Value {
    match path {
        PathMatch::Exact(text) => json!({ "exact": text }),
        PathMatch::Prefix(text) => json!({ "prefix": text }),
        PathMatch::Begins { text, any_case: false } => json!({ "begins": text }),
        PathMatch::Begins { text, any_case: true } => json!({ "begins": text, "ignoreCase": true }),
        PathMatch::Regex(pattern) => json!({ "regex": pattern.as_str() }),
        PathMatch::Grpc { service, method } => object([
            ("service", service.as_ref().map(|it| object([value(it)]))),
            ("method", method.as_ref().map(|it| object([value(it)]))),
        ]),
    }
}

fn named(name: &str, of: &ValueMatch) -> Value {
    object([("name", Some(name.into())), value(of)])
}

fn value(of: &ValueMatch) -> (&'static str, Option<Value>) {
    match of {
        ValueMatch::Exact(text) => ("exact", Some((**text).into())),
        ValueMatch::Regex(pattern) => ("regex", Some(pattern.as_str().into())),
        ValueMatch::Prefix(text) => ("prefix", Some((**text).into())),
        ValueMatch::Present => ("present", Some(true.into())),
    }
}

fn change(filters: &Result<Filters, Broken>) -> Option<Value> {
    match filters {
        Ok(filters) if *filters == Filters::default() => None,
        Ok(filters) => Some(self::filters(filters)),
        Err(why) => Some(broken(why)),
    }
}

fn broken(Broken { why }: &Broken) -> Value {
    json!({ "broken": why.as_str() })
}

fn filters(filters: &Filters) -> Value {
    let Filters { request_headers, response_headers, redirect, rewrite, mirrors, cors, direct, fault, ask } =
        filters;
    object([
        ("requestHeaders", edits(request_headers)),
        ("responseHeaders", edits(response_headers)),
        ("redirect", redirect.as_deref().map(self::redirect)),
        ("rewrite", rewrite.as_deref().map(self::rewrite)),
        ("mirrors", list(mirrors, mirror)),
        ("cors", cors.as_deref().map(self::cors)),
        ("direct", direct.as_ref().map(self::direct)),
        ("fault", fault.as_deref().map(self::fault)),
        ("ask", ask.as_deref().map(authorizer)),
    ])
}

/// Bodies may be large, and are the author's own words.
fn direct(Direct { status, body }: &Direct) -> Value {
    json!({ "status": status, "bodyBytes": body.len() })
}

fn fault(Fault { delay, abort }: &Fault) -> Value {
    let delay = delay.map(|it| json!({ "time": format!("{:?}", it.time), "share": share(it.share) }));
    let abort = abort.map(|it| match it.with {
        AbortWith::Http(status) => json!({ "httpStatus": status, "share": share(it.share) }),
        AbortWith::Grpc(status) => json!({ "grpcStatus": status, "share": share(it.share) }),
    });
    object([("delay", delay), ("abort", abort)])
}

fn share(share: Share) -> String {
    format!("{}/{}", share.parts(), share.whole())
}

fn edits(edits: &HeaderEdits) -> Option<Value> {
    let filling =
        |it: &Filling| json!({ "name": it.name.as_str(), "value": it.value.to_string(), "adds": it.adds });
    let header = |(name, value): &(HeaderName, HeaderValue)| json!({ "name": name.as_str(), "value": String::from_utf8_lossy(value.as_bytes()) });
    (!edits.is_empty()).then(|| {
        object([
            ("set", list(edits.sets(), header)),
            ("add", list(edits.adds(), header)),
            ("remove", list(edits.removes(), |name| name.as_str().into())),
            ("fill", list(edits.fillings(), filling)),
        ])
    })
}

fn redirect(redirect: &Redirect) -> Value {
    let Redirect { scheme, hostname, port, keeps_port, path, status } = redirect;
    object([
        ("scheme", scheme.map(|it| it.as_str().into())),
        ("hostname", hostname.as_ref().map(|it| it.as_str().into())),
        ("port", port.map(Value::from)),
        ("keepsPort", keeps_port.then_some(Value::Bool(true))),
        ("path", path.as_ref().map(path_change)),
        ("status", Some(status.code().into())),
    ])
}

fn rewrite(rewrite: &Rewrite) -> Value {
    let Rewrite { hostname, port, path } = rewrite;
    object([
        ("hostname", hostname.as_ref().map(|it| it.as_str().into())),
        ("port", port.map(Value::from)),
        ("path", path.as_ref().map(path_change)),
    ])
}

fn path_change(change: &PathChange) -> Value {
    match change {
        PathChange::Full(text) => json!({ "full": text.as_str() }),
        PathChange::Prefix(text) => json!({ "prefix": text.as_str() }),
        PathChange::Beginning(text) => json!({ "beginning": text.as_str() }),
        PathChange::Parts(parts) => json!({ "parts": parts.pattern(), "with": parts.with() }),
    }
}

fn mirror(mirror: &Mirror) -> Value {
    let Mirror { to, share } = mirror;
    object([("to", Some(target(to))), ("share", Some(self::share(*share).into()))])
}

fn cors(cors: &Cors) -> Value {
    let Cors { origins, more_origins, credentials, methods, headers, expose, max_age_s, passes_unknown } =
        cors;
    object([
        ("allowOrigins", names(origins)),
        ("allowOriginTexts", list(more_origins, |it| object([value(it)]))),
        ("passesUnknown", passes_unknown.then_some(Value::Bool(true))),
        ("allowCredentials", credentials.then_some(Value::Bool(true))),
        ("allowMethods", names(methods)),
        ("allowHeaders", names(headers)),
        ("exposeHeaders", names(expose)),
        ("maxAge", max_age_s.map(Value::from)),
    ])
}

fn names<T: ToString>(names: &Names<T>) -> Option<Value> {
    match names {
        Names::Any => Some(json!(["*"])),
        Names::These(these) => list(these, |it| it.to_string().into()),
    }
}

fn backend(backend: &Backend) -> Value {
    let Backend { to, weight, filters } = backend;
    object([("to", Some(target(to))), ("weight", Some((*weight).into())), ("filters", change(filters))])
}

fn target(to: &Result<Upstream, Broken>) -> Value {
    match to {
        Ok(upstream) => upstream.to_string().into(),
        Err(why) => broken(why),
    }
}

fn limit(limit: TimeLimit) -> Option<Value> {
    match limit {
        TimeLimit::Unset => None,
        TimeLimit::Off => Some("off".into()),
        TimeLimit::After(limit) => Some(format!("{limit:?}").into()),
    }
}

fn retry(retry: &Retry) -> Value {
    let Retry { attempts, codes, on, backoff, base, same_again, moves_on } = retry;
    object([
        ("attempts", Some((*attempts).into())),
        ("codes", list(codes, |it| (*it).into())),
        ("on", list(on, |it| format!("{it:?}").into())),
        ("backoff", backoff.map(|it| format!("{it:?}").into())),
        ("base", base.map(|it| format!("{it:?}").into())),
        ("sameAgain", same_again.then_some(Value::Bool(true))),
        ("movesOn", moves_on.then_some(Value::Bool(true))),
    ])
}

fn list<T>(items: &[T], write: impl Fn(&T) -> Value) -> Option<Value> {
    (!items.is_empty()).then(|| items.iter().map(write).collect())
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}
