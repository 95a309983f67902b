//! What the Gateway API demands of routes beyond the types of their fields (`waypoint.md` 2.2, 2.5 to 2.16): numbers of
//! things, texts, what goes together. In a cluster the API server has seen to it; manifests nobody has looked at yet.

use ambit_model::http_route::ServerName;

use super::connection::ConnectionRouteSpec;
use super::{
    BackendRef, Filter, GrpcRouteSpec, HeaderChanges, HttpMatch, HttpRouteSpec, HttpRule, MethodMatch,
    NamedMatch, ParentRef, PathMatch, Redirect, Rewrite, duration,
};
use crate::fault::Wrong;

/// Rules of a route.
const RULES: usize = 16;
/// Matches of one rule.
const MATCHES: usize = 64;
/// Matches of a route.
const ALL_MATCHES: usize = 128;
/// Filters of a rule or of a backend; backends of a rule; headers of a match; changes of each sort.
const SIXTEEN: usize = 16;
/// Parents of a route.
const PARENTS: usize = 32;
/// Characters of a path.
const PATH: usize = 1024;
/// Characters of a header's value.
const VALUE: usize = 4096;
/// The largest weight.
const WEIGHT: u32 = 1_000_000;

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

type Checked = Result<(), Wrong>;

/// A route of HTTP requests.
pub(super) fn http(spec: &HttpRouteSpec) -> Checked {
    attached(&spec.parent_refs, spec.rules.len())?;
    all_matches(spec.rules.iter().map(|rule| rule.matches.len()))?;
    spec.rules.iter().enumerate().try_for_each(|(at, it)| rule(&format!("spec.rules[{at}]"), it))
}

/// A route of gRPC calls.
pub(super) fn grpc(spec: &GrpcRouteSpec) -> Checked {
    attached(&spec.parent_refs, spec.rules.len())?;
    all_matches(spec.rules.iter().map(|rule| rule.matches.len()))?;
    for (at, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{at}]");
        few(&format!("{at}.matches"), rule.matches.len(), MATCHES)?;
        for (nth, it) in rule.matches.iter().enumerate() {
            let at = format!("{at}.matches[{nth}]");
            it.method.iter().try_for_each(|it| called(&format!("{at}.method"), it))?;
            named(&format!("{at}.headers"), &it.headers, true)?;
        }
        filters(&format!("{at}.filters"), &rule.filters, !rule.backend_refs.is_empty())?;
        backends(&format!("{at}.backendRefs"), &rule.backend_refs)?;
    }
    Ok(())
}

/// A route of connections; `named`: of those that ask for servers.
pub(super) fn connections(spec: &ConnectionRouteSpec, named: bool) -> Checked {
    attached(&spec.parent_refs, spec.rules.len())?;
    if spec.rules.len() != 1 {
        let found = spec.rules.len().to_string();
        return Err(Wrong::field(
            "spec.rules",
            &found,
            "not one rule",
            "give one, and a route for each other",
        ));
    }
    if named {
        few("spec.hostnames", spec.hostnames.len(), SIXTEEN)?;
        if spec.hostnames.is_empty() {
            return Err(Wrong::field(
                "spec.hostnames",
                "",
                "no name of a server",
                "list those that are asked for",
            ));
        }
        for (nth, name) in spec.hostnames.iter().enumerate() {
            if name.parse::<ServerName>().is_err() {
                let remedy = "write a name such as db.shop, or *.shop";
                return Err(Wrong::field(
                    format!("spec.hostnames[{nth}]"),
                    name,
                    "not a name of a server",
                    remedy,
                ));
            }
        }
    }
    let all = spec.rules.iter().enumerate();
    all.into_iter()
        .try_for_each(|(at, rule)| backends(&format!("spec.rules[{at}].backendRefs"), &rule.backend_refs))
}

fn attached(parents: &[ParentRef], rules: usize) -> Checked {
    few("spec.parentRefs", parents.len(), PARENTS)?;
    few("spec.rules", rules, RULES)
}

fn all_matches(matches: impl Iterator<Item = usize>) -> Checked {
    few("spec.rules: matches of all rules", matches.sum(), ALL_MATCHES)
}

