//! The metrics of the control plane, all of them. Labels are closed.

use std::time::SystemTime;

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

/// What became of a question about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The object may be stored.
    Passed,
    /// It may not.
    Failed,
    /// It was no such question.
    Unanswerable,
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
    root_ends: Gauge,
    signer_ends: Gauge,
    material_refused: Gauge,
    admissions_passed: Gauge,
    admissions_failed: Gauge,
    admissions_unanswerable: Gauge,
    hooks_written: Counter,
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
        let end = |text: &str| format!("{text}, in seconds since 1970");
        let (root, signer) = (end("When the root of new certificates ends"), end("When their signer ends"));
        registry.register("citadel_server_root_cert_expiry_timestamp", root, this.root_ends.clone());
        registry.register("citadel_server_cert_chain_expiry_timestamp", signer, this.signer_ends.clone());
        let refused = "1 while new signing material cannot be used and the former one stays in force";
        registry.register("ca_material_refused", refused, this.material_refused.clone());
        this.register_admissions(registry);
        this
    }

    /// Upstream's names, which end without `_total`; a counter would be given that ending.
    fn register_admissions(&self, registry: &mut Registry) {
        let passed = "Objects that were admitted, since the start";
        registry.register("galley_validation_passed", passed, self.admissions_passed.clone());
        let failed = "Objects that were refused, since the start";
        registry.register("galley_validation_failed", failed, self.admissions_failed.clone());
        let error = "Requests for admission that could not be answered, since the start";
        registry.register("galley_validation_http_error", error, self.admissions_unanswerable.clone());
        let written = "Times that roots were written into webhook configurations";
        registry.register("webhook_patch_attempts", written, self.hooks_written.clone());
    }

    /// Counts a question about an object.
    pub fn admitted(&self, what: Admission) {
        let count = match what {
            Admission::Passed => &self.admissions_passed,
            Admission::Failed => &self.admissions_failed,
            Admission::Unanswerable => &self.admissions_unanswerable,
        };
        count.inc();
    }

    /// Counts roots that were written into a webhook configuration.
    pub fn hook_written(&self) {
        self.hooks_written.inc();
    }

    /// Says until when the root and the signer are valid.
    pub fn signer_ends(&self, root: SystemTime, signer: SystemTime) {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        self.root_ends.set(seconds(root));
        self.signer_ends.set(seconds(signer));
    }

    /// Says whether new signing material cannot be used.
    pub fn material_refused(&self, refused: bool) {
        self.material_refused.set(i64::from(refused));
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
