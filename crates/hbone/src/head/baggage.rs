//! What a workload says of itself in a header. Shown and counted, never decided on.

use std::fmt;

use ambit_model::workload::Workload;
use http::{HeaderMap, HeaderName};

/// A list longer than this is cut: it is telemetry.
const ITEMS_MAX: usize = 64;
/// The third key names the kind of workload; no others are known.
const KINDS: [&str; 4] = ["deployment", "cronjob", "pod", "job"];

/// A workload's description. Empty texts are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// Kind and name of the workload.
    pub workload: Option<(String, String)>,
    /// The canonical service's name.
    pub service: String,
    /// The canonical service's revision.
    pub revision: String,
    /// Where it runs.
    pub region: String,
    /// Where in the region.
    pub zone: String,
}

impl Baggage {
    /// What we say of a workload.
    #[must_use]
    pub fn of(workload: &Workload) -> Self {
        let name = workload.workload_name.to_string();
        Self {
            cluster: workload.cluster.to_string(),
            namespace: workload.namespace.to_string(),
            workload: (!name.is_empty()).then(|| (workload.kind.label().to_owned(), name)),
            service: workload.canonical_name.to_string(),
            revision: workload.canonical_revision.to_string(),
            region: workload.locality.region.to_string(),
            zone: workload.locality.zone.to_string(),
        }
    }

    /// Reads all such headers. What is not understood is ignored.
    pub(super) fn read(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut read = Self::default();
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        for item in values.flat_map(|value| value.split(',')).take(ITEMS_MAX) {
            let mut parts = item.split('=');
            if let (Some(key), Some(value)) = (parts.next(), parts.next()) {
                read.take(key, value);
            }
        }
        read
    }

    fn take(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let slot = match key {
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "service.name" => &mut self.service,
            "service.version" => &mut self.revision,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            _ => {
                let kind = key.strip_prefix("k8s.").and_then(|key| key.strip_suffix(".name"));
                if let Some(kind) = kind.filter(|kind| KINDS.contains(kind)) {
                    self.workload = Some((kind.to_owned(), value.to_owned()));
                }
                return;
            }
        };
        value.clone_into(slot);
    }
}

impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, workload) = self.workload.as_ref().map_or(("", ""), |(kind, name)| (kind, name));
        let kind = format!("k8s.{kind}.name");
        let mut comma = "";
        for (key, value) in [
            ("k8s.cluster.name", self.cluster.as_str()),
            ("k8s.namespace.name", &self.namespace),
            (&kind, workload),
            ("service.name", &self.service),
            ("service.version", &self.revision),
            ("cloud.region", &self.region),
            ("cloud.availability_zone", &self.zone),
        ] {
            if !value.is_empty() {
                write!(f, "{comma}{key}={value}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}
