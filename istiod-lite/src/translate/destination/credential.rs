//! Secrets that DestinationRules name (`credentialName`) to what a waypoint proves itself by (`waypoint.md` 1.14, 4.5): pure.
//! Owns what is a usable one, and whose it is: that of the waypoints of its namespace that the rules are for, and of nobody
//! else.

use std::collections::BTreeSet;

use ambit_cluster::kinds::destination_rule::DestinationRule;
use ambit_cluster::kinds::pem::Pem;
use ambit_cluster::kinds::secret::{Part, Secret as Object};
use ambit_model::credential::{Credential, Secret, Shown};
use ambit_model::name::{Identity, Label};
use ambit_tls::credential::{is_bundle, is_pair};

use crate::index::World;
use crate::translate::waypoint::{Asker, Attachment, attach, class_of};

/// Where secrets are looked for: in the namespace of a waypoint; none: there is no waypoint.
#[derive(Debug, Clone, Copy)]
pub struct Within<'a> {
    /// The cluster.
    pub world: &'a World,
    /// The namespace.
    pub namespace: Option<&'a str>,
}

/// A secret that can be used.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Label,
    pub(super) shows: bool,
    pub(super) vouches: bool,
}

/// Finds a secret, or says why there is none.
pub(super) fn find(within: Within<'_>, name: &str) -> Result<Found, String> {
    let Within { world, namespace } = within;
    if !world.mesh.secrets {
        let remedy = "set credentials.enabled of the chart istiod-lite";
        return Err(format!("tls.credentialName: secrets are not read; {remedy}"));
    }
    let namespace =
        namespace.ok_or("tls.credentialName: there is no waypoint in whose namespace it would be")?;
    let found = world.space(namespace).and_then(|space| space.secrets.get(name));
    let wrong = |why: &str| format!("tls.credentialName: the secret {namespace}/{name} {why}");
    let secret = found.ok_or_else(|| wrong("is not there, or not readable"))?;
    let (shown, roots) = parts(secret).map_err(wrong)?;
    let name = format!("{namespace}/{name}").into();
    Ok(Found { name, shows: shown.is_some(), vouches: roots.is_some() })
}

type Parts<'a> = (Option<(&'a str, &'a str)>, Option<&'a str>);

/// The chain with its key, and who vouches. Nothing of what is in there is repeated.
fn parts(secret: &Object) -> Result<Parts<'_>, &'static str> {
    let text = |part| match secret.part(part).map(Pem::text) {
        None => Ok(None),
        Some(Some(text)) => Ok(Some(text)),
        Some(None) => Err("has a part of more than 64 KiB"),
    };
    if secret.part(Part::Revoked).is_some() {
        return Err("has a list of revoked certificates, which waypoints do not go by; take it out");
    }
    let shown = match (text(Part::Chain)?, text(Part::Key)?) {
        (None, None) => None,
        (Some(chain), Some(key)) if is_pair(chain, key) => Some((chain, key)),
        (Some(_), Some(_)) => {
            return Err("has a tls.crt and a tls.key that do not read, or are not each other's");
        }
        _ => return Err("has one of tls.crt and tls.key without the other"),
    };
    let roots = text(Part::Roots)?;
    if roots.is_some_and(|it| !is_bundle(it)) {
        return Err("has a ca.crt that holds no certificates, or one that does not read");
    }
    if shown.is_none() && roots.is_none() {
        return Err("has neither tls.crt and tls.key nor ca.crt");
    }
    Ok((shown, roots))
}

/// What the waypoints of a secret's namespace are told of it; nothing, if nobody names it or it cannot be used.
pub fn credential(world: &World, secret: &Object) -> Option<Credential> {
    let (namespace, name) = (&secret.metadata.namespace, &secret.metadata.name);
    if !world.mesh.secrets {
        return None;
    }
    let (shown, roots) = parts(secret).ok()?;
    let rules = world.naming(name);
    let owners: BTreeSet<String> = rules.iter().flat_map(|rule| accounts(world, rule, namespace)).collect();
    let domain = world.mesh.trust.domain();
    let identity = |account: &String| -> Option<Identity> {
        format!("spiffe://{domain}/ns/{namespace}/sa/{account}").parse().ok()
    };
    let owners: Vec<Identity> = owners.iter().filter_map(identity).collect();
    (!owners.is_empty()).then(|| Credential {
        name: format!("{namespace}/{name}").into(),
        owners,
        shown: shown.map(|(chain, key)| Shown { chain: chain.into(), key: Secret::new(key) }),
        roots: roots.map(Into::into),
    })
}

/// The accounts of the waypoints of a namespace that a rule is for.
fn accounts(world: &World, rule: &DestinationRule, namespace: &str) -> BTreeSet<String> {
    let ours = |named: crate::index::users::Named<'_>| {
        let gateway = world.space(namespace)?.gateways.get(named.name)?;
        let is_ours = class_of(world, gateway).is_some_and(|class| class.is_ours);
        (named.namespace == namespace && is_ours).then(|| gateway.account_of_parts().to_owned())
    };
    let bound = world.governed_by(rule).into_iter().filter_map(|unit| unit.object());
    let named = bound.flat_map(|at| match Asker::of(world, &at).map(|it| attach(world, it)) {
        Some(Attachment::Bound(it)) => {
            let canary = it.canary.and_then(|it| ours(it.waypoint));
            ours(it.waypoint).into_iter().chain(canary).collect()
        }
        _ => Vec::new(),
    });
    named.collect()
}

/// The namespaces of the waypoints that a rule is for.
pub fn namespaces(world: &World, rule: &DestinationRule) -> BTreeSet<String> {
    let bound = world.governed_by(rule).into_iter().filter_map(|unit| unit.object());
    let waypoint = |at| match Asker::of(world, &at).map(|it| attach(world, it)) {
        Some(Attachment::Bound(it)) => Some(it.waypoint.namespace.to_owned()),
        _ => None,
    };
    bound.filter_map(waypoint).collect()
}

#[cfg(test)]
mod tests;
