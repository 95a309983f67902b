//! Authorization policies to what a tunnel can judge (`control-plane.md` 4.2, 4.3).

use std::collections::BTreeSet;

use ambit_cluster::kinds::meta::{Texts, selects};
use ambit_cluster::kinds::policy::{
    AuthorizationPolicy, Operation, PolicyAction, Rule as Given, Source, When,
};
use ambit_cluster::kinds::scalar::{AccountName, Cidr, Port, PortText, Word};
use ambit_model::name::PolicyKey;
use ambit_model::policy::{
    AccountMatch, Action, Clause, Condition, Match, Policy, PolicyScope, RangeMatch, Rule, TextMatch,
};
use ambit_model::request_policy::text_match;

use super::{At, alias, peer};
use crate::index::World;

/// What becomes of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Sent {
        /// As a tunnel judges by it.
        policy: Policy,
        /// Attributes it asks for that a tunnel cannot see, sorted.
        unseen: BTreeSet<String>,
    },
    /// It is not, for a reason.
    NotSent(Reason),
}

/// Why a policy is not sent to tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is attached to objects, and enforced there.
    Targeted,
    /// It would only be logged.
    DryRun,
    /// Its action is none that a tunnel can take.
    Action,
    /// A name in it is none.
    Name,
}

/// What becomes of a policy.
#[must_use]
pub fn verdict(world: &World, object: &AuthorizationPolicy) -> Verdict {
    let spec = &object.spec;
    if spec.targets().next().is_some() {
        return Verdict::NotSent(Reason::Targeted);
    }
    if is_dry_run(object) {
        return Verdict::NotSent(Reason::DryRun);
    }
    let action = match spec.action {
        PolicyAction::Allow => Action::Allow,
        PolicyAction::Deny => Action::Deny,
        PolicyAction::Audit | PolicyAction::Custom => return Verdict::NotSent(Reason::Action),
    };
    let meta = &object.metadata;
    let Some(key) = key(&meta.namespace, &meta.name) else { return Verdict::NotSent(Reason::Name) };
    let mut unseen = BTreeSet::new();
    let rules =
        spec.rules.iter().filter_map(|given| rule(given, action, &meta.namespace, &mut unseen)).collect();
    let scope = match selector(object) {
        Some(_) => PolicyScope::Selector,
        None if meta.namespace == world.mesh.root_namespace => PolicyScope::Global,
        None => PolicyScope::Namespace,
    };
    let mut policy = Policy { key, scope, action, rules, dry_run: false };
    alias::widen(&mut policy, &world.mesh);
    Verdict::Sent { policy, unseen }
}

/// The policies that are listed on a workload with these labels: authorization policies first, sorted, then what
/// its peers are asked for.
pub(super) fn attached(at: &At<'_>, labels: &Texts) -> Vec<PolicyKey> {
    let root = at.world.mesh.root_namespace.as_str();
    let apart = at.world.space(root).filter(|_| root != at.namespace);
    let policies = at.space.policies.values().chain(apart.into_iter().flat_map(|it| it.policies.values()));
    let chosen = policies.filter(|it| selector(it).is_some_and(|it| selects(it, labels)) && is_sent(it));
    let mut keys: Vec<_> = chosen.filter_map(|it| key(&it.metadata.namespace, &it.metadata.name)).collect();
    keys.sort_by_cached_key(ToString::to_string);
    keys.extend(peer::attached(at, labels));
    keys
}

fn is_sent(object: &AuthorizationPolicy) -> bool {
    let acts = matches!(object.spec.action, PolicyAction::Allow | PolicyAction::Deny);
    acts && !is_dry_run(object) && object.spec.targets().next().is_none()
}

pub(super) fn is_dry_run(object: &AuthorizationPolicy) -> bool {
    matches!(object.metadata.annotation("istio.io/dry-run"), Some("true" | "True" | "TRUE" | "t" | "T" | "1"))
}

/// A selector without labels selects the whole namespace. (Upstream sends such a policy but attaches it to nobody,
/// which makes it inert.)
fn selector(object: &AuthorizationPolicy) -> Option<&Texts> {
    object.spec.selector.as_ref().map(|it| &it.match_labels).filter(|labels| !labels.is_empty())
}

