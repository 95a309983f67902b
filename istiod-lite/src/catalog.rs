//! What each object became, and so what a change of objects changes in the mesh.
//! Owns whose resource is whose. What really differs is told by `xds::library`, which has the contents; so none of
//! the translated nouns is kept here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ambit_cluster::files::Event;
use ambit_model::delta::{Change, Delta};
use ambit_wire::convert::{ResourceKey, encode};

use crate::deploy::overlay::Overlays;
use crate::index::World;
use crate::index::unit::Unit;
use crate::translate;

/// The cluster and what became of it.
#[derive(Debug)]
pub struct Catalog {
    world: World,
    keys: HashMap<Unit, Vec<ResourceKey>>,
    owners: HashMap<ResourceKey, Unit>,
    dirty: BTreeSet<Unit>,
}

impl Catalog {
    /// A cluster, and nothing made of it yet.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world, keys: HashMap::new(), owners: HashMap::new(), dirty: BTreeSet::new() }
    }

    /// The cluster.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes in how what is made for gateways is to be: nothing in the mesh follows from it.
    pub fn overlay(&mut self, overlays: Arc<Overlays>) {
        self.world.overlays = Some(overlays);
    }

    /// Takes an event in. What it changes is computed by `settle`, once for many events.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Applied(object) => self.dirty.extend(self.world.apply(object)),
            Event::Gone(object) => self.dirty.extend(self.world.remove(&object)),
            Event::Complete | Event::Fault(_) => {}
        }
    }

    /// What may have changed in the mesh since the last time. A noun that is as it was is told again.
    pub fn settle(&mut self) -> Delta {
        let mut delta = Delta::default();
        let mut lost = Vec::new();
        for unit in std::mem::take(&mut self.dirty) {
            let nouns = translate::unit(&self.world, &unit);
            let now: Vec<_> = nouns.iter().map(key).collect();
            let before = self.keys.remove(&unit).unwrap_or_default();
            lost.extend(before.into_iter().filter(|key| !now.contains(key)).map(|key| (key, unit.clone())));
            for key in &now {
                self.owners.insert(key.clone(), unit.clone());
            }
            if !now.is_empty() {
                self.keys.insert(unit, now);
            }
            delta.changes.extend(nouns);
        }
        // Only now: what one object lost another may have taken over in the same step.
        for (key, unit) in lost {
            if self.owners.get(&key) == Some(&unit) {
                self.owners.remove(&key);
                delta.changes.push(key.gone());
            }
        }
        delta
    }
}

fn key(noun: &Change) -> ResourceKey {
    match noun {
        Change::Workload(it) => ResourceKey::Workload(it.uid.clone()),
        Change::Service(it) => ResourceKey::Service(it.key()),
        Change::Policy(it) => ResourceKey::Policy(it.key.clone()),
        Change::Route(it) => ResourceKey::Route(it.key.clone()),
        Change::RequestPolicy(it) => ResourceKey::RequestPolicy(it.key.clone()),
        Change::RateLimit(it) => ResourceKey::RateLimit(it.key.clone()),
        Change::ExtProc(it) => ResourceKey::ExtProc(it.key.clone()),
        Change::Authentication(it) => ResourceKey::Authentication(it.key.clone()),
        Change::Traffic(it) => ResourceKey::Traffic(it.service.clone()),
        Change::Provider(it) => ResourceKey::Provider(it.name.clone()),
        Change::Credential(it) => ResourceKey::Credential(it.name.clone()),
        Change::Telemetry(it) => ResourceKey::Telemetry(it.key.clone()),
        gone => encode(gone).0,
    }
}

#[cfg(test)]
mod tests;
