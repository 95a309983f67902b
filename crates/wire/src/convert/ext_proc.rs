//! Policies that have requests go by a processor. Owns their message, which is of our own schema: what cannot be read is
//! refused whole, and the former version stays in force.

use std::time::Duration;

use ambit_model::ext_proc::{BODY_MOST, BodyMode, ChangeRules, ExtProc, Modes, Shown};
use ambit_model::name::PolicyKey;

use super::provider::{reach, which, which_to_pb};
use super::rate_limit::{attribute, given_rule, millis, route_target_to_pb, route_targets};
use super::request_policy::{rule_to_pb, target, target_to_pb};
use super::{ConvertError, check_count, name};
use crate::limits;
use crate::pb::waypoint as pb;
use crate::pb::waypoint::proc_modes::Body;

/// A policy of a processor from its message.
pub fn ext_proc_from_pb(raw: pb::ExtProc) -> Result<ExtProc, ConvertError> {
    let pb::ExtProc {
        namespace,
        name: own_name,
        targets,
        rule,
        at,
        patience_ms,
        fail_open,
        modes,
        may_choose,
        body_most,
        shown,
        hidden,
        attributes,
        changes,
        watches,
        routes,
    } = raw;
    check_count("targets", limits::POLICY_TARGETS, targets.len())?;
    check_count("attributes", limits::LIMIT_LIST, attributes.len())?;
    let body_most = usize::try_from(body_most).unwrap_or(usize::MAX);
    check_count("body_most", BODY_MOST, body_most)?;
    if patience_ms == 0 {
        let (field, value) = ("patience_ms", patience_ms.to_string());
        return Err(ConvertError::Value { field, value, wanted: "a time" });
    }
    Ok(ExtProc {
        key: PolicyKey { namespace: name("namespace", &namespace)?, name: name("name", &own_name)? },
        targets: targets.into_iter().map(target).collect::<Result<_, _>>()?,
        routes: route_targets(routes)?,
        rule: given_rule(rule)?,
        at: (!at.is_empty()).then(|| reach(at)).transpose()?,
        patience: Duration::from_millis(patience_ms),
        fail_open,
        watches,
        modes: modes.map(modes_from_pb).transpose()?.unwrap_or_default(),
        may_choose,
        body_most,
        shown: Shown { allow: which(shown)?, deny: which(hidden)? },
        attributes: attributes.into_iter().map(|it| attribute("attributes", it)).collect::<Result<_, _>>()?,
        changes: changes_from_pb(changes.unwrap_or_default())?,
    })
}

fn modes_from_pb(raw: pb::ProcModes) -> Result<Modes, ConvertError> {
    let pb::ProcModes {
        request_headers,
        response_headers,
        request_body,
        response_body,
        request_trailers,
        response_trailers,
    } = raw;
    Ok(Modes {
        request_headers,
        response_headers,
        request_body: body_mode("modes.request_body", request_body)?,
        response_body: body_mode("modes.response_body", response_body)?,
        request_trailers,
        response_trailers,
    })
}

fn body_mode(field: &'static str, raw: i32) -> Result<BodyMode, ConvertError> {
    Ok(match Body::try_from(raw) {
        Ok(Body::None) => BodyMode::None,
        Ok(Body::Streamed) => BodyMode::Streamed,
        Ok(Body::Buffered) => BodyMode::Buffered,
        Ok(Body::BufferedPartial) => BodyMode::BufferedPartial,
        Ok(Body::FullDuplexStreamed) => BodyMode::Duplex,
        Err(_) => {
            return Err(ConvertError::Value { field, value: raw.to_string(), wanted: "a mode, from 0 to 4" });
        }
    })
}

fn changes_from_pb(raw: pb::ProcChanges) -> Result<ChangeRules, ConvertError> {
    let pb::ProcChanges { routing, nothing_else, allow, deny } = raw;
    Ok(ChangeRules { routing, nothing_else, allow: which(allow)?, deny: which(deny)? })
}

/// Its message.
#[must_use]
pub fn ext_proc_to_pb(policy: &ExtProc) -> pb::ExtProc {
    let ExtProc {
        key: PolicyKey { namespace, name },
        targets,
        routes,
        rule,
        at,
        patience,
        fail_open,
        watches,
        modes,
        may_choose,
        body_most,
        shown: Shown { allow, deny },
        attributes,
        changes,
    } = policy;
    pb::ExtProc {
        namespace: namespace.to_string(),
        name: name.to_string(),
        targets: targets.iter().map(target_to_pb).collect(),
        rule: Some(rule_to_pb(rule)),
        at: at.as_ref().map(ToString::to_string).unwrap_or_default(),
        patience_ms: millis(*patience),
        fail_open: *fail_open,
        modes: Some(modes_to_pb(modes)),
        may_choose: *may_choose,
        body_most: u64::try_from(*body_most).unwrap_or(u64::MAX),
        shown: Some(which_to_pb(allow)),
        hidden: Some(which_to_pb(deny)),
        attributes: attributes.iter().map(ToString::to_string).collect(),
        changes: Some(changes_to_pb(changes)),
        watches: *watches,
        routes: routes.iter().map(route_target_to_pb).collect(),
    }
}

fn modes_to_pb(modes: &Modes) -> pb::ProcModes {
    let Modes {
        request_headers,
        response_headers,
        request_body,
        response_body,
        request_trailers,
        response_trailers,
    } = *modes;
    let body = |mode| match mode {
        BodyMode::None => Body::None.into(),
        BodyMode::Streamed => Body::Streamed.into(),
        BodyMode::Buffered => Body::Buffered.into(),
        BodyMode::BufferedPartial => Body::BufferedPartial.into(),
        BodyMode::Duplex => Body::FullDuplexStreamed.into(),
    };
    pb::ProcModes {
        request_headers,
        response_headers,
        request_body: body(request_body),
        response_body: body(response_body),
        request_trailers,
        response_trailers,
    }
}

fn changes_to_pb(changes: &ChangeRules) -> pb::ProcChanges {
    let ChangeRules { routing, nothing_else, allow, deny } = changes;
    pb::ProcChanges {
        routing: *routing,
        nothing_else: *nothing_else,
        allow: Some(which_to_pb(allow)),
        deny: Some(which_to_pb(deny)),
    }
}
