//! Where a provider's service is: a host, perhaps the namespace whose service is meant, and a port.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::name::{Hostname, NameError, Namespace};
use crate::service::Service;

/// A service's port, by the service's host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reach {
    /// Whose service of that host; none: the only one, or the first by its namespace.
    pub namespace: Option<Namespace>,
    /// The host.
    pub host: Hostname,
    /// The port, as clients dial it.
    pub port: u16,
}

/// Why a text says of no service where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// A name in it is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its port is none.
    #[error("the port of {0:?} is none")]
    Port(String),
}

impl Reach {
    /// The one that is meant of all services with that host, which come by namespace.
    #[must_use]
    pub fn meant<'a>(&self, all: &'a [Arc<Service>]) -> Option<&'a Arc<Service>> {
        let is_it = |it: &&Arc<Service>| self.namespace.as_ref().is_none_or(|mine| *mine == it.namespace);
        all.iter().find(is_it)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.namespace.iter().try_for_each(|namespace| write!(f, "{namespace}/"))?;
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Reach {
    type Err = ReachError;
    /// `[<namespace>/]<host>:<port>`.
    fn from_str(text: &str) -> Result<Self, ReachError> {
        let bad_port = || ReachError::Port(text.into());
        let (name, port) = text.rsplit_once(':').ok_or_else(bad_port)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad_port)?;
        let (namespace, host) = match name.split_once('/') {
            Some((namespace, host)) => (Some(namespace.parse()?), host),
            None => (None, name),
        };
        Ok(Self { namespace, host: host.parse()?, port })
    }
}
