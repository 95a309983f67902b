//! Limits of how many requests may come, which is a kind of our own. Unknown fields are refused: a limit that is read
//! without what it is about would be another one.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::Meta;
use crate::kinds::policy::{PolicyStatus, PolicyTarget, Rule};

/// How many requests may come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RateLimitPolicy {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: RateLimitSpec,
    /// What became of it.
    pub status: PolicyStatus,
}

/// What is read of a policy of limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["targetRefs"]))]
pub struct RateLimitSpec {
    /// Objects whose requests are limited.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<PolicyTarget>,
    /// Limits that each replica of a waypoint counts by itself. Each that matches must have room.
    #[schemars(length(max = 64))]
    pub local: Vec<LocalLimit>,
    /// A service that counts.
    pub global: Option<GlobalLimit>,
    /// Whether clients are told in headers x-ratelimit-limit, -remaining and -reset what is left.
    pub tell_limits: bool,
    /// What gRPC is told; not given: Unavailable.
    pub grpc_status: GrpcStatus,
}

/// What gRPC is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum GrpcStatus {
    /// 14: whoever asks may ask again.
    #[default]
    Unavailable,
    /// 8.
    ResourceExhausted,
}

/// A limit that each replica counts by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["requests", "per"]))]
pub struct LocalLimit {
    /// Which requests, as rules of authorization policies say it; not given: all.
    #[serde(rename = "match")]
    pub matching: Rule,
    /// Attributes by which requests are told apart, like source.principal, source.ip, request.headers[x-user] or
    /// request.auth.claims[sub]. None: all share one limit.
    #[schemars(length(max = 16))]
    pub key: Vec<String>,
    /// How many requests.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// In which time, from 50ms to 24h.
    #[schemars(length(min = 1))]
    pub per: String,
    /// How many at once; not given: as many as requests.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

/// A service that counts, with whom waypoints speak envoy.service.ratelimit.v3.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["service", "port", "domain", "descriptors"]))]
pub struct GlobalLimit {
    /// The service: a name in this namespace, or a host, with its namespace before a slash where several have it.
    #[schemars(length(min = 1, max = 512))]
    pub service: String,
    /// Its port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// What the descriptors are of, in its configuration.
    #[schemars(length(min = 1, max = 256))]
    pub domain: String,
    /// What it is told of requests. It is not asked about a request of which there is nothing to tell.
    #[schemars(length(min = 1, max = 16))]
    pub descriptors: Vec<Descriptor>,
    /// What one request counts; not given: 1.
    #[schemars(range(min = 1))]
    pub hits: Option<u32>,
    /// How long it is waited for, up to 10s; not given: 20ms.
    pub timeout: String,
    /// What becomes of requests without an answer; not given: Allow.
    pub on_failure: OnFailure,
}

/// What becomes of requests without an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// They go on.
    #[default]
    Allow,
    /// They are answered 500.
    Deny,
}

/// Something a service is told of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["entries"]))]
pub struct Descriptor {
    /// Of which requests, as rules of authorization policies say it; not given: of all.
    #[serde(rename = "match")]
    pub matching: Rule,
    /// Its parts, in this order. Of a request of which one is not known, nothing of it is told.
    #[schemars(length(min = 1, max = 16))]
    pub entries: Vec<Entry>,
}

/// A part of a descriptor: a value, or an attribute of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["key"]))]
pub struct Entry {
    /// How the service calls it.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// Always this.
    #[schemars(length(max = 256))]
    pub value: String,
    /// An attribute of the request, like source.principal or request.path.
    pub from: String,
}

impl RateLimitPolicy {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        if self.spec.local.is_empty() && self.spec.global.is_none() {
            let remedy = "give limits in local, or a service that counts in global";
            return Err(Wrong::field("spec", "", "limits nothing", remedy));
        }
        for (at, limit) in self.spec.local.iter().enumerate() {
            for (nth, when) in limit.matching.when.iter().enumerate() {
                when.check(&format!("spec.local[{at}].match.when[{nth}]"))?;
            }
        }
        let descriptors = self.spec.global.iter().flat_map(|it| it.descriptors.iter().enumerate());
        for (at, descriptor) in descriptors {
            for (nth, when) in descriptor.matching.when.iter().enumerate() {
                when.check(&format!("spec.global.descriptors[{at}].match.when[{nth}]"))?;
            }
        }
        Ok(())
    }
}
