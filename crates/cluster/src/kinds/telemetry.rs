//! Istio's say in what is told of requests, with its field names: spans, lines of the access log, counters. Unknown
//! fields are refused: who is told less than was meant does not learn of it otherwise.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::collector::Percent;
use crate::kinds::meta::Meta;
use crate::kinds::policy::{PolicyStatus, PolicyTarget, Selector};

/// What is told of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: TelemetrySpec,
    /// What became of it.
    pub status: PolicyStatus,
}

/// What is read of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TelemetrySpec {
    /// Which workloads; none: all of the namespace. Only sidecars go by it.
    pub selector: Option<Selector>,
    /// One object whose requests it is about.
    pub target_ref: Option<PolicyTarget>,
    /// Objects whose requests it is about.
    #[schemars(length(max = 16))]
    pub target_refs: Vec<PolicyTarget>,
    /// Of spans.
    #[schemars(length(max = 64))]
    pub tracing: Vec<TracingWord>,
    /// Of counters.
    #[schemars(length(max = 64))]
    pub metrics: Vec<MetricsWord>,
    /// Of lines of the access log.
    #[schemars(length(max = 64))]
    pub access_logging: Vec<LoggingWord>,
}

impl TelemetrySpec {
    /// The objects it is attached to, if it is attached by reference.
    pub fn targets(&self) -> impl Iterator<Item = &PolicyTarget> {
        self.target_ref.iter().chain(&self.target_refs)
    }

    /// Whether it is for sidecars with certain labels.
    #[must_use]
    pub fn selects(&self) -> bool {
        self.selector.as_ref().is_some_and(|it| !it.match_labels.is_empty())
    }
}

/// Somebody who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct ProviderName {
    /// As the mesh's configuration calls it.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// On which side of a connection something holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Mode {
    /// On both.
    #[default]
    #[serde(rename = "CLIENT_AND_SERVER")]
    Both,
    /// With who asks; waypoints are on the other.
    #[serde(rename = "CLIENT")]
    Client,
    /// With who is asked.
    #[serde(rename = "SERVER")]
    Server,
}

/// On which side something holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModeMatch {
    /// That one.
    pub mode: Mode,
}

impl ModeMatch {
    /// Whether it holds at waypoints.
    #[must_use]
    pub fn is_for_waypoints(of: Option<&Self>) -> bool {
        of.is_none_or(|it| it.mode != Mode::Client)
    }
}

/// What is said of spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TracingWord {
    /// On which side.
    pub r#match: Option<ModeMatch>,
    /// Who is told.
    #[schemars(length(max = 16))]
    pub providers: Vec<ProviderName>,
    /// How many of a hundred requests of which nobody has decided.
    #[schemars(with = "Option<f64>", range(min = 0.0, max = 100.0))]
    pub random_sampling_percentage: Option<Percent>,
    /// Whether nobody is told.
    pub disable_span_reporting: Option<bool>,
    /// Further attributes.
    pub custom_tags: BTreeMap<String, TagWord>,
    /// Whether there are those that only meshes know.
    pub enable_istio_tags: Option<bool>,
    /// Whether a request's id decides about it.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Whether nothing is passed on.
    pub disable_context_propagation: Option<bool>,
}

/// An attribute: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TagWord {
    /// This text.
    pub literal: Option<LiteralTag>,
    /// What the waypoint's environment says.
    pub environment: Option<NamedTag>,
    /// What a header says.
    pub header: Option<NamedTag>,
    /// What is known of a request, as the access log writes it.
    pub formatter: Option<LiteralTag>,
}

/// A text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LiteralTag {
    /// It.
    pub value: String,
}

/// What has a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct NamedTag {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Where there is none.
    pub default_value: String,
}

/// What is said of lines of the access log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LoggingWord {
    /// On which side.
    pub r#match: Option<ModeMatch>,
    /// Where they go.
    #[schemars(length(max = 16))]
    pub providers: Vec<ProviderName>,
    /// Whether there are none.
    pub disabled: Option<bool>,
    /// Of which requests there are some.
    pub filter: Option<LogFilter>,
}

/// Of which requests there are lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogFilter {
    /// A condition, in CEL.
    pub expression: String,
}

/// What is said of counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MetricsWord {
    /// Who is told.
    #[schemars(length(max = 16))]
    pub providers: Vec<ProviderName>,
    /// What is otherwise than usual.
    #[schemars(length(max = 64))]
    pub overrides: Vec<MetricsOverride>,
    /// How often connections are counted.
    pub reporting_interval: String,
}

/// What is otherwise than usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MetricsOverride {
    /// Of which counters.
    pub r#match: Option<MetricMatch>,
    /// Whether they are not kept.
    pub disabled: Option<bool>,
    /// What is otherwise of their labels.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Which counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MetricMatch {
    /// One of Istio's; none: all of them.
    pub metric: String,
    /// One of another's.
    pub custom_metric: String,
    /// On which side.
    pub mode: Mode,
}

/// What is otherwise of a label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TagOverride {
    /// `UPSERT` or `REMOVE`.
    pub operation: String,
    /// What it is, in CEL.
    pub value: String,
}

impl Telemetry {
    /// An attribute has one value.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        for (at, word) in self.spec.tracing.iter().enumerate() {
            for (name, TagWord { literal, environment, header, formatter }) in &word.custom_tags {
                let given = [literal.is_some(), environment.is_some(), header.is_some(), formatter.is_some()];
                if given.into_iter().filter(|it| *it).count() != 1 {
                    let field = format!("spec.tracing[{at}].customTags.{name}");
                    let remedy = "give one of literal, header, environment and formatter";
                    return Err(Wrong::field(field, "", "not one value", remedy));
                }
            }
        }
        Ok(())
    }
}
