//! Which rule a connection is of (`waypoint.md` 2.17), by the name that its client asks for with TLS: the very name goes
//! before the longest that it is under, and that before rules for all. Of equals the first of the table is taken.

use std::collections::HashMap;

use super::Found;
use crate::http_route::ServerName;

/// Places in the table, by names in small letters.
#[derive(Debug, Default)]
pub(super) struct Servers {
    exact: HashMap<Box<str>, u32>,
    under: HashMap<Box<str>, u32>,
    /// What demands no name.
    any: Option<u32>,
}

impl Servers {
    /// Of a table's entries, in order.
    pub(super) fn new<'t>(entries: impl Iterator<Item = (u32, Found<'t>)>) -> Self {
        let mut this = Self::default();
        for (at, found) in entries {
            let more = found.matched.and_then(|it| it.more.as_deref());
            let servers = more.map(|more| more.servers.as_slice()).unwrap_or_default();
            if servers.is_empty() {
                this.any.get_or_insert(at);
            }
            for server in servers {
                match server {
                    ServerName::Exact(name) => this.exact.entry(name.clone()).or_insert(at),
                    ServerName::Under(name) => this.under.entry(name.clone()).or_insert(at),
                };
            }
        }
        this
    }

    /// The first for a name, or for a client that asks for none.
    pub(super) fn first(&self, server: Option<&str>) -> Option<u32> {
        let named = || {
            let name = server?.to_ascii_lowercase();
            let above = name.match_indices('.').filter_map(|(at, _)| self.under.get(name.get(at + 1..)?));
            self.exact.get(name.as_str()).or_else(|| above.into_iter().next()).copied()
        };
        named().or(self.any)
    }

    /// Whether any rule demands a name.
    pub(super) fn are_named(&self) -> bool {
        !self.exact.is_empty() || !self.under.is_empty()
    }
}