fn rule(at: &str, rule: &HttpRule) -> Checked {
    few(&format!("{at}.matches"), rule.matches.len(), MATCHES)?;
    for (nth, it) in rule.matches.iter().enumerate() {
        matched(&format!("{at}.matches[{nth}]"), it)?;
    }
    filters(&format!("{at}.filters"), &rule.filters, !rule.backend_refs.is_empty())?;
    for (nth, filter) in rule.filters.iter().enumerate() {
        by_prefix(&format!("{at}.filters[{nth}]"), filter, &rule.matches)?;
    }
    backends(&format!("{at}.backendRefs"), &rule.backend_refs)?;
    let (timeouts, retry) = (&rule.timeouts, rule.retry.as_ref());
    for (field, text) in [
        ("timeouts.request", timeouts.request.as_deref()),
        ("timeouts.backendRequest", timeouts.backend_request.as_deref()),
        ("retry.backoff", retry.and_then(|it| it.backoff.as_deref())),
    ] {
        if let Some(text) = text.filter(|text| duration(text).is_none()) {
            return Err(Wrong::field(
                format!("{at}.{field}"),
                text,
                "not a duration",
                "write it like 10s or 1h30m",
            ));
        }
    }
    let limit = |text: &Option<String>| text.as_deref().and_then(duration).unwrap_or_default();
    let (whole, attempt) = (limit(&timeouts.request), limit(&timeouts.backend_request));
    if !whole.is_zero() && attempt > whole {
        let (field, remedy) =
            (format!("{at}.timeouts.backendRequest"), "give an attempt no more time than the request");
        return Err(Wrong::field(field, "", "longer than timeouts.request", remedy));
    }
    let codes = retry.map(|it| it.codes.as_slice()).unwrap_or_default();
    match codes.iter().find(|it| !(400..=599).contains(*it)) {
        Some(code) => {
            let remedy = "list statuses from 400 to 599";
            Err(Wrong::field(format!("{at}.retry.codes"), &code.to_string(), "not a failure", remedy))
        }
        None => Ok(()),
    }
}

fn matched(at: &str, it: &HttpMatch) -> Checked {
    it.path.iter().try_for_each(|path| a_path(&format!("{at}.path"), path))?;
    if let Some(method) = it.method.as_deref().filter(|it| !METHODS.contains(it)) {
        let remedy = format!("write one of {}", METHODS.join(", "));
        return Err(Wrong::field(format!("{at}.method"), method, "not a method", &remedy));
    }
    named(&format!("{at}.headers"), &it.headers, true)?;
    named(&format!("{at}.queryParams"), &it.query_params, false)
}

fn a_path(at: &str, path: &PathMatch) -> Checked {
    let (at, text) = (format!("{at}.value"), path.value.as_str());
    let refuse = |problem: &str, remedy: &str| Err(Wrong::field(at.as_str(), text, problem, remedy));
    if text.len() > PATH {
        return refuse("the path has more than 1024 characters", "shorten it");
    }
    if path.kind == "RegularExpression" {
        return Ok(());
    }
    if !text.starts_with('/') {
        return refuse("the path does not begin with /", "write it like /cart");
    }
    if let Some(part) = ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().find(|it| text.contains(it)) {
        return refuse(&format!("the path holds {part}"), "write the path as it is after normalisation");
    }
    if ["/..", "/."].into_iter().any(|it| text.ends_with(it)) {
        return refuse("the path ends in dots", "write the path as it is after normalisation");
    }
    if !text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&it)) {
        return refuse("the path holds what no path may hold", "percent-encode it");
    }
    Ok(())
}

fn called(at: &str, it: &MethodMatch) -> Checked {
    if it.service.is_empty() && it.method.is_empty() {
        return Err(Wrong::field(
            at,
            "",
            "neither service nor method",
            "give one of them, or leave the match out",
        ));
    }
    for (member, text) in [("service", &it.service), ("method", &it.method)] {
        if text.len() > PATH || (it.kind == "Exact" && text.contains('/')) {
            let remedy = "write the service like shop.Cart, and the method apart from it";
            return Err(Wrong::field(format!("{at}.{member}"), text, "not a name of gRPC", remedy));
        }
    }
    Ok(())
}