fn key(namespace: &str, name: &str) -> Option<PolicyKey> {
    Some(PolicyKey { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
}

/// A rule: none when it allows by something that a tunnel cannot see, for allowing without it would allow more.
fn rule(given: &Given, action: Action, namespace: &str, unseen: &mut BTreeSet<String>) -> Option<Rule> {
    let to: Vec<_> = given.to.iter().map(|it| operation(&it.operation)).collect();
    let from: Vec<_> = given.from.iter().map(|it| source(&it.source, namespace)).collect();
    let when: Vec<_> = given.when.iter().map(condition).collect();
    let lost: Vec<_> =
        to.iter().chain(&from).chain(&when).flat_map(|part| part.unseen.iter().cloned()).collect();
    let whole = lost.is_empty();
    unseen.extend(lost);
    if action == Action::Allow && !whole {
        return None;
    }
    let alternatives = |parts: &[Part]| Clause { matches: parts.iter().map(|it| it.seen.clone()).collect() };
    let mut clauses = Vec::new();
    for parts in [&to, &from] {
        if !parts.is_empty() {
            clauses.push(alternatives(parts));
        }
    }
    clauses.extend(when.iter().map(|part| alternatives(std::slice::from_ref(part))));
    Some(Rule { clauses })
}

/// What a tunnel can see of one entry of a rule.
struct Part {
    seen: Match,
    /// The attributes it asks for beside that.
    unseen: Vec<String>,
}

/// The names of lists that are not empty.
fn given_of(lists: &[(&str, bool)]) -> Vec<String> {
    lists.iter().filter(|(_, empty)| !empty).map(|(name, _)| (*name).to_owned()).collect()
}

fn operation(given: &Operation) -> Part {
    let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = given;
    let number = |port: &PortText| port.0;
    let unseen = given_of(&[
        ("hosts", hosts.is_empty()),
        ("notHosts", not_hosts.is_empty()),
        ("methods", methods.is_empty()),
        ("notMethods", not_methods.is_empty()),
        ("paths", paths.is_empty()),
        ("notPaths", not_paths.is_empty()),
    ]);
    Part {
        seen: Match { destination_ports: condition_of(ports, not_ports, number), ..Match::default() },
        unseen,
    }
}

fn source(given: &Source, namespace: &str) -> Part {
    let Source {
        principals,
        not_principals,
        request_principals,
        not_request_principals,
        namespaces,
        not_namespaces,
        service_accounts,
        not_service_accounts,
        ip_blocks,
        not_ip_blocks,
        remote_ip_blocks,
        not_remote_ip_blocks,
        trust_domains,
        not_trust_domains,
    } = given;
    let read = |name: &AccountName| account(namespace, name);
    let accounts = |names: &[AccountName]| names.iter().map(read).collect::<Option<Vec<_>>>();
    let (accounts, not_accounts) = (accounts(service_accounts), accounts(not_service_accounts));
    let mut unseen = given_of(&[
        ("requestPrincipals", request_principals.is_empty()),
        ("notRequestPrincipals", not_request_principals.is_empty()),
        ("remoteIpBlocks", remote_ip_blocks.is_empty()),
        ("notRemoteIpBlocks", not_remote_ip_blocks.is_empty()),
        ("serviceAccounts", accounts.is_some()),
        ("notServiceAccounts", not_accounts.is_some()),
    ]);
    let mut seen = Match {
        principals: condition_of(principals, not_principals, text),
        namespaces: condition_of(namespaces, not_namespaces, text),
        service_accounts: Condition {
            any: accounts.unwrap_or_default(),
            none: not_accounts.unwrap_or_default(),
        },
        source_ips: condition_of(ip_blocks, not_ip_blocks, range),
        ..Match::default()
    };
    if !trust_domain(&mut seen, trust_domains, not_trust_domains) {
        unseen.push("trustDomains".into());
    }
    Part { seen, unseen }
}

/// A trust domain is how a principal begins. False when that cannot be said: by wildcards, or beside principals
/// that are asked for as well. (Upstream forgets about trust domains, which allows more than was meant.)
fn trust_domain(seen: &mut Match, any: &[Word], none: &[Word]) -> bool {
    let beginning = |domain: &Word| TextMatch::Prefix(format!("{}/", domain.0).into());
    let plain = |domains: &[Word]| domains.iter().all(|domain| !domain.0.contains('*'));
    if !plain(any) || !plain(none) || (!any.is_empty() && !seen.principals.any.is_empty()) {
        return false;
    }
    seen.principals.any.extend(any.iter().map(beginning));
    seen.principals.none.extend(none.iter().map(beginning));
    true
}

/// An account; of a name that says none, in this namespace.
pub(super) fn account(namespace: &str, name: &AccountName) -> Option<AccountMatch> {
    let namespace = name.namespace.as_deref().unwrap_or(namespace).parse().ok()?;
    Some(AccountMatch { namespace, service_account: name.account.parse().ok()? })
}

fn condition(given: &When) -> Part {
    let When { key, values, not_values } = given;
    let mut seen = Match::default();
    let mut unseen = Vec::new();
    match key.as_str() {
        "source.ip" => seen.source_ips = condition_of(values, not_values, |it| range_text(it)),
        "source.namespace" => seen.namespaces = condition_of(values, not_values, |it| text_match(it)),
        "source.principal" => seen.principals = condition_of(values, not_values, |it| text_match(it)),
        "destination.ip" => seen.destination_ips = condition_of(values, not_values, |it| range_text(it)),
        "destination.port" => {
            // Read when the policy was: a value that is no port never comes this far.
            let port = |text: &String| Port::read(text).unwrap_or_default().0;
            seen.destination_ports = condition_of(values, not_values, port);
        }
        other => unseen.push(other.to_owned()),
    }
    Part { seen, unseen }
}

/// Values of which one must be, and of which none may be.
pub(super) fn condition_of<G, T>(any: &[G], none: &[G], read: impl Fn(&G) -> T) -> Condition<T> {
    Condition { any: any.iter().map(&read).collect(), none: none.iter().map(&read).collect() }
}

/// A text as policies write it.
pub(super) fn text(word: &Word) -> TextMatch {
    text_match(&word.0)
}

fn range(cidr: &Cidr) -> RangeMatch {
    RangeMatch::Range(cidr.0)
}

fn range_text(text: &str) -> RangeMatch {
    Cidr::read(text).map_or(RangeMatch::Unreadable, |cidr| range(&cidr))
}
