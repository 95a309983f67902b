//! Istio's VirtualService, with its field names: which requests go where, in the order in which its rules are written.
//! Types are here, the rules that span fields in `check`. Unknown fields are refused: a match that is read without one
//! of its demands would take requests that it was not meant for.

mod check;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::fault::Wrong;
use crate::kinds::meta::{Meta, Texts};
use crate::kinds::policy::PolicyStatus;
use crate::kinds::scalar::Port;

pub use self::check::grpc_status;

/// The gateway that stands for the mesh itself.
pub const MESH: &str = "mesh";

/// A duration as Istio's objects write it: `5s`, `0.5s`, `1h30m`, `100ms`.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u128); 6] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
    ];
    let (mut rest, mut nanos) = (text, 0_u128);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at_checked(end)?;
        let (name, size) = UNITS.into_iter().find(|(name, _)| unit.starts_with(name))?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = part.len().min(9);
        let part: u128 = if digits == 0 { 0 } else { part.get(..digits)?.parse().ok()? };
        let whole: u128 = whole.parse().ok().filter(|_| whole.len() <= 12)?;
        let scale = 10_u128.checked_pow(u32::try_from(digits).ok()?)?;
        nanos = nanos.checked_add(whole * size + part * size / scale)?;
        rest = unit.strip_prefix(name)?;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let below = u32::try_from(nanos % 1_000_000_000).ok()?;
    (!text.is_empty()).then(|| Duration::new(seconds, below))
}

/// Which requests go where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VirtualService {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: VirtualServiceSpec,
    /// What became of it.
    pub status: PolicyStatus,
}

impl VirtualService {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        check::check(&self.spec)
    }

    /// Whether it is for the mesh, and not for gateways at its border alone.
    #[must_use]
    pub fn is_for_mesh(&self) -> bool {
        let gateways = &self.spec.gateways;
        gateways.is_empty() || gateways.iter().any(|it| it == MESH)
    }
}

/// What is asked of requests and connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct VirtualServiceSpec {
    /// The hosts whose requests it is for: names, short ones too, and names that begin with `*.`. None: others
    /// delegate to it.
    pub hosts: Vec<String>,
    /// The gateways that carry it out; none: the mesh.
    pub gateways: Vec<String>,
    /// Rules of HTTP requests; the first that matches counts.
    pub http: Vec<HttpRule>,
    /// Rules of TLS connections.
    pub tls: Vec<TlsRule>,
    /// Rules of TCP connections.
    pub tcp: Vec<TcpRule>,
    /// The namespaces that may see it; none: all. `.`: its own.
    pub export_to: Vec<String>,
}

/// A rule of HTTP requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRule {
    /// Its name.
    pub name: String,
    /// Requests that it is for, any of these; none: all.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// Where they go.
    pub route: Vec<HttpDestination>,
    /// They are sent elsewhere by their client.
    pub redirect: Option<Redirect>,
    /// They are answered with this.
    pub direct_response: Option<DirectResponse>,
    /// Another object says where they go.
    pub delegate: Option<Delegate>,
    /// What is changed of their path and host.
    pub rewrite: Option<Rewrite>,
    /// How long they may take.
    pub timeout: Option<String>,
    /// How they are tried again.
    pub retries: Option<Retries>,
    /// What is put in their way.
    pub fault: Option<Fault>,
    /// Who gets copies.
    pub mirror: Option<Destination>,
    /// And who else.
    pub mirrors: Vec<MirrorTo>,
    /// Of how many in a hundred, in the old way to write it.
    #[serde(alias = "mirror_percent")]
    pub mirror_percent: Option<u32>,
    /// Of how many in a hundred.
    pub mirror_percentage: Option<Percent>,
    /// What pages of other origins may do.
    pub cors_policy: Option<CorsPolicy>,
    /// What is changed of headers.
    pub headers: Headers,
}

/// Requests of a kind: all that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpMatch {
    /// Its name.
    pub name: String,
    /// By path.
    pub uri: Option<StringMatch>,
    /// By scheme.
    pub scheme: Option<StringMatch>,
    /// By method.
    pub method: Option<StringMatch>,
    /// By authority, as it is sent.
    pub authority: Option<StringMatch>,
    /// By headers, and by what tokens claim.
    pub headers: BTreeMap<String, StringMatch>,
    /// By the port that was asked.
    pub port: Option<Port>,
    /// By labels of who asks.
    pub source_labels: Texts,
    /// Only at these gateways.
    pub gateways: Vec<String>,
    /// By parameters of the query.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Whether letters in paths are the same in either case.
    pub ignore_uri_case: bool,
    /// Headers that are not to be so, and what tokens are not to claim.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// By the namespace of who asks.
    pub source_namespace: String,
    /// What statistics call it.
    pub stat_prefix: String,
}

/// A text; without a word on it, any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StringMatch {
    /// Equal.
    pub exact: Option<String>,
    /// Begins so.
    pub prefix: Option<String>,
    /// All of it is of this pattern.
    pub regex: Option<String>,
}

/// Where requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpDestination {
    /// To whom.
    pub destination: Destination,
    /// How many, among the weights of all.
    pub weight: u32,
    /// What is changed of their headers.
    pub headers: Headers,
}

/// A service, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["host"]))]
pub struct Destination {
    /// Its host; without dots, a service of the same namespace.
    pub host: String,
    /// The subset of its endpoints.
    pub subset: String,
    /// Its port.
    pub port: Option<PortSelector>,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PortSelector {
    /// Its number.
    pub number: Option<Port>,
}

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

/// A rule of TLS connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsRule {
    /// Connections that it is for.
    #[serde(rename = "match")]
    pub matches: Vec<ConnectionMatch>,
    /// Where they go.
    pub route: Vec<ConnectionDestination>,
}

/// A rule of TCP connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpRule {
    /// Connections that it is for; none: all.
    #[serde(rename = "match")]
    pub matches: Vec<ConnectionMatch>,
    /// Where they go.
    pub route: Vec<ConnectionDestination>,
}

/// Connections of a kind: all that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConnectionMatch {
    /// By the name that TLS asks for.
    pub sni_hosts: Vec<String>,
    /// By where they go.
    pub destination_subnets: Vec<String>,
    /// By the port that was asked.
    pub port: Option<Port>,
    /// By where they come from.
    pub source_subnet: String,
    /// By labels of who asks.
    pub source_labels: Texts,
    /// Only at these gateways.
    pub gateways: Vec<String>,
    /// By the namespace of who asks.
    pub source_namespace: String,
}

/// Where connections go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionDestination {
    /// To whom.
    pub destination: Destination,
    /// How many, among the weights of all.
    pub weight: u32,
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
