//! Rules of VirtualServices that reading is lenient about: names that nothing can have, expressions that do not compile,
//! and what waypoints pass over.

use std::collections::BTreeMap;

use ambit_model::operator::Template;

use super::{Findings, is_fqdn};
use crate::kinds::virtual_service::{CLAIMS, Destination, HttpMatch, HttpRule, StringMatch, VirtualService};

pub(super) fn routes(object: &VirtualService, findings: &mut Findings) {
    let spec = &object.spec;
    let mut seen = std::collections::BTreeSet::new();
    for (at, host) in spec.hosts.iter().enumerate() {
        if !seen.insert(host.to_ascii_lowercase()) {
            findings.refuse(format!("spec.hosts[{at}]"), host, "given twice", "keep one");
        }
    }
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        findings.refuse(
            "spec",
            "",
            "nothing is said of requests",
            "give at least one rule below http, tls or tcp",
        );
    }
    for (at, rule) in spec.http.iter().enumerate() {
        self::rule(&format!("spec.http[{at}]"), rule, findings);
    }
    unreached(&spec.http, findings);
}

/// Rules behind one that takes everything.
fn unreached(rules: &[HttpRule], findings: &mut Findings) {
    let takes_all = |it: &HttpRule| {
        it.delegate.is_none() && (it.matches.is_empty() || it.matches.contains(&HttpMatch::default()))
    };
    if let Some(at) = rules.iter().position(takes_all).filter(|at| at + 1 < rules.len()) {
        let problem = format!("no request comes this far: spec.http[{at}] takes all");
        findings.warn(format!("spec.http[{}]", at + 1), "", &problem, "move the rule for all to the end");
    }
}

fn rule(at: &str, it: &HttpRule, findings: &mut Findings) {
    for (nth, one) in it.matches.iter().enumerate() {
        matched(&format!("{at}.match[{nth}]"), one, findings);
    }
    for (nth, one) in it.route.iter().enumerate() {
        destination(&format!("{at}.route[{nth}].destination"), &one.destination, findings);
    }
    it.mirror.iter().for_each(|it| destination(&format!("{at}.mirror"), it, findings));
    for (nth, one) in it.mirrors.iter().enumerate() {
        destination(&format!("{at}.mirrors[{nth}].destination"), &one.destination, findings);
    }
    for (list, changes) in [("request", &it.headers.request), ("response", &it.headers.response)] {
        for (name, value) in changes.set.iter().chain(&changes.add) {
            filled(&format!("{at}.headers.{list}.{name}"), value, findings);
        }
    }
    if it.mirror_percent.is_some() {
        let field = format!("{at}.mirrorPercent");
        findings.warn(field, "", "an old way to write it", "write mirrorPercentage");
    }
}

/// A value of a header, into which what is known of a request may be put.
fn filled(at: &str, value: &str, findings: &mut Findings) {
    match value.parse::<Template>() {
        Ok(template) => {
            for name in template.unknown() {
                let problem = format!("waypoints do not know %{name}%, and answer 500");
                findings.warn(at, value, &problem, "write %% for a percent sign, or leave it out");
            }
        }
        Err(error) => {
            let problem = format!("waypoints answer 500: at byte {}: {}", error.at, error.problem);
            findings.warn(at, value, &problem, error.remedy);
        }
    }
}

fn matched(at: &str, it: &HttpMatch, findings: &mut Findings) {
    if !it.stat_prefix.is_empty() {
        findings.warn(format!("{at}.statPrefix"), &it.stat_prefix, "waypoints pass over it", "leave it out");
    }
    let single =
        [("uri", &it.uri), ("scheme", &it.scheme), ("method", &it.method), ("authority", &it.authority)];
    for (name, text) in single.into_iter().filter_map(|(name, it)| Some((name, it.as_ref()?))) {
        pattern(&format!("{at}.{name}"), text, findings);
    }
    for (list, all) in [("headers", &it.headers), ("withoutHeaders", &it.without_headers)] {
        named(&format!("{at}.{list}"), all, findings);
    }
    for (name, text) in &it.query_params {
        pattern(&format!("{at}.queryParams.{name}"), text, findings);
    }
}

fn named(at: &str, all: &BTreeMap<String, StringMatch>, findings: &mut Findings) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for (name, text) in all {
        let is_claim =
            name.strip_prefix(CLAIMS).is_some_and(|rest| rest.len() > 1 && rest.starts_with(['.', '[']));
        if !is_claim && (name.is_empty() || !name.bytes().all(token)) {
            let remedy = "use letters, digits and '-', or @request.auth.claims.<name>";
            findings.refuse(format!("{at}.{name}"), name, "not the name of a header", remedy);
        }
        pattern(&format!("{at}.{name}"), text, findings);
    }
}

/// An expression that does not compile. (An asterisk alone is what people write for anything.)
fn pattern(at: &str, it: &StringMatch, findings: &mut Findings) {
    let Some(text) = it.regex.as_deref().filter(|it| *it != "*") else { return };
    if let Err(error) = text.parse::<ambit_model::http_route::Pattern>() {
        findings.refuse(format!("{at}.regex"), text, &error.to_string(), "write an expression of RE2");
    }
}

fn destination(at: &str, it: &Destination, findings: &mut Findings) {
    if !it.host.is_empty() && (it.host.contains('*') || !is_fqdn(&it.host)) {
        let remedy = "name one service, in full or of the same namespace";
        findings.refuse(format!("{at}.host"), &it.host, "not a host", remedy);
    }
}
