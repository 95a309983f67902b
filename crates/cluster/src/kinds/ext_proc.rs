//! Policies that have requests and answers go by a processor, which is a kind of our own. Unknown fields are refused: one
//! that is read without what it keeps from a processor would show or let it change more.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::Meta;
use crate::kinds::policy::{PolicyStatus, PolicyTarget, Rule};

/// By which processor requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ExtProcPolicy {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ExtProcSpec,
    /// What became of it.
    pub status: PolicyStatus,
}

/// What is read of a policy of a processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["targetRefs", "service", "port"]))]
pub struct ExtProcSpec {
    /// Objects whose requests go by the processor.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<PolicyTarget>,
    /// Which of their requests, as rules of authorization policies say it; not given: all.
    #[serde(rename = "match")]
    pub matching: Rule,
    /// The processor, with which waypoints speak envoy.service.ext_proc.v3: a name in this namespace, or a host, with
    /// its namespace before a slash where several have it.
    #[schemars(length(min = 1, max = 512))]
    pub service: String,
    /// Its port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// How long each of its answers is waited for, up to 60s; not given: 200ms.
    pub timeout: String,
    /// Whether requests go on unprocessed without an answer; else they are answered 500.
    pub fail_open: bool,
    /// Whether it only watches: nobody waits for its answers, and it changes nothing.
    pub observability_mode: bool,
    /// What it is told of.
    pub processing_mode: ProcessingMode,
    /// Whether it may choose with its answer to headers what else it is told of.
    pub allow_mode_override: bool,
    /// How many bytes of a body are kept for it, up to 4194304; not given: 1048576.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub max_body_bytes: Option<u32>,
    /// Headers that it is shown.
    pub forward_headers: ForwardHeaders,
    /// Attributes of the request that it is told with the first message, like source.principal or request.auth.claims[sub].
    #[schemars(length(max = 16))]
    pub attributes: Vec<String>,
    /// What it may change.
    pub mutation_rules: MutationRules,
}

/// What a processor is told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProcessingMode {
    /// The headers of requests; not given: SEND.
    pub request_headers: Option<Sending>,
    /// The headers of answers; not given: SEND.
    pub response_headers: Option<Sending>,
    /// The body of requests; not given: NONE.
    pub request_body: BodySending,
    /// The body of answers; not given: NONE.
    pub response_body: BodySending,
    /// The trailers of requests; not given: SKIP.
    pub request_trailers: Option<Sending>,
    /// The trailers of answers; not given: SKIP.
    pub response_trailers: Option<Sending>,
}

/// Whether a processor is told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Sending {
    /// It is.
    Send,
    /// It is not.
    Skip,
}

/// How a processor is told of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BodySending {
    /// Not at all.
    #[default]
    None,
    /// Whole. A request whose body is longer than maxBodyBytes is answered 413, a longer answer is replaced by a 500.
    Buffered,
    /// As much of it as maxBodyBytes.
    BufferedPartial,
    /// Piece by piece, as they come.
    Streamed,
    /// Piece by piece, without waiting for answers, not even for the one to the headers; what the processor streams back is
    /// what goes on. Headers and trailers of that way are told as well, and failOpen is false.
    FullDuplexStreamed,
}

/// Headers that a processor is shown. A name may begin or end with *.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardHeaders {
    /// These; not given: all.
    #[schemars(length(max = 64))]
    pub allow: Vec<String>,
    /// But not these.
    #[schemars(length(max = 64))]
    pub disallow: Vec<String>,
}

/// What a processor may change. Headers of the connection and of the framing it never may; x-forwarded-…, x-envoy-…, those
/// that policies look at and those that the mesh sets from tokens only where allow names them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MutationRules {
    /// Whether it may have the route chosen again, and with that change method, path and authority. Policies are asked
    /// again then.
    pub allow_routing: bool,
    /// Headers that it may change. A name may begin or end with *.
    #[schemars(length(max = 64))]
    pub allow: Vec<String>,
    /// Headers that it may not. A name may begin or end with *.
    #[schemars(length(max = 64))]
    pub disallow: Vec<String>,
    /// Whether it may change no headers but those that allow names.
    pub disallow_all: bool,
}

impl ExtProcPolicy {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        for (nth, when) in self.spec.matching.when.iter().enumerate() {
            when.check(&format!("spec.match.when[{nth}]"))?;
        }
        Ok(())
    }
}
