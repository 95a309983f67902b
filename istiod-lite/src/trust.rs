//! The mesh's one trust domain: named by the flag or by the mesh's config map, decided once, at the start.
//! Certificates, callers and records all take it from here. Owns the decision, and what is said when the config map
//! names another one later: identities that change while connections and policies lean on them would break both.

use std::time::Duration;

use ambit_cluster::fault::Wrong;
use ambit_cluster::files::{self, Event, Keep, WatchError};
use ambit_cluster::{Body, Fault, Kind, Object, ObjectRef, Source};
use ambit_model::name::TrustDomain;
use tokio::time::timeout;
use tracing::warn;

/// How long the mesh's configuration is waited for at the start; whoever started this program tries again then.
const START_WAIT: Duration = Duration::from_secs(60);

/// The member of the config map.
const FIELD: &str = "data.mesh: trustDomain";

/// The trust domain, with who named it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    flag: Option<TrustDomain>,
    said: Option<TrustDomain>,
    decided: Option<TrustDomain>,
}

/// Why the trust domain is not decided.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Two are named.
    #[error(
        "the trust domain is {flag} by --trust-domain (TRUST_DOMAIN), but {said} by {map}, {FIELD}; name the same \
         in both, or leave the flag out"
    )]
    Differs {
        /// By the flag.
        flag: TrustDomain,
        /// By the config map.
        said: TrustDomain,
        /// The config map.
        map: ObjectRef,
    },
    /// The config map does not read.
    #[error("the trust domain cannot be decided: {0}")]
    Unreadable(Box<Fault>),
    /// Nobody answers.
    #[error("the config map {map} is not answered within {limit:?}: {why}")]
    Silent {
        /// The config map.
        map: ObjectRef,
        /// The limit.
        limit: Duration,
        /// What is wrong with the API server, as far as that is known.
        why: String,
    },
    /// The directory.
    #[error(transparent)]
    Directory(#[from] WatchError),
}

impl Trust {
    /// Named by a flag, or not.
    #[must_use]
    pub fn new(flag: Option<TrustDomain>) -> Self {
        Self { flag, said: None, decided: None }
    }

    /// Decided: what the config map says later changes nothing.
    ///
    /// # Errors
    /// When flag and config map name different ones.
    pub fn decide(&self, said: Option<TrustDomain>, map: &ObjectRef) -> Result<Self, TrustError> {
        match (&self.flag, &said) {
            (Some(flag), Some(said)) if flag != said => {
                Err(TrustError::Differs { flag: flag.clone(), said: said.clone(), map: map.clone() })
            }
            _ => {
                let named = self.flag.clone().or_else(|| said.clone());
                Ok(Self { flag: self.flag.clone(), said, decided: Some(named.unwrap_or_default()) })
            }
        }
    }

    /// The same, while the config map says this.
    #[must_use]
    pub fn saying(&self, said: Option<TrustDomain>) -> Self {
        Self { said, ..self.clone() }
    }

    /// The trust domain of identities now.
    #[must_use]
    pub fn domain(&self) -> TrustDomain {
        let named = [&self.decided, &self.flag, &self.said].into_iter().flatten().next();
        named.cloned().unwrap_or_default()
    }

    /// What is to be said of a config map that names another one than is in force.
    #[must_use]
    pub fn fault(&self, map: &ObjectRef) -> Option<Fault> {
        let (domain, next) =
            (self.domain(), self.said.clone().or_else(|| self.flag.clone()).unwrap_or_default());
        if next == domain {
            return None;
        }
        let problem = format!("{domain} stays the trust domain of all identities");
        let remedy = match &self.flag {
            Some(_) => {
                "name the same as --trust-domain does, or leave the flag out and restart the control plane"
            }
            None => {
                "restart the control plane to change it for everybody at once, or put the former one back"
            }
        };
        Some(Fault::of_object(map.clone(), Wrong::field(FIELD, next.as_str(), problem, remedy)))
    }
}