fn named(at: &str, all: &[NamedMatch], are_headers: bool) -> Checked {
    few(at, all.len(), SIXTEEN)?;
    for (nth, it) in all.iter().enumerate() {
        if it.name.is_empty() || are_headers && !is_token(&it.name) {
            return Err(Wrong::field(
                format!("{at}[{nth}].name"),
                &it.name,
                "not a name",
                "write it like x-user",
            ));
        }
        if it.value.is_empty() || it.value.len() > VALUE {
            let remedy = "give a value of 1 to 4096 characters";
            return Err(Wrong::field(
                format!("{at}[{nth}].value"),
                &it.value,
                "no value, or too long",
                remedy,
            ));
        }
    }
    Ok(())
}

/// A token as RFC 9110, 5.6.2 has it.
fn is_token(text: &str) -> bool {
    let is_one = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(is_one)
}

fn filters(at: &str, all: &[Filter], has_backends: bool) -> Checked {
    few(at, all.len(), SIXTEEN)?;
    for (nth, it) in all.iter().enumerate() {
        let place = format!("{at}[{nth}]");
        let repeated = all.iter().take(nth).any(|other| other.kind == it.kind);
        if repeated && !matches!(it.kind.as_str(), "RequestMirror" | "ExtensionRef") {
            return Err(Wrong::field(place, &it.kind, "the same filter twice", "put both into one"));
        }
        one(&place, it)?;
    }
    let has = |kind: &str| all.iter().any(|it| it.kind == kind);
    if has("RequestRedirect") && has("URLRewrite") {
        let remedy = "keep one of the two: who is redirected is not forwarded";
        return Err(Wrong::field(at, "", "RequestRedirect together with URLRewrite", remedy));
    }
    if has("RequestRedirect") && has_backends {
        let remedy = "remove backendRefs: who is redirected is not forwarded";
        return Err(Wrong::field(at, "RequestRedirect", "given together with backendRefs", remedy));
    }
    Ok(())
}

/// That a filter says what its type demands.
fn one(at: &str, it: &Filter) -> Checked {
    let (member, is_there) = match it.kind.as_str() {
        "RequestHeaderModifier" => ("requestHeaderModifier", it.request_header_modifier.is_some()),
        "ResponseHeaderModifier" => ("responseHeaderModifier", it.response_header_modifier.is_some()),
        "RequestRedirect" => ("requestRedirect", it.request_redirect.is_some()),
        "URLRewrite" => ("urlRewrite", it.url_rewrite.is_some()),
        "RequestMirror" => ("requestMirror", it.request_mirror.is_some()),
        "CORS" => ("cors", it.cors.is_some()),
        "ExternalAuth" => ("externalAuth", it.external_auth.is_some()),
        "" => return Err(Wrong::field(format!("{at}.type"), "", "missing", "say which filter it is")),
        _ => return Ok(()),
    };
    if !is_there {
        return Err(Wrong::field(format!("{at}.{member}"), "", "missing", "say what the filter is to do"));
    }
    for changes in it.request_header_modifier.iter().chain(&it.response_header_modifier) {
        header_changes(at, changes)?;
    }
    it.request_redirect.iter().try_for_each(|it| redirect(&format!("{at}.requestRedirect"), it))?;
    it.url_rewrite.iter().try_for_each(|it| rewrite(&format!("{at}.urlRewrite"), it))?;
    it.external_auth.iter().try_for_each(|it| it.check(&format!("{at}.externalAuth")))?;
    if let Some(mirror) = &it.request_mirror {
        let place = format!("{at}.requestMirror");
        if mirror.percent.is_some() && mirror.fraction.is_some() {
            return Err(Wrong::field(place, "", "percent together with fraction", "keep one of the two"));
        }
        let over = mirror.percent.is_some_and(|it| it > 100)
            || mirror.fraction.is_some_and(|it| it.denominator == 0 || it.numerator > it.denominator);
        if over {
            return Err(Wrong::field(place, "", "more than all requests", "give a part of them"));
        }
    }
    Ok(())
}

