//! How objects are linked: by the hosts they claim, the nodes they run on, the networks they lead into, the gateways and
//! services they name. Owns keeping those links as objects come and go.

use std::collections::BTreeSet;

use ambit_cluster::{Kind, ObjectRef};

use crate::index::World;
use crate::index::gateway::{self, NetworkGateway};
use crate::index::unit::Unit;
use crate::index::users::Named;

impl World {
    pub(super) fn attach(&mut self, at: &ObjectRef) {
        for (namespace, name) in self.named_by(at) {
            self.users.enter(Named { namespace: &namespace, name: &name }, at);
        }
        for mention in self.mentions(at) {
            self.routed.entry(mention).or_default().insert(at.clone());
        }
        for (host, unit) in self.claimed_by(at) {
            self.hosts.entry(host).or_default().insert(unit);
        }
        for node in self.nodes_of(at) {
            self.placed.entry(node).or_default().insert(at.clone());
        }
        for gateway in self.ways_of(at) {
            let network = self.networks.entry(gateway.network.clone()).or_default();
            network.entry(at.clone()).or_default().push(gateway);
        }
    }

    pub(super) fn detach(&mut self, at: &ObjectRef) {
        if at.kind == Kind::Gateway {
            self.networks.retain(|_, ways| {
                ways.remove(at);
                !ways.is_empty()
            });
        }
        for (namespace, name) in self.named_by(at) {
            self.users.leave(Named { namespace: &namespace, name: &name }, at);
        }
        for mention in self.mentions(at) {
            if let Some(routes) = self.routed.get_mut(&mention) {
                routes.remove(at);
                if routes.is_empty() {
                    self.routed.remove(&mention);
                }
            }
        }
        for (host, unit) in self.claimed_by(at) {
            if let Some(units) = self.hosts.get_mut(&host) {
                units.remove(&unit);
            }
            if self.hosts.get(&host).is_some_and(BTreeSet::is_empty) {
                self.hosts.remove(&host);
            }
        }
        for node in self.nodes_of(at) {
            if let Some(objects) = self.placed.get_mut(&node) {
                objects.remove(at);
                if objects.is_empty() {
                    self.placed.remove(&node);
                }
            }
        }
    }

    fn named_by(&self, at: &ObjectRef) -> Vec<(Box<str>, Box<str>)> {
        self.names(at).into_iter().map(|it| (it.namespace.into(), it.name.into())).collect()
    }

    pub(super) fn ways_of(&self, at: &ObjectRef) -> Vec<NetworkGateway> {
        let object =
            (at.kind == Kind::Gateway).then(|| self.space(&at.namespace)?.gateways.get(&at.name)).flatten();
        object.map(|it| gateway::read(it)).unwrap_or_default()
    }

    /// The nodes whose labels an object's translation reads.
    fn nodes_of(&self, at: &ObjectRef) -> BTreeSet<Box<str>> {
        let Some(space) = self.space(&at.namespace) else { return BTreeSet::new() };
        let names: Vec<&str> = match at.kind {
            Kind::Pod => space.pods.get(&at.name).map(|it| it.spec.node_name.as_str()).into_iter().collect(),
            Kind::EndpointSlice => {
                let endpoints = space.slices.get(&at.name).map(|it| it.endpoints.as_slice());
                endpoints.unwrap_or_default().iter().map(|it| it.node_name.as_str()).collect()
            }
            _ => Vec::new(),
        };
        names.into_iter().filter(|name| !name.is_empty()).map(Into::into).collect()
    }

    /// The host names that a service or a service entry claims.
    #[must_use]
    pub fn claimed_by(&self, at: &ObjectRef) -> Vec<(Box<str>, Unit)> {
        let Some(space) = self.space(&at.namespace) else { return Vec::new() };
        let unit = || Unit::new(at);
        match at.kind {
            Kind::Service if space.services.contains_key(&at.name) => {
                let host = self.hostname(&at.namespace, &at.name).into();
                unit().map(|unit| (host, unit)).into_iter().collect()
            }
            Kind::ServiceEntry => {
                let hosts =
                    space.entries.get(&at.name).map(|it| it.spec.hosts.as_slice()).unwrap_or_default();
                hosts.iter().filter_map(|host| Some((host.0.as_str().into(), unit()?))).collect()
            }
            _ => Vec::new(),
        }
    }
}
