//! The metrics of the control plane, all of them. Labels are closed.

use ambit_process::observe::Registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// What became of a signing request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// A certificate was given.
    Signed,
    /// The caller may not have one.
    Refused,
    /// The request was bad, or we failed.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Signing {
    outcome: Outcome,
}

/// The metrics; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    signing: Family<Signing, Counter>,
    publications: Counter,
    changes: Counter,
    faults: Gauge,
    streams: Gauge,
    resources: Gauge,
}

impl Metrics {
    /// Makes them known to a registry.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("ca_requests", "Signing requests by what became of them", this.signing.clone());
        registry.register("publications", "Times that a change was published", this.publications.clone());
        registry.register("published_changes", "Objects translated for publication", this.changes.clone());
        registry.register("manifest_faults", "Faults in manifests now", this.faults.clone());
        registry.register("pilot_xds", "Subscribers connected now", this.streams.clone());
        registry.register("resources", "Resources published now", this.resources.clone());
        this
    }

    /// Counts a signing request.
    pub fn signed(&self, outcome: Outcome) {
        self.signing.get_or_create(&Signing { outcome }).inc();
    }

    /// Counts a publication.
    pub fn published(&self, changes: usize, resources: usize) {
        self.publications.inc();
        self.changes.inc_by(u64::try_from(changes).unwrap_or(u64::MAX));
        self.resources.set(i64::try_from(resources).unwrap_or(i64::MAX));
    }

    /// Says how many faults there are.
    pub fn faults(&self, count: usize) {
        self.faults.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Says how many subscribers there are.
    pub fn streams(&self, count: usize) {
        self.streams.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