fn header_changes(at: &str, it: &HeaderChanges) -> Checked {
    for (list, count) in [("set", it.set.len()), ("add", it.add.len()), ("remove", it.remove.len())] {
        few(&format!("{at}: {list}"), count, SIXTEEN)?;
    }
    let given = it.set.iter().chain(&it.add).map(|it| &it.name).chain(&it.remove);
    let mut bad = given.filter(|name| !is_token(name));
    bad.next()
        .map_or(Ok(()), |name| Err(Wrong::field(at, name, "not a header's name", "write it like x-user")))
}

fn redirect(at: &str, it: &Redirect) -> Checked {
    if let Some(scheme) = it.scheme.as_deref().filter(|it| !matches!(*it, "http" | "https")) {
        return Err(Wrong::field(format!("{at}.scheme"), scheme, "not a scheme", "write http or https"));
    }
    if let Some(code) = it.status_code.filter(|it| ![301, 302, 303, 307, 308].contains(it)) {
        let remedy = "write 301, 302, 303, 307 or 308";
        return Err(Wrong::field(format!("{at}.statusCode"), &code.to_string(), "not a redirection", remedy));
    }
    path_change(at, it.path.as_ref())
}

fn rewrite(at: &str, it: &Rewrite) -> Checked {
    path_change(at, it.path.as_ref())
}

fn path_change(at: &str, it: Option<&super::PathChange>) -> Checked {
    let Some(it) = it else { return Ok(()) };
    let is_said = match it.kind.as_str() {
        "ReplaceFullPath" => it.replace_full_path.is_some(),
        "ReplacePrefixMatch" => it.replace_prefix_match.is_some(),
        _ => true,
    };
    if is_said {
        return Ok(());
    }
    Err(Wrong::field(
        format!("{at}.path"),
        &it.kind,
        "no path to replace it by",
        "give replaceFullPath or replacePrefixMatch, as the type says",
    ))
}

/// What replaces a prefix has to have one: in a rule of a single match, of a prefix.
fn by_prefix(at: &str, filter: &Filter, matches: &[HttpMatch]) -> Checked {
    let paths = [
        filter.request_redirect.as_ref().and_then(|it| it.path.as_ref()),
        filter.url_rewrite.as_ref().and_then(|it| it.path.as_ref()),
    ];
    let replaces = paths.into_iter().flatten().any(|it| it.kind == "ReplacePrefixMatch");
    let of_prefix = |it: &HttpMatch| it.path.as_ref().is_none_or(|it| it.kind == "PathPrefix");
    let has_one = matches.len() <= 1 && matches.iter().all(of_prefix);
    if !replaces || has_one {
        return Ok(());
    }
    let remedy = "give the rule exactly one match, by PathPrefix";
    Err(Wrong::field(at, "ReplacePrefixMatch", "there is not one prefix to replace", remedy))
}

fn backends(at: &str, all: &[BackendRef]) -> Checked {
    few(at, all.len(), SIXTEEN)?;
    for (nth, it) in all.iter().enumerate() {
        let place = format!("{at}[{nth}]");
        if it.name.is_empty() {
            return Err(Wrong::field(format!("{place}.name"), "", "missing", "name the service"));
        }
        if it.weight > WEIGHT {
            let remedy = "use 0 to 1000000";
            return Err(Wrong::field(format!("{place}.weight"), &it.weight.to_string(), "too large", remedy));
        }
        filters(&format!("{place}.filters"), &it.filters, false)?;
    }
    Ok(())
}

