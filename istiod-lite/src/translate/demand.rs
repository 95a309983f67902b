//! Authorization policies that are attached to objects, to what a waypoint judges requests by (`waypoint.md` 4.3,
//! 1.11): pure. Owns whose requests they are for, and reading every condition; one that cannot be read never makes an
//! allow match and never keeps a deny from matching.

use ambit_cluster::kinds::policy::{
    AuthorizationPolicy, Operation as GivenOperation, PolicyAction, Rule, Source as GivenSource, When,
};
use ambit_cluster::kinds::scalar::{AccountName, Cidr, Port, PortText, Word};
use ambit_model::name::PolicyKey;
use ambit_model::policy::Condition;
use ambit_model::request_policy::{
    AddressOf, Operation, RequestAction, RequestPolicy, RequestRule, Requirement, Source, TextOf, text_match,
};

use crate::index::World;
use crate::translate::policy::{account, condition_of, text};
use crate::translate::target::targets;
use crate::translate::{alias, provider};

/// As waypoints judge by it; nothing, if it is attached to nothing of theirs.
#[must_use]
pub fn demand(world: &World, object: &AuthorizationPolicy) -> Option<RequestPolicy> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let targets: Vec<_> = spec.targets().flat_map(|it| targets(world, &meta.namespace, it)).collect();
    if targets.is_empty() {
        return None;
    }
    let action = match spec.action {
        PolicyAction::Allow => RequestAction::Allow,
        PolicyAction::Deny => RequestAction::Deny,
        PolicyAction::Audit => RequestAction::Audit,
        // Somebody whom nobody knows cannot be asked, and lets nobody in.
        PolicyAction::Custom => {
            let named = spec.provider.as_ref().map(|it| it.name.as_str()).unwrap_or_default();
            RequestAction::Custom { provider: provider::authorizer(&world.mesh, named).map(|it| it.name) }
        }
    };
    let mut policy = RequestPolicy {
        key: PolicyKey { namespace: meta.namespace.parse().ok()?, name: meta.name.parse().ok()? },
        targets,
        action,
        rules: spec.rules.iter().map(|it| rule(it, &meta.namespace)).collect(),
        dry_run: super::policy::is_dry_run(object),
    };
    alias::widen_request(&mut policy, &world.mesh);
    Some(policy)
}

/// Reads one rule, and keeps in mind what of it does not read.
struct Reader<'a> {
    /// The policy's namespace, which accounts are of that name none.
    namespace: &'a str,
    unread: Vec<Requirement>,
}

pub(super) fn rule(given: &Rule, namespace: &str) -> RequestRule {
    let mut reader = Reader { namespace, unread: Vec::new() };
    let from = given.from.iter().map(|it| reader.source(&it.source)).collect();
    let to = given.to.iter().map(|it| reader.operation(&it.operation)).collect();
    let mut when: Vec<Requirement> = given.when.iter().map(|it| reader.when(it)).collect();
    when.append(&mut reader.unread);
    RequestRule { from, to, when }
}

impl Reader<'_> {
    fn source(&mut self, given: &GivenSource) -> Source {
        let GivenSource {
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
        let namespace = self.namespace;
        let account = |name: &AccountName| account(namespace, name);
        Source {
            principals: condition_of(principals, not_principals, text),
            request_principals: condition_of(request_principals, not_request_principals, |it| {
                it.0.as_str().into()
            }),
            namespaces: condition_of(namespaces, not_namespaces, |it| it.0.as_str().into()),
            service_accounts: self.read("serviceAccounts", (service_accounts, not_service_accounts), account),
            trust_domains: condition_of(trust_domains, not_trust_domains, text),
            ip_blocks: condition_of(ip_blocks, not_ip_blocks, |it: &Cidr| it.0),
            remote_ip_blocks: condition_of(remote_ip_blocks, not_remote_ip_blocks, |it: &Cidr| it.0),
        }
    }

    fn operation(&mut self, given: &GivenOperation) -> Operation {
        let GivenOperation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } =
            given;
        Operation {
            hosts: condition_of(hosts, not_hosts, text),
            ports: condition_of(ports, not_ports, |it: &PortText| it.0),
            methods: condition_of(methods, not_methods, text),
            paths: self.read("paths", (paths, not_paths), |it: &Word| it.0.parse().ok()),
        }
    }

    fn when(&mut self, given: &When) -> Requirement {
        let When { key, values, not_values } = given;
        let lists = (values.as_slice(), not_values.as_slice());
        let namespace = self.namespace;
        let texts = || condition_of(lists.0, lists.1, |it: &String| text_match(it));
        let of = |of| Requirement::Text { of, values: texts() };
        let address = |of, reader: &mut Self| {
            let range = |it: &String| Cidr::read(it).map(|it| it.0);
            Requirement::Address { of, values: reader.read(key, lists, range) }
        };
        match key.as_str() {
            "source.ip" => address(AddressOf::Source, self),
            "remote.ip" => address(AddressOf::Remote, self),
            "destination.ip" => address(AddressOf::Destination, self),
            "source.namespace" => {
                Requirement::Namespace(condition_of(lists.0, lists.1, |it| it.as_str().into()))
            }
            "source.principal" => of(TextOf::Principal),
            "source.trustDomain" => of(TextOf::TrustDomain),
            "source.serviceAccount" => {
                let read = |it: &String| account(namespace, &AccountName::read(it)?);
                Requirement::ServiceAccount(self.read(key, lists, read))
            }
            "request.auth.principal" => {
                Requirement::RequestPrincipal(condition_of(lists.0, lists.1, |it| it.as_str().into()))
            }
            "request.auth.audiences" => of(TextOf::Audiences),
            "request.auth.presenter" => of(TextOf::Presenter),
            "connection.sni" => of(TextOf::Sni),
            "destination.port" => {
                let port = |it: &String| Port::read(it).map(|it| it.0);
                Requirement::Port(self.read(key, lists, port))
            }
            other => bracketed(other).map_or_else(|| Requirement::Unknown(other.into()), of),
        }
    }

    /// Values of which each has to read; else it is as if the whole condition were one that nobody knows.
    fn read<G, T>(
        &mut self,
        name: &str,
        (any, none): (&[G], &[G]),
        read: impl Fn(&G) -> Option<T>,
    ) -> Condition<T> {
        let all = |list: &[G]| list.iter().map(&read).collect::<Option<Vec<T>>>();
        match (all(any), all(none)) {
            (Some(any), Some(none)) => Condition { any, none },
            _ => {
                self.unread.push(Requirement::Unknown(name.into()));
                Condition::default()
            }
        }
    }
}

/// A header, or a claim by its path: `request.headers[x]`, `request.auth.claims[a][b]`.
fn bracketed(key: &str) -> Option<TextOf> {
    let parts = |prefix: &str| -> Option<Vec<&str>> {
        let inner = key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
        Some(inner.split("][").collect())
    };
    if let Some(parts) = parts("request.headers") {
        let [name] = parts.as_slice() else { return None };
        return name.parse().ok().map(TextOf::Header);
    }
    let path = parts("request.auth.claims")?;
    let whole = path.iter().all(|part| !part.is_empty() && !part.contains(['[', ']']));
    whole.then(|| TextOf::Claim(path.into_iter().map(Into::into).collect()))
}

#[cfg(test)]
mod tests;
