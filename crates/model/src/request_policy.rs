//! Authorization of requests (`waypoint.md` 4.3): who may ask what of a service, by everything that a request says.
//! Owns the nouns; what they mean is decided in `judge`. (`policy` is of connections, which a node's proxy judges.)
//!
//! A condition that cannot be known - a path where no HTTP is spoken, a key that nobody knows - is read strictly: it
//! never makes an allow match, and never keeps a deny from matching.

mod facts;
mod judge;
mod names;

use http::HeaderName;
use ipnet::IpNet;

use crate::name::{Label, Namespace, PolicyKey, ServiceKey};
use crate::policy::{AccountMatch, Condition, TextMatch};
pub use facts::{Claim, Facts, Http, Token, remote};
pub use judge::{Denial, Opinion, Rehearsal, RuleRef, Verdict, asks, fires, judge, matched};
pub use names::{Glob, PathPattern, RequestPrincipal, Template, TemplateError, text_match, written};

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPolicy {
    /// `<namespace>/<name>`.
    pub key: PolicyKey,
    /// Whose requests it judges.
    pub targets: Vec<Target>,
    /// What a match means.
    pub action: RequestAction,
    /// Of which any may match. None: the policy never matches.
    pub rules: Vec<RequestRule>,
    /// Told of, never enforced.
    pub dry_run: bool,
}

impl RequestPolicy {
    /// A policy of which nothing is known but that it is there: nobody is let in.
    #[must_use]
    pub fn closed(key: PolicyKey) -> Self {
        let targets = vec![Target::Mesh];
        let rules = vec![RequestRule::default()];
        Self { key, targets, action: RequestAction::Deny, rules, dry_run: false }
    }
}

/// Whose requests a policy judges.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Those to a service.
    Service(ServiceKey),
    /// All that come through a waypoint.
    Waypoint {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: Label,
    },
    /// All that come through any waypoint.
    Mesh,
}

/// What a match means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestAction {
    /// The request is let in.
    Allow,
    /// It is kept out.
    Deny,
    /// It is written down.
    Audit,
    /// Somebody else is asked.
    Custom {
        /// Who; none: nobody that is known, and so it is kept out.
        provider: Option<Label>,
    },
}

/// All of these must hold; what is empty demands nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestRule {
    /// Of which any may match.
    pub from: Vec<Source>,
    /// Of which any may match.
    pub to: Vec<Operation>,
    /// Which must all match.
    pub when: Vec<Requirement>,
}

/// Who asks. With nothing demanded it is nobody in particular, which is read strictly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Its identity, without `spiffe://`.
    pub principals: Condition<TextMatch>,
    /// Whom its token names.
    pub request_principals: Condition<RequestPrincipal>,
    /// Its namespace.
    pub namespaces: Condition<Glob>,
    /// Its service account.
    pub service_accounts: Condition<AccountMatch>,
    /// Who vouches for it.
    pub trust_domains: Condition<TextMatch>,
    /// Where its connection comes from.
    pub ip_blocks: Condition<IpNet>,
    /// Where its request comes from, as those say who passed it on.
    pub remote_ip_blocks: Condition<IpNet>,
}

impl RequestPolicy {
    /// Whether it looks at the server that is asked for with TLS.
    #[must_use]
    pub fn asks_for_server(&self) -> bool {
        let is_server = |it: &Requirement| matches!(it, Requirement::Text { of: TextOf::Sni, .. });
        self.rules.iter().flat_map(|rule| &rule.when).any(is_server)
    }

    /// Headers that it looks at.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.rules.iter().flat_map(|rule| &rule.when).filter_map(|it| match it {
            Requirement::Text { of: TextOf::Header(name), .. } => Some(name),
            Requirement::Text { .. }
            | Requirement::Address { .. }
            | Requirement::Namespace(_)
            | Requirement::ServiceAccount(_)
            | Requirement::RequestPrincipal(_)
            | Requirement::Port(_)
            | Requirement::Unknown(_) => None,
        })
    }
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// The host as it was sent, with its port if there was one; in whichever case.
    pub hosts: Condition<TextMatch>,
    /// The service's port.
    pub ports: Condition<u16>,
    /// The method.
    pub methods: Condition<TextMatch>,
    /// The path.
    pub paths: Condition<PathPattern>,
}

impl Source {
    /// True when nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            principals,
            request_principals,
            namespaces,
            service_accounts,
            trust_domains,
            ip_blocks,
            remote_ip_blocks,
        } = self;
        principals.is_empty()
            && request_principals.is_empty()
            && namespaces.is_empty()
            && service_accounts.is_empty()
            && trust_domains.is_empty()
            && ip_blocks.is_empty()
            && remote_ip_blocks.is_empty()
    }
}

impl Operation {
    /// True when nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { hosts, ports, methods, paths } = self;
        paths.is_empty() && hosts.is_empty() && ports.is_empty() && methods.is_empty()
    }
}

/// A demand on one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// On a text.
    Text {
        /// Which.
        of: TextOf,
        /// What it must be.
        values: Condition<TextMatch>,
    },
    /// On an address.
    Address {
        /// Which.
        of: AddressOf,
        /// Where it must be.
        values: Condition<IpNet>,
    },
    /// On the source's namespace.
    Namespace(Condition<Glob>),
    /// On the source's service account.
    ServiceAccount(Condition<AccountMatch>),
    /// On whom the token names.
    RequestPrincipal(Condition<RequestPrincipal>),
    /// On the port that was dialled.
    Port(Condition<u16>),
    /// On something that is not known here.
    Unknown(Label),
}

/// An attribute that is a text, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOf {
    /// A header; of several, all of them joined.
    Header(HeaderName),
    /// The source's identity, without `spiffe://`.
    Principal,
    /// Who vouches for the source.
    TrustDomain,
    /// For whom the token is.
    Audiences,
    /// To whom the token was given.
    Presenter,
    /// Something that the token claims, by its path.
    Claim(Vec<Box<str>>),
    /// The name asked for with TLS.
    Sni,
}

/// An attribute that is an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOf {
    /// Where the connection comes from.
    Source,
    /// Where the request comes from.
    Remote,
    /// Where it goes.
    Destination,
}