fn few(field: &str, count: usize, most: usize) -> Checked {
    if count <= most {
        return Ok(());
    }
    let problem = format!("{count} of them, and no more than {most} are allowed");
    Err(Wrong::field(field, "", problem, "split the route in two"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rule: &str) -> String {
        let text = format!("{{parentRefs: [{{name: cart, kind: Service, group: ''}}], rules: [{rule}]}}");
        let value: serde_json::Value = yaml_serde::from_str(&text).unwrap();
        let spec: HttpRouteSpec = serde_json::from_value(value).unwrap();
        http(&spec).map_or_else(|it| format!("{} {} {}", it.field, it.value, it.problem), |()| String::new())
    }

    #[test]
    fn what_the_api_would_refuse_is_refused_with_the_field_and_what_is_wrong_there() {
        for (rule, field, problem) in [
            ("{matches: [{path: {value: cart}}]}", "rules[0].matches[0].path.value", "begin"),
            ("{matches: [{path: {type: Exact, value: /a//b}}]}", "path.value", "//"),
            ("{matches: [{path: {value: /a/..}}]}", "path.value", "dots"),
            ("{matches: [{path: {value: '/a b'}}]}", "path.value", "no path may hold"),
            ("{matches: [{method: get}]}", "method", "not a method"),
            ("{matches: [{headers: [{name: 'x y', value: a}]}]}", "headers[0].name", "not a name"),
            ("{matches: [{queryParams: [{name: q, value: ''}]}]}", "queryParams[0].value", "no value"),
            ("{filters: [{type: URLRewrite}]}", "filters[0].urlRewrite", "missing"),
            (
                "{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}",
                "filters",
                "together",
            ),
            (
                "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 80}]}",
                "filters",
                "backendRefs",
            ),
            ("{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]}", "statusCode", "not"),
            (
                "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
                "filters[0]",
                "prefix",
            ),
            ("{filters: [{type: ExternalAuth}]}", "filters[0].externalAuth", "missing"),
            (
                "{filters: [{type: ExternalAuth, externalAuth: {protocol: SOAP}}]}",
                "protocol",
                "not a protocol",
            ),
            (
                "{filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP}}]}",
                "backendRef.name",
                "missing",
            ),
            (
                "{filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, http: {}, backendRef: {name: a, port: 80}}}]}",
                "externalAuth.http",
                "GRPC",
            ),
            ("{filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]}", "filters[1]", "twice"),
            ("{backendRefs: [{name: a, port: 80, weight: 1000001}]}", "weight", "too large"),
            ("{timeouts: {request: '5'}}", "timeouts.request", "not a duration"),
            ("{timeouts: {request: 1s, backendRequest: 2s}}", "backendRequest", "longer"),
            ("{retry: {codes: [200]}}", "retry.codes", "not a failure"),
        ] {
            let text = told(rule);
            assert!(text.contains(field) && text.contains(problem), "{rule}: {text:?}");
        }
        let fine = "{matches: [{path: {value: /cart/%20}, method: GET}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], backendRefs: [{name: a, port: 80, weight: 0}]}";
        assert_eq!(told(fine), "");
        assert_eq!(told("{filters: [{type: RateLimit}]}"), "", "what it means is said in its status");
    }

    #[test]
    fn durations_are_of_up_to_four_parts_and_nothing_else() {
        for (text, ms) in [
            ("0s", Some(0)),
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("1h2m3s4ms", Some(3_723_004)),
            ("99999h", Some(359_996_400_000)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1d", None),
            ("1.5s", None),
            ("-1s", None),
            ("100000s", None),
            ("1s1s1s1s1s", None),
        ] {
            assert_eq!(duration(text).map(|it| it.as_millis()), ms, "{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_as_the_api_would_fill_it_in() {
        let route: super::super::HttpRoute =
            serde_json::from_value(serde_json::json!({"spec": {"parentRefs": [{"name": "g"}]}})).unwrap();
        let [rule] = route.spec.rules.as_slice() else { panic!("{:?}", route.spec.rules) };
        assert!(rule.matches.is_empty() && rule.backend_refs.is_empty());
        assert_eq!(route.spec.parent_refs[0].kind, "Gateway");
        let rule: HttpRule =
            serde_json::from_value(serde_json::json!({"backendRefs": [{"name": "a"}]})).unwrap();
        assert_eq!((rule.backend_refs[0].weight, rule.backend_refs[0].kind.as_str()), (1, "Service"));
    }
}
