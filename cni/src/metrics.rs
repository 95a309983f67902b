//! The daemon's metrics, all of them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Installed {
    pub(crate) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reconciled {
    pub(crate) r#type: &'static str,
}

/// What the daemon counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Answers to the plugin.
    pub(crate) answers: Family<Answered, Counter>,
    /// From the plugin's question to the answer.
    pub(crate) add_seconds: Histogram,
    /// Attempts to bring a pod to what is wanted.
    pub(crate) reconciles: Family<Reconciled, Counter>,
    /// Pods whose redirection was found different from what was wanted.
    pub(crate) repairs: Counter,
    /// Passes over the plugin's installation that changed or failed at something.
    pub(crate) installs: Family<Installed, Counter>,
    /// Whether the plugin is installed.
    pub(crate) install_ready: Gauge,
    /// Node proxies connected.
    pub(crate) connected: Gauge,
    /// Pods in the mesh.
    pub(crate) enrolled: Gauge,
    /// Pods that should be in the mesh and are not.
    pub(crate) pending: Gauge,
    /// Pods in the mesh whose certificate is not there.
    pub(crate) unproven: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        // 2 ms to 4 s, doubling.
        let add_seconds = Histogram::new((0..12).map(|n| 0.002 * f64::from(1 << n)));
        let all = Self {
            answers: Family::default(),
            add_seconds,
            reconciles: Family::default(),
            repairs: Counter::default(),
            installs: Family::default(),
            install_ready: Gauge::default(),
            connected: Gauge::default(),
            enrolled: Gauge::default(),
            pending: Gauge::default(),
            unproven: Gauge::default(),
        };
        registry.register("ambit_cni_answers", "Answers to the plugin", all.answers.clone());
        registry.register("ambit_cni_add_seconds", "From question to answer", all.add_seconds.clone());
        registry.register(
            "nodeagent_reconcile_events",
            "Attempts to reconcile a pod",
            all.reconciles.clone(),
        );
        registry.register(
            "ambit_cni_repairs",
            "Pods found different from what was wanted",
            all.repairs.clone(),
        );
        registry.register("istio_cni_installs", "Installations of the plugin", all.installs.clone());
        registry.register(
            "istio_cni_install_ready",
            "Whether the plugin is installed",
            all.install_ready.clone(),
        );
        registry.register("ztunnel_connected", "Node proxies connected", all.connected.clone());
        registry.register("ambit_cni_enrolled_pods", "Pods in the mesh", all.enrolled.clone());
        registry.register(
            "ambit_cni_unproven_pods",
            "Pods in the mesh whose certificate is not there: nobody gets in or out",
            all.unproven.clone(),
        );
        registry.register("ambit_cni_pending_pods", "Pods to be enrolled that are not", all.pending.clone());
        all
    }
}
