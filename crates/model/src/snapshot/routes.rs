//! Routes in the known world: by key, by the service they are attached to, and as the tables that requests are looked
//! up in. Owns that a change costs what it touches: only the tables of services whose routes changed are made anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::shelf::Family;
use crate::http_route::{Route, RouteKey, Tables};
use crate::name::ServiceKey;

#[derive(Clone, Default)]
pub(super) struct Routes {
    by_key: HashTrieMapSync<RouteKey, Arc<Route>>,
    /// Kept for services that are not known (yet).
    by_parent: Family<ServiceKey, RouteKey, Route>,
    tables: HashTrieMapSync<ServiceKey, Arc<Tables>>,
    /// Services whose tables are to be made anew.
    stale: BTreeSet<ServiceKey>,
}

/// Tables follow from routes.
impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        self.by_key == other.by_key
    }
}

impl Eq for Routes {}

impl Routes {
    pub(super) fn route(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.by_key.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_key.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.size()
    }

    pub(super) fn of<'a>(&'a self, service: &ServiceKey) -> impl Iterator<Item = &'a Arc<Route>> + use<'a> {
        self.by_parent.members(service)
    }

    pub(super) fn tables(&self, service: &ServiceKey) -> Option<&Arc<Tables>> {
        self.tables.get(service)
    }

    pub(super) fn put(&mut self, route: &Arc<Route>) {
        self.take(&route.key);
        self.by_key.insert_mut(route.key.clone(), Arc::clone(route));
        for parent in &route.parents {
            self.by_parent.put(&parent.service, route.key.clone(), route);
            self.stale.insert(parent.service.clone());
        }
    }

    pub(super) fn take(&mut self, key: &RouteKey) {
        let Some(old) = self.by_key.get(key).cloned() else { return };
        self.by_key.remove_mut(key);
        for parent in &old.parents {
            self.by_parent.take(&parent.service, key);
            self.stale.insert(parent.service.clone());
        }
    }

    /// Makes the tables fit the routes again. Until then they are those from before.
    pub(super) fn settle(&mut self) {
        for service in std::mem::take(&mut self.stale) {
            let mut routes = self.by_parent.members(&service).peekable();
            if routes.peek().is_none() {
                drop(routes);
                self.tables.remove_mut(&service);
            } else {
                let tables = Tables::new(&service, routes);
                self.tables.insert_mut(service, Arc::new(tables));
            }
        }
    }
}
