//! Policies against what they are about: workloads, services, accounts, each other.

use std::collections::BTreeMap;

use ambit_cluster::Kind;
use ambit_cluster::kinds::meta::{Meta, Texts, selects};
use ambit_cluster::kinds::policy::{AuthorizationPolicy, PeerAuthentication, PolicyCondition, Rule};
use ambit_cluster::kinds::scalar::PortName;
use ambit_cluster::kinds::service::Service;

use super::finding::{
    CONDITION, Finding, IGNORED_SELECTOR, NO_TARGET, SAME_SCOPE, SELECTS_NOTHING, TRUST_DOMAIN, UNKNOWN_PEER,
    UNKNOWN_PORT,
};
use super::view::View;

/// All that is wrong with policies.
pub(super) fn check(view: &View<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for policy in &view.policies {
        let kind = Kind::AuthorizationPolicy;
        let labels = policy.spec.selector.as_ref().map(|it| &it.match_labels);
        found.extend(labels.and_then(|labels| chooses_nothing(view, kind, &policy.metadata, labels)));
        found.extend(targets(view, policy));
        found.extend(sources(view, policy));
        found.extend(conditions(kind, &policy.metadata, &policy.status.conditions));
    }
    for policy in &view.peers {
        found.extend(peer(view, policy));
    }
    found.extend(same_scope(view));
    found
}

fn chooses_nothing(view: &View<'_>, kind: Kind, meta: &Meta, labels: &Texts) -> Option<Finding> {
    let namespace = &meta.namespace;
    if labels.is_empty() || !view.knows_workloads(namespace) {
        return None;
    }
    if view.workloads(namespace).any(|of| selects(labels, of)) {
        return None;
    }
    let wanted: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let remedy = "correct the labels, or remove the policy; `kubectl get pods --show-labels` lists them";
    let finding = Finding::about(SELECTS_NOTHING, kind, meta, "chooses no workload of its namespace", remedy);
    Some(finding.at("spec.selector.matchLabels", &wanted.join(",")))
}

fn targets(view: &View<'_>, policy: &AuthorizationPolicy) -> Vec<Finding> {
    let meta = &policy.metadata;
    let missing = |target: &&ambit_cluster::kinds::policy::PolicyTarget| {
        let kind = match (target.group.as_str(), target.kind.as_str()) {
            ("" | "core", "Service") => Kind::Service,
            ("networking.istio.io", "ServiceEntry") => Kind::ServiceEntry,
            ("gateway.networking.k8s.io", "Gateway") => Kind::Gateway,
            _ => return false,
        };
        view.has(kind, &meta.namespace, &target.name) == Some(false)
    };
    let finding = |target: &ambit_cluster::kinds::policy::PolicyTarget| {
        let what = format!("there is no {} {} in namespace {}", target.kind, target.name, meta.namespace);
        let remedy = "name one that is there: a policy without its target is in force nowhere";
        let finding = Finding::about(NO_TARGET, Kind::AuthorizationPolicy, meta, what, remedy);
        finding.at("spec.targetRefs", &target.name)
    };
    policy.spec.targets().filter(missing).map(finding).collect()
}

/// Whom the rules name.
fn sources(view: &View<'_>, policy: &AuthorizationPolicy) -> Vec<Finding> {
    policy.spec.rules.iter().enumerate().flat_map(|(at, rule)| named(view, policy, at, rule)).collect()
}

fn named(view: &View<'_>, policy: &AuthorizationPolicy, at: usize, rule: &Rule) -> Vec<Finding> {
    let mut found = Vec::new();
    let meta = &policy.metadata;
    let about =
        |code, what: String, remedy| Finding::about(code, Kind::AuthorizationPolicy, meta, what, remedy);
    for (nth, from) in rule.from.iter().enumerate() {
        let place = |key: &str| format!("spec.rules[{at}].from[{nth}].source.{key}");
        let source = &from.source;
        for word in source.principals.iter().chain(&source.not_principals) {
            if let Some((what, is_domain)) = unknown_principal(view, &word.0) {
                let (code, remedy) = if is_domain {
                    (TRUST_DOMAIN, "write TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT with the mesh's trust domain")
                } else {
                    (UNKNOWN_PEER, "correct the namespace or the account, or make them first")
                };
                found.push(about(code, what, remedy).at(place("principals"), &word.0));
            }
        }
        for word in source.namespaces.iter().chain(&source.not_namespaces) {
            if view.around.whole && !word.0.contains('*') && !view.namespaces.contains_key(word.0.as_str()) {
                let what = format!("there is no namespace {}", word.0);
                let remedy = "correct the name, or make the namespace first";
                found.push(about(UNKNOWN_PEER, what, remedy).at(place("namespaces"), &word.0));
            }
        }
    }
    found
}

