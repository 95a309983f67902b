//! Names asked inside a pod: taken from its own processes only, answered from the snapshot or asked of others in the
//! pod's name (`ztunnel.md` 10). Owns what all pods share of that, and the limits.
//! `model::dns` says what a name means, `wire::dns` reads and writes bytes; `serve` takes questions, `forward` asks
//! others, `resolvers` knows whom.

mod counted;
mod desk;
mod forward;
mod resolvers;
mod serve;

#[cfg(test)]
mod sample;

use std::sync::Arc;

use ambit_model::dns::{Asker, Reply, Search, resolve};
use ambit_model::name::Namespace;
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::Workload;
use ambit_wire::dns::Question;

use crate::config;
use crate::outbound::Chance;

pub use counted::Counted;
pub use resolvers::Resolvers;
pub(crate) use serve::{bind, serve};

/// How names are answered, in all pods.
pub struct Names {
    /// Where questions are taken.
    pub(crate) at: Vec<std::net::SocketAddr>,
    preferred: Option<Namespace>,
    domain: String,
    /// Whose search domains are taken off: those of the machine's resolver, or a cluster's.
    machine: bool,
    ipv6: bool,
    resolvers: Arc<Resolvers>,
}

impl Names {
    /// What the settings say, if names are answered at all.
    #[must_use]
    pub fn new(config: &config::Config, resolvers: Arc<Resolvers>) -> Option<Arc<Self>> {
        let config::Names { at, preferred } = config.names.clone()?;
        Some(Arc::new(Self {
            at,
            preferred,
            domain: config.domain.to_ascii_lowercase(),
            machine: matches!(config.mode, config::Mode::Dedicated(_)),
            ipv6: config.traffic.ipv6,
            resolvers,
        }))
    }

    /// What is said to a question out of what we know.
    fn reply(&self, world: &Snapshot, client: &Workload, question: &Question) -> Reply {
        let (Some(name), Some(family)) = (question.name(), question.family()) else { return Reply::NotOurs };
        let machine = self.machine.then(|| self.resolvers.current());
        let search = machine.as_ref().map_or(Search::Cluster, |file| Search::Given(&file.search));
        let asker = Asker {
            client,
            domain: &self.domain,
            search,
            preferred: self.preferred.as_ref(),
            ipv6: self.ipv6,
        };
        resolve(world, &asker, (name, family), &mut Chance)
    }
}
