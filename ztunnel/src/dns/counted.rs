//! What is counted of names (`ztunnel.md` 11.1). Owns those metrics and their labels, which are closed: kinds, and
//! names of mesh objects.

use std::fmt;
use std::time::Duration;

use ambit_model::name::Label;
use ambit_model::workload::Workload;
use ambit_process::observe::Registry;
use ambit_wire::dns::{Carrier, Question};
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Counters of names. Clones share them.
#[derive(Clone)]
pub struct Counted {
    asked: Family<Labels, Counter>,
    forwarded: Family<Labels, Counter>,
    failed: Family<Labels, Counter>,
    took: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for Counted {
    fn default() -> Self {
        let buckets: fn() -> Histogram = || Histogram::new([0.0005, 0.001, 0.01, 0.1, 1.0, 5.0]);
        Self {
            asked: Family::default(),
            forwarded: Family::default(),
            failed: Family::default(),
            took: Family::new_with_constructor(buckets),
        }
    }
}

/// Who asked for what, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    kind: &'static str,
    carrier: Carrier,
    canonical: Label,
    revision: Label,
}

impl Labels {
    pub(super) fn new(question: &Question, carrier: Carrier, client: Option<&Workload>) -> Self {
        let lower = |label: &Label| Label::from(label.as_str().to_lowercase());
        Self {
            kind: question.kind(),
            carrier,
            canonical: client.map(|w| lower(&w.canonical_name)).unwrap_or_default(),
            revision: client.map(|w| lower(&w.canonical_revision)).unwrap_or_default(),
        }
    }
}

impl Counted {
    /// Declares everything.
    pub fn register(&self, to: &mut Registry) {
        let m = self.clone();
        to.register("istio_dns_requests", "Names asked for in pods (unstable)", m.asked);
        to.register("istio_dns_upstream_requests", "Names others were asked for (unstable)", m.forwarded);
        to.register("istio_dns_upstream_failures", "Names nobody had an answer to (unstable)", m.failed);
        let took = "Time until others answered (unstable)";
        to.register("istio_dns_upstream_request_duration_seconds", took, m.took);
    }

    pub(super) fn asked(&self, labels: &Labels) {
        self.asked.get_or_create(labels).inc();
    }

    pub(super) fn forwarded(&self, labels: &Labels, took: Duration, answered: bool) {
        self.forwarded.get_or_create(labels).inc();
        self.took.get_or_create(labels).observe(took.as_secs_f64());
        if !answered {
            self.failed.get_or_create(labels).inc();
        }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let carrier = match self.carrier {
            Carrier::Udp => "udp",
            Carrier::Tcp => "tcp",
        };
        for (name, value) in [
            ("request_query_type", self.kind),
            ("request_protocol", carrier),
            ("source_canonical_service", self.canonical.as_str()),
            ("source_canonical_revision", self.revision.as_str()),
        ] {
            (name, if value.is_empty() { "unknown" } else { value }).encode(e.encode_label())?;
        }
        Ok(())
    }
}
