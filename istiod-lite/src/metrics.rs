//! The metrics of the control plane, all of them: `times` has those that are measured. Labels are closed.

mod times;

use std::collections::BTreeMap;
use std::time::SystemTime;

use ambit_process::observe::Registry;
use ambit_wire::convert::ResourceType;
use ambit_xds::server::Totals;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tonic::Code;

pub use self::times::{Times, Trigger, Update, trigger};

/// Versions of subscribers that are told apart; those of more are counted together.
const VERSIONS: usize = 16;

/// The version of those who do not say theirs.
const UNKNOWN: &str = "unknown";

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    r#type: Type,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Type {
    Address,
    Authorization,
    Route,
    Policy,
    RateLimit,
    ExtProc,
    Authentication,
    Provider,
    Traffic,
    Credential,
    Telemetry,
}

impl From<ResourceType> for OfType {
    fn from(kind: ResourceType) -> Self {
        let r#type = match kind {
            ResourceType::Address => Type::Address,
            ResourceType::Authorization => Type::Authorization,
            ResourceType::Route => Type::Route,
            ResourceType::Policy => Type::Policy,
            ResourceType::RateLimit => Type::RateLimit,
            ResourceType::ExtProc => Type::ExtProc,
            ResourceType::Authentication => Type::Authentication,
            ResourceType::Provider => Type::Provider,
            ResourceType::Traffic => Type::Traffic,
            ResourceType::Credential => Type::Credential,
            ResourceType::Telemetry => Type::Telemetry,
        };
        Self { r#type }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
}

/// The metrics; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    signing: Family<Signing, Counter>,
    csr: Gauge,
    csr_unauthenticated: Gauge,
    csr_unreadable: Gauge,
    csr_unsigned: Gauge,
    csr_unnamed: Gauge,
    csr_issued: Gauge,
    root_left: Gauge,
    signer_left: Gauge,
    services: Gauge,
    pushes: Family<OfType, Gauge>,
    rejects: Gauge,
    expired: Gauge,
    publications: Counter,
    changes: Counter,
    faults: Gauge,
    streams: Family<Build, Gauge>,
    resources: Gauge,
    root_ends: Gauge,
    signer_ends: Gauge,
    material_refused: Gauge,
    admissions_passed: Gauge,
    admissions_failed: Gauge,
    admissions_unanswerable: Gauge,
    hooks_written: Counter,
    status_written: Counter,
    writers: Gauge,
    times: Times,
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
        registry.register("pilot_xds", "Subscribers connected now, by their version", this.streams.clone());
        this.streams(&BTreeMap::new(), &BTreeMap::new());
        registry.register("resources", "Resources published now", this.resources.clone());
        let refused = "1 while new signing material cannot be used and the former one stays in force";
        registry.register("ca_material_refused", refused, this.material_refused.clone());
        this.register_admissions(registry);
        this.register_signing(registry);
        this.register_discovery(registry);
        this.times.register(registry);
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
        let written = "Times that this replica wrote onto an object what became of it";
        registry.register("status_writes", written, self.status_written.clone());
        let writers = "Replicas that share these writes; 0: this one has no part in them";
        registry.register("status_writers", writers, self.writers.clone());
    }

    /// As of admissions: upstream's names, which are no counters' names.
    fn register_signing(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, count: &Gauge| {
            registry.register(format!("citadel_server_{name}"), help, count.clone());
        };
        add("csr_count", "Signing requests, since the start", &self.csr);
        let callers = "Signing requests whose caller was not believed, since the start";
        add("authentication_failure_count", callers, &self.csr_unauthenticated);
        add(
            "csr_parsing_err_count",
            "Signing requests that do not read, since the start",
            &self.csr_unreadable,
        );
        add(
            "csr_sign_err_count",
            "Signing requests where signing failed, since the start",
            &self.csr_unsigned,
        );
        let unnamed = "Signing requests for what is no identity, since the start";
        add("id_extraction_err_count", unnamed, &self.csr_unnamed);
        add("success_cert_issuance_count", "Certificates given, since the start", &self.csr_issued);
    }

    /// Makes known when signing material ends. Only where there is any: what never was would seem to be long over.
    pub fn register_ends(&self, registry: &mut Registry) {
        let end = |text: &str| format!("{text}, in seconds since 1970");
        let (root, signer) = (end("When the root of new certificates ends"), end("When their signer ends"));
        registry.register("citadel_server_root_cert_expiry_timestamp", root, self.root_ends.clone());
        registry.register("citadel_server_cert_chain_expiry_timestamp", signer, self.signer_ends.clone());
        let root = "Seconds left to the root of new certificates";
        registry.register("citadel_server_root_cert_expiry_seconds", root, self.root_left.clone());
        let signer = "Seconds left to the signer of new certificates";
        registry.register("citadel_server_cert_chain_expiry_seconds", signer, self.signer_left.clone());
    }

    fn register_discovery(&self, registry: &mut Registry) {
        registry.register("pilot_services", "Services published now", self.services.clone());
        let pushes = "Responses to subscribers by type, since the start";
        registry.register("pilot_xds_pushes", pushes, self.pushes.clone());
        let rejects = "Responses that subscribers refused, since the start";
        registry.register("pilot_total_xds_rejects", rejects, self.rejects.clone());
        let expired = "Answers to responses that were no longer the newest, since the start";
        registry.register("pilot_xds_expired_nonce", expired, self.expired.clone());
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION").into() }).set(1);
        registry.register("pilot_info", "1, for the version that runs", build);
    }

    /// Says how many services there are.
    pub fn services(&self, count: usize) {
        self.services.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Says how much time signing material has left at this moment.
    pub fn time(&self, now: SystemTime) {
        let now = seconds(now);
        self.root_left.set(self.root_ends.get() - now);
        self.signer_left.set(self.signer_ends.get() - now);
    }

    /// Counts an answered signing request by the code of the answer.
    pub fn requested(&self, code: Code) {
        self.csr.inc();
        let what = match code {
            Code::Ok => &self.csr_issued,
            Code::Unauthenticated | Code::Unavailable => &self.csr_unauthenticated,
            Code::InvalidArgument => &self.csr_unreadable,
            _ => &self.csr_unsigned,
        };
        what.inc();
    }

    /// Counts a signing request for what is no identity.
    pub fn unnamed(&self) {
        self.csr_unnamed.inc();
    }

    /// What is measured.
    #[must_use]
    pub fn times(&self) -> &Times {
        &self.times
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

    /// Counts what was written onto an object.
    pub fn status_written(&self) {
        self.status_written.inc();
    }

    /// Says how many replicas share such writes.
    pub fn writers(&self, count: usize) {
        self.writers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Says until when the root and the signer are valid.
    pub fn signer_ends(&self, root: SystemTime, signer: SystemTime) {
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

    /// Says how many subscribers there are of each version, and what all that there were got so far.
    pub fn streams(&self, versions: &BTreeMap<String, usize>, totals: &BTreeMap<ResourceType, Totals>) {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.streams.clear();
        // Nobody is a number, too: that nobody subscribes is what alerts are about.
        self.subscribers(UNKNOWN).set(0);
        for (at, (version, count)) in versions.iter().enumerate() {
            let version = if at < VERSIONS { version } else { "other" };
            self.subscribers(version).inc_by(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        for (kind, sum) in totals {
            self.pushes.get_or_create(&OfType::from(*kind)).set(whole(sum.pushed));
        }
        self.rejects.set(whole(totals.values().map(|sum| sum.nacks).sum()));
        self.expired.set(whole(totals.values().map(|sum| sum.stale).sum()));
    }
}

impl Metrics {
    fn subscribers(&self, version: &str) -> Gauge {
        self.streams.get_or_create(&Build { version: version.into() }).clone()
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
