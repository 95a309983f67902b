//! Policies of limits. Owns their message, which is of our own schema: what cannot be read is refused whole, and the
//! former version stays in force.

use std::time::Duration;

use ambit_model::http_route::RouteTarget;
use ambit_model::name::PolicyKey;
use ambit_model::rate_limit::{
    Attribute, Descriptor, Entry, EntryValue, GlobalLimit, LocalLimit, Rate, RateLimit,
};
use ambit_model::request_policy::RequestRule;

use super::provider::reach;
use super::request_policy::{rule, rule_to_pb, target, target_to_pb};
use super::{ConvertError, check_count, name, text};
use crate::limits;
use crate::pb::waypoint as pb;

/// A policy of limits from its message.
pub fn rate_limit_from_pb(raw: pb::RateLimit) -> Result<RateLimit, ConvertError> {
    let pb::RateLimit { namespace, name: own_name, targets, local, global, tell, exhausted, routes } = raw;
    check_count("targets", limits::POLICY_TARGETS, targets.len())?;
    check_count("local", limits::LOCAL_LIMITS, local.len())?;
    Ok(RateLimit {
        key: PolicyKey { namespace: name("namespace", &namespace)?, name: name("name", &own_name)? },
        targets: targets.into_iter().map(target).collect::<Result<_, _>>()?,
        routes: route_targets(routes)?,
        local: local.into_iter().map(local_limit).collect::<Result<_, _>>()?,
        global: global.map(global_limit).transpose()?,
        tell,
        exhausted,
    })
}

/// Routes that something is attached to.
pub(super) fn route_targets(raw: Vec<pb::RouteTarget>) -> Result<Vec<RouteTarget>, ConvertError> {
    check_count("routes", limits::POLICY_ROUTES, raw.len())?;
    let one = |pb::RouteTarget { route, rule }| {
        let rule = text("routes.rule", limits::ROUTE_TEXT, rule)?;
        Ok(RouteTarget {
            route: name("routes.route", &route)?,
            rule: (!rule.is_empty()).then(|| rule.into()),
        })
    };
    raw.into_iter().map(one).collect()
}

fn local_limit(raw: pb::LocalLimit) -> Result<LocalLimit, ConvertError> {
    let pb::LocalLimit { rule, key, requests, per_ms, burst } = raw;
    check_count("local.key", limits::LIMIT_LIST, key.len())?;
    Ok(LocalLimit {
        rule: given_rule(rule)?,
        key: key.into_iter().map(|it| attribute("local.key", it)).collect::<Result<_, _>>()?,
        rate: Rate::new(requests, Duration::from_millis(per_ms), burst)
            .map_err(|source| ConvertError::Rate { field: "local", source })?,
    })
}

fn global_limit(raw: pb::GlobalLimit) -> Result<GlobalLimit, ConvertError> {
    let pb::GlobalLimit { at, domain, descriptors, hits, patience_ms, fail_closed } = raw;
    check_count("global.descriptors", limits::LIMIT_LIST, descriptors.len())?;
    Ok(GlobalLimit {
        at: (!at.is_empty()).then(|| reach(at)).transpose()?,
        domain: text("global.domain", limits::LIMIT_TEXT, domain)?.into(),
        descriptors: descriptors.into_iter().map(descriptor).collect::<Result<_, _>>()?,
        hits,
        patience: Duration::from_millis(patience_ms),
        fail_closed,
    })
}

fn descriptor(raw: pb::LimitDescriptor) -> Result<Descriptor, ConvertError> {
    let pb::LimitDescriptor { rule, entries } = raw;
    check_count("descriptors.entries", limits::LIMIT_LIST, entries.len())?;
    let entries = entries.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Descriptor { rule: given_rule(rule)?, entries })
}

fn entry(raw: pb::LimitEntry) -> Result<Entry, ConvertError> {
    use pb::limit_entry::Value;
    let pb::LimitEntry { key, value } = raw;
    let value = match value.ok_or(ConvertError::NoAlternative { field: "entries.value" })? {
        Value::Fixed(fixed) => EntryValue::Fixed(text("entries.fixed", limits::LIMIT_TEXT, fixed)?.into()),
        Value::Of(name) => EntryValue::Of(attribute("entries.of", name)?),
    };
    Ok(Entry { key: text("entries.key", limits::LIMIT_TEXT, key)?.into(), value })
}

pub(super) fn attribute(field: &'static str, text: String) -> Result<Attribute, ConvertError> {
    let wanted = "something that is known of a request";
    text.parse().map_err(|_| ConvertError::Value { field, value: text, wanted })
}

pub(super) fn given_rule(raw: Option<pb::PolicyRule>) -> Result<RequestRule, ConvertError> {
    rule(raw.unwrap_or_default())
}

/// Its message.
#[must_use]
pub fn rate_limit_to_pb(limit: &RateLimit) -> pb::RateLimit {
    let RateLimit { key: PolicyKey { namespace, name }, targets, routes, local, global, tell, exhausted } =
        limit;
    pb::RateLimit {
        namespace: namespace.to_string(),
        name: name.to_string(),
        targets: targets.iter().map(target_to_pb).collect(),
        local: local.iter().map(local_to_pb).collect(),
        global: global.as_ref().map(global_to_pb),
        tell: *tell,
        exhausted: *exhausted,
        routes: routes.iter().map(route_target_to_pb).collect(),
    }
}

pub(super) fn route_target_to_pb(target: &RouteTarget) -> pb::RouteTarget {
    let RouteTarget { route, rule } = target;
    pb::RouteTarget {
        route: route.to_string(),
        rule: rule.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn local_to_pb(limit: &LocalLimit) -> pb::LocalLimit {
    let LocalLimit { rule, key, rate } = limit;
    pb::LocalLimit {
        rule: Some(rule_to_pb(rule)),
        key: key.iter().map(ToString::to_string).collect(),
        requests: rate.requests(),
        per_ms: millis(rate.per()),
        burst: rate.burst(),
    }
}

fn global_to_pb(limit: &GlobalLimit) -> pb::GlobalLimit {
    let GlobalLimit { at, domain, descriptors, hits, patience, fail_closed } = limit;
    let descriptor = |it: &Descriptor| pb::LimitDescriptor {
        rule: Some(rule_to_pb(&it.rule)),
        entries: it.entries.iter().map(entry_to_pb).collect(),
    };
    pb::GlobalLimit {
        at: at.as_ref().map(ToString::to_string).unwrap_or_default(),
        domain: domain.to_string(),
        descriptors: descriptors.iter().map(descriptor).collect(),
        hits: *hits,
        patience_ms: millis(*patience),
        fail_closed: *fail_closed,
    }
}

fn entry_to_pb(entry: &Entry) -> pb::LimitEntry {
    use pb::limit_entry::Value;
    let value = match &entry.value {
        EntryValue::Fixed(text) => Value::Fixed(text.to_string()),
        EntryValue::Of(attribute) => Value::Of(attribute.to_string()),
    };
    pb::LimitEntry { key: entry.key.to_string(), value: Some(value) }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
