//! Every metric of ztunnel, declared (`ztunnel.md` 11.1). Owns names and labels, which are closed: kinds, and
//! names of mesh objects. Who counts what is `record`'s and the callers'.

use std::fmt;
use std::fs;
use std::sync::Arc;

use ambit_model::name::Label;
use ambit_process::observe::Registry;
use ambit_process::start::Traffic;
use ambit_proxy::side::{Reason, Side, put};
use ambit_tls::configs::Revocations;
use ambit_tls::vault::Vault;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeLabelSet, EncodeMetric, LabelSetEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

/// All counters and gauges. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Connections begun, before policy and dialling.
    pub opened: Family<TrafficLabels, Counter>,
    /// Connections ended, with why.
    pub closed: Family<TrafficLabels, Counter>,
    /// Bytes from the client's application to the server's.
    pub received: Family<TrafficLabels, Counter>,
    /// Bytes from the server's application to the client's.
    pub sent: Family<TrafficLabels, Counter>,
    /// Connections that ended badly.
    pub failed: Family<TrafficLabels, Counter>,
    /// Connections that ended before there was anything to record.
    pub refused_early: Family<RefusedLabels, Counter>,
    /// Accepted sockets.
    pub sockets: Family<Reporter, Gauge>,
    /// Streams of discovery that ended.
    pub xds_ended: Family<Reason, Counter>,
    /// Discovery responses.
    pub xds_messages: Family<TypeUrl, Counter>,
    /// Bytes of discovered resources.
    pub xds_bytes: Family<TypeUrl, Counter>,
    /// Names of workloads that were resolved for a connection.
    pub on_demand_dns: Family<ResolvedLabels, Counter>,
    /// What is counted of names asked in pods.
    pub names: crate::dns::Counted,
    /// Live connections cut by a change.
    pub revoked: Counter,
    /// Pods carried for.
    pub pods_active: Gauge,
    /// Pods that are known but not carried for.
    pub pods_pending: Gauge,
    /// Pods begun.
    pub pods_started: Counter,
    /// Pods ended.
    pub pods_stopped: Counter,
}

impl Metrics {
    /// Declares everything.
    pub fn register(&self, to: &mut Registry, version: &Label, shared: bool) {
        let m = self.clone();
        to.register("istio_tcp_connections_opened", "Connections opened", m.opened);
        to.register("istio_tcp_connections_closed", "Connections closed", m.closed);
        to.register("istio_tcp_received_bytes", "Bytes from client to server", m.received);
        to.register("istio_tcp_sent_bytes", "Bytes from server to client", m.sent);
        to.register("istio_tcp_connections_failed", "Connections that failed (unstable)", m.failed);
        to.register("ambit_connections_refused_early", "Refused before a record (unstable)", m.refused_early);
        to.register("ambit_connections_revoked", "Live connections cut by a change (unstable)", m.revoked);
        to.register("istio_tcp_sockets_open", "Accepted sockets (unstable)", m.sockets);
        let ended = "Discovery streams that ended (unstable)";
        to.register("istio_xds_connection_terminations", ended, m.xds_ended);
        to.register("istio_xds_message", "Discovery responses (unstable)", m.xds_messages);
        to.register("istio_xds_message_bytes", "Bytes of discovered resources (unstable)", m.xds_bytes);
        let resolved = "Names of workloads resolved for a connection (unstable)";
        to.register("istio_on_demand_dns", resolved, m.on_demand_dns);
        m.names.register(to);
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build(version.clone())).set(1);
        to.register("istio_build", "The version", build);
        if shared {
            to.register("workload_manager_active_proxy_count", "Pods carried for (unstable)", m.pods_active);
            to.register(
                "workload_manager_pending_proxy_count",
                "Pods not carried for yet (unstable)",
                m.pods_pending,
            );
            to.register("workload_manager_proxies_started", "Pods begun (unstable)", m.pods_started);
            to.register("workload_manager_proxies_stopped", "Pods ended (unstable)", m.pods_stopped);
        }
    }
}

/// Which end of a connection is counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's.
    Source,
    /// The server's.
    Destination,
}

impl Reporter {
    /// Its label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// Why a connection was refused before there was anything to record; a closed set of words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RefusedLabels {
    /// Which end.
    pub reporter: Reporter,
    /// The word.
    pub reason: &'static str,
}

/// A discovered type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypeUrl(pub &'static str);

/// Whose connection needed a workload's name, and which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResolvedLabels {
    /// The client.
    pub source: Side,
    /// The name, which is part of the workload.
    pub hostname: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Build(Label);

/// Who talks to whom, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrafficLabels {
    /// Which end counts.
    pub reporter: Reporter,
    /// The client.
    pub source: Side,
    /// The server.
    pub destination: Side,
    /// Host, namespace and name of the service.
    pub service: [Label; 3],
    /// `response_flags`.
    pub flags: &'static str,
    /// Whether both proved who they are.
    pub secured: bool,
    /// Region and zone of the client, then of the server; none when neither end is known.
    pub places: Option<[Label; 4]>,
}

impl EncodeLabelSet for TrafficLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self { reporter, source, destination, service: [host, service_namespace, service_name], .. } =
            self;
        put(e, "reporter", reporter.label())?;
        source.put_as_source(e)?;
        put(e, "destination_service", host.as_str())?;
        put(e, "destination_service_namespace", service_namespace.as_str())?;
        put(e, "destination_service_name", service_name.as_str())?;
        destination.put_as_destination(e)?;
        put(e, "request_protocol", "tcp")?;
        put(e, "response_flags", self.flags)?;
        put(e, "connection_security_policy", if self.secured { "mutual_tls" } else { "unknown" })?;
        let Some([source_region, source_zone, region, zone]) = &self.places else { return Ok(()) };
        put(e, "source_region", source_region.as_str())?;
        put(e, "source_zone", source_zone.as_str())?;
        put(e, "destination_region", region.as_str())?;
        put(e, "destination_zone", zone.as_str())
    }
}

