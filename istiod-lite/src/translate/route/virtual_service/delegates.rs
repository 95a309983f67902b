//! Rules that another VirtualService says (`waypoint.md` 4.1): those without hosts of their own. Owns how both are put
//! together: a request has to be of a match of each, and what the inner one leaves unsaid the outer one says.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ambit_cluster::kinds::virtual_service::{HttpMatch, HttpRule, StringMatch, VirtualService};

use super::super::Reader;
use crate::translate::is_exported;

/// A rule, and the namespace in which its names are looked up.
pub(super) struct Delegated<'a> {
    pub(super) namespace: &'a str,
    pub(super) rule: Cow<'a, HttpRule>,
}

/// The rules that one rule stands for.
pub(super) fn expanded<'a>(
    reader: &mut Reader<'_>,
    root: &'a VirtualService,
    rule: &'a HttpRule,
) -> Vec<Delegated<'a>> {
    let own = root.metadata.namespace.as_str();
    let Some(to) = &rule.delegate else {
        return vec![Delegated { namespace: own, rule: Cow::Borrowed(rule) }];
    };
    let namespace = if to.namespace.is_empty() { own } else { &to.namespace };
    let found = reader.world.space(namespace).and_then(|space| space.virtual_services.get(to.name.as_str()));
    let at = format!("{namespace}/{}", to.name);
    let Some(inner) = found.filter(|it| is_exported(&it.spec.export_to, namespace, own)) else {
        reader.unresolved("BackendNotFound", &format!("there is no VirtualService {at} to delegate to"));
        // For what it takes, nobody is known.
        return vec![Delegated { namespace: own, rule: Cow::Owned(nowhere(rule)) }];
    };
    if !inner.spec.hosts.is_empty() {
        reader
            .unsupported(&format!("nothing is delegated to VirtualService {at}, which has hosts of its own"));
        return vec![Delegated { namespace: own, rule: Cow::Owned(nowhere(rule)) }];
    }
    let mut all = Vec::new();
    for (nth, within) in inner.spec.http.iter().enumerate() {
        if within.delegate.is_some() {
            reader.unsupported(&format!("rule {nth} of VirtualService {at} delegates further"));
            continue;
        }
        match merged(rule, within) {
            Some(rule) => all.push(Delegated { namespace, rule: Cow::Owned(rule) }),
            None => {
                let text =
                    format!("rule {nth} of VirtualService {at} is for no request that is delegated to it");
                reader.unsupported(&text);
            }
        }
    }
    all
}

/// A rule that leads nowhere, which is answered with an error.
fn nowhere(rule: &HttpRule) -> HttpRule {
    HttpRule { delegate: None, route: Vec::new(), ..rule.clone() }
}

/// Both as one; none: no request is of both.
fn merged(outer: &HttpRule, inner: &HttpRule) -> Option<HttpRule> {
    let mut rule = inner.clone();
    rule.matches = match (outer.matches.as_slice(), inner.matches.as_slice()) {
        (all, []) | ([], all) => all.to_vec(),
        (outer, inner) => {
            let both = outer.iter().flat_map(|a| inner.iter().filter_map(|b| both(a, b)));
            let both: Vec<HttpMatch> = both.collect();
            if both.is_empty() {
                return None;
            }
            both
        }
    };
    if !outer.name.is_empty() {
        rule.name =
            if inner.name.is_empty() { outer.name.clone() } else { format!("{}-{}", outer.name, inner.name) };
    }
    rule.rewrite = rule.rewrite.or_else(|| outer.rewrite.clone());
    rule.timeout = rule.timeout.or_else(|| outer.timeout.clone());
    rule.retries = rule.retries.or_else(|| outer.retries.clone());
    rule.fault = rule.fault.or_else(|| outer.fault.clone());
    rule.cors_policy = rule.cors_policy.or_else(|| outer.cors_policy.clone());
    if rule.mirror.is_none() && rule.mirrors.is_empty() {
        rule.mirror.clone_from(&outer.mirror);
        rule.mirrors.clone_from(&outer.mirrors);
        rule.mirror_percent = outer.mirror_percent;
        rule.mirror_percentage = outer.mirror_percentage;
    }
    for (mine, theirs) in [
        (&mut rule.headers.request, &outer.headers.request),
        (&mut rule.headers.response, &outer.headers.response),
    ] {
        for (name, value) in &theirs.set {
            mine.set.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for (name, value) in &theirs.add {
            mine.add.entry(name.clone()).or_insert_with(|| value.clone());
        }
        mine.remove.extend(theirs.remove.iter().cloned());
    }
    Some(rule)
}

/// A match of what both are of; none: nothing is.
fn both(outer: &HttpMatch, inner: &HttpMatch) -> Option<HttpMatch> {
    let mut one = inner.clone();
    one.uri = nested(outer.uri.as_ref(), inner.uri.as_ref())?;
    one.scheme = same(outer.scheme.as_ref(), inner.scheme.as_ref())?;
    one.method = same(outer.method.as_ref(), inner.method.as_ref())?;
    one.authority = same(outer.authority.as_ref(), inner.authority.as_ref())?;
    one.port = same(outer.port.as_ref(), inner.port.as_ref())?;
    let from = [&outer.source_namespace, &inner.source_namespace].map(|it| (!it.is_empty()).then_some(it));
    one.source_namespace = same(from[0], from[1])?.unwrap_or_default();
    together(&mut one.headers, &outer.headers)?;
    together(&mut one.without_headers, &outer.without_headers)?;
    together(&mut one.query_params, &outer.query_params)?;
    one.source_labels.extend(outer.source_labels.clone());
    one.ignore_uri_case |= outer.ignore_uri_case;
    if !outer.gateways.is_empty() {
        one.gateways.clone_from(&outer.gateways);
    }
    Some(one)
}

/// The outer path has to hold for whatever the inner one is of.
fn nested(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    let (Some(a), Some(b)) = (outer, inner) else { return Some(inner.or(outer).cloned()) };
    let begin = b.exact.as_ref().or(b.prefix.as_ref());
    let is_within = a.prefix.as_ref().zip(begin).is_some_and(|(outer, inner)| inner.starts_with(outer));
    (is_within || a == b).then(|| Some(b.clone()))
}

fn same<T: Clone + PartialEq>(outer: Option<&T>, inner: Option<&T>) -> Option<Option<T>> {
    match (outer, inner) {
        (Some(a), Some(b)) if a != b => None,
        _ => Some(inner.or(outer).cloned()),
    }
}

fn together(mine: &mut BTreeMap<String, StringMatch>, theirs: &BTreeMap<String, StringMatch>) -> Option<()> {
    for (key, value) in theirs {
        match mine.get(key) {
            Some(own) if own != value => return None,
            Some(_) => {}
            None => drop(mine.insert(key.clone(), value.clone())),
        }
    }
    Some(())
}