/// What the config map in a directory says.
///
/// # Errors
/// When the directory cannot be read, or the config map does not read.
pub fn in_directory(
    source: &std::path::Path,
    overlay: &std::path::Path,
    map: &ObjectRef,
) -> Result<Option<TrustDomain>, TrustError> {
    let loaded = files::load_once(source, Some(overlay), Keep::Slim)?;
    if let Some(fault) = loaded.faults.into_iter().find(|fault| fault.object.as_ref() == Some(map)) {
        return Err(TrustError::Unreadable(fault.into()));
    }
    Ok(loaded.objects.into_iter().find(|object| object.reference == *map).and_then(|object| said(&object)))
}

/// What the config map that is followed says; waits until that is known.
///
/// # Errors
/// When it does not read, or nobody answers.
pub async fn in_cluster(mut source: Source, map: &ObjectRef) -> Result<Option<TrustDomain>, TrustError> {
    let mut why = String::from("no answer at all");
    let look = async {
        let mut found = None;
        loop {
            match source.next().await {
                Event::Applied(object) if object.reference == *map => found = said(&object),
                Event::Gone(gone) if gone == *map => found = None,
                Event::Fault(fault) if fault.object.as_ref() == Some(map) => {
                    return Err(TrustError::Unreadable(fault.into()));
                }
                Event::Fault(fault) => {
                    warn!(target: "manifests", fault = %fault, "the mesh's configuration is waited for");
                    why = fault.to_string();
                }
                Event::Complete => return Ok(found),
                Event::Applied(_) | Event::Gone(_) => {}
            }
        }
    };
    match timeout(START_WAIT, look).await {
        Ok(found) => found,
        Err(_) => Err(TrustError::Silent { map: map.clone(), limit: START_WAIT, why }),
    }
}

/// The name of the config map.
#[must_use]
pub fn config_map(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::ConfigMap, namespace, name)
}

/// One that does not read never comes this far.
fn said(object: &Object) -> Option<TrustDomain> {
    let Body::ConfigMap(map) = &object.body else { return None };
    map.mesh().ok().flatten()?.trust_domain?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Option<TrustDomain> {
        (!text.is_empty()).then(|| text.parse().unwrap())
    }

    #[test]
    fn one_trust_domain_is_decided_and_two_different_ones_are_refused() {
        let map = config_map("istio-system", "istio");
        for (flag, said, wanted) in [
            ("", "", Some("cluster.local")),
            ("", "a.example", Some("a.example")),
            ("a.example", "", Some("a.example")),
            ("a.example", "a.example", Some("a.example")),
            ("a.example", "b.example", None),
            ("cluster.local", "b.example", None),
        ] {
            let decided = Trust::new(domain(flag)).decide(domain(said), &map);
            match (decided, wanted) {
                (Ok(trust), Some(wanted)) => assert_eq!(trust.domain().as_str(), wanted, "{flag} {said}"),
                (Err(TrustError::Differs { .. }), None) => {}
                (other, _) => panic!("{flag} {said}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_decided_domain_stays_and_another_one_is_told_of_until_it_is_put_back() {
        let map = config_map("istio-system", "istio");
        for (flag, began, later, told) in [
            ("", "a.example", "a.example", false),
            ("", "a.example", "b.example", true),
            ("", "a.example", "", true),
            ("", "", "b.example", true),
            ("a.example", "", "b.example", true),
            ("a.example", "a.example", "", false),
        ] {
            let decided = Trust::new(domain(flag)).decide(domain(began), &map).unwrap();
            let after = decided.saying(domain(later));
            assert_eq!(after.domain(), decided.domain());
            let fault = after.fault(&map).map(|fault| fault.to_string());
            assert_eq!(fault.is_some(), told, "{flag} {began} {later}: {fault:?}");
            assert!(fault.is_none_or(|text| text.contains("restart") && text.contains("trustDomain")));
            assert_eq!(after.saying(domain(began)).fault(&map), None);
        }
    }
}
