//! The rules of a VirtualService that span several fields, each broken one told with field, value and remedy.

use super::{Abort, DirectResponse, HttpMatch, HttpRule, Redirect, StringMatch, TlsRule, VirtualServiceSpec};
use crate::fault::Wrong;
use crate::kinds::duration::span;

type Checked = Result<(), Wrong>;

/// After what Envoy tries again.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Envoy's bound on an answer that is held ready.
const BODY: usize = 1 << 20;

pub(super) fn check(spec: &VirtualServiceSpec) -> Checked {
    for (at, host) in spec.hosts.iter().enumerate() {
        let body = host.strip_prefix("*.").unwrap_or(host);
        let is_name = body.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._:".contains(&it));
        if *host != "*" && (body.is_empty() || !is_name) {
            let remedy = "write a name, or one that begins with *.";
            return Err(Wrong::field(format!("spec.hosts[{at}]"), host, "not a host", remedy));
        }
    }
    spec.http.iter().enumerate().try_for_each(|(at, it)| rule(&format!("spec.http[{at}]"), it))?;
    let tls = spec.tls.iter().enumerate().map(|(at, it)| (format!("spec.tls[{at}]"), it.route.is_empty()));
    let tcp = spec.tcp.iter().enumerate().map(|(at, it)| (format!("spec.tcp[{at}]"), it.route.is_empty()));
    match tls.chain(tcp).find(|(_, is_empty)| *is_empty) {
        Some((at, _)) => Err(Wrong::field(format!("{at}.route"), "", "missing", "say where connections go")),
        None => spec.tls.iter().enumerate().try_for_each(|(at, it)| servers(&format!("spec.tls[{at}]"), it)),
    }
}

/// Which server is asked for tells rules of TLS apart.
fn servers(at: &str, it: &TlsRule) -> Checked {
    let remedy = "list the servers that are asked for";
    if it.matches.is_empty() {
        return Err(Wrong::field(format!("{at}.match"), "", "missing", remedy));
    }
    match it.matches.iter().position(|it| it.sni_hosts.is_empty()) {
        Some(nth) => Err(Wrong::field(format!("{at}.match[{nth}].sniHosts"), "", "missing", remedy)),
        None => Ok(()),
    }
}

fn rule(at: &str, it: &HttpRule) -> Checked {
    it.matches.iter().enumerate().try_for_each(|(nth, one)| matched(&format!("{at}.match[{nth}]"), one))?;
    let ways = [
        ("route", !it.route.is_empty()),
        ("redirect", it.redirect.is_some()),
        ("directResponse", it.direct_response.is_some()),
        ("delegate", it.delegate.is_some()),
    ];
    let mut given = ways.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name);
    let Some(first) = given.next() else {
        let remedy = "say with route, redirect, directResponse or delegate what becomes of requests";
        return Err(Wrong::field(at, "", "nothing is done with requests", remedy));
    };
    if let Some(second) = given.next() {
        let problem = format!("given together with {second}");
        return Err(Wrong::field(format!("{at}.{first}"), "", problem, "keep one of the two"));
    }
    if let Some(nth) = it.route.iter().position(|it| it.destination.host.is_empty()) {
        let field = format!("{at}.route[{nth}].destination.host");
        return Err(Wrong::field(field, "", "missing", "name the service"));
    }
    if it.route.len() > 1 && it.route.iter().all(|it| it.weight == 0) {
        let remedy = "give each destination its share";
        return Err(Wrong::field(format!("{at}.route"), "", "no destination has a weight", remedy));
    }
    if it.mirror.is_some() && !it.mirrors.is_empty() {
        return Err(Wrong::field(format!("{at}.mirrors"), "", "given together with mirror", "keep mirrors"));
    }
    times(at, it)?;
    let words = it.retries.iter().flat_map(|it| it.retry_on.split(',')).map(str::trim);
    let is_code = |it: &str| it.parse().is_ok_and(|code: u16| (400..600).contains(&code));
    let mut unknown = words.filter(|it| !it.is_empty() && !RETRY_ON.contains(it) && !is_code(it));
    if let Some(word) = unknown.next() {
        let field = format!("{at}.retries.retryOn");
        let remedy = format!("use statuses from 400 to 599 and {}", RETRY_ON.join(", "));
        return Err(Wrong::field(field, word, "not a reason to try again", &remedy));
    }
    it.redirect.iter().try_for_each(|it| redirect(&format!("{at}.redirect"), it))?;
    it.direct_response.iter().try_for_each(|it| direct(&format!("{at}.directResponse"), it))?;
    if let Some(rewrite) = &it.rewrite
        && rewrite.uri_regex_rewrite.is_some()
        && !rewrite.uri.is_empty()
    {
        let field = format!("{at}.rewrite.uri");
        return Err(Wrong::field(field, &rewrite.uri, "given together with uriRegexRewrite", "keep one"));
    }
    let fault = it.fault.as_ref();
    if let Some(delay) = fault.and_then(|it| it.delay.as_ref())
        && delay.fixed_delay.is_none()
    {
        let field = format!("{at}.fault.delay.fixedDelay");
        return Err(Wrong::field(field, "", "missing", "say for how long, as 5s"));
    }
    fault.and_then(|it| it.abort.as_ref()).map_or(Ok(()), |it| abort(&format!("{at}.fault.abort"), it))
}

