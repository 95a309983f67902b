//! How traffic to a service is spread over its endpoints and kept within bounds (`waypoint.md` 4.5, 7.1-7.5). Owns the
//! nouns, and below them what can be decided without sockets: which endpoint (`choice`, `table`, `near`), which of them
//! is left out for a while (`outlier`), and whether there is room (`ward`). What people write is the control plane's to
//! read: here everything that overlays something else is put together already.

mod adaptive;
mod choice;
mod hash;
mod near;
mod origination;
mod outlier;
mod probe;
mod proxied;
mod table;
mod ward;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::HeaderName;

use crate::http_route::{Broken, RetryBudget};
use crate::name::{Label, ServiceKey, WorkloadUid};
use crate::service::Scope;
pub use adaptive::{Adaptive, Gradient};
pub use choice::Choosing;
pub use hash::{Affinity, Baked, Given, affinity};
pub use near::{Near, Place, Shares};
pub use origination::{Origination, Roots, SubjectName, host, is_host};
pub use outlier::Came;
pub use probe::{Ask, Probe, Vital};
pub use proxied::{Ends, Proxied};
pub use table::Table;
pub use ward::{Overflow, Ward};

/// How a service's traffic is handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Whose.
    pub service: ServiceKey,
    /// On ports that have nothing of their own.
    pub handling: Handling,
    /// On these ports.
    pub ports: BTreeMap<u16, Handling>,
    /// Of those requests that routes send to a part of its endpoints.
    pub subsets: BTreeMap<Label, Subset>,
}

/// A part of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// The endpoints. Some may be none of the service's.
    pub members: BTreeSet<WorkloadUid>,
    /// How its traffic is handled.
    pub handling: Handling,
    /// The same on ports that have something of their own.
    pub ports: BTreeMap<u16, Handling>,
}

/// How traffic is handled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handling {
    /// Which endpoint is chosen.
    pub balance: Balance,
    /// What the endpoint's place has to do with it.
    pub near: Near,
    /// How those that are new get their share.
    pub warmup: Option<Warmup>,
    /// How much there may be at a time.
    pub limits: Limits,
    /// Whether those that fail are left out.
    pub outlier: Option<Outlier>,
    /// Whether endpoints are asked how they are.
    pub probe: Option<Probe>,
    /// After so long without an answer, a request that may be done twice is given to a second endpoint as well.
    pub hedge_after: Option<Duration>,
    /// Within which bounds it is found how many requests there may be at a time.
    pub adaptive: Option<Adaptive>,
    /// How many may be tried again at a time.
    pub retry_budget: Option<RetryBudget>,
    /// TLS that is begun to endpoints, in tunnels and without them.
    pub tls: Option<Origination>,
    /// How endpoints are told who their client is, before anything else on each connection.
    pub proxied: Option<Proxied>,
    /// What cannot be honoured, so that nothing is sent at all.
    pub closed: Option<Broken>,
}

/// How one of several endpoints is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Balance {
    /// The less busy of two.
    #[default]
    LeastRequest,
    /// Any.
    Random,
    /// One after the other.
    RoundRobin,
    /// The one that has what the request says, as long as it is there.
    Hash(HashBy, HashTable),
}

/// What of a request says which endpoint it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// The path it is for, where we give it.
        path: Box<str>,
        /// How long it lasts, where we give it; zero: as long as the browser's window. None: we never give one.
        ttl: Option<Duration>,
    },
    /// A parameter in the query.
    Query(Box<str>),
    /// The client's address.
    SourceIp,
}

/// How endpoints are found by a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashTable {
    /// On a ring of at least so many points.
    Ring {
        /// The points.
        least: u32,
    },
    /// In a table of about so many slots: of as many as the next prime number.
    Maglev {
        /// The slots.
        size: u32,
    },
}

/// How much there may be at a time, of one waypoint. None: as much as there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Connections.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests under way.
    pub requests: Option<u32>,
    /// Requests that are tried again.
    pub retries: Option<u32>,
    /// Requests of one connection, in its life.
    pub per_connection: Option<u32>,
    /// How long a connection may take to be there.
    pub connect: Option<Duration>,
    /// How long a connection of HTTP may be without requests.
    pub idle: Option<Duration>,
    /// How long any other may be without bytes.
    pub still: Option<Duration>,
    /// How old a connection may become.
    pub age: Option<Duration>,
    /// Requests at a time on one connection of HTTP/2.
    pub streams: Option<u32>,
    /// What is spoken to endpoints.
    pub version: Version,
}

/// Which HTTP is spoken to endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// What the port says.
    #[default]
    OfPort,
    /// HTTP/1.1, unless the port says HTTP/2.
    Http1,
    /// HTTP/2.
    Http2,
}

/// When an endpoint is left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outlier {
    /// After so many answers with 5xx, or none, in a row; 0: never.
    pub errors: u32,
    /// After so many with 502, 503 or 504, or none; 0: never.
    pub gateway_errors: u32,
    /// After so many times without an answer, where that is counted by itself.
    pub split: Option<u32>,
    /// How often is looked whether one may come back.
    pub interval: Duration,
    /// How long one is left out the first time.
    pub base: Duration,
    /// How many of a hundred may be left out.
    pub most_percent: u32,
    /// With fewer of a hundred left, all are used; 0: never.
    pub panic_percent: u32,
}

/// How endpoints that are new get their share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Warmup {
    /// How long they are new.
    pub duration: Duration,
    /// What they get at once, of a hundred.
    pub least_percent: u32,
    /// How fast it grows; in thousandths, 1000: with the time.
    pub aggression: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            errors: 5,
            gateway_errors: 0,
            split: None,
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            most_percent: 10,
            panic_percent: 0,
        }
    }
}

impl Traffic {
    /// Of a service of which nothing was said.
    #[must_use]
    pub fn unsaid(service: ServiceKey) -> Self {
        Self { service, handling: Handling::default(), ports: BTreeMap::new(), subsets: BTreeMap::new() }
    }

    /// How traffic to a port is handled, and to which endpoints it goes; nothing, if there is no such subset.
    #[must_use]
    pub fn of(&self, port: u16, subset: Option<&str>) -> Option<(&Handling, Option<&BTreeSet<WorkloadUid>>)> {
        let Some(name) = subset else {
            return Some((self.ports.get(&port).unwrap_or(&self.handling), None));
        };
        let subset = self.subsets.get(name)?;
        Some((subset.ports.get(&port).unwrap_or(&subset.handling), Some(&subset.members)))
    }
}

/// A place in the order in which endpoints are preferred, by something they have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// What.
    pub scope: Scope,
    /// Which; none: the waypoint's own.
    pub value: Option<Label>,
}

#[cfg(test)]
mod tests;
