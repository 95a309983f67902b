//! Authorization policies. Owns one rule of caution: a condition that cannot be read never widens what is allowed
//! and never narrows what is denied. (Refusing the whole policy would do both, for want of it.)

use ambit_model::name::PolicyKey;
use ambit_model::policy::{
    AccountMatch, Action, Clause, Condition, Match, Policy, PolicyScope, RangeMatch, Rule, TextMatch,
};
use bytes::Bytes;

use super::address::{ip_to_bytes, range_from_bytes};
use super::{ConvertError, known, name, port};
use crate::pb::security as pb;
use crate::pb::security::string_match::MatchType;

/// A policy from its message.
pub fn policy_from_pb(raw: pb::Authorization) -> Result<Policy, ConvertError> {
    let pb::Authorization { name: own_name, namespace, scope, action, rules, dry_run, extensions: _ } = raw;
    let action = match known("action", action)? {
        pb::Action::Allow => Action::Allow,
        pb::Action::Deny => Action::Deny,
    };
    Ok(Policy {
        key: PolicyKey { namespace: name("namespace", &namespace)?, name: name("name", &own_name)? },
        scope: match known("scope", scope)? {
            pb::Scope::Global => PolicyScope::Global,
            pb::Scope::Namespace => PolicyScope::Namespace,
            pb::Scope::WorkloadSelector => PolicyScope::Selector,
        },
        action,
        rules: rules.into_iter().map(|raw| rule(raw, action)).collect::<Result<_, _>>()?,
        dry_run,
    })
}

fn rule(raw: pb::Rule, action: Action) -> Result<Rule, ConvertError> {
    let pb::Rule { clauses } = raw;
    Ok(Rule { clauses: clauses.into_iter().map(|raw| clause(raw, action)).collect::<Result<_, _>>()? })
}

fn clause(raw: pb::Clause, action: Action) -> Result<Clause, ConvertError> {
    let pb::Clause { matches } = raw;
    let matches = matches.into_iter().map(|raw| one_match(raw, action)).collect::<Result<_, _>>()?;
    Ok(Clause { matches })
}

fn one_match(raw: pb::Match, action: Action) -> Result<Match, ConvertError> {
    let pb::Match {
        namespaces,
        not_namespaces,
        principals,
        not_principals,
        source_ips,
        not_source_ips,
        destination_ips,
        not_destination_ips,
        destination_ports,
        not_destination_ports,
        service_accounts,
        not_service_accounts,
        extensions: _, // opaque, and nobody's yet
    } = raw;
    let mut doubt = false;
    let read = Match {
        namespaces: condition(namespaces, not_namespaces, text, &mut doubt),
        service_accounts: condition(service_accounts, not_service_accounts, account, &mut doubt),
        principals: condition(principals, not_principals, text, &mut doubt),
        source_ips: ranges(source_ips, not_source_ips),
        destination_ips: ranges(destination_ips, not_destination_ips),
        destination_ports: Condition {
            any: ports("destination_ports", destination_ports)?,
            none: ports("not_destination_ports", not_destination_ports)?,
        },
    };
    Ok(match action {
        Action::Allow if doubt => in_doubt(),
        Action::Deny if doubt && read == Match::default() => in_doubt(),
        Action::Allow | Action::Deny => read,
    })
}

/// A match that lets nothing in and keeps everything out: `judge` takes an unreadable range so.
fn in_doubt() -> Match {
    let source_ips = Condition { any: vec![RangeMatch::Unreadable], none: Vec::new() };
    Match { source_ips, ..Match::default() }
}

/// The readable values of a condition. One that cannot be read sets `doubt`; an accepted value among others that
/// cannot be read drops all of them, for "one of these or something else" demands nothing.
fn condition<R, T>(any: Vec<R>, none: Vec<R>, read: fn(R) -> Option<T>, doubt: &mut bool) -> Condition<T> {
    let wanted = any.len();
    let mut any: Vec<T> = any.into_iter().filter_map(read).collect();
    if any.len() < wanted {
        *doubt = true;
        any.clear();
    }
    let wanted = none.len();
    let none: Vec<T> = none.into_iter().filter_map(read).collect();
    *doubt |= none.len() < wanted;
    Condition { any, none }
}

fn text(raw: pb::StringMatch) -> Option<TextMatch> {
    let pb::StringMatch { match_type } = raw;
    Some(match match_type? {
        MatchType::Exact(text) => TextMatch::Exact(text.into()),
        MatchType::Prefix(text) => TextMatch::Prefix(text.into()),
        MatchType::Suffix(text) => TextMatch::Suffix(text.into()),
        MatchType::Presence(()) => TextMatch::Presence,
    })
}

