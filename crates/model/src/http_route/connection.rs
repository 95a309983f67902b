//! What rules of VirtualServices demand of connections (`waypoint.md` 4.1): the nouns, and which rule a connection is of.
//! Leaves TLSRoute and TCPRoute, whose names have an order of their own, to `table::servers`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::server::ServerName;
use super::table::{Found, Table};
use super::{Match, More};
use crate::name::Namespace;
use crate::workload::Workload;

/// Demands on a connection, which no request is ever of. What is not given may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionMatch {
    /// It is dialled to one of these.
    pub to: Vec<IpNet>,
    /// It comes from here.
    pub from: Option<IpNet>,
}

/// A connection as it is opened, before a byte of it is read.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The port of the service that is dialled.
    pub port: u16,
    /// The address that is dialled.
    pub to: IpAddr,
    /// The address that it comes from.
    pub client: IpAddr,
    /// The namespace of who dials, where that is known.
    pub from: Option<&'a Namespace>,
    /// The workload that dials, where that is known.
    pub source: Option<&'a Workload>,
}

/// What routes say of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Led<'t> {
    /// Nothing: it goes on to the service that it was opened to.
    Unsaid,
    /// It asks for no server that any of the rules it is for names: it is refused.
    Nobody,
    /// It is of this rule.
    Found(Found<'t>),
}

impl ConnectionMatch {
    fn is_met(&self, opening: &Opening<'_>) -> bool {
        let Self { to, from } = self;
        let to_it = || to.iter().any(|range| range.contains(&opening.to));
        (to.is_empty() || to_it()) && from.is_none_or(|range| range.contains(&opening.client))
    }
}

impl More {
    /// Whether a connection is as demanded, but for the server that it asks for; never, if requests are meant.
    fn is_for(&self, opening: &Opening<'_>) -> bool {
        self.connection.as_ref().is_some_and(|it| it.is_met(opening))
            && self.port.is_none_or(|port| port == opening.port)
            && self.from.as_ref().is_none_or(|from| opening.from == Some(from))
            && self.has_labels(opening.source)
    }

    /// Whether who asks has the labels that are demanded. Of one that is not known nobody knows any.
    pub(super) fn has_labels(&self, source: Option<&Workload>) -> bool {
        let is = |(key, value): &(Box<str>, Box<str>)| {
            source.and_then(|it| it.labels.get(key)).is_some_and(|own| own == value)
        };
        self.from_labels.iter().all(is)
    }
}

impl ServerName {
    fn is(&self, server: &str) -> bool {
        match self {
            Self::Exact(name) => server.eq_ignore_ascii_case(name),
            Self::Under(name) => {
                let above = server.len().checked_sub(name.len() + 1).filter(|at| *at > 0);
                above
                    .and_then(|at| server.get(at..))
                    .and_then(|end| end.strip_prefix('.'))
                    .is_some_and(|end| end.eq_ignore_ascii_case(name))
            }
        }
    }
}

impl Table {
    /// What it says of a connection, by the server that is asked for with TLS, if one is.
    #[must_use]
    pub fn lead(&self, opening: &Opening<'_>, server: Option<&str>) -> Led<'_> {
        if self.kind().is_of_connections() {
            return self.connection(server).map_or(Led::Nobody, Led::Found);
        }
        let mut unsaid = Led::Unsaid;
        for (found, more) in self.rules_for(opening) {
            let mut named = more.servers.iter();
            if more.servers.is_empty() || server.is_some_and(|server| named.any(|it| it.is(server))) {
                return Led::Found(found);
            }
            unsaid = Led::Nobody;
        }
        unsaid
    }

    /// Whether it has to be known which server a connection asks for.
    #[must_use]
    pub fn asks_for_server(&self, opening: &Opening<'_>) -> bool {
        if self.kind().is_of_connections() {
            return self.asks_for_servers();
        }
        self.rules_for(opening).next().is_some_and(|(_, more)| !more.servers.is_empty())
    }

    /// Rules of connections, in order, that are for this one, whatever server it asks for.
    fn rules_for<'t, 'o>(
        &'t self,
        opening: &'o Opening<'o>,
    ) -> impl Iterator<Item = (Found<'t>, &'t More)> + use<'t, 'o> {
        let all = self.of_connections().filter_map(|found| Some((found, found.matched?.more.as_deref()?)));
        all.filter(|(_, more)| more.is_for(opening))
    }
}

/// Whether a match is of connections, and so of no request.
pub(super) fn is_of_connections(matched: Option<&Match>) -> bool {
    matched.and_then(|it| it.more.as_ref()).is_some_and(|more| more.connection.is_some())
}

#[cfg(test)]
mod tests;