fn times(at: &str, it: &HttpRule) -> Checked {
    let retries = it.retries.as_ref();
    let fault = it.fault.as_ref().and_then(|it| it.delay.as_ref());
    for (field, text) in [
        ("timeout", it.timeout.as_deref()),
        ("retries.perTryTimeout", retries.and_then(|it| it.per_try_timeout.as_deref())),
        ("retries.backoff", retries.and_then(|it| it.backoff.as_deref())),
        ("fault.delay.fixedDelay", fault.and_then(|it| it.fixed_delay.as_deref())),
        ("corsPolicy.maxAge", it.cors_policy.as_ref().and_then(|it| it.max_age.as_deref())),
    ] {
        if let Some(text) = text.filter(|text| span(text).is_none()) {
            return Err(Wrong::field(
                format!("{at}.{field}"),
                text,
                "not a duration",
                "write it as 5s or 100ms",
            ));
        }
    }
    Ok(())
}

fn matched(at: &str, it: &HttpMatch) -> Checked {
    let single =
        [("uri", &it.uri), ("scheme", &it.scheme), ("method", &it.method), ("authority", &it.authority)];
    for (name, text) in single.into_iter().filter_map(|(name, it)| Some((name, it.as_ref()?))) {
        one_way(&format!("{at}.{name}"), text)?;
        if *text == StringMatch::default() {
            let remedy = "give exact, prefix or regex";
            return Err(Wrong::field(format!("{at}.{name}"), "", "nothing is demanded", remedy));
        }
    }
    let named = [
        ("headers", &it.headers),
        ("withoutHeaders", &it.without_headers),
        ("queryParams", &it.query_params),
    ];
    for (list, (name, text)) in named.into_iter().flat_map(|(list, all)| all.iter().map(move |it| (list, it)))
    {
        one_way(&format!("{at}.{list}.{name}"), text)?;
    }
    Ok(())
}

fn one_way(at: &str, it: &StringMatch) -> Checked {
    let given = [&it.exact, &it.prefix, &it.regex].into_iter().flatten();
    if given.clone().count() > 1 {
        return Err(Wrong::field(at, "", "several of exact, prefix and regex", "keep one of them"));
    }
    if let Some(text) = it.prefix.as_ref().filter(|it| it.is_empty()) {
        return Err(Wrong::field(format!("{at}.prefix"), text, "empty", "say how it begins"));
    }
    Ok(())
}

