//! What metrics of both proxies say of one end, under the names and in the order that dashboards know. Owns the
//! labels of an end and how an empty one reads; the families are each proxy's.

use std::fmt;

use ambit_model::name::Label;
use ambit_model::workload::Workload;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

/// One end's labels. Empty ones read `unknown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Side {
    /// The owner's name.
    pub workload: Label,
    /// The canonical service.
    pub canonical: Label,
    /// Its revision.
    pub revision: Label,
    /// The namespace.
    pub namespace: Label,
    /// The identity.
    pub principal: Label,
    /// The application.
    pub app: Label,
    /// The cluster.
    pub cluster: Label,
}

const SOURCE: [&str; 8] = [
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
];

const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
];

impl Side {
    /// A workload of the world, as whom `principal` spoke.
    #[must_use]
    pub fn of(workload: &Workload, principal: Label) -> Self {
        Self {
            workload: workload.workload_name.clone(),
            canonical: workload.canonical_name.clone(),
            revision: workload.canonical_revision.clone(),
            namespace: workload.namespace.as_str().into(),
            app: workload.canonical_name.clone(),
            cluster: workload.cluster.as_str().into(),
            principal,
        }
    }

    /// Writes it as the client's.
    ///
    /// # Errors
    /// As the encoder's.
    pub fn put_as_source(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.as_source().try_for_each(|(name, value)| put(e, name, value))
    }

    /// Writes it as the server's.
    ///
    /// # Errors
    /// As the encoder's.
    pub fn put_as_destination(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.as_destination().try_for_each(|(name, value)| put(e, name, value))
    }

    /// Its labels as the client's, and what they say.
    pub fn as_source(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SOURCE.into_iter().zip(self.values())
    }

    /// Its labels as the server's.
    pub fn as_destination(&self) -> impl Iterator<Item = (&'static str, &str)> {
        DESTINATION.into_iter().zip(self.values())
    }

    fn values(&self) -> [&str; 8] {
        let Self { workload, canonical, revision, namespace, principal, app, cluster } = self;
        [workload, canonical, revision, namespace, principal, app, revision, cluster].map(Label::as_str)
    }
}

/// Writes one label; an empty value reads `unknown`.
///
/// # Errors
/// As the encoder's.
pub fn put(e: &mut LabelSetEncoder<'_>, name: &str, value: &str) -> fmt::Result {
    (name, if value.is_empty() { "unknown" } else { value }).encode(e.encode_label())
}

/// A word out of a closed set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason(pub &'static str);

impl EncodeLabelSet for Reason {
    fn encode(&self, e: &mut LabelSetEncoder<'_>) -> fmt::Result {
        put(e, "reason", self.0)
    }
}
