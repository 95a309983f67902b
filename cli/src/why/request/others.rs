//! Who else has a say about a request that policies let in: limits that count it, and processors that it would go by.
//! Owns which those are; none of them is asked, so what they would say is not known.

use std::fmt;

use ambit_model::ext_proc::ExtProc;
use ambit_model::http_route::RuleName;
use ambit_model::rate_limit::RateLimit;
use ambit_model::request_policy::{Facts, Target, fires};
use ambit_model::snapshot::Snapshot;
use serde::Serialize;

/// A policy of limits that counts a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimitTold {
    /// `<namespace>/<name>`.
    pub(crate) name: String,
    /// Limits that the waypoint counts itself: which, and how much.
    pub(crate) local: Vec<String>,
    /// The service that counts besides.
    pub(crate) service: Option<String>,
}

/// A processor that a request goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessorTold {
    /// `<namespace>/<name>`.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) at: String,
    /// It only watches.
    pub(crate) watches: bool,
}

/// Policies of limits that count a request, in their order.
pub(super) fn limits(
    world: &Snapshot,
    (targets, rule): (&[Target], Option<RuleName<'_>>),
    facts: &Facts<'_>,
) -> Vec<LimitTold> {
    let all = world.rate_limits_of(targets, rule).into_iter().map(|it| limit(it, facts));
    all.filter(|it| !it.local.is_empty() || it.service.is_some()).collect()
}

fn limit(policy: &RateLimit, facts: &Facts<'_>) -> LimitTold {
    let local = policy
        .counted(facts)
        .map(|(at, limit)| format!("local[{at}] ({} in {:?})", limit.rate.requests(), limit.rate.per()));
    let asked = policy.global.as_ref().filter(|it| !it.describe(facts).is_empty());
    let at = |at: Option<&ambit_model::provider::Reach>| at.map_or_else(unreadable, ToString::to_string);
    LimitTold {
        name: policy.key.to_string(),
        local: local.collect(),
        service: asked.map(|it| at(it.at.as_ref())),
    }
}

/// Processors that a request goes by, in their order.
pub(super) fn processors(
    world: &Snapshot,
    (targets, rule): (&[Target], Option<RuleName<'_>>),
    facts: &Facts<'_>,
) -> Vec<ProcessorTold> {
    let all = world.ext_procs_of(targets, rule).into_iter();
    let told = |it: &ExtProc| ProcessorTold {
        name: it.key.to_string(),
        at: it.at.as_ref().map_or_else(unreadable, ToString::to_string),
        watches: it.watches,
    };
    all.filter(|it| fires(&it.rule, facts)).map(|it| told(it)).collect()
}

fn unreadable() -> String {
    "a service that cannot be read".into()
}

impl fmt::Display for LimitTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.local.join(", "))?;
        match &self.service {
            Some(service) if self.local.is_empty() => write!(f, "{service} counts"),
            Some(service) => write!(f, ", and {service} counts"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ProcessorTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.at)?;
        f.write_str(if self.watches { ", which only watches" } else { "" })
    }
}