fn redirect(at: &str, it: &Redirect) -> Checked {
    if let Some(code) = it.redirect_code.filter(|it| ![301, 302, 303, 307, 308].contains(it)) {
        let remedy = "write 301, 302, 303, 307 or 308";
        return Err(Wrong::field(
            format!("{at}.redirectCode"),
            &code.to_string(),
            "not a redirection",
            remedy,
        ));
    }
    if !matches!(it.scheme.as_str(), "" | "http" | "https") {
        return Err(Wrong::field(format!("{at}.scheme"), &it.scheme, "not a scheme", "write http or https"));
    }
    if !matches!(it.derive_port.as_str(), "" | "FROM_PROTOCOL_DEFAULT" | "FROM_REQUEST_PORT") {
        let remedy = "write FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT";
        return Err(Wrong::field(format!("{at}.derivePort"), &it.derive_port, "not a way to a port", remedy));
    }
    if !it.derive_port.is_empty() && it.port.is_some() {
        return Err(Wrong::field(format!("{at}.port"), "", "given together with derivePort", "keep one"));
    }
    if !it.uri.is_empty() && !it.prefix_rewrite.is_empty() {
        return Err(Wrong::field(
            format!("{at}.uri"),
            &it.uri,
            "given together with prefixRewrite",
            "keep one",
        ));
    }
    Ok(())
}

fn direct(at: &str, it: &DirectResponse) -> Checked {
    if !(200..=599).contains(&it.status) {
        let remedy = "write a status from 200 to 599";
        return Err(Wrong::field(format!("{at}.status"), &it.status.to_string(), "not an answer", remedy));
    }
    let Some(body) = &it.body else { return Ok(()) };
    if body.string.is_some() && body.bytes.is_some() {
        return Err(Wrong::field(
            format!("{at}.body"),
            "",
            "string together with bytes",
            "keep one of the two",
        ));
    }
    // Base64 is four characters for three bytes.
    let length =
        body.string.as_ref().map_or(0, String::len).max(body.bytes.as_ref().map_or(0, |it| it.len() / 4 * 3));
    if length > BODY + 3 {
        return Err(Wrong::field(format!("{at}.body"), "", "longer than 1 MiB", "shorten it"));
    }
    Ok(())
}

fn abort(at: &str, it: &Abort) -> Checked {
    match (it.http_status, &it.grpc_status) {
        (None, None) => Err(Wrong::field(at, "", "no status", "give httpStatus or grpcStatus")),
        (Some(_), Some(status)) => Err(Wrong::field(
            format!("{at}.grpcStatus"),
            status,
            "given together with httpStatus",
            "keep one",
        )),
        (Some(status), None) if !(200..=599).contains(&status) => {
            let remedy = "write a status from 200 to 599";
            Err(Wrong::field(format!("{at}.httpStatus"), &status.to_string(), "not an answer", remedy))
        }
        (None, Some(status)) if grpc_status(status).is_none() => {
            let remedy = "write its number or its name, as UNAVAILABLE";
            Err(Wrong::field(format!("{at}.grpcStatus"), status, "not a status of gRPC", remedy))
        }
        (Some(_), None) | (None, Some(_)) => Ok(()),
    }
}