impl EncodeLabelSet for ResolvedLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.source.put_as_source(e)?;
        put(e, "hostname", self.hostname.as_str())
    }
}

impl EncodeLabelSet for Reporter {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "reporter", self.label())
    }
}

impl EncodeLabelSet for RefusedLabels {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "reporter", self.reporter.label())?;
        put(e, "reason", self.reason)
    }
}

impl EncodeLabelSet for TypeUrl {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "url", self.0)
    }
}

impl EncodeLabelSet for Build {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "component", "ztunnel")?;
        put(e, "tag", self.0.as_str())
    }
}

/// What is read when asked for: descriptors and threads.
pub struct Process {
    /// The traffic threads.
    pub traffic: Arc<[Traffic]>,
    /// Lines the log could not take.
    pub log: ambit_process::observe::Logs,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("threads", &self.traffic.len()).finish_non_exhaustive()
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let count = |n: usize| ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let alive = self.traffic.iter().map(Traffic::tasks_alive).sum();
        let waiting = self.traffic.iter().map(Traffic::tasks_waiting).sum();
        for (name, help, gauge) in [
            ("process_open_fds", "Open descriptors", count(open)),
            ("process_max_fds", "Descriptors allowed", count(most_descriptors())),
            ("tokio_num_workers", "Traffic threads", count(self.traffic.len())),
            ("tokio_global_queue_depth", "Tasks that other threads have woken", count(waiting)),
            ("tokio_num_alive_tasks", "Tasks on traffic threads", count(alive)),
        ] {
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        self.encode_threads(&mut encoder)?;
        let dropped = ConstCounter::new(self.log.dropped());
        let help = "Log lines that standard output was too slow for (unstable)";
        dropped.encode(encoder.encode_descriptor(
            "ambit_log_lines_dropped",
            help,
            None,
            dropped.metric_type(),
        )?)
    }
}

/// Certificates of the pods of this node, by state.
#[derive(Clone)]
pub struct Certificates(pub Vault);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.census()).finish()
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let census = self.0.census();
        let help = "Certificates of this node's identities (unstable)";
        let mut family = encoder.encode_descriptor("ambit_certificates", help, None, MetricType::Gauge)?;
        for (state, count) in [("asked", census.asked), ("served", census.held), ("lapsed", census.lapsed)] {
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[("state", state)])?)?;
        }
        let Some(left) = census.least_left else { return Ok(()) };
        let name = "ambit_certificate_life_left_ratio";
        let help = "What is left of the life of the certificate of which least is left (unstable)";
        ConstGauge::new(left).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

/// Handshakes that revocation lists ended.
#[derive(Debug)]
pub struct Revoked(pub Revocations);

impl Collector for Revoked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Handshakes ended by a revocation list (unstable)";
        let name = "istio_crl_policy_rejections";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        let (dialling, accepting) = self.0.refused();
        for (reporter, count) in [(Reporter::Source, dialling), (Reporter::Destination, accepting)] {
            ConstCounter::new(count).encode(family.encode_family(&reporter)?)?;
        }
        Ok(())
    }
}

impl Process {
    fn encode_threads(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let work: Vec<_> = self.traffic.iter().map(Traffic::work).collect();
        let busy = work.iter().map(|(busy, _, _)| busy.as_secs_f64()).collect();
        encode_workers(encoder, "tokio_worker_total_busy_duration_seconds", "Time spent working", busy)?;
        let parked = work.iter().map(|(_, parked, _)| *parked).collect();
        encode_workers(encoder, "tokio_worker_park_count", "Times parked", parked)?;
        let turned = work.iter().map(|(_, _, turned)| *turned).collect();
        encode_workers(encoder, "tokio_worker_park_unpark_count", "Times parked or woken", turned)
    }
}

/// A counter with a value for each traffic thread.
fn encode_workers<N: EncodeCounterValue + Clone>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: Vec<N>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (worker, value) in values.into_iter().enumerate() {
        let labels = [("worker", worker.to_string())];
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn most_descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traffic_series_has_upstreams_labels_in_upstreams_order() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry, &"unknown".into(), true);
        let labels = TrafficLabels {
            reporter: Reporter::Source,
            source: Side { workload: "client".into(), ..Side::default() },
            destination: Side::default(),
            service: ["web.shop.svc".into(), "shop".into(), "web".into()],
            flags: "-",
            secured: true,
            places: Some(Default::default()),
        };
        metrics.opened.get_or_create(&labels).inc();
        let text = ambit_process::observe::encode(&registry);
        let line = text.lines().find(|l| l.starts_with("istio_tcp_connections_opened_total{")).unwrap();
        // The order of a series of upstream's, as it was scraped.
        let upstream = "reporter source_workload source_canonical_service source_canonical_revision \
             source_workload_namespace source_principal source_app source_version source_cluster \
             destination_service destination_service_namespace destination_service_name destination_workload \
             destination_canonical_service destination_canonical_revision destination_workload_namespace \
             destination_principal destination_app destination_version destination_cluster request_protocol \
             response_flags connection_security_policy source_region source_zone destination_region \
             destination_zone";
        let names: Vec<_> = line.split(['{', ',']).skip(1).filter_map(|p| p.split('=').next()).collect();
        assert_eq!(names.join(" "), upstream.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(
            line.contains("source_workload=\"client\"") && line.contains("source_app=\"unknown\""),
            "{line}"
        );
        assert!(text.contains("istio_build{component=\"ztunnel\",tag=\"unknown\"} 1"), "{text}");
        assert!(text.contains("workload_manager_active_proxy_count 0"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
