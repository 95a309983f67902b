//! What a rule of a VirtualService does with requests beside sending them on. Owns the fields; `check` says which of them
//! go together.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::{Destination, StringMatch};
use crate::kinds::scalar::Port;

/// Where a client is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Redirect {
    /// The path, in the place of all of it.
    pub uri: String,
    /// The path, in the place of the prefix that matched.
    pub prefix_rewrite: String,
    /// The host, with a port or without.
    pub authority: String,
    /// The port.
    pub port: Option<Port>,
    /// `FROM_PROTOCOL_DEFAULT` or `FROM_REQUEST_PORT`.
    pub derive_port: String,
    /// The scheme.
    pub scheme: String,
    /// The status; 301 when it is left out.
    pub redirect_code: Option<u16>,
}

/// An answer that is held ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DirectResponse {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Option<DirectBody>,
}

/// A body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DirectBody {
    /// As text.
    pub string: Option<String>,
    /// As bytes in Base64.
    pub bytes: Option<String>,
}

/// Another object that says where requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; the same when it is left out.
    pub namespace: String,
}

/// What is changed of path and host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rewrite {
    /// In the place of the prefix that matched, or of all of the path.
    pub uri: String,
    /// In the place of the host.
    pub authority: String,
    /// In the place of parts of the path.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Parts of a path in the place of others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegexRewrite {
    /// What is replaced.
    #[serde(rename = "match")]
    pub pattern: String,
    /// By what; `\1` is the pattern's first group.
    pub rewrite: String,
}

/// How requests are tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Retries {
    /// How often after the first time; 0: never.
    pub attempts: u32,
    /// How long one attempt may take.
    pub per_try_timeout: Option<String>,
    /// After what, in Envoy's words and status codes, with commas between.
    pub retry_on: String,
    /// Whether those of other places are tried as well.
    pub retry_remote_localities: Option<bool>,
    /// Whether those that failed are left out; so it is when nothing is said.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// What waits are made of.
    pub backoff: Option<String>,
}

/// What is put in the way of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Some wait.
    pub delay: Option<Delay>,
    /// Some go no further.
    pub abort: Option<Abort>,
}

/// A wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Delay {
    /// How many in a hundred, in the old way to write it.
    pub percent: Option<u32>,
    /// How many in a hundred; all when it is left out.
    pub percentage: Option<Percent>,
    /// For how long.
    pub fixed_delay: Option<String>,
}

/// An end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Abort {
    /// How many in a hundred; all when it is left out.
    pub percentage: Option<Percent>,
    /// With this status.
    pub http_status: Option<u16>,
    /// With this status of gRPC, by number or by name.
    pub grpc_status: Option<String>,
}

/// Who gets copies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MirrorTo {
    /// Whereto.
    pub destination: Destination,
    /// Of how many in a hundred; all when it is left out.
    pub percentage: Option<Percent>,
}

/// What pages of other origins may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CorsPolicy {
    /// Whose pages, in the old way to write it.
    pub allow_origin: Vec<String>,
    /// Whose pages.
    pub allow_origins: Vec<StringMatch>,
    /// With which methods.
    pub allow_methods: Vec<String>,
    /// With which headers.
    pub allow_headers: Vec<String>,
    /// Which headers of answers they may read.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember it.
    pub max_age: Option<String>,
    /// Whether they may use cookies and the like.
    pub allow_credentials: Option<bool>,
    /// `FORWARD` or `IGNORE`: who answers browsers that ask for other origins.
    pub unmatched_preflights: String,
}

/// What is changed of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// Of requests.
    pub request: HeaderChanges,
    /// Of answers.
    pub response: HeaderChanges,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    /// In the place of what was there.
    pub set: BTreeMap<String, String>,
    /// Beside what was there.
    pub add: BTreeMap<String, String>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// A part of a hundred, to the ten thousandth of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "Percentage")]
pub struct Percent {
    /// Parts of a million.
    pub parts: u32,
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
/// A part of a hundred.
struct Percentage {
    /// From 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    value: f64,
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let Percentage { value } = Percentage::deserialize(input)?;
        if !(0.0..=100.0).contains(&value) {
            return Err(D::Error::custom("not a part of a hundred; write a value from 0 to 100"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and a million"
        )]
        let parts = (value * 10_000.0).round() as u32;
        Ok(Self { parts })
    }
}
