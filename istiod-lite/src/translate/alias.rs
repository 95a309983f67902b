//! Policies of a mesh whose trust domain has other names (`trustDomainAliases`). Owns that a principal of one of them
//! is a principal of each; who may connect at all is for proxies (`TRUST_DOMAIN_ALIASES`).

use std::iter::once;

use ambit_model::policy::{Policy, TextMatch};

use crate::mesh::Mesh;

/// Has a policy that names a principal of one trust domain of the mesh mean the same account under all of them. One
/// that begins with another trust domain, or with none at all, stays as it is.
pub(super) fn widen(policy: &mut Policy, mesh: &Mesh) {
    if mesh.aliases.is_empty() {
        return;
    }
    let domain = mesh.trust.domain();
    let domains: Vec<_> = once(&domain).chain(&mesh.aliases).map(|it| it.as_str()).collect();
    let matches = policy.rules.iter_mut().flat_map(|rule| &mut rule.clauses).flat_map(|it| &mut it.matches);
    for one in matches {
        // Whom a rule leaves out is left out under each name, too.
        for list in [&mut one.principals.any, &mut one.principals.none] {
            let others: Vec<_> = list.iter().flat_map(|it| elsewhere(it, &domains)).collect();
            for other in others {
                if !list.contains(&other) {
                    list.push(other);
                }
            }
        }
    }
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
}
