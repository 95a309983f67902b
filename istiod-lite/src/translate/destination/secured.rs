//! BackendTLSPolicies to how TLS is begun to services (`waypoint.md` 2.20): pure. Owns which policy is in force for a port,
//! and what one means. What cannot be honoured is never taken for less to prove: nothing is sent then.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_cluster::kinds::backend_tls::{BackendTarget, BackendTlsPolicy, SubjectAltName};
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::traffic::{Origination, Roots, SubjectName, is_host};
use ambit_tls::credential::is_bundle;

use crate::index::World;
use crate::index::secured::target_kind;

/// The one word for certificates that are there already.
const SYSTEM: &str = "System";
/// Where the certificates are in a config map.
const KEY: &str = "ca.crt";
/// As many bytes of certificates as waypoints are told.
const ROOTS_MOST: usize = ambit_cluster::kinds::pem::PEM_MOST;

/// Why nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub text: String,
}

/// How TLS is begun by policies, or why it cannot be.
pub type Begun = Result<Origination, Unfit>;

/// What policies say of one service.
#[derive(Debug, Default)]
pub struct Secured {
    /// On ports that have nothing of their own.
    whole: Option<Begun>,
    ports: BTreeMap<u16, Begun>,
}

impl Secured {
    /// What is said of a port.
    pub(super) fn on(&self, port: u16) -> Option<&Begun> {
        self.ports.get(&port).or(self.whole.as_ref())
    }

    /// What is said of ports that have nothing of their own.
    pub(super) fn whole(&self) -> Option<&Begun> {
        self.whole.as_ref()
    }

    /// Ports that have something of their own.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.keys().copied()
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_none() && self.ports.is_empty()
    }
}

/// What policies say of a service or a service entry.
#[must_use]
pub fn secured(world: &World, at: &ObjectRef) -> Secured {
    let policies = world.securing(at);
    if policies.is_empty() {
        return Secured::default();
    }
    let whole = first(&policies, at, None);
    let own = |(name, number): (String, u16)| {
        let policy = first(&policies, at, Some(&name))?;
        Some((number, read(world, policy).begun))
    };
    Secured {
        whole: whole.map(|it| read(world, it).begun),
        ports: ports(world, at).into_iter().filter_map(own).collect(),
    }
}

/// The oldest policy that names a service, or one of its ports.
fn first<'a>(
    policies: &[&'a Arc<BackendTlsPolicy>],
    at: &ObjectRef,
    section: Option<&str>,
) -> Option<&'a Arc<BackendTlsPolicy>> {
    let names = |it: &BackendTarget| {
        target_kind(it) == Some(at.kind) && *it.name == *at.name && it.section_name.as_deref() == section
    };
    policies.iter().find(|it| it.spec.target_refs.iter().any(names)).copied()
}

/// The ports of a service or a service entry, by their names.
fn ports(world: &World, at: &ObjectRef) -> Vec<(String, u16)> {
    let Some(space) = world.space(&at.namespace) else { return Vec::new() };
    match at.kind {
        Kind::Service => {
            let ports = space.services.get(&at.name).into_iter().flat_map(|it| &it.spec.ports);
            ports.map(|it| (it.name.clone(), it.port.0)).collect()
        }
        _ => {
            let ports = space.entries.get(&at.name).into_iter().flat_map(|it| &it.spec.ports);
            ports.map(|it| (it.name.clone(), it.number.0)).collect()
        }
    }
}

/// What becomes of a policy for one of its targets.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has that name, or that port.
    NotThere,
    /// Another one goes before it.
    Behind(String),
    /// It is in force.
    InForce,
}

/// What becomes of a policy for one of its targets, which is this object.
#[must_use]
pub fn standing(
    world: &World,
    policy: &BackendTlsPolicy,
    (target, at): (&BackendTarget, &ObjectRef),
) -> Standing {
    let space = world.space(&at.namespace);
    let is_there = space.is_some_and(|it| match at.kind {
        Kind::Service => it.services.contains_key(&at.name),
        _ => it.entries.contains_key(&at.name),
    });
    let ports = ports(world, at);
    let section = target.section_name.as_deref();
    if !is_there || section.is_some_and(|name| !ports.iter().any(|(port, _)| port == name)) {
        return Standing::NotThere;
    }
    let policies = world.securing(at);
    let is_it = |it: &&Arc<BackendTlsPolicy>| it.metadata.name == policy.metadata.name;
    let behind = |it: &Arc<BackendTlsPolicy>| Standing::Behind(it.metadata.name.clone());
    match first(&policies, at, section).filter(|it| !is_it(it)) {
        Some(older) => return behind(older),
        None if section.is_some() => return Standing::InForce,
        None => {}
    }
    // What is said of a port goes before it; where that is so on every port, nothing is left.
    let mut own = ports.iter().map(|(name, _)| first(&policies, at, Some(name)).filter(|it| !is_it(it)));
    match own.next().flatten().map(|other| (other, own.all(|it| it.is_some()))) {
        Some((other, true)) => behind(other),
        _ => Standing::InForce,
    }
}