/// A status of gRPC, by number or by name.
#[must_use]
pub fn grpc_status(text: &str) -> Option<u16> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let by_name = || NAMES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = text.parse().ok().or_else(|| u16::try_from(by_name()?).ok())?;
    (usize::from(number) < NAMES.len()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rule: &str) -> String {
        let value: serde_json::Value =
            yaml_serde::from_str(&format!("{{hosts: [cart], http: [{rule}]}}")).unwrap();
        let read: Result<VirtualServiceSpec, _> = serde_json::from_value(value);
        match read {
            Err(error) => error.to_string(),
            Ok(spec) => check(&spec)
                .map_or_else(|it| format!("{} {} {}", it.field, it.value, it.problem), |()| "".into()),
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_field_and_what_is_wrong_there() {
        let to = "route: [{destination: {host: cart}}]";
        for (rule, wanted) in [
            ("{}".to_owned(), "spec.http[0]  nothing is done with requests"),
            (format!("{{{to}, redirect: {{}}}}"), "spec.http[0].route  given together with redirect"),
            ("{route: [{destination: {}}]}".into(), "destination.host  missing"),
            (
                "{route: [{destination: {host: a}}, {destination: {host: b}}]}".into(),
                "spec.http[0].route  no destination has a weight",
            ),
            (format!("{{{to}, timeout: '5'}}"), "spec.http[0].timeout 5 not a duration"),
            (
                format!("{{{to}, retries: {{perTryTimeout: soon}}}}"),
                "retries.perTryTimeout soon not a duration",
            ),
            (format!("{{{to}, match: [{{uri: {{exact: a, prefix: b}}}}]}}"), "match[0].uri  several"),
            (format!("{{{to}, match: [{{uri: {{}}}}]}}"), "match[0].uri  nothing is demanded"),
            (format!("{{{to}, match: [{{uri: {{contains: a}}}}]}}"), "unknown field `contains`"),
            (format!("{{{to}, mirrorPercentage: {{value: 101}}}}"), "not a part of a hundred"),
            (
                format!("{{{to}, retries: {{retryOn: '5xx, sometimes'}}}}"),
                "retries.retryOn sometimes not a reason",
            ),
            ("{redirect: {redirectCode: 200}}".into(), "redirect.redirectCode 200 not a redirection"),
            ("{redirect: {uri: /a, prefixRewrite: /b}}".into(), "given together with prefixRewrite"),
            ("{directResponse: {status: 100}}".into(), "directResponse.status 100 not an answer"),
            (format!("{{{to}, fault: {{delay: {{}}}}}}"), "fault.delay.fixedDelay  missing"),
            (format!("{{{to}, fault: {{abort: {{}}}}}}"), "fault.abort  no status"),
            (
                format!("{{{to}, fault: {{abort: {{grpcStatus: SAD}}}}}}"),
                "grpcStatus SAD not a status of gRPC",
            ),
            (format!("{{{to}, fault: {{abort: {{httpStatus: 100}}}}}}"), "httpStatus 100 not an answer"),
        ] {
            let text = told(&rule);
            assert!(text.contains(wanted), "{rule}: {text:?}");
        }
        for (tls, wanted) in [
            ("{route: [{destination: {host: a}}]}", "spec.tls[0].match  missing"),
            (
                "{match: [{port: 1}], route: [{destination: {host: a}}]}",
                "spec.tls[0].match[0].sniHosts  missing",
            ),
            ("{match: [{sniHosts: [a]}]}", "spec.tls[0].route  missing"),
            ("{match: [{sniHosts: [a]}], route: [{destination: {host: a}}]}", ""),
        ] {
            let spec = yaml_serde::from_str(&format!("{{hosts: [cart], tls: [{tls}]}}")).unwrap();
            let text = check(&spec)
                .map_or_else(|it| format!("{} {} {}", it.field, it.value, it.problem), |()| String::new());
            assert_eq!(text, wanted, "{tls}");
        }
        let fine = "{match: [{uri: {prefix: /a}, headers: {x-a: {}}, queryParams: {q: {regex: '[0-9]+'}}}], \
             route: [{destination: {host: cart, subset: v1, port: {number: 80}}, weight: 90}, {destination: {host: b}, weight: 10}], \
             timeout: 0.5s, retries: {attempts: 3, retryOn: '5xx,503', backoff: 100ms}, \
             fault: {delay: {fixedDelay: 2s, percentage: {value: 0.1}}, abort: {grpcStatus: unavailable}}}";
        assert_eq!(told(fine), "");
    }

    #[test]
    fn a_part_of_a_hundred_is_read_to_the_ten_thousandth() {
        for (text, parts) in [("0.0001", 1), ("0", 0), ("100", 1_000_000), ("12.5", 125_000)] {
            let value: super::super::Percent =
                serde_json::from_str(&format!("{{\"value\": {text}}}")).unwrap();
            assert_eq!(value.parts, parts, "{text}");
        }
    }
}
