//! Policies of requests as people read them in dumps: shaped as the objects they come from, what is not set left out.
//! Written, never read back.

use ambit_model::policy::{AccountMatch, Condition};
use ambit_model::request_policy::{
    AddressOf, Operation, RequestAction, RequestPolicy, RequestRule, Requirement, Source, Target, TextOf,
    written,
};
use serde_json::{Map, Value, json};

/// One policy.
#[must_use]
pub fn request_policy(policy: &RequestPolicy) -> Value {
    let RequestPolicy { key, targets, action, rules, dry_run } = policy;
    let (action, provider) = match action {
        RequestAction::Allow => ("ALLOW", None),
        RequestAction::Deny => ("DENY", None),
        RequestAction::Audit => ("AUDIT", None),
        RequestAction::Custom { provider } => ("CUSTOM", provider.as_ref()),
    };
    let mut members = Map::new();
    members.insert("namespace".into(), key.namespace.as_str().into());
    members.insert("name".into(), key.name.as_str().into());
    members.insert("targets".into(), targets.iter().map(target).collect());
    members.insert("action".into(), action.into());
    if let Some(provider) = provider {
        members.insert("provider".into(), provider.as_str().into());
    }
    members.insert("rules".into(), rules.iter().map(rule).collect());
    if *dry_run {
        members.insert("dryRun".into(), true.into());
    }
    Value::Object(members)
}

pub(super) fn target(target: &Target) -> Value {
    match target {
        Target::Service(key) => json!({ "service": key.to_string() }),
        Target::Waypoint { namespace, name } => json!({ "waypoint": format!("{namespace}/{name}") }),
        Target::Mesh => "every waypoint".into(),
    }
}

pub(super) fn rule(rule: &RequestRule) -> Value {
    let RequestRule { from, to, when } = rule;
    let mut members = Map::new();
    for (name, list) in [
        ("from", from.iter().map(source).collect::<Vec<_>>()),
        ("to", to.iter().map(operation).collect()),
        ("when", when.iter().map(requirement).collect()),
    ] {
        if !list.is_empty() {
            members.insert(name.into(), list.into());
        }
    }
    Value::Object(members)
}

fn source(source: &Source) -> Value {
    let Source {
        principals,
        request_principals,
        namespaces,
        service_accounts,
        trust_domains,
        ip_blocks,
        remote_ip_blocks,
    } = source;
    let mut members = Map::new();
    values(&mut members, ("principals", "notPrincipals"), principals, |it| written(it).into());
    values(&mut members, ("requestPrincipals", "notRequestPrincipals"), request_principals, shown);
    values(&mut members, ("namespaces", "notNamespaces"), namespaces, shown);
    values(&mut members, ("serviceAccounts", "notServiceAccounts"), service_accounts, account);
    values(&mut members, ("trustDomains", "notTrustDomains"), trust_domains, |it| written(it).into());
    values(&mut members, ("ipBlocks", "notIpBlocks"), ip_blocks, shown);
    values(&mut members, ("remoteIpBlocks", "notRemoteIpBlocks"), remote_ip_blocks, shown);
    Value::Object(members)
}

fn operation(operation: &Operation) -> Value {
    let Operation { hosts, ports, methods, paths } = operation;
    let mut members = Map::new();
    values(&mut members, ("hosts", "notHosts"), hosts, |it| written(it).into());
    values(&mut members, ("ports", "notPorts"), ports, shown);
    values(&mut members, ("methods", "notMethods"), methods, |it| written(it).into());
    values(&mut members, ("paths", "notPaths"), paths, shown);
    Value::Object(members)
}

fn requirement(requirement: &Requirement) -> Value {
    const LISTS: (&str, &str) = ("values", "notValues");
    let mut members = Map::new();
    let m = &mut members;
    let key = match requirement {
        Requirement::Text { of, values: texts } => {
            values(m, LISTS, texts, |it| written(it).into());
            text_of(of)
        }
        Requirement::Address { of, values: ranges } => {
            values(m, LISTS, ranges, shown);
            let name = match of {
                AddressOf::Source => "source.ip",
                AddressOf::Remote => "remote.ip",
                AddressOf::Destination => "destination.ip",
            };
            name.into()
        }
        Requirement::Namespace(names) => {
            values(m, LISTS, names, shown);
            "source.namespace".into()
        }
        Requirement::ServiceAccount(accounts) => {
            values(m, LISTS, accounts, account);
            "source.serviceAccount".into()
        }
        Requirement::RequestPrincipal(names) => {
            values(m, LISTS, names, shown);
            "request.auth.principal".into()
        }
        Requirement::Port(ports) => {
            values(m, LISTS, ports, shown);
            "destination.port".into()
        }
        Requirement::Unknown(key) => key.to_string(),
    };
    members.insert("key".into(), key.into());
    Value::Object(members)
}

fn text_of(of: &TextOf) -> String {
    match of {
        TextOf::Header(name) => format!("request.headers[{name}]"),
        TextOf::Principal => "source.principal".into(),
        TextOf::TrustDomain => "source.trustDomain".into(),
        TextOf::Audiences => "request.auth.audiences".into(),
        TextOf::Presenter => "request.auth.presenter".into(),
        TextOf::Claim(path) => {
            let parts: String = path.iter().map(|part| format!("[{part}]")).collect();
            format!("request.auth.claims{parts}")
        }
        TextOf::Sni => "connection.sni".into(),
    }
}

fn account(account: &AccountMatch) -> Value {
    format!("{}/{}", account.namespace, account.service_account).into()
}

fn shown(it: &impl ToString) -> Value {
    it.to_string().into()
}

fn values<T>(
    members: &mut Map<String, Value>,
    (any, none): (&str, &str),
    of: &Condition<T>,
    show: impl Fn(&T) -> Value,
) {
    for (name, list) in [(any, &of.any), (none, &of.none)] {
        if !list.is_empty() {
            members.insert(name.into(), list.iter().map(&show).collect());
        }
    }
}