/// A policy, read.
#[derive(Debug)]
pub struct Reading {
    /// How TLS is begun.
    pub begun: Begun,
    /// What it refers to in vain: why in a word, and what.
    pub unresolved: Option<(&'static str, String)>,
    /// What of it is not gone by.
    pub notes: Vec<&'static str>,
}

/// Reads a policy.
#[must_use]
pub fn read(world: &World, policy: &BackendTlsPolicy) -> Reading {
    let (roots, unresolved) = roots(world, policy);
    let begun = names(policy).and_then(|names| {
        let server = Some(policy.spec.validation.hostname.as_str().into());
        Ok(Origination { server, names, roots: roots?, shown: None })
    });
    let mut notes = Vec::new();
    if policy.spec.options.iter().next().is_some() {
        notes.push("spec.options: not gone by");
    }
    Reading { begun, unresolved, notes }
}

fn invalid(text: impl Into<String>) -> Unfit {
    Unfit { reason: "Invalid", text: text.into() }
}

fn names(policy: &BackendTlsPolicy) -> Result<Vec<SubjectName>, Unfit> {
    let validation = &policy.spec.validation;
    if !is_host(&validation.hostname) {
        return Err(invalid(format!(
            "spec.validation.hostname: {:?} is not a host's name",
            validation.hostname
        )));
    }
    let one = |it: &SubjectAltName| match it.kind.as_str() {
        "Hostname" if is_host(&it.hostname) => Ok(SubjectName::Host(it.hostname.as_str().into())),
        "Hostname" => Err(invalid(format!(
            "spec.validation.subjectAltNames: {:?} is not a host's name in full",
            it.hostname
        ))),
        "URI" if !it.uri.is_empty() => Ok(SubjectName::Uri(it.uri.as_str().into())),
        "URI" => Err(invalid("spec.validation.subjectAltNames: a URI without a word")),
        other => Err(invalid(format!(
            "spec.validation.subjectAltNames: {other:?} is not a type; there are Hostname and URI"
        ))),
    };
    validation.subject_alt_names.iter().map(one).collect()
}

/// Who vouches, and what is referred to in vain.
fn roots(world: &World, policy: &BackendTlsPolicy) -> (Result<Roots, Unfit>, Option<(&'static str, String)>) {
    let validation = &policy.spec.validation;
    match (validation.well_known.as_deref().unwrap_or_default(), validation.ca_certificate_refs.as_slice()) {
        (SYSTEM, []) => return (Ok(Roots::System), None),
        ("", [_, ..]) => {}
        ("", []) => {
            let text =
                "spec.validation: nobody vouches; give caCertificateRefs, or wellKnownCACertificates: System";
            return (Err(invalid(text)), None);
        }
        (_, [_, ..]) => {
            let text = "spec.validation: caCertificateRefs and wellKnownCACertificates are given; keep one";
            return (Err(invalid(text)), None);
        }
        (other, []) => {
            let text =
                format!("spec.validation.wellKnownCACertificates: {other:?} is not known; there is System");
            return (Err(invalid(text)), None);
        }
    }
    let (mut all, mut unresolved) = (String::new(), None);
    for (at, given) in validation.ca_certificate_refs.iter().enumerate() {
        let field = format!("spec.validation.caCertificateRefs[{at}]");
        let found = if given.is_config_map() {
            in_config_map(world, &policy.metadata.namespace, &given.name).map_err(|why| {
                ("InvalidCACertificateRef", format!("{field}: ConfigMap {}: {why}", given.name))
            })
        } else {
            let text =
                format!("{field}: {} is not a kind of object that is read; name a ConfigMap", given.kind);
            Err(("InvalidKind", text))
        };
        match found {
            Ok(text) => {
                all.push_str(text.trim_end());
                all.push('\n');
            }
            Err(why) => drop(unresolved.get_or_insert(why)),
        }
    }
    let roots = match &unresolved {
        Some((_, text)) if all.is_empty() => {
            Err(Unfit { reason: "NoValidCACertificate", text: text.clone() })
        }
        _ if all.len() > ROOTS_MOST => {
            Err(invalid("spec.validation.caCertificateRefs: more than 64 KiB together; name fewer"))
        }
        _ => Ok(Roots::Given(all.into())),
    };
    (roots, unresolved)
}

fn in_config_map<'a>(world: &'a World, namespace: &str, name: &str) -> Result<&'a str, String> {
    let map = world.space(namespace).and_then(|space| space.configs.get(name));
    let map = map.ok_or("not there, or not readable")?;
    let text = map.data.roots.as_ref().ok_or_else(|| format!("it has no {KEY}"))?;
    let text = text.text().ok_or_else(|| format!("its {KEY} has more than 64 KiB"))?;
    if !is_bundle(text) {
        return Err(format!("its {KEY} holds no certificates, or one that does not read"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