fn account(raw: pb::ServiceAccountMatch) -> Option<AccountMatch> {
    let pb::ServiceAccountMatch { namespace, service_account } = raw;
    Some(AccountMatch { namespace: namespace.parse().ok()?, service_account: service_account.parse().ok()? })
}

fn ranges(any: Vec<pb::Address>, none: Vec<pb::Address>) -> Condition<RangeMatch> {
    let read = |raw: Vec<pb::Address>| raw.iter().map(range).collect();
    Condition { any: read(any), none: read(none) }
}

fn range(raw: &pb::Address) -> RangeMatch {
    let pb::Address { address, length } = raw;
    match range_from_bytes("address", address, *length) {
        Ok(range) => RangeMatch::Range(range),
        Err(_) => RangeMatch::Unreadable,
    }
}

fn ports(field: &'static str, raw: Vec<u32>) -> Result<Vec<u16>, ConvertError> {
    raw.into_iter().map(|value| port(field, value)).collect()
}

/// A policy's message.
#[must_use]
pub fn policy_to_pb(policy: &Policy) -> pb::Authorization {
    let Policy { key: PolicyKey { namespace, name }, scope, action, rules, dry_run } = policy;
    let scope = match scope {
        PolicyScope::Global => pb::Scope::Global,
        PolicyScope::Namespace => pb::Scope::Namespace,
        PolicyScope::Selector => pb::Scope::WorkloadSelector,
    };
    let action = match action {
        Action::Allow => pb::Action::Allow,
        Action::Deny => pb::Action::Deny,
    };
    let clause =
        |Clause { matches }: &Clause| pb::Clause { matches: matches.iter().map(match_to_pb).collect() };
    pb::Authorization {
        name: name.to_string(),
        namespace: namespace.to_string(),
        scope: scope.into(),
        action: action.into(),
        rules: rules
            .iter()
            .map(|Rule { clauses }| pb::Rule { clauses: clauses.iter().map(clause).collect() })
            .collect(),
        dry_run: *dry_run,
        extensions: Vec::new(),
    }
}

fn match_to_pb(one: &Match) -> pb::Match {
    let Match { namespaces, service_accounts, principals, source_ips, destination_ips, destination_ports } =
        one;
    let texts = |list: &[TextMatch]| list.iter().map(text_to_pb).collect();
    let accounts = |list: &[AccountMatch]| list.iter().map(account_to_pb).collect();
    let ranges = |list: &[RangeMatch]| list.iter().map(range_to_pb).collect();
    let ports = |list: &[u16]| list.iter().copied().map(u32::from).collect();
    pb::Match {
        namespaces: texts(&namespaces.any),
        not_namespaces: texts(&namespaces.none),
        principals: texts(&principals.any),
        not_principals: texts(&principals.none),
        source_ips: ranges(&source_ips.any),
        not_source_ips: ranges(&source_ips.none),
        destination_ips: ranges(&destination_ips.any),
        not_destination_ips: ranges(&destination_ips.none),
        destination_ports: ports(&destination_ports.any),
        not_destination_ports: ports(&destination_ports.none),
        service_accounts: accounts(&service_accounts.any),
        not_service_accounts: accounts(&service_accounts.none),
        extensions: Vec::new(),
    }
}

fn text_to_pb(text: &TextMatch) -> pb::StringMatch {
    let match_type = match text {
        TextMatch::Exact(text) => MatchType::Exact(text.to_string()),
        TextMatch::Prefix(text) => MatchType::Prefix(text.to_string()),
        TextMatch::Suffix(text) => MatchType::Suffix(text.to_string()),
        TextMatch::Presence => MatchType::Presence(()),
    };
    pb::StringMatch { match_type: Some(match_type) }
}

fn account_to_pb(account: &AccountMatch) -> pb::ServiceAccountMatch {
    let AccountMatch { namespace, service_account } = account;
    pb::ServiceAccountMatch { namespace: namespace.to_string(), service_account: service_account.to_string() }
}

fn range_to_pb(range: &RangeMatch) -> pb::Address {
    match range {
        RangeMatch::Range(range) => {
            pb::Address { address: ip_to_bytes(range.addr()), length: range.prefix_len().into() }
        }
        RangeMatch::Unreadable => pb::Address { address: Bytes::new(), length: 0 },
    }
}
