//! Names as parsed newtypes: identities, trust domains, namespaces, hosts, networks, keys.
//! Owns what a well-formed name is. Knows nothing of where names come from.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a name was refused. Carries the offending text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name that must not be empty is.
    #[error("{what} is empty; give a name")]
    Empty {
        /// The kind of name.
        what: &'static str,
    },
    /// A character that this kind of name cannot hold.
    #[error("{what} {value:?} holds {found:?}; {remedy}")]
    Character {
        /// The kind of name.
        what: &'static str,
        /// The text as given.
        value: String,
        /// The first offending character.
        found: char,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The text is not shaped like a SPIFFE identity of a workload.
    #[error(
        "identity {value:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
    )]
    Identity {
        /// The text as given.
        value: String,
    },
    /// The text is not `<namespace>/<name>`.
    #[error("{what} {value:?} is not of the form <namespace>/<name>")]
    Pair {
        /// The kind of name.
        what: &'static str,
        /// The text as given.
        value: String,
    },
    /// The text is not `<kind>/<namespace>/<name>` of a route.
    #[error("route {value:?} is not of the form <kind>/<namespace>/<name>, of a kind such as HTTPRoute")]
    Route {
        /// The text as given.
        value: String,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// True when there is no text.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// Names that may be any text, empty included (upstream puts no rule on them).
macro_rules! free_name {
    ($(#[$doc:meta])* $name:ident) => {
        name!($(#[$doc])* $name);
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
        impl Default for $name {
            fn default() -> Self {
                Self("".into())
            }
        }
    };
}

/// Names that are parts of others: not empty, no slash, no white space, no control character.
macro_rules! part_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        name!($(#[$doc])* $name);
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if text.is_empty() {
                    return Err(NameError::Empty { what: $what });
                }
                let bad = |c: &char| *c == '/' || c.is_whitespace() || c.is_control();
                match text.chars().find(bad) {
                    None => Ok(Self(text.into())),
                    Some(found) => Err(NameError::Character {
                        what: $what,
                        value: text.into(),
                        found,
                        remedy: "leave out slashes, white space and control characters",
                    }),
                }
            }
        }
    };
}

part_name!(
    /// A Kubernetes namespace.
    Namespace, "namespace");
part_name!(
    /// A Kubernetes service account's name.
    ServiceAccount, "service account");
part_name!(
    /// A SPIFFE trust domain, for example `cluster.local`.
    TrustDomain, "trust domain");
part_name!(
    /// A DNS name as a service's host, `*.` wildcards included. Kept as written.
    Hostname, "hostname");
part_name!(
    /// The name of a policy object.
    PolicyName, "policy name");
part_name!(
    /// The name of a route object.
    RouteName, "route name");
free_name!(
    /// A network's id; the default network is the empty text.
    Network);
free_name!(
    /// A cluster's id.
    ClusterId);
free_name!(
    /// A Kubernetes node's name; empty when unknown.
    NodeName);
free_name!(
    /// The xDS resource name of a workload (`wire.md` 3); opaque.
    WorkloadUid);
free_name!(
    /// Text that is shown and counted, never decided on: canonical names, revisions, localities.
    Label);

impl Default for TrustDomain {
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

impl Default for ServiceAccount {
    fn default() -> Self {
        Self("default".into())
    }
}

/// A workload's identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Who vouches for it.
    pub trust_domain: TrustDomain,
    /// The workload's namespace.
    pub namespace: Namespace,
    /// The account the workload runs as.
    pub service_account: ServiceAccount,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for Identity {
    type Err = NameError;
    /// Strict: exactly five parts after the scheme, none of them empty.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || NameError::Identity { value: text.into() };
        let rest = text.strip_prefix("spiffe://").ok_or_else(refuse)?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().ok_or_else(refuse);
        let (domain, ns, namespace, sa, account) = (next()?, next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || parts.next().is_some() {
            return Err(refuse());
        }
        Ok(Self {
            trust_domain: domain.parse().map_err(|_| refuse())?,
            namespace: namespace.parse().map_err(|_| refuse())?,
            service_account: account.parse().map_err(|_| refuse())?,
        })
    }
}

/// A service's key: `<namespace>/<hostname>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The owning namespace.
    pub namespace: Namespace,
    /// The service's host.
    pub hostname: Hostname,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl FromStr for ServiceKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, hostname) =
            text.split_once('/').ok_or_else(|| NameError::Pair { what: "service", value: text.into() })?;
        Ok(Self { namespace: namespace.parse()?, hostname: hostname.parse()? })
    }
}

/// A policy's key: `<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// The namespace the policy lives in.
    pub namespace: Namespace,
    /// The policy's name.
    pub name: PolicyName,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PolicyKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) =
            text.split_once('/').ok_or_else(|| NameError::Pair { what: "policy", value: text.into() })?;
        Ok(Self { namespace: namespace.parse()?, name: name.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_it_was_written() {
        let text = "spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
    }

    #[test]
    fn texts_that_are_no_identity_are_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa",
            "spiffe://td/na/a/sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/a/sa/b\0",
            "https://td/ns/a/sa/b",
        ] {
            assert_eq!(text.parse::<Identity>(), Err(NameError::Identity { value: text.into() }), "{text}");
        }
    }
}
