//! Policies of a mesh whose trust domain has other names (`trustDomainAliases`). Owns that a principal of one of them
//! is a principal of each; who may connect at all is for proxies (`TRUST_DOMAIN_ALIASES`).

use std::iter::once;

use ambit_model::policy::{Condition, Policy, TextMatch};
use ambit_model::request_policy::{RequestPolicy, RequestRule, Requirement, TextOf};

use crate::mesh::Mesh;

/// Has a policy that names a principal of one trust domain of the mesh mean the same account under all of them. One
/// that begins with another trust domain, or with none at all, stays as it is.
pub(super) fn widen(policy: &mut Policy, mesh: &Mesh) {
    let matches = policy.rules.iter_mut().flat_map(|rule| &mut rule.clauses).flat_map(|it| &mut it.matches);
    widen_all(matches.map(|it| &mut it.principals), mesh, elsewhere);
}

/// The same of a policy of requests, for principals and trust domains wherever it names them.
pub(super) fn widen_request(policy: &mut RequestPolicy, mesh: &Mesh) {
    widen_rules(&mut policy.rules, mesh);
}

/// The same of rules, wherever they are.
pub(super) fn widen_rules<'a>(rules: impl IntoIterator<Item = &'a mut RequestRule>, mesh: &Mesh) {
    for rule in rules {
        for from in &mut rule.from {
            widen_all([&mut from.principals], mesh, elsewhere);
            widen_all([&mut from.trust_domains], mesh, others);
        }
        for when in &mut rule.when {
            match when {
                Requirement::Text { of: TextOf::Principal, values } => widen_all([values], mesh, elsewhere),
                Requirement::Text { of: TextOf::TrustDomain, values } => widen_all([values], mesh, others),
                _ => {}
            }
        }
    }
}

fn widen_all<'a>(
    conditions: impl IntoIterator<Item = &'a mut Condition<TextMatch>>,
    mesh: &Mesh,
    meant: fn(&TextMatch, &[&str]) -> Vec<TextMatch>,
) {
    if mesh.aliases.is_empty() {
        return;
    }
    let domain = mesh.trust.domain();
    let domains: Vec<_> = once(&domain).chain(&mesh.aliases).map(|it| it.as_str()).collect();
    for one in conditions {
        // Whom a rule leaves out is left out under each name, too.
        for list in [&mut one.any, &mut one.none] {
            let all: Vec<_> = list.iter().flat_map(|it| meant(it, &domains)).collect();
            for other in all {
                if !list.contains(&other) {
                    list.push(other);
                }
            }
        }
    }
}

/// All of these trust domains, if it names one of them.
fn others(wanted: &TextMatch, domains: &[&str]) -> Vec<TextMatch> {
    let is_ours = matches!(wanted, TextMatch::Exact(text) if domains.contains(&&**text));
    domains.iter().filter(|_| is_ours).map(|it| TextMatch::Exact((*it).into())).collect()
}

/// The same in each of these trust domains, if it is of one of them.
fn elsewhere(wanted: &TextMatch, domains: &[&str]) -> Vec<TextMatch> {
    let (TextMatch::Exact(text) | TextMatch::Prefix(text)) = wanted else { return Vec::new() };
    let Some((_, account)) = text.split_once('/').filter(|(domain, _)| domains.contains(domain)) else {
        return Vec::new();
    };
    let renamed = |domain: &&str| {
        let text = format!("{domain}/{account}").into();
        if matches!(wanted, TextMatch::Exact(_)) { TextMatch::Exact(text) } else { TextMatch::Prefix(text) }
    };
    domains.iter().map(renamed).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{named, resources};
    use super::*;
    use crate::testing::world;
    use crate::translate::demand::demand;

    /// The principals that a tunnel is told, and those that it is told to leave out.
    fn told(aliases: &str, source: &str) -> [String; 2] {
        let manifests = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: 'trustDomainAliases: {aliases}'}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{rules: [{{from: [{{source: {source}}}]}}]}}\n"
        );
        let policy = named(&resources(&manifests), "shop/p");
        let seen = &policy["groups"][0]["rules"][0]["matches"][0];
        ["principals", "notPrincipals"].map(|list| {
            let texts = seen[list].as_array().into_iter().flatten();
            let texts = texts.map(|it| it.to_string().replace(['"', '{', '}'], ""));
            texts.collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn a_principal_of_one_trust_domain_of_the_mesh_is_one_of_all_of_them() {
        let (none, two) = ("[]", "[old.example, older]");
        let mine = "exact:cluster.local/ns/a/sa/b";
        let all = format!("{mine} exact:old.example/ns/a/sa/b exact:older/ns/a/sa/b");
        for (aliases, source, any, not) in [
            (none, "{principals: [cluster.local/ns/a/sa/b]}", mine, ""),
            (two, "{principals: [cluster.local/ns/a/sa/b]}", all.as_str(), ""),
            (two, "{notPrincipals: [cluster.local/ns/a/sa/b]}", "", all.as_str()),
            (
                two,
                "{principals: [older/ns/a/*]}",
                "prefix:older/ns/a/ prefix:cluster.local/ns/a/ prefix:old.example/ns/a/",
                "",
            ),
            (two, "{trustDomains: [older]}", "prefix:older/ prefix:cluster.local/ prefix:old.example/", ""),
            // All of them are named already.
            (
                "[old.example]",
                "{principals: [old.example/ns/a/sa/b, cluster.local/ns/a/sa/b]}",
                "exact:old.example/ns/a/sa/b exact:cluster.local/ns/a/sa/b",
                "",
            ),
            // Of somebody else, of anybody, and what only looks like one of ours.
            (two, "{principals: [other/ns/a/sa/b]}", "exact:other/ns/a/sa/b", ""),
            (two, "{principals: ['*/ns/a/sa/b']}", "suffix:/ns/a/sa/b", ""),
            (two, "{principals: ['older*']}", "prefix:older", ""),
        ] {
            assert_eq!(told(aliases, source), [any, not], "{aliases} {source}");
        }
    }

    #[test]
    fn waypoints_are_told_of_all_trust_domains_of_the_mesh_wherever_a_policy_names_one() {
        let text = "
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'trustDomainAliases: [older]'}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, spec: {targetRefs: [{kind: Service, name: web}], rules: [
  {from: [{source: {principals: [older/ns/a/sa/b], notTrustDomains: [cluster.local, other]}}], when: [{key: source.principal, values: [cluster.local/ns/c/*]}, {key: source.trustDomain, values: [older]}]}]}}
";
        let world = world(text);
        let policy = demand(&world, &world.space("shop").unwrap().policies["p"]).unwrap();
        let exact =
            |texts: &[&str]| texts.iter().map(|it| TextMatch::Exact((*it).into())).collect::<Vec<_>>();
        let from = &policy.rules[0].from[0];
        assert_eq!(from.principals.any, exact(&["older/ns/a/sa/b", "cluster.local/ns/a/sa/b"]));
        assert_eq!(from.trust_domains.none, exact(&["cluster.local", "other", "older"]));
        let prefix = |text: &str| TextMatch::Prefix(text.into());
        let any = |any| Condition { any, none: Vec::new() };
        let wanted = [
            (TextOf::Principal, any(vec![prefix("cluster.local/ns/c/"), prefix("older/ns/c/")])),
            (TextOf::TrustDomain, any(exact(&["older", "cluster.local"]))),
        ];
        assert_eq!(policy.rules[0].when, wanted.map(|(of, values)| Requirement::Text { of, values }));
    }
}
