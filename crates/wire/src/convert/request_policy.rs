//! Policies of requests. Owns their message, which is of our own schema: what it holds was read with caution where it
//! was translated, so what cannot be read here is refused, and the former version stays in force.

mod requirement;
mod values;

use ambit_model::name::{Label, PolicyKey};
use ambit_model::request_policy::{
    Operation, PathPattern, RequestAction, RequestPolicy, RequestRule, Source, Target, text_match, written,
};

use self::requirement::{requirement_from_pb, requirement_to_pb};
use self::values::{account, account_to_pb, ports, ports_to_pb, range, values, values_to_pb};
use super::{ConvertError, check_count, known, name};
use crate::limits;
use crate::pb::waypoint as pb;

/// A policy from its message.
pub fn request_policy_from_pb(raw: pb::Policy) -> Result<RequestPolicy, ConvertError> {
    let pb::Policy { namespace, name: own_name, targets, action, provider, rules, dry_run } = raw;
    check_count("targets", limits::POLICY_TARGETS, targets.len())?;
    check_count("rules", limits::POLICY_LIST, rules.len())?;
    Ok(RequestPolicy {
        key: PolicyKey { namespace: name("namespace", &namespace)?, name: name("name", &own_name)? },
        targets: targets.into_iter().map(target).collect::<Result<_, _>>()?,
        action: match known("action", action)? {
            pb::PolicyAction::Unspecified => {
                return Err(ConvertError::UnknownValue { field: "action", value: action });
            }
            pb::PolicyAction::Allow => RequestAction::Allow,
            pb::PolicyAction::Deny => RequestAction::Deny,
            pb::PolicyAction::Audit => RequestAction::Audit,
            pb::PolicyAction::Custom => {
                RequestAction::Custom { provider: (!provider.is_empty()).then(|| provider.into()) }
            }
        },
        rules: rules.into_iter().map(rule).collect::<Result<_, _>>()?,
        dry_run,
    })
}

pub(super) fn target(raw: pb::PolicyTarget) -> Result<Target, ConvertError> {
    use pb::policy_target::Kind;
    let pb::PolicyTarget { kind } = raw;
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: "targets" })? {
        Kind::Service(key) => Target::Service(name("targets.service", &key)?),
        Kind::Waypoint(key) => {
            let PolicyKey { namespace, name } = name("targets.waypoint", &key)?;
            Target::Waypoint { namespace, name: Label::from(name.as_str()) }
        }
        Kind::Mesh(_) => Target::Mesh,
    })
}

pub(super) fn rule(raw: pb::PolicyRule) -> Result<RequestRule, ConvertError> {
    let pb::PolicyRule { from, to, when } = raw;
    check_count("rules", limits::POLICY_LIST, from.len().max(to.len()).max(when.len()))?;
    Ok(RequestRule {
        from: from.into_iter().map(source).collect::<Result<_, _>>()?,
        to: to.into_iter().map(operation).collect::<Result<_, _>>()?,
        when: when.into_iter().map(requirement_from_pb).collect::<Result<_, _>>()?,
    })
}

fn source(raw: pb::PolicySource) -> Result<Source, ConvertError> {
    let pb::PolicySource {
        principals,
        request_principals,
        namespaces,
        service_accounts,
        trust_domains,
        ip_blocks,
        remote_ip_blocks,
    } = raw;
    Ok(Source {
        principals: values(principals, |text| Ok(text_match(text)))?,
        request_principals: values(request_principals, |text| Ok(text.into()))?,
        namespaces: values(namespaces, |text| Ok(text.into()))?,
        service_accounts: values(service_accounts, account)?,
        trust_domains: values(trust_domains, |text| Ok(text_match(text)))?,
        ip_blocks: values(ip_blocks, range)?,
        remote_ip_blocks: values(remote_ip_blocks, range)?,
    })
}

fn operation(raw: pb::PolicyOperation) -> Result<Operation, ConvertError> {
    let pb::PolicyOperation { hosts, ports: numbers, methods, paths } = raw;
    Ok(Operation {
        hosts: values(hosts, |text| Ok(text_match(text)))?,
        ports: ports(numbers)?,
        methods: values(methods, |text| Ok(text_match(text)))?,
        paths: values(paths, |text| Ok(text.parse::<PathPattern>()?))?,
    })
}

/// A policy's message.
#[must_use]
pub fn request_policy_to_pb(policy: &RequestPolicy) -> pb::Policy {
    let RequestPolicy { key: PolicyKey { namespace, name }, targets, action, rules, dry_run } = policy;
    let (action, provider) = match action {
        RequestAction::Allow => (pb::PolicyAction::Allow, None),
        RequestAction::Deny => (pb::PolicyAction::Deny, None),
        RequestAction::Audit => (pb::PolicyAction::Audit, None),
        RequestAction::Custom { provider } => (pb::PolicyAction::Custom, provider.as_ref()),
    };
    pb::Policy {
        namespace: namespace.to_string(),
        name: name.to_string(),
        targets: targets.iter().map(target_to_pb).collect(),
        action: action.into(),
        provider: provider.map(ToString::to_string).unwrap_or_default(),
        rules: rules.iter().map(rule_to_pb).collect(),
        dry_run: *dry_run,
    }
}

pub(super) fn target_to_pb(target: &Target) -> pb::PolicyTarget {
    use pb::policy_target::Kind;
    let kind = match target {
        Target::Service(key) => Kind::Service(key.to_string()),
        Target::Waypoint { namespace, name } => Kind::Waypoint(format!("{namespace}/{name}")),
        Target::Mesh => Kind::Mesh(true),
    };
    pb::PolicyTarget { kind: Some(kind) }
}

pub(super) fn rule_to_pb(rule: &RequestRule) -> pb::PolicyRule {
    let RequestRule { from, to, when } = rule;
    pb::PolicyRule {
        from: from.iter().map(source_to_pb).collect(),
        to: to.iter().map(operation_to_pb).collect(),
        when: when.iter().map(requirement_to_pb).collect(),
    }
}

fn source_to_pb(source: &Source) -> pb::PolicySource {
    let Source {
        principals,
        request_principals,
        namespaces,
        service_accounts,
        trust_domains,
        ip_blocks,
        remote_ip_blocks,
    } = source;
    pb::PolicySource {
        principals: values_to_pb(principals, written),
        request_principals: values_to_pb(request_principals, ToString::to_string),
        namespaces: values_to_pb(namespaces, ToString::to_string),
        service_accounts: values_to_pb(service_accounts, account_to_pb),
        trust_domains: values_to_pb(trust_domains, written),
        ip_blocks: values_to_pb(ip_blocks, ToString::to_string),
        remote_ip_blocks: values_to_pb(remote_ip_blocks, ToString::to_string),
    }
}

fn operation_to_pb(operation: &Operation) -> pb::PolicyOperation {
    let Operation { hosts, ports, methods, paths } = operation;
    pb::PolicyOperation {
        hosts: values_to_pb(hosts, written),
        ports: ports_to_pb(ports),
        methods: values_to_pb(methods, written),
        paths: values_to_pb(paths, ToString::to_string),
    }
}
