//! Routes of requests to a service (`waypoint.md` 2): which requests, what is changed about them, where they go.
//! Owns the nouns; HTTPRoute, GRPCRoute and VirtualService are told in them. Leaves the objects people write, and their status,
//! to the control plane, and sockets to the waypoint.

mod connection;
mod cors;
mod edits;
mod filter;
mod instead;
mod matching;
mod more;
mod pattern;
mod retry;
mod server;
mod session;
mod share;
mod substitution;
mod table;
mod tables;
mod target;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::name::{Label, NameError, Namespace, RouteName, ServiceKey};
pub use connection::{ConnectionMatch, Led, Opening};
pub use cors::{Cors, Names, OriginError, OriginMatch};
pub(crate) use edits::free as changeable;
pub use edits::{Filling, HeaderEdits, Protected};
pub use filter::{
    Filters, Mirror, PathChange, PathText, PathTextError, Redirect, RedirectStatus, Rewrite, Scheme, Share,
};
pub use instead::{Abort, AbortWith, Delay, Direct, Fault};
pub use matching::{HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch};
pub use more::{Around, ClaimMatch, More};
pub use pattern::{Pattern, PatternError};
pub use retry::{Answer, Ended, Retry, RetryBudget, RetryOn, Sent};
pub(crate) use server::is_name as is_server_name;
pub use server::{ServerName, ServerNameError};
pub use session::{CookieName, CookieNameError, DIGEST, Kept, Session, TOKEN, Token};
pub use share::NoBackend;
pub use substitution::{Substitution, SubstitutionError};
pub use table::{Asked, Found, Miss, Table};
pub use tables::{Choice, Tables};
pub use target::Redirected;

/// One route object, as far as it speaks of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `<kind>/<namespace>/<name>`; equals the xDS resource name.
    pub key: RouteKey,
    /// When the object was made, in seconds since 1970: of equals, the oldest goes first.
    pub created_s: u64,
    /// The services whose requests it is for.
    pub parents: Vec<Parent>,
    /// What happens to them. Shared, so that what was found can be kept as long as a request lasts.
    pub rules: Vec<Arc<Rule>>,
}

/// The kinds of routes that requests take, the one that goes first where both are attached to one port before
/// the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// A GRPCRoute.
    Grpc,
    /// An HTTPRoute.
    Http,
    /// A TLSRoute, of connections: by the name that is asked for.
    Tls,
    /// A TCPRoute, of connections.
    Tcp,
    /// A VirtualService, whose rules come in the order in which they are written.
    VirtualService,
}

/// A route's key: `<kind>/<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// What it is.
    pub kind: RouteKind,
    /// The namespace it lives in.
    pub namespace: Namespace,
    /// The object's name.
    pub name: RouteName,
}

/// A rule, by its route and its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleName<'a> {
    /// Its route.
    pub route: &'a RouteKey,
    /// Its name in there; empty without one.
    pub rule: &'a str,
}

/// A route that something is attached to, all of it or the rules of one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteTarget {
    /// The route.
    pub route: RouteKey,
    /// Only its rules of this name; none: all of them.
    pub rule: Option<Label>,
}

/// A service that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parent {
    /// The service.
    pub service: ServiceKey,
    /// Only this port of it; none: every port.
    pub port: Option<u16>,
}

/// What happens to the requests that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, where it has one; shown and counted.
    pub name: Label,
    /// Of which any may match. None: every request matches.
    pub matches: Vec<Match>,
    /// What is changed; broken, all of the rule's requests are answered 500.
    pub filters: Result<Filters, Broken>,
    /// Where the requests go, by weight.
    pub backends: Vec<Backend>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// What is tried again; none: as the mesh does by default.
    pub retry: Option<Retry>,
    /// How clients stay with their endpoints; none: they do not.
    pub session: Option<Session>,
}

/// One choice among backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Where its share of requests goes; broken, it is answered 500.
    pub to: Result<Upstream, Broken>,
    /// Its share, relative to the others'; 0: none.
    pub weight: u32,
    /// What is changed of its share alone; broken, it is answered 500.
    pub filters: Result<Filters, Broken>,
}

/// A service's port that requests are sent to. Routes of that service are not asked again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The service.
    pub service: ServiceKey,
    /// Its port, as clients dial it.
    pub port: u16,
    /// Only the endpoints that its traffic policy calls so; none: all of them.
    pub subset: Option<Label>,
}

/// What cannot be honoured, and so is answered with an error rather than left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Why, for people.
    pub why: Label,
}

/// How long a request may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// The whole exchange, with everything that is tried again.
    pub request: TimeLimit,
    /// A single attempt.
    pub backend_request: TimeLimit,
}

/// A limit of time that may be switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TimeLimit {
    /// Not said.
    #[default]
    Unset,
    /// None, whatever is said elsewhere.
    Off,
    /// This long.
    After(Duration),
}

impl RouteKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Grpc, Self::Http, Self::Tls, Self::Tcp, Self::VirtualService];

    /// What its objects are called.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
            Self::VirtualService => "VirtualService",
        }
    }
}

impl RouteKind {
    /// Whether its rules are for connections, of which nobody sees what is asked in them. They have backends, and of
    /// matches only the servers that are asked for.
    #[must_use]
    pub const fn is_of_connections(self) -> bool {
        match self {
            Self::Tls | Self::Tcp => true,
            Self::Grpc | Self::Http | Self::VirtualService => false,
        }
    }
}

impl RouteTarget {
    /// Whether a rule is one of those.
    #[must_use]
    pub fn covers(&self, name: RuleName<'_>) -> bool {
        self.route == *name.route && self.rule.as_ref().is_none_or(|rule| rule.as_str() == name.rule)
    }
}

impl TimeLimit {
    /// How long, where it is said.
    #[must_use]
    pub fn after(self) -> Option<Duration> {
        match self {
            Self::Unset | Self::Off => None,
            Self::After(limit) => Some(limit),
        }
    }
}

impl From<Duration> for TimeLimit {
    /// Zero switches off (GEP-2257 durations in routes).
    fn from(limit: Duration) -> Self {
        if limit.is_zero() { Self::Off } else { Self::After(limit) }
    }
}

impl Broken {
    /// Broken for this reason.
    #[must_use]
    pub fn because(why: &str) -> Self {
        Self { why: why.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.route.fmt(f)?;
        self.rule.iter().try_for_each(|rule| write!(f, " ({rule})"))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)?;
        self.subset.iter().try_for_each(|subset| write!(f, " ({subset})"))
    }
}

impl FromStr for RouteKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || NameError::Route { value: text.into() };
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().ok_or_else(refuse);
        let (kind, namespace, name) = (next()?, next()?, next()?);
        let kind = RouteKind::ALL.into_iter().find(|each| each.as_str() == kind).ok_or_else(refuse)?;
        Ok(Self { kind, namespace: namespace.parse()?, name: name.parse()? })
    }
}

#[cfg(test)]
mod tests;
