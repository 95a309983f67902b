//! An L4 authorization policy (`wire.md` 5). What it means is decided in `judge`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::{Namespace, PolicyKey, ServiceAccount};

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `<namespace>/<name>`; equals the xDS resource name.
    pub key: PolicyKey,
    /// Which workloads it applies to.
    pub scope: PolicyScope,
    /// What a match means.
    pub action: Action,
    /// Rules, of which any may match. None: the policy never matches.
    pub rules: Vec<Rule>,
    /// Evaluated and logged, never enforced.
    pub dry_run: bool,
}

/// Which workloads a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyScope {
    /// All.
    Global,
    /// Those of the policy's namespace.
    Namespace,
    /// Those that list it.
    Selector,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let the connection in.
    Allow,
    /// Keep it out.
    Deny,
}

/// Clauses that must all match. None: matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// Alternatives, of which any may match. None: matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clause {
    /// The alternatives.
    pub matches: Vec<Match>,
}

/// Conditions on the attributes of a connection, which must all hold. With none set it never matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The source's namespace.
    pub namespaces: Condition<TextMatch>,
    /// The source's service account.
    pub service_accounts: Condition<AccountMatch>,
    /// The source's identity, without `spiffe://`.
    pub principals: Condition<TextMatch>,
    /// The peer's address.
    pub source_ips: Condition<RangeMatch>,
    /// The destination's address.
    pub destination_ips: Condition<RangeMatch>,
    /// The destination's port.
    pub destination_ports: Condition<u16>,
}

/// One attribute: it must be one of `any` (empty: no demand) and none of `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition<T> {
    /// Accepted values.
    pub any: Vec<T>,
    /// Refused values.
    pub none: Vec<T>,
}

impl<T> Default for Condition<T> {
    fn default() -> Self {
        Self { any: Vec::new(), none: Vec::new() }
    }
}

impl<T> Condition<T> {
    /// True when nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

/// How a text is compared; always case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextMatch {
    /// Equal.
    Exact(Box<str>),
    /// Starts with.
    Prefix(Box<str>),
    /// Ends with.
    Suffix(Box<str>),
    /// Not empty.
    Presence,
}

/// A service account, whatever its trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountMatch {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub service_account: ServiceAccount,
}

/// An address range, or one that could not be read. The latter is kept so that reading it never widens a policy
/// (`judge` takes it as no match in an allow, as a match in a deny).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeMatch {
    /// A range.
    Range(IpNet),
    /// Bytes or a length that are no range.
    Unreadable,
}

impl RangeMatch {
    /// A single address.
    #[must_use]
    pub fn host(ip: IpAddr) -> Self {
        Self::Range(IpNet::from(ip))
    }
}
