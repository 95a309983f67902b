//! Keeps each node's packet filter at what the services mean there. Calls the kernel only when that has changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ambit_sys::netlink::Family;
use ambit_sys::netlink::talk::{Talk, TalkError};

use super::rules::transaction;
use super::{Services, services};
use crate::args::chain;
use crate::local::pods::Ground;
use crate::local::space::{self, SpaceError};
use crate::local::world::World;

/// After a refusal.
const PAUSE: Duration = Duration::from_secs(1);
/// Why the services are not as they should be.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error(
        "the packet filter did not take the services (CONFIG_NF_TABLES_INET, CONFIG_NFT_NUMGEN, CONFIG_NFT_HASH, CONFIG_NFT_REJECT)"
    )]
    Kernel(#[source] TalkError),
}

/// What the nodes were told.
#[derive(Default)]
pub(crate) struct ServiceKeeper {
    told: BTreeMap<u8, Services>,
    not_before: Option<Instant>,
}

impl ServiceKeeper {
    /// Brings all nodes to what the world means.
    pub(crate) fn tend(&mut self, ground: &Ground, world: &World, now: Instant) {
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.not_before = None;
        for node in &ground.nodes {
            let wanted = services(world, &node.name);
            if self.told.get(&node.number) == Some(&wanted) {
                continue;
            }
            match apply(&ground.mesh.space(&node.space()), &wanted) {
                Ok(()) => drop(self.told.insert(node.number, wanted)),
                Err(error) => {
                    tracing::warn!(node = node.name, error = chain(&error), "services are not translated");
                    self.not_before = Some(now + PAUSE);
                }
            }
        }
    }
}

fn apply(node: &Path, services: &Services) -> Result<(), ApplyError> {
    let (messages, last) = transaction(services);
    let tell = || Talk::open(Family::Netfilter)?.tell(&messages, last);
    space::within(node, tell)?.map_err(ApplyError::Kernel)
}
