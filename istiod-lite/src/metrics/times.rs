//! What is measured from a change to the subscribers that have it, under upstream's names and with the bounds of
//! upstream's buckets. Here things take milliseconds, so that there are finer ones in front of them. Counters of
//! upstream end without `_total`: they are gauges that only rise.

use std::time::Duration;

use ambit_cluster::files::Event;
use ambit_cluster::{Kind, ObjectRef};
use ambit_process::observe::Registry;
use ambit_wire::convert::ResourceType;
use ambit_xds::server::{Note, Notes};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::OfType;

const PUSH: [f64; 11] = [0.001, 0.003, 0.01, 0.03, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
const TOLD: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
const VIEW: [f64; 8] = [0.001, 0.003, 0.01, 0.1, 0.5, 1.0, 3.0, 5.0];
const SIZE: [f64; 8] = [1.0, 1e3, 1e4, 1e5, 1e6, 4e6, 1e7, 4e7];
/// The promise is 30 ms.
const LAG: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// What a change is of, by upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "as they are written in the metric")]
pub enum Trigger {
    /// Pods, slices, workload entries, nodes.
    endpoint,
    /// Services and service entries.
    service,
    /// Policies.
    config,
    /// Namespaces and their labels.
    namespace,
    /// Gateways into networks.
    networks,
    /// The mesh's own configuration.
    global,
}

/// What came in, by upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "as they are written in the metric")]
pub enum Update {
    /// Endpoints.
    eds,
    /// A service that is there.
    svc,
    /// A service that is gone.
    svcdelete,
    /// Everything else.
    config,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Triggered {
    r#type: Trigger,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Updated {
    r#type: Update,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Clusters {
    cluster_type: &'static str,
}

/// The bounds of a family's buckets.
#[derive(Debug, Clone)]
struct Bounds(&'static [f64]);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type ByType = Family<OfType, Histogram, Bounds>;

/// What is measured; clones measure together.
#[derive(Debug, Clone)]
pub struct Times {
    waited: Histogram,
    viewed: Histogram,
    queued: Histogram,
    pushed: ByType,
    sent: ByType,
    sizes: ByType,
    told: Histogram,
    lag: Histogram,
    triggers: Family<Triggered, Gauge>,
    updates: Family<Updated, Gauge>,
    clusters: Family<Clusters, Gauge>,
    largest: Gauge,
    failed: Gauge,
}

impl Default for Times {
    fn default() -> Self {
        let of = |bounds: &'static [f64]| Bounds(bounds).new_metric();
        let by = |bounds: &'static [f64]| Family::new_with_constructor(Bounds(bounds));
        Self {
            waited: of(&PUSH),
            viewed: of(&VIEW),
            queued: of(&TOLD),
            pushed: by(&PUSH),
            sent: by(&PUSH),
            sizes: by(&SIZE),
            told: of(&TOLD),
            lag: of(&LAG),
            triggers: Family::default(),
            updates: Family::default(),
            clusters: Family::default(),
            largest: Gauge::default(),
            failed: Gauge::default(),
        }
    }
}

impl Times {
    pub(super) fn register(&self, registry: &mut Registry) {
        let waited = "Seconds that a change waited for others to be told with it";
        registry.register("pilot_debounce_time", waited, self.waited.clone());
        let viewed = "Seconds that it took to work out what is published anew";
        registry.register("pilot_pushcontext_init_seconds", viewed, self.viewed.clone());
        let queued = "Seconds until a subscriber's stream took up what was published";
        registry.register("pilot_proxy_queue_time", queued, self.queued.clone());
        let pushed = "Seconds from then until a response was on its way";
        registry.register("pilot_xds_push_time", pushed, self.pushed.clone());
        let sent = "Seconds of these that the transport took";
        registry.register("pilot_xds_send_time", sent, self.sent.clone());
        registry.register("pilot_xds_config_size_bytes", "Sizes of responses", self.sizes.clone());
        let told = "Seconds from a change until a subscriber was sent all there was to say of it";
        registry.register("pilot_proxy_convergence_time", told, self.told.clone());
        let lag = "Seconds from a change of a policy until a subscriber acknowledged that it is in force";
        registry.register("policy_lag_seconds", lag, self.lag.clone());
        self.register_counts(registry);
    }

    fn register_counts(&self, registry: &mut Registry) {
        let triggers = "Publications by what had changed, since the start";
        registry.register("pilot_push_triggers", triggers, self.triggers.clone());
        let updates = "Objects that came in, since the start";
        registry.register("pilot_inbound_updates", updates, self.updates.clone());
        let clusters = "Clusters that are read";
        registry.register("istiod_managed_clusters", clusters, self.clusters.clone());
        let largest = "Bytes of the largest request of a subscriber";
        registry.register("pilot_xds_recv_max", largest, self.largest.clone());
        let failed = "Streams that ended by a fault in what was said on them, since the start";
        registry.register("pilot_total_xds_internal_errors", failed, self.failed.clone());
    }

    /// Where subscribers' streams say what happens on them.
    #[must_use]
    pub fn notes(&self) -> Notes {
        let this = self.clone();
        // Looked up once: this is done for each response to each subscriber.
        let each = ResourceType::ALL.map(|kind| {
            let of = |family: &ByType| family.get_or_create(&kind.into()).clone();
            (kind, [of(&self.pushed), of(&self.sent), of(&self.sizes)])
        });
        Notes::to(move |note| match note {
            Note::Asked(size) => this.largest_is(size),
            Note::Queued(took) => this.queued.observe(took.as_secs_f64()),
            Note::Sent { kind, size, pushed, sent } => {
                let Some((_, [pushes, sends, sizes])) = each.iter().find(|(each, _)| *each == kind) else {
                    return;
                };
                pushes.observe(pushed.as_secs_f64());
                sends.observe(sent.as_secs_f64());
                sizes.observe(f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
            }
            Note::Told(took) => this.told.observe(took.as_secs_f64()),
            Note::InForce(took) => this.lag.observe(took.as_secs_f64()),
            Note::Failed => {
                this.failed.inc();
            }
        })
    }

    fn largest_is(&self, size: usize) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.largest.inner().fetch_max(size, std::sync::atomic::Ordering::Relaxed);
    }

    /// Something was published: how long the oldest change had waited, how long it took, and what had changed.
    pub fn published(&self, waited: Duration, took: Duration, what: impl IntoIterator<Item = Trigger>) {
        self.waited.observe(waited.as_secs_f64());
        self.viewed.observe(took.as_secs_f64());
        for r#type in what {
            self.triggers.get_or_create(&Triggered { r#type }).inc();
        }
    }

    /// Something came in.
    pub fn came(&self, event: &Event) {
        let r#type = match event {
            Event::Applied(object) => update(object.reference.kind, false),
            Event::Gone(object) => update(object.kind, true),
            // All that there is was read once.
            Event::Complete => {
                self.clusters.get_or_create(&Clusters { cluster_type: "local" }).set(1);
                return;
            }
            Event::Fault(_) => return,
        };
        self.updates.get_or_create(&Updated { r#type }).inc();
    }
}

/// What a change of an object is of.
#[must_use]
pub fn trigger(object: &ObjectRef) -> Trigger {
    match object.kind {
        Kind::Service | Kind::ServiceEntry => Trigger::service,
        Kind::AuthorizationPolicy
        | Kind::PeerAuthentication
        | Kind::RequestAuthentication
        | Kind::RateLimitPolicy
        | Kind::BackendTlsPolicy
        | Kind::ExtProcPolicy
        | Kind::VirtualService
        | Kind::DestinationRule
        | Kind::Telemetry => Trigger::config,
        Kind::Namespace => Trigger::namespace,
        Kind::Gateway | Kind::GatewayClass => Trigger::networks,
        Kind::ConfigMap => Trigger::global,
        _ => Trigger::endpoint,
    }
}

fn update(kind: Kind, is_gone: bool) -> Update {
    match kind {
        Kind::Service | Kind::ServiceEntry if is_gone => Update::svcdelete,
        Kind::Service | Kind::ServiceEntry => Update::svc,
        Kind::Pod | Kind::EndpointSlice | Kind::WorkloadEntry | Kind::Node => Update::eds,
        _ => Update::config,
    }
}
