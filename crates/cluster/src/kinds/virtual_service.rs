//! Istio's VirtualService, with its field names: which requests go where, in the order in which its rules are written.
//! Types are here, the rules that span fields in `check`. Unknown fields are refused: a match that is read without one
//! of its demands would take requests that it was not meant for.

mod action;
mod check;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::{Meta, Texts};
use crate::kinds::policy::PolicyStatus;
use crate::kinds::scalar::Port;

pub use self::action::{
    Abort, CorsPolicy, Delay, Delegate, DirectBody, DirectResponse, Fault, HeaderChanges, Headers, MirrorTo,
    Percent, Redirect, RegexRewrite, Retries, Rewrite,
};
pub use self::check::grpc_status;

/// The gateway that stands for the mesh itself.
pub const MESH: &str = "mesh";

/// What keys of claims begin with, among those of headers.
pub const CLAIMS: &str = "@request.auth.claims";

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