/// What is unknown about a principal, and whether it is the trust domain. Patterns are taken as they are.
fn unknown_principal(view: &View<'_>, principal: &str) -> Option<(String, bool)> {
    let (domain, rest) = principal.split_once('/')?;
    if let Some(own) = view.trust.as_deref()
        && !domain.contains('*')
        // In policies this one stands for the mesh's own, whatever that is.
        && domain != "cluster.local"
        && domain != own
        && !view.aliases.iter().any(|alias| alias == domain)
    {
        return Some((format!("trust domain {domain} is not the mesh's, which is {own}"), true));
    }
    let account = rest.strip_prefix("ns/")?.split_once("/sa/")?;
    let is_pattern = rest.contains('*') || domain.contains('*');
    if is_pattern || !view.around.whole || view.accounts.contains(&account) {
        return None;
    }
    Some((format!("there is no service account {} in namespace {}", account.1, account.0), false))
}

fn peer(view: &View<'_>, policy: &PeerAuthentication) -> Vec<Finding> {
    let kind = Kind::PeerAuthentication;
    let meta = &policy.metadata;
    let mut found = Vec::new();
    let labels = policy.selector().filter(|labels| !labels.is_empty());
    if let Some(labels) = labels {
        if meta.namespace == view.around.system {
            let what = "is ignored: in the mesh's namespace only those without a selector count";
            let remedy = "move it to the namespace of the workloads, or remove the selector";
            found.push(Finding::about(IGNORED_SELECTOR, kind, meta, what, remedy));
            return found;
        }
        found.extend(chooses_nothing(view, kind, meta, labels));
        found.extend(ports(view, policy, labels));
    }
    found
}

/// Ports of their own modes, where the chosen workloads have none such.
fn ports(view: &View<'_>, policy: &PeerAuthentication, labels: &Texts) -> Vec<Finding> {
    let meta = &policy.metadata;
    let in_namespace = |of: &Meta| of.namespace == meta.namespace;
    let pods: Vec<_> = view
        .pods
        .iter()
        .filter(|it| in_namespace(&it.metadata) && selects(labels, &it.metadata.labels))
        .collect();
    if pods.is_empty() {
        return Vec::new();
    }
    let serves = |number: u16| {
        pods.iter().any(|pod| {
            let containers = || pod.spec.containers.iter().chain(pod.spec.init_containers.iter());
            let declared =
                containers().flat_map(|it| it.ports.iter()).any(|it| it.container_port.0 == number);
            let chosen = |service: &&&Service| {
                let selector = &service.spec.selector;
                in_namespace(&service.metadata)
                    && !selector.is_empty()
                    && selects(selector, &pod.metadata.labels)
            };
            let targets = |service: &&Service| {
                service.spec.ports.iter().any(|port| match &port.target_port {
                    None => port.port.0 == number,
                    Some(PortName::Number(target)) => *target == number,
                    // Resolved by what containers declare, which was looked at.
                    Some(PortName::Name(_)) => false,
                })
            };
            declared || view.services.iter().filter(chosen).any(targets)
        })
    };
    let unknown = policy.spec.port_level_mtls.keys().filter(|port| !serves(port.0));
    let finding = |port: u16| {
        let what = format!("no chosen pod declares port {port}, and no service leads to it");
        let remedy = "name the port that the container listens on, not the service's";
        let finding = Finding::about(UNKNOWN_PORT, Kind::PeerAuthentication, meta, what, remedy);
        finding.at("spec.portLevelMtls", &port.to_string())
    };
    unknown.map(|port| finding(port.0)).collect()
}

/// A namespace, and the labels of its workloads.
type Scope<'a> = (&'a str, Vec<(&'a String, &'a String)>);

/// Of those for the same workloads the oldest counts.
fn same_scope(view: &View<'_>) -> Vec<Finding> {
    let mut scopes: BTreeMap<Scope<'_>, Vec<&PeerAuthentication>> = BTreeMap::new();
    for policy in &view.peers {
        let labels = policy.selector().map(|labels| labels.iter().collect::<Vec<_>>()).unwrap_or_default();
        scopes.entry((&policy.metadata.namespace, labels)).or_default().push(policy);
    }
    let mut found = Vec::new();
    for mut same in scopes.into_values().filter(|same| same.len() > 1) {
        same.sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
        let Some((counts, others)) = same.split_first() else { continue };
        for other in others {
            let what = format!("{} is for the same workloads and is older: it counts", counts.metadata.name);
            let remedy = "keep one of the two";
            found.push(Finding::about(SAME_SCOPE, Kind::PeerAuthentication, &other.metadata, what, remedy));
        }
    }
    found
}

/// What the mesh itself says of an object, where it says that something is not as asked.
pub(super) fn conditions(kind: Kind, meta: &Meta, conditions: &[PolicyCondition]) -> Vec<Finding> {
    let ours = |it: &&PolicyCondition| {
        let kind = it.kind.rsplit('/').next().unwrap_or_default();
        let kinds = ["Accepted", "ZtunnelAccepted", "WaypointAccepted", "WaypointBound", "VisibilityApplied"];
        // Upstream says of a policy that lost its HTTP attributes that it is accepted, and so does ours.
        let is_less = ["PartiallyInvalid", "UnsupportedValue"].contains(&it.reason.as_str());
        kinds.contains(&kind) && (it.status == "False" || is_less)
    };
    let finding = |it: &PolicyCondition| {
        let what = format!("{}: {}", it.reason, it.message);
        Finding::about(CONDITION, kind, meta, what, "")
            .at(format!("status.conditions: {}", it.kind), &it.status)
    };
    conditions.iter().filter(ours).map(finding).collect()
}
